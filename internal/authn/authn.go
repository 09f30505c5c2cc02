// Package authn tells who calls and what they may do.
//
// A caller is a bearer token, a client certificate that the process's authority signed, or a call from inside the process.
// Where no authentication is asked for, which is allowed on loopback only, every caller is an administrator. What a method
// needs stands in its option sebs.type.v1.rpc_policy; the same table serves gRPC and REST.
package authn

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Reasons of the errors of this package.
const (
	ReasonNoCredential = "NO_CREDENTIAL"
	ReasonBadToken     = "TOKEN_NOT_ACCEPTED"
	ReasonRoleTooLow   = "ROLE_TOO_LOW"
)

// Principal is a caller.
type Principal struct {
	// Identity is "tokens/<id>", "certificate:<name>", "in-process" or "loopback".
	Identity string
	// Role is what the caller may do.
	Role typev1.Role
}

type principalKey struct{}

// WithPrincipal returns ctx with the caller.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the caller, and whether one is known.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// InProcess is the transport's word that a call comes from the same process.
type InProcess struct {
	credentials.CommonAuthInfo
}

// AuthType names the kind of authentication.
func (InProcess) AuthType() string { return "in-process" }

// Verifier checks a bearer token.
type Verifier interface {
	// Verify returns the caller whose token it is; UNAUTHENTICATED if it is nobody's.
	Verify(ctx context.Context, token string) (Principal, error)
}

// Authenticator tells who calls. Make it with [NewAuthenticator].
type Authenticator struct {
	required bool
	tokens   Verifier
}

// NewAuthenticator returns an authenticator. Where required is false every caller without a token is an administrator.
func NewAuthenticator(required bool, tokens Verifier) *Authenticator {
	return &Authenticator{required: required, tokens: tokens}
}

// GRPC tells who makes the call of ctx, which a gRPC server made.
func (a *Authenticator) GRPC(ctx context.Context) (Principal, error) {
	var chains [][]*x509.Certificate
	if p, ok := peer.FromContext(ctx); ok {
		switch info := p.AuthInfo.(type) {
		case InProcess:
			return Principal{Identity: "in-process", Role: typev1.Role_ROLE_ADMIN}, nil
		case credentials.TLSInfo:
			chains = info.State.VerifiedChains
		}
	}
	var header string
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		header = values[0]
	}
	return a.identify(ctx, header, chains)
}

// HTTP tells who makes an HTTP request.
func (a *Authenticator) HTTP(r *http.Request) (Principal, error) {
	var chains [][]*x509.Certificate
	if r.TLS != nil {
		chains = r.TLS.VerifiedChains
	}
	return a.identify(r.Context(), r.Header.Get("Authorization"), chains)
}

func (a *Authenticator) identify(ctx context.Context, header string, chains [][]*x509.Certificate) (Principal, error) {
	if header != "" {
		scheme, token, ok := strings.Cut(header, " ")
		if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
			return Principal{}, errs.Unauthenticated(ReasonBadToken, "the authorization header has to be 'Bearer <token>'")
		}
		return a.tokens.Verify(ctx, strings.TrimSpace(token))
	}
	if len(chains) > 0 && len(chains[0]) > 0 {
		return Principal{Identity: "certificate:" + chains[0][0].Subject.CommonName, Role: typev1.Role_ROLE_ADMIN}, nil
	}
	if !a.required {
		return Principal{Identity: "loopback", Role: typev1.Role_ROLE_ADMIN}, nil
	}
	return Principal{}, errs.Unauthenticated(ReasonNoCredential,
		"no credential; send 'Authorization: Bearer <token>' with a token made by 'sebs token create'")
}

// Authorize reports whether a caller may call a method.
func (p *Policies) Authorize(caller Principal, fullMethod string) error {
	need := p.For(fullMethod).Role
	if caller.Role >= need {
		return nil
	}
	return errs.PermissionDenied(ReasonRoleTooLow, "%s has the role %s and %s needs %s; ask an administrator for a token of that role",
		caller.Identity, RoleName(caller.Role), fullMethod, RoleName(need)).With("role", RoleName(need))
}

// RoleName returns viewer, operator or admin.
func RoleName(role typev1.Role) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}

// GuardLoopback refuses requests that a web page of another site sent to a loopback address: the Host header has to be a
// loopback name or address (against DNS rebinding), and so has the Origin where there is one.
func GuardLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "the Host header has to be localhost or a loopback address", http.StatusForbidden)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			u, err := url.Parse(origin)
			if err != nil || !loopbackHost(u.Host) {
				http.Error(w, "requests from other sites are refused", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return IsLoopback(strings.Trim(host, "[]"))
}

// IsLoopback reports whether a host, a name or an address without port, is this machine's loopback.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
