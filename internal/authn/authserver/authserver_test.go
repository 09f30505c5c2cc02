package authserver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/authn/authserver"
	"github.com/sebs-suite/sebs/internal/errs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, authserver.Setup)
	client := authv1.NewTokenServiceClient(r.Conn("auth"))
	ctx := t.Context()
	made := map[string]string{}
	for range 3 {
		got, err := client.CreateToken(ctx, &authv1.CreateTokenRequest{
			Description: "ci", Role: typev1.Role_ROLE_OPERATOR, Ttl: durationpb.New(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetToken().GetHash()) != 0 || got.GetToken().GetExpireTime() == nil {
			t.Errorf("created %v", got.GetToken())
		}
		made[got.GetToken().GetName()] = got.GetSecret()
	}
	listed := map[string]bool{}
	req := &authv1.ListTokensRequest{PageSize: 2}
	for range 3 {
		page, err := client.ListTokens(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range page.GetTokens() {
			listed[token.GetName()] = true
			if len(token.GetHash()) != 0 || len(token.GetSalt()) != 0 {
				t.Error("a list shows hashes")
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if len(listed) != len(made) {
		t.Errorf("listed %v, made %d", listed, len(made))
	}
	for name, text := range made {
		caller, err := r.Tokens.Verify(ctx, text)
		if err != nil || caller != (authn.Principal{Identity: name, Role: typev1.Role_ROLE_OPERATOR}) {
			t.Errorf("verify: %v, %v", caller, err)
		}
		for _, wrong := range []string{text + "x", text[:len(text)-2], "sebs_zz_x", strings.TrimPrefix(text, "sebs_"), ""} {
			if _, err := r.Tokens.Verify(ctx, wrong); !errs.Is(err, codes.Unauthenticated) {
				t.Errorf("a wrong token: %v", err)
			}
		}
		raw, _, err := r.Cache.GetRaw(ctx, name)
		if err != nil || strings.Contains(string(raw), strings.TrimPrefix(text, "sebs_"+strings.TrimPrefix(name, "tokens/")+"_")) {
			t.Errorf("etcd holds the token: %v", err)
		}
		if _, err := client.RevokeToken(ctx, &authv1.RevokeTokenRequest{Name: name}); err != nil {
			t.Error(err)
		}
		if _, err := r.Tokens.Verify(ctx, text); !errs.Is(err, codes.Unauthenticated) {
			t.Errorf("after revoking: %v", err)
		}
	}
	if _, err := client.RevokeToken(ctx, &authv1.RevokeTokenRequest{Name: "tokens/0123456789abcdef"}); !errs.Is(err, codes.NotFound) {
		t.Errorf("revoking what is not there: %v", err)
	}
	for _, bad := range []*authv1.CreateTokenRequest{{}, {Role: 99}, {Role: typev1.Role_ROLE_ADMIN, Ttl: durationpb.New(-1)}} {
		if _, err := client.CreateToken(ctx, bad); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestTheCallerIsHandedOn(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, authserver.Setup)
	client := authv1.NewTokenServiceClient(r.Conn("auth"))
	want := authn.Principal{Identity: "tokens/x", Role: typev1.Role_ROLE_VIEWER}
	got, err := client.WhoAmI(authn.WithPrincipal(t.Context(), want), &authv1.WhoAmIRequest{})
	if err != nil || got.GetIdentity() != want.Identity || got.GetRole() != want.Role {
		t.Errorf("on behalf of %v: %v, %v", want, got, err)
	}
	got, err = client.WhoAmI(context.WithoutCancel(t.Context()), &authv1.WhoAmIRequest{})
	if err != nil || got.GetIdentity() != "in-process" {
		t.Errorf("for itself: %v, %v", got, err)
	}
}
