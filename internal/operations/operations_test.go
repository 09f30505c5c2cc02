package operations_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

func openStore(t *testing.T) *cache.Store {
	t.Helper()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	store, err := cache.Open(cache.Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	return store
}

// replica is one process that serves operations.
type replica struct {
	manager *operations.Manager
	client  longrunningpb.OperationsClient
	stop    func()
}

func start(t *testing.T, store *cache.Store, resumes map[string]operations.Resume) *replica {
	t.Helper()
	m := operations.New(store, operations.Config{OwnerTTL: time.Second, UpdateInterval: time.Millisecond})
	if err := m.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Serve("builder")
	for kind, f := range resumes {
		m.OnResume(kind, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- m.Watch(ctx) }()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		answer, err := next(ctx, req)
		return answer, errs.ToStatus(err).Err()
	}))
	longrunningpb.RegisterOperationsServer(server, m.Server())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{manager: m, client: longrunningpb.NewOperationsClient(conn)}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-watched
		if err := m.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		server.Stop()
		<-served
	}
	t.Cleanup(r.stop)
	return r
}

func spec(requestID string) operations.Spec {
	return operations.Spec{
		Service: "builder", Kind: "build", RequestID: requestID,
		Metadata: wrapperspb.String("0%"), Request: wrapperspb.String("the request"),
	}
}

func TestRunsToItsResult(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	seen := make(chan struct{})
	op, err := r.manager.Start(t.Context(), spec(""), func(ctx context.Context, h *operations.Handle) (proto.Message, error) {
		h.Update(wrapperspb.String("50%"))
		select {
		case <-seen:
		case <-ctx.Done():
		}
		return wrapperspb.String("built"), ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if operations.ServiceOf(op.GetName()) != "builder" || op.GetDone() {
		t.Fatalf("started %v", op)
	}
	half := wrapperspb.String("50%")
	done, err := operations.Wait(t.Context(), r.client, op, func(op *longrunningpb.Operation) {
		got := &wrapperspb.StringValue{}
		if op.GetMetadata().UnmarshalTo(got) == nil && proto.Equal(got, half) && !op.GetDone() {
			close(seen)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := &wrapperspb.StringValue{}
	if err := operations.Result(done, got); err != nil || got.GetValue() != "built" {
		t.Errorf("result %q, %v", got.GetValue(), err)
	}
}

func TestFailuresKeepCategoryAndPanicsAreFailures(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	for name, c := range map[string]struct {
		run  operations.Run
		code codes.Code
	}{
		"classified": {func(context.Context, *operations.Handle) (proto.Message, error) {
			return nil, errs.FailedPrecondition("BUILD_FAILED", "no such requirement").With("package", "x")
		}, codes.FailedPrecondition},
		"panic":  {func(context.Context, *operations.Handle) (proto.Message, error) { panic("boom") }, codes.Internal},
		"silent": {func(context.Context, *operations.Handle) (proto.Message, error) { return nil, nil }, codes.Internal},
	} {
		op, err := r.manager.Start(t.Context(), spec(""), c.run)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = operations.Wait(t.Context(), r.client, op, nil); !errs.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "classified" && (errs.Reason(err) != "BUILD_FAILED" || errs.Metadata(err, "package") != "x") {
			t.Errorf("reason %q", errs.Reason(err))
		}
	}
}

func TestRequestIDMakesStartIdempotent(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	runs := make(chan struct{}, 10)
	run := func(context.Context, *operations.Handle) (proto.Message, error) {
		runs <- struct{}{}
		return wrapperspb.String("built"), nil
	}
	first, err := r.manager.Start(t.Context(), spec("id-1"), run)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.manager.Start(t.Context(), spec("id-1"), run)
	if err != nil || again.GetName() != first.GetName() {
		t.Fatalf("repeated: %v, %v", again, err)
	}
	other := spec("id-1")
	other.Request = wrapperspb.String("something else")
	if _, err := r.manager.Start(t.Context(), other, run); errs.Reason(err) != operations.ReasonRequestIDReused {
		t.Errorf("the id with another request: %v", err)
	}
	if _, err := operations.Wait(t.Context(), r.client, first, nil); err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 {
		t.Errorf("ran %d times", len(runs))
	}
}

func TestCancelFromAnotherReplica(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	owner, other := start(t, store, nil), start(t, store, nil)
	op, err := owner.manager.Start(t.Context(), spec(""), func(ctx context.Context, _ *operations.Handle) (proto.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.client.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: op.GetName()}); status(err) != codes.FailedPrecondition {
		t.Errorf("deleting a running operation: %v", err)
	}
	if _, err := other.client.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: op.GetName()}); err != nil {
		t.Fatal(err)
	}
	_, err = operations.Wait(t.Context(), other.client, op, nil)
	if !errs.Is(err, codes.Canceled) || errs.Reason(err) != operations.ReasonCancelled {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := other.client.DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: op.GetName()}); err != nil {
		t.Error(err)
	}
	_, err = other.client.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: op.GetName()})
	if status(err) != codes.NotFound {
		t.Errorf("after delete: %v", err)
	}
}

