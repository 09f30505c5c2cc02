package operations_test

import (
	"context"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

func quick(context.Context, *operations.Handle) (proto.Message, error) {
	return wrapperspb.String("built"), nil
}

func TestOldOperationsAndTheirRequestIDsGo(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	short := operations.New(store, operations.Config{Retention: time.Nanosecond})
	if err := short.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, err := short.Start(t.Context(), spec("id-1"), quick)
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := short.Start(t.Context(), spec("id-2"), quick); !errs.Is(err, codes.Unavailable) {
		t.Errorf("a start while draining: %v", err)
	}
	if err := short.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := start(t, store, nil)
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := r.client.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: old.GetName()})
		if status(err) == codes.NotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an old operation is still there: %v", err)
		}
	}
	again, err := r.manager.Start(t.Context(), spec("id-1"), quick)
	if err != nil || again.GetName() == old.GetName() {
		t.Errorf("the request id of an old operation: %v, %v", again, err)
	}
}

func TestWaitOperationEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	release := make(chan struct{})
	op, err := r.manager.Start(t.Context(), spec(""), func(ctx context.Context, _ *operations.Handle) (proto.Message, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return wrapperspb.String("built"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.client.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: op.GetName(), Timeout: durationpb.New(50 * time.Millisecond)})
	if err != nil || got.GetDone() {
		t.Errorf("a wait of 50 ms: %v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := operations.Wait(ctx, r.client, op, nil); !errs.Is(err, codes.DeadlineExceeded) {
		t.Errorf("a wait that its caller ends: %v", err)
	}
	close(release)
	if _, err := operations.Wait(t.Context(), r.client, op, nil); err != nil {
		t.Error(err)
	}
}
