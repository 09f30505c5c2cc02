package gateway

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	"github.com/sebs-suite/sebs/internal/authn"
)

// defaultTokens is how many tokens a page has when the caller names no number.
const defaultTokens = 100

// tokenServer serves the tokens kept in etcd.
type tokenServer struct {
	authv1.UnimplementedTokenServiceServer
	tokens *authn.Tokens
}

// CreateToken makes a token and answers its secret this once.
func (s *tokenServer) CreateToken(ctx context.Context, r *authv1.CreateTokenRequest) (*authv1.CreateTokenResponse, error) {
	token, text, err := s.tokens.Create(ctx, r.GetDescription(), r.GetRole(), r.GetTtl().AsDuration())
	if err != nil {
		return nil, err
	}
	return &authv1.CreateTokenResponse{Token: token, Secret: text.Reveal()}, nil
}

// ListTokens lists tokens by id, without their secrets.
func (s *tokenServer) ListTokens(ctx context.Context, r *authv1.ListTokensRequest) (*authv1.ListTokensResponse, error) {
	limit := int(r.GetPageSize())
	if limit == 0 || limit > 1000 {
		limit = defaultTokens
	}
	tokens, more, err := s.tokens.List(ctx, r.GetPageToken(), limit)
	if err != nil {
		return nil, err
	}
	response := &authv1.ListTokensResponse{Tokens: tokens}
	if more {
		response.NextPageToken = tokens[len(tokens)-1].GetName()
	}
	return response, nil
}

// RevokeToken removes a token.
func (s *tokenServer) RevokeToken(ctx context.Context, r *authv1.RevokeTokenRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.tokens.Revoke(ctx, r.GetName())
}

// WhoAmI answers who the caller is.
func (s *tokenServer) WhoAmI(ctx context.Context, _ *authv1.WhoAmIRequest) (*authv1.WhoAmIResponse, error) {
	caller, ok := authn.FromContext(ctx)
	if !ok {
		return nil, noCredential()
	}
	return &authv1.WhoAmIResponse{Identity: caller.Identity, Role: caller.Role}, nil
}
