// Package authserver serves sebs.auth.v1: tokens, and who the caller is.
package authserver

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/pagetoken"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Setup serves tokens in a process; one of them has to, which is the gateway's as a rule.
func Setup(_ context.Context, p *app.Process) error {
	s := &server{tokens: p.Tokens, pages: p.PageTokens}
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) { authv1.RegisterTokenServiceServer(r, s) })
	return nil
}

type server struct {
	authv1.UnimplementedTokenServiceServer
	tokens *authn.Tokens
	pages  *pagetoken.Codec
}

// CreateToken makes a token and answers its secret this once.
func (s *server) CreateToken(ctx context.Context, req *authv1.CreateTokenRequest) (*authv1.CreateTokenResponse, error) {
	var ttl time.Duration
	if req.GetTtl() != nil {
		if ttl = req.GetTtl().AsDuration(); ttl <= 0 {
			return nil, errs.Fields(errs.Field("ttl", "is %s and has to be more than 0; leave it out for a token without end", ttl))
		}
	}
	token, text, err := s.tokens.Create(ctx, req.GetDescription(), req.GetRole(), ttl)
	if err != nil {
		return nil, err
	}
	return &authv1.CreateTokenResponse{Token: token, Secret: text.Reveal()}, nil
}

// ListTokens answers tokens without their hashes.
func (s *server) ListTokens(ctx context.Context, req *authv1.ListTokensRequest) (*authv1.ListTokensResponse, error) {
	size, err := pagetoken.Size(req.GetPageSize(), defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	after, err := s.pages.Decode("tokens", nil, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	tokens, more, err := s.tokens.List(ctx, after, size)
	if err != nil {
		return nil, err
	}
	answer := &authv1.ListTokensResponse{Tokens: tokens}
	if more {
		answer.NextPageToken = s.pages.Encode("tokens", nil, tokens[len(tokens)-1].GetName())
	}
	return answer, nil
}

// RevokeToken removes a token.
func (s *server) RevokeToken(ctx context.Context, req *authv1.RevokeTokenRequest) (*emptypb.Empty, error) {
	if err := s.tokens.Revoke(ctx, req.GetName()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// WhoAmI answers who the caller is.
func (s *server) WhoAmI(ctx context.Context, _ *authv1.WhoAmIRequest) (*authv1.WhoAmIResponse, error) {
	caller, ok := authn.FromContext(ctx)
	if !ok {
		return nil, errs.Unauthenticated(authn.ReasonNoCredential, "the caller is not known")
	}
	return &authv1.WhoAmIResponse{Identity: caller.Identity, Role: caller.Role}, nil
}
