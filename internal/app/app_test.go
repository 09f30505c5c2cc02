package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/app/apptest/testca"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/observe"
	"github.com/sebs-suite/sebs/internal/operations"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// tokenService is a small service that behaves as a test asks.
type tokenService struct {
	authv1.UnimplementedTokenServiceServer
	name    string
	process *app.Process
}

func (s *tokenService) WhoAmI(ctx context.Context, _ *authv1.WhoAmIRequest) (*authv1.WhoAmIResponse, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("no deadline")
	}
	if observe.RequestID(ctx) == "" {
		return nil, errors.New("no request id")
	}
	caller, _ := authn.FromContext(ctx)
	return &authv1.WhoAmIResponse{Identity: s.name + " " + caller.Identity, Role: caller.Role}, nil
}

func (s *tokenService) RevokeToken(_ context.Context, req *authv1.RevokeTokenRequest) (*emptypb.Empty, error) {
	switch req.GetName() {
	case "panic":
		panic("boom")
	case "raw":
		return nil, fmt.Errorf("dial database: password=hunter2")
	}
	return nil, fmt.Errorf("revoke: %w", errs.NotFound("TOKEN_NOT_FOUND", "%s does not exist", req.GetName()).With("name", req.GetName()))
}

func setup(name string) app.Setup {
	return func(_ context.Context, p *app.Process) error {
		s := &tokenService{name: name, process: p}
		p.RegisterGRPC(func(r grpc.ServiceRegistrar) { authv1.RegisterTokenServiceServer(r, s) })
		return nil
	}
}

func TestCallsInsideTheProcess(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, setup("one"))
	client := authv1.NewTokenServiceClient(r.Conn("auth"))
	got, err := client.WhoAmI(t.Context(), &authv1.WhoAmIRequest{})
	if err != nil || got.GetIdentity() != "one in-process" || got.GetRole() != typev1.Role_ROLE_ADMIN {
		t.Errorf("who am I: %v, %v", got, err)
	}
	for _, c := range []struct {
		name   string
		code   codes.Code
		reason string
	}{
		{"tokens/x", codes.NotFound, "TOKEN_NOT_FOUND"},
		{"", codes.InvalidArgument, errs.ReasonInvalidFields},
		{"panic", codes.Internal, errs.ReasonInternal},
		{"raw", codes.Internal, errs.ReasonInternal},
	} {
		_, err := client.RevokeToken(t.Context(), &authv1.RevokeTokenRequest{Name: c.name})
		if !errs.Is(err, c.code) || errs.Reason(err) != c.reason {
			t.Errorf("%q: %v %q %v", c.name, errs.Code(err), errs.Reason(err), err)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q shows its cause: %v", c.name, err)
		}
	}
}

