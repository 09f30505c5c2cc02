package authn

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

const (
	tokenPrefix = "sebs_"
	keyTokens   = "tokens/"
	secretBytes = 32
	saltBytes   = 16
	idBytes     = 8
)

// Tokens keeps bearer tokens in etcd: salted hashes only.
type Tokens struct {
	store *cache.Store
}

// NewTokens returns the tokens of the shared state.
func NewTokens(store *cache.Store) *Tokens {
	return &Tokens{store: store}
}

// Create makes a token. Its text is returned this once; etcd has a salted hash of it.
func (t *Tokens) Create(ctx context.Context, description string, role typev1.Role, ttl time.Duration) (*authv1.Token, secret.String, error) {
	random := make([]byte, secretBytes+saltBytes+idBytes)
	if _, err := rand.Read(random); err != nil {
		return nil, secret.String{}, errs.Internal(err)
	}
	text := base64.RawURLEncoding.EncodeToString(random[:secretBytes])
	salt := random[secretBytes : secretBytes+saltBytes]
	id := hex.EncodeToString(random[secretBytes+saltBytes:])
	now := time.Now()
	token := &authv1.Token{
		Name:        keyTokens + id,
		Description: description,
		Role:        role,
		CreateTime:  timestamppb.New(now),
		Hash:        hash(salt, text),
		Salt:        salt,
	}
	if ttl > 0 {
		token.ExpireTime = timestamppb.New(now.Add(ttl))
	}
	if _, err := t.store.Create(ctx, token.GetName(), token); err != nil {
		return nil, secret.String{}, fmt.Errorf("create token: %w", err)
	}
	return public(token), secret.New(tokenPrefix + id + "_" + text), nil
}

// List returns up to limit tokens behind the one named after, by id, without their hashes.
func (t *Tokens) List(ctx context.Context, after string, limit int) (tokens []*authv1.Token, more bool, err error) {
	err = t.store.List(ctx, keyTokens, func(key string, _ int64, raw []byte) error {
		if key <= after {
			return nil
		}
		if len(tokens) == limit {
			more = true
			return nil
		}
		token := &authv1.Token{}
		if err := cache.Unmarshal(raw, token); err != nil {
			return err
		}
		tokens = append(tokens, public(token))
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, more, nil
}

// Revoke removes a token: the next call with it is refused.
func (t *Tokens) Revoke(ctx context.Context, name string) error {
	id, ok := strings.CutPrefix(name, keyTokens)
	if !ok || !validID(id) {
		return errs.Fields(errs.Field("name", "%q is no token; it has to be tokens/<id>", name))
	}
	token := &authv1.Token{}
	if _, err := t.store.Get(ctx, name, token); err != nil {
		if errs.Is(err, codes.NotFound) {
			return errs.NotFound("TOKEN_NOT_FOUND", "%s does not exist; 'sebs token list' shows those that do", name).Resource("sebs.Token", name)
		}
		return fmt.Errorf("revoke token: %w", err)
	}
	return t.store.Delete(ctx, name)
}

// Verify returns the caller whose token it is.
func (t *Tokens) Verify(ctx context.Context, text string) (Principal, error) {
	refused := errs.Unauthenticated(ReasonBadToken, "the token is not accepted: it is unknown, revoked or past its time")
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	id, given, cut := strings.Cut(rest, "_")
	if !ok || !cut || !validID(id) {
		return Principal{}, refused
	}
	token := &authv1.Token{}
	if _, err := t.store.Get(ctx, keyTokens+id, token); err != nil {
		if errs.Is(err, codes.NotFound) {
			return Principal{}, refused
		}
		return Principal{}, fmt.Errorf("verify token: %w", err)
	}
	if subtle.ConstantTimeCompare(token.GetHash(), hash(token.GetSalt(), given)) != 1 {
		return Principal{}, refused
	}
	if end := token.GetExpireTime(); end != nil && time.Now().After(end.AsTime()) {
		return Principal{}, refused
	}
	return Principal{Identity: token.GetName(), Role: token.GetRole()}, nil
}

// hash needs no stretching: the text has 256 random bits.
func hash(salt []byte, text string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func public(token *authv1.Token) *authv1.Token {
	token.Hash, token.Salt = nil, nil
	return token
}

func validID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == idBytes && strings.ToLower(id) == id
}