func TestOperationsOfADeadOwnerAreTakenUp(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	resume := func(_ context.Context, h *operations.Handle, request *anypb.Any) (proto.Message, error) {
		got := &wrapperspb.StringValue{}
		if err := request.UnmarshalTo(got); err != nil || got.GetValue() != "the request" || h.Attempt() != 2 {
			return nil, errors.Join(errors.New("resumed with something else"), err)
		}
		return wrapperspb.String("resumed"), nil
	}
	resumes := map[string]operations.Resume{"builder/build": resume}
	dying := start(t, store, resumes)
	hang := func(ctx context.Context, _ *operations.Handle) (proto.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	resumable, err := dying.manager.Start(t.Context(), spec(""), hang)
	if err != nil {
		t.Fatal(err)
	}
	hopeless := spec("")
	hopeless.Kind = "other"
	lost, err := dying.manager.Start(t.Context(), hopeless, hang)
	if err != nil {
		t.Fatal(err)
	}
	dying.stop()
	heir := start(t, store, resumes)
	done, err := operations.Wait(t.Context(), heir.client, resumable, nil)
	got := &wrapperspb.StringValue{}
	if err != nil || operations.Result(done, got) != nil || got.GetValue() != "resumed" {
		t.Errorf("resumed to %v, %v", done, err)
	}
	if _, err := operations.Wait(t.Context(), heir.client, lost, nil); errs.Reason(err) != operations.ReasonOwnerLost {
		t.Errorf("what cannot be resumed: %v", err)
	}
}

func TestOneHeirTakesUpEachOperation(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	var (
		mu       sync.Mutex
		attempts = make(map[string]int)
	)
	resumes := map[string]operations.Resume{"builder/build": func(_ context.Context, h *operations.Handle, _ *anypb.Any) (proto.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		attempts[h.Name()]++
		return wrapperspb.String("resumed"), nil
	}}
	dying := start(t, store, resumes)
	heirs := []*replica{start(t, store, resumes), start(t, store, resumes), start(t, store, resumes)}
	var left []*longrunningpb.Operation
	for range 20 {
		op, err := dying.manager.Start(t.Context(), spec(""), func(ctx context.Context, _ *operations.Handle) (proto.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, op)
	}
	dying.stop()
	for _, op := range left {
		if _, err := operations.Wait(t.Context(), heirs[0].client, op, nil); err != nil {
			t.Error(err)
		}
	}
	for _, heir := range heirs {
		heir.stop()
	}
	for name, n := range attempts {
		if n != 1 {
			t.Errorf("%s was taken up %d times", name, n)
		}
	}
	if len(attempts) != len(left) {
		t.Errorf("%d of %d operations were taken up", len(attempts), len(left))
	}
}

func TestListPagesNewestFirst(t *testing.T) {
	t.Parallel()
	r := start(t, openStore(t), nil)
	var names []string
	for range 5 {
		op, err := r.manager.Start(t.Context(), spec(""), func(context.Context, *operations.Handle) (proto.Message, error) {
			return wrapperspb.String("built"), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := operations.Wait(t.Context(), r.client, op, nil); err != nil {
			t.Fatal(err)
		}
		names = append([]string{op.GetName()}, names...)
	}
	var listed []string
	req := &longrunningpb.ListOperationsRequest{Name: "operations", PageSize: 2, Filter: "done=true AND kind=build"}
	for pages := 0; ; pages++ {
		page, err := r.client.ListOperations(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range page.GetOperations() {
			listed = append(listed, op.GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" || pages > 5 {
			break
		}
	}
	if len(listed) != len(names) {
		t.Fatalf("listed %v, want %v", listed, names)
	}
	for i := range names {
		if listed[i] != names[i] {
			t.Errorf("operation %d is %s, want %s", i, listed[i], names[i])
		}
	}
	for _, bad := range []*longrunningpb.ListOperationsRequest{{Filter: "x=1"}, {PageToken: "***"}, {PageSize: -1}} {
		if _, err := r.client.ListOperations(t.Context(), bad); status(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := r.client.GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: "nonsense"}); status(err) != codes.InvalidArgument {
		t.Errorf("a name that is none: %v", err)
	}
}

func status(err error) codes.Code {
	return errs.Code(errs.FromStatus(err))
}