func TestProcessesFindEachOther(t *testing.T) {
	t.Parallel()
	backends := apptest.NewBackends(t)
	caller := apptest.StartWith(t, apptest.Options{Name: "caller", Backends: backends})
	client := authv1.NewTokenServiceClient(caller.Conn("auth"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	apptest.StartWith(t, apptest.Options{Name: "first", Backends: backends}, setup("first"))
	second := apptest.StartWith(t, apptest.Options{Name: "second", Backends: backends}, setup("second"))
	seen := map[string]bool{}
	for len(seen) < 2 {
		got, err := client.WhoAmI(ctx, &authv1.WhoAmIRequest{})
		if err != nil {
			t.Fatal(err)
		}
		seen[got.GetIdentity()] = true
	}
	if !seen["first loopback"] || !seen["second loopback"] {
		t.Errorf("answered by %v", seen)
	}
	second.Stop()
	for range 20 {
		if got, err := client.WhoAmI(ctx, &authv1.WhoAmIRequest{}); err != nil || got.GetIdentity() != "first loopback" {
			t.Fatalf("after one replica ended: %v, %v", got, err)
		}
	}
	fixed := apptest.StartWith(t, apptest.Options{Name: "static", Backends: backends, Adjust: func(c *app.Config) {
		c.Services = map[string][]string{"auth": {second.GRPCAddr()}}
	}})
	short, cancelShort := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancelShort()
	if _, err := authv1.NewTokenServiceClient(fixed.Conn("auth")).WhoAmI(short, &authv1.WhoAmIRequest{}); !errs.Is(err, codes.DeadlineExceeded) && !errs.Is(err, codes.Unavailable) {
		t.Errorf("a static address where nobody listens: %v", err)
	}
}

func TestHealthAndReadinessFollowTheStores(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, setup("one"))
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	health := grpc_health_v1.NewHealthClient(conn)
	for _, service := range []string{"", "sebs.auth.v1.TokenService"} {
		await(t, "health of "+service, func() bool {
			got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			return err == nil && got.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
		})
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "sebs_build_info", "/version": "sebs-test"} {
		if code, body := get(t, r, path, ""); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := get(t, r, "/metrics", "evil.example"); code != http.StatusForbidden {
		t.Errorf("a foreign Host header: %d", code)
	}
	if err := r.Backends.NATS.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "NOT_SERVING without NATS", func() bool {
		got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err == nil && got.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING
	})
	if code, body := get(t, r, "/readyz", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, "nats") {
		t.Errorf("/readyz without NATS: %d %s", code, body)
	}
}

func TestOperationsThroughTheProcess(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, setup("one"))
	op, err := r.Operations.Start(t.Context(), operations.Spec{Service: "auth", Kind: "test"},
		func(context.Context, *operations.Handle) (proto.Message, error) { return wrapperspb.Bool(true), nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operations.Wait(t.Context(), longrunningpb.NewOperationsClient(r.Conn("auth")), op, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAuthenticationIsAskedForWhereRequired(t *testing.T) {
	t.Parallel()
	r := apptest.StartWith(t, apptest.Options{Adjust: func(c *app.Config) { c.Auth.Required = true }}, setup("one"))
	conn, err := grpc.NewClient(r.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := authv1.NewTokenServiceClient(conn)
	if _, err := client.WhoAmI(t.Context(), &authv1.WhoAmIRequest{}); errs.Code(errs.FromStatus(err)) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	token, text, err := r.Tokens.Create(t.Context(), "test", typev1.Role_ROLE_VIEWER, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ctx := apptest.WithToken(t.Context(), text.Reveal())
	got, err := client.WhoAmI(ctx, &authv1.WhoAmIRequest{})
	if err != nil || got.GetIdentity() != "one "+token.GetName() {
		t.Errorf("with a token: %v, %v", got, err)
	}
	if _, err := client.RevokeToken(ctx, &authv1.RevokeTokenRequest{Name: "x"}); errs.Code(errs.FromStatus(err)) != codes.PermissionDenied {
		t.Errorf("a viewer revokes: %v", err)
	}
	if code, _ := get(t, r, "/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("metrics without a token: %d", code)
	}
	if code, _ := get(t, r, "/healthz", ""); code != http.StatusOK {
		t.Errorf("health without a token: %d", code)
	}
	if err := r.Tokens.Revoke(t.Context(), token.GetName()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.WhoAmI(ctx, &authv1.WhoAmIRequest{}); errs.Code(errs.FromStatus(err)) != codes.Unauthenticated {
		t.Errorf("with a revoked token: %v", err)
	}
}

func TestProcessesTrustEachOtherByCertificate(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), testca.New(t)
	caFile := ca.File(t, dir)
	secure := func(name string) func(*app.Config) {
		cert, key := ca.Issue(t, dir, name)
		return func(c *app.Config) {
			c.Auth.Required = true
			c.TLS = app.TLSConfig{CertFile: cert, KeyFile: key, ClientCAFile: caFile, CAFile: caFile}
		}
	}
	backends := apptest.NewBackends(t)
	apptest.StartWith(t, apptest.Options{Name: "server", Backends: backends, Adjust: secure("server")}, setup("server"))
	caller := apptest.StartWith(t, apptest.Options{Name: "caller", Backends: backends, Adjust: secure("caller")})
	got, err := authv1.NewTokenServiceClient(caller.Conn("auth")).WhoAmI(t.Context(), &authv1.WhoAmIRequest{})
	if err != nil || got.GetIdentity() != "server certificate:caller" || got.GetRole() != typev1.Role_ROLE_ADMIN {
		t.Errorf("with a certificate: %v, %v", got, err)
	}
	plain := apptest.StartWith(t, apptest.Options{Name: "plain", Backends: backends})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got, err := authv1.NewTokenServiceClient(plain.Conn("auth")).WhoAmI(ctx, &authv1.WhoAmIRequest{}); err == nil {
		t.Errorf("without TLS: %v", got)
	}
}

func TestTheEndIsOrderly(t *testing.T) {
	t.Parallel()
	var order []string
	note := func(what string) func(context.Context) error {
		return func(context.Context) error { order = append(order, what); return nil }
	}
	stopped := make(chan struct{})
	r := apptest.Start(t, setup("one"), func(_ context.Context, p *app.Process) error {
		p.OnClose("first", note("close first"))
		p.OnClose("second", note("close second"))
		p.OnDrain("queue", note("drain"))
		p.Go("worker", func(ctx context.Context) error {
			<-ctx.Done()
			close(stopped)
			return ctx.Err()
		})
		return nil
	})
	r.Stop()
	<-stopped
	if got := strings.Join(order, ", "); got != "drain, close second, close first" {
		t.Errorf("order of the end: %s", got)
	}
}

func TestAFailedPartEndsTheProcess(t *testing.T) {
	t.Parallel()
	backends := apptest.NewBackends(t)
	source, err := app.NewSource("", nil, nil, []string{
		"etcd.endpoints=" + backends.Etcd.Endpoint(), "nats.urls=" + backends.NATS.URL(), "state_dir=" + t.TempDir(), "log.level=error",
	})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the part is broken")
	p, err := app.New(t.Context(), app.Options{Name: "broken", Source: source, Setups: []app.Setup{
		func(_ context.Context, p *app.Process) error {
			p.Go("part", func(context.Context) error { return broken })
			return nil
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("ran to %v", err)
	}
	_, err = app.New(t.Context(), app.Options{Name: "failing", Source: source, Setups: []app.Setup{
		func(context.Context, *app.Process) error { return broken },
	}})
	if !errors.Is(err, broken) {
		t.Errorf("a setup that fails: %v", err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		<-tick.C
	}
}

func get(t *testing.T, r *apptest.Running, path, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.HTTPAddr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Close = true
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
