package operations_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/operations"
)

// leaving is the context of a caller that is there when its request arrives, and gone at once.
type leaving struct {
	context.Context
	arrived atomic.Bool
	gone    chan struct{}
}

func (l *leaving) Done() <-chan struct{} { return l.gone }

func (l *leaving) Err() error {
	if l.arrived.Swap(true) {
		return context.Canceled
	}
	return nil
}

func TestACallerThatLeavesDuringTheStartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	caller := &leaving{Context: t.Context(), gone: make(chan struct{})}
	close(caller.gone)
	op, err := r.manager.Start(caller, spec("left"), func(context.Context, *operations.Handle) (proto.Message, error) {
		return wrapperspb.String("done"), nil
	})
	if err != nil {
		t.Fatalf("Start = %v; want the operation that it has stored", err)
	}
	done, err := r.client.WaitOperation(t.Context(), &longrunningpb.WaitOperationRequest{Name: op.GetName(), Timeout: durationpb.New(10 * time.Second)})
	if err != nil || !done.GetDone() || done.GetError() != nil {
		t.Errorf("the operation is %v, %v; want it done", done, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.manager.Start(gone, spec("never came"), nil); err == nil {
		t.Error("a request of a caller that was gone before was started")
	}
	list, err := r.client.ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{Filter: "done=false"})
	if err != nil || len(list.GetOperations()) != 0 {
		t.Errorf("left running: %v, %v", list.GetOperations(), err)
	}
}
