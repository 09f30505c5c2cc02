package operations_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/operations"
)

// TestAnOwnerThatWasCutOffStops shows an owner that another process took its operation up, which happens when it is cut off
// from etcd for longer than its lease lives: it stops and leaves the record alone.
func TestAnOwnerThatWasCutOffStops(t *testing.T) {
	t.Parallel()
	store, ctx := openStore(t), t.Context()
	first := start(t, store, nil)
	stopped := make(chan struct{})
	op, err := first.manager.Start(ctx, spec(""), func(ctx context.Context, _ *operations.Handle) (proto.Message, error) {
		<-ctx.Done()
		close(stopped)
		return wrapperspb.String("too late"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(op.GetName(), "operations/")
	raw, _, err := store.GetRaw(ctx, "operations/"+id)
	if err != nil {
		t.Fatal(err)
	}
	owner, _, err := store.GetRaw(ctx, "operations-active/"+id)
	if err != nil {
		t.Fatal(err)
	}
	heir, err := store.Register(ctx, "operations-owners/heir", wrapperspb.String("heir"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = heir.Close(context.WithoutCancel(ctx)) }()
	taken := strings.ReplaceAll(string(raw), string(owner), "heir")
	for key, value := range map[string]string{"operations/" + id: taken, "operations-active/" + id: "heir"} {
		if _, err := store.Client().Put(ctx, store.Key(key), value); err != nil {
			t.Fatal(err)
		}
	}
	// The end of any owner makes all look who owns what.
	if _, err := store.Put(ctx, "operations-owners/gone", wrapperspb.String("gone")); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(ctx, "operations-owners/gone"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopped:
	case <-time.After(40 * time.Second):
		t.Fatal("the first owner works on")
	}
	if err := first.manager.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if after, _, err := store.GetRaw(ctx, "operations/"+id); err != nil || string(after) != taken {
		t.Errorf("the record after the take-over: %s, %v", after, err)
	}
}
