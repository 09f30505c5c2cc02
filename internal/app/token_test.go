package app

import (
	"bytes"
	"context"
	"strings"
	"testing"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
)

func TestTheFirstTokenIsMadeAtTheCommandLine(t *testing.T) {
	t.Parallel()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	var out, problems bytes.Buffer
	args := []string{"--etcd", server.Endpoint(), "token", "create", "--role", "operator", "--ttl", "1h"}
	if code := run("sebs-test", args, nil, &out, &problems, nil); code != exitOK {
		t.Fatalf("exit code %d: %s", code, problems.String())
	}
	store, err := openCache(EtcdConfig{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	caller, err := authn.NewTokens(store).Verify(t.Context(), strings.TrimSpace(out.String()))
	if err != nil || caller.Role != typev1.Role_ROLE_OPERATOR {
		t.Errorf("the token is %v, %v", caller, err)
	}
}
