package authn_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
)

// oneToken knows a single token.
type oneToken struct{}

func (oneToken) Verify(_ context.Context, token string) (authn.Principal, error) {
	if token == "right" {
		return authn.Principal{Identity: "tokens/1", Role: typev1.Role_ROLE_VIEWER}, nil
	}
	return authn.Principal{}, errs.Unauthenticated(authn.ReasonBadToken, "no")
}

func TestWhoCalls(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "node-1"}}
	tlsInfo := credentials.TLSInfo{}
	tlsInfo.State.VerifiedChains = [][]*x509.Certificate{{cert}}
	unverified := credentials.TLSInfo{}
	unverified.State.PeerCertificates = []*x509.Certificate{cert}
	for name, c := range map[string]struct {
		required bool
		header   string
		info     credentials.AuthInfo
		identity string
		code     codes.Code
	}{
		"nobody, not asked":       {identity: "loopback"},
		"nobody, asked":           {required: true, code: codes.Unauthenticated},
		"token":                   {required: true, header: "Bearer right", identity: "tokens/1"},
		"token, lower case":       {required: true, header: "bearer right", identity: "tokens/1"},
		"token, not asked":        {header: "Bearer right", identity: "tokens/1"},
		"wrong token, not asked":  {header: "Bearer wrong", code: codes.Unauthenticated},
		"wrong token":             {required: true, header: "Bearer wrong", code: codes.Unauthenticated},
		"other scheme":            {required: true, header: "Basic cmlnaHQ=", code: codes.Unauthenticated},
		"no token":                {required: true, header: "Bearer", code: codes.Unauthenticated},
		"inside":                  {required: true, info: authn.InProcess{}, identity: "in-process"},
		"certificate":             {required: true, info: tlsInfo, identity: "certificate:node-1"},
		"unverified certificate":  {required: true, info: unverified, code: codes.Unauthenticated},
		"token and certificate":   {required: true, info: tlsInfo, header: "Bearer right", identity: "tokens/1"},
		"wrong token, known cert": {required: true, info: tlsInfo, header: "Bearer wrong", code: codes.Unauthenticated},
	} {
		a := authn.NewAuthenticator(c.required, oneToken{})
		ctx := t.Context()
		if c.info != nil {
			ctx = peer.NewContext(ctx, &peer.Peer{AuthInfo: c.info})
		}
		if c.header != "" {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", c.header))
		}
		got, err := a.GRPC(ctx)
		if errs.Code(err) != c.code || got.Identity != c.identity {
			t.Errorf("%s over gRPC: %v, %v", name, got, err)
		}
		if _, inside := c.info.(authn.InProcess); inside {
			continue
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", c.header)
		if info, ok := c.info.(credentials.TLSInfo); ok {
			r.TLS = &info.State
		}
		if got, err = a.HTTP(r); errs.Code(err) != c.code || got.Identity != c.identity {
			t.Errorf("%s over HTTP: %v, %v", name, got, err)
		}
	}
}

func TestRolesOfMethods(t *testing.T) {
	t.Parallel()
	p := authn.NewPolicies()
	for _, c := range []struct {
		method string
		role   typev1.Role
	}{
		{"/sebs.auth.v1.TokenService/CreateToken", typev1.Role_ROLE_ADMIN},
		{"/sebs.auth.v1.TokenService/WhoAmI", typev1.Role_ROLE_VIEWER},
		{"/sebs.event.v1.EventService/WatchEvents", typev1.Role_ROLE_VIEWER},
		{"/google.longrunning.Operations/GetOperation", typev1.Role_ROLE_VIEWER},
		{"/google.longrunning.Operations/CancelOperation", typev1.Role_ROLE_OPERATOR},
		{"/nobody.knows.v1.This/Method", typev1.Role_ROLE_OPERATOR},
		{"/grpc.health.v1.Health/Check", typev1.Role_ROLE_UNSPECIFIED},
	} {
		policy := p.For(c.method)
		if policy.Role != c.role {
			t.Errorf("%s needs %s, want %s", c.method, policy.Role, c.role)
		}
		for role := typev1.Role_ROLE_UNSPECIFIED; role <= typev1.Role_ROLE_ADMIN; role++ {
			err := p.Authorize(authn.Principal{Identity: "x", Role: role}, c.method)
			if allowed := role >= c.role; (err == nil) != allowed || (err != nil && !errs.Is(err, codes.PermissionDenied)) {
				t.Errorf("%s calls %s: %v", role, c.method, err)
			}
		}
	}
	if d := p.For("/sebs.event.v1.EventService/WatchEvents").Deadline(true); d != 24*time.Hour {
		t.Errorf("the deadline of WatchEvents is %s", d)
	}
	if d := (authn.Policy{}).Deadline(false); d != authn.DefaultTimeout {
		t.Errorf("the default deadline is %s", d)
	}
}

// reading are the verbs of methods that change nothing.
var reading = regexp.MustCompile(`^(Get|List|Watch|Find|Check|Describe|Head|Stat|Count|Query|Export|Download|Exists|WhoAmI|Search|Compare|Compute|Wait|Resolve|Read|Summarize|Validate|Correct|Estimate)`)

// TestEveryMethodSaysItsRole keeps the table of roles complete: a method without a policy is one that somebody forgot, and
// a viewer changes nothing.
func TestEveryMethodSaysItsRole(t *testing.T) {
	t.Parallel()
	checked := 0
	p := authn.NewPolicies()
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "sebs.") {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				checked++
				method := service.Methods().Get(j)
				name := "/" + string(service.FullName()) + "/" + string(method.Name())
				if !proto.HasExtension(method.Options(), typev1.E_RpcPolicy) {
					t.Errorf("%s has no policy", name)
				}
				if p.For(name).Role == typev1.Role_ROLE_VIEWER && !reading.MatchString(string(method.Name())) {
					t.Errorf("a viewer may call %s, whose name does not say that it only reads", name)
				}
			}
		}
		return true
	})
	if checked < 50 {
		t.Errorf("only %d methods were found", checked)
	}
}

func TestGuardLoopback(t *testing.T) {
	t.Parallel()
	h := authn.GuardLoopback(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		host, origin string
		ok           bool
	}{
		{"localhost:80", "", true},
		{"127.0.0.1:80", "http://localhost:80", true},
		{"[::1]:80", "http://127.0.0.1:3000", true},
		{"evil.example:80", "", false},
		{"127.0.0.1.evil.example", "", false},
		{"localhost", "https://evil.example", false},
		{"localhost", "null", false},
		{"localhost", "%zz", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if ok := w.Code == http.StatusNoContent; ok != c.ok {
			t.Errorf("host %q, origin %q: %d", c.host, c.origin, w.Code)
		}
	}
}
