package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// begin starts a run of 010.sleep, whose calls take a second each.
func begin(ctx context.Context, t *testing.T, conn *grpc.ClientConn, count, concurrency int32) *longrunningpb.Operation {
	t.Helper()
	request := benchmarkRequest("010.sleep", count)
	request.GetBenchmarkInvoke().Concurrency = concurrency
	op, err := experimentsv1.NewExperimentsServiceClient(conn).CreateRun(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func metadataOf(t *testing.T, op *longrunningpb.Operation) *experimentsv1.RunMetadata {
	t.Helper()
	metadata := &experimentsv1.RunMetadata{}
	if err := op.GetMetadata().UnmarshalTo(metadata); err != nil {
		t.Fatal(err)
	}
	return metadata
}

// awaitCalls returns when a run has made some invocations and makes more.
func awaitCalls(ctx context.Context, t *testing.T, conn *grpc.ClientConn, op *longrunningpb.Operation, count int64) {
	t.Helper()
	client := longrunningpb.NewOperationsClient(conn)
	stand.Await(ctx, t, "calls of "+op.GetName(), func() bool {
		current, err := client.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: op.GetName()})
		if err != nil {
			return false
		}
		if current.GetDone() {
			t.Fatalf("%s is over before %d calls: %v", op.GetName(), count, current.GetError())
		}
		metadata := metadataOf(t, current)
		return metadata.GetPhase() == "invoke" && metadata.GetCurrent() >= count
	})
}

// ended checks that an operation ended with a run that kept its results, or failed with a clear reason.
func ended(ctx context.Context, t *testing.T, conn *grpc.ClientConn, op *longrunningpb.Operation) *experimentsv1.Run {
	t.Helper()
	done := await(ctx, t, longrunningpb.NewOperationsClient(conn), op)
	name := metadataOf(t, op).GetRun()
	var run *experimentsv1.Run
	stand.Await(ctx, t, name, func() bool {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		var err error
		run, err = experimentsv1.NewExperimentsServiceClient(conn).GetRun(short, &experimentsv1.GetRunRequest{Name: name})
		return err == nil
	})
	switch run.GetState() {
	case experimentsv1.Run_STATE_SUCCEEDED:
		if done.GetError() != nil {
			t.Errorf("%s succeeded and its operation says %v", name, done.GetError())
		}
	case experimentsv1.Run_STATE_PARTIAL, experimentsv1.Run_STATE_FAILED:
		if text := strings.Join(run.GetProblems(), "; "); text == "" || strings.Contains(text, "unexpected error") {
			t.Errorf("%s ended as %s without a clear reason: %q", name, run.GetState(), text)
		}
	default:
		t.Errorf("%s is %s after its operation ended: %v", name, run.GetState(), done.GetError())
	}
	t.Logf("%s: %s, %d invocations, %d failed, problems %q", name, run.GetState(), run.GetInvocationCount(), run.GetFailureCount(), run.GetProblems())
	return run
}

// working returns the invoker that makes calls.
func working(ctx context.Context, t *testing.T, s *stand.Suite, conn *grpc.ClientConn) *stand.Service {
	t.Helper()
	var found *stand.Service
	stand.Await(ctx, t, "an invoker with calls in flight", func() bool {
		list, err := invokerv1.NewInvokerServiceClient(conn).ListInvokers(ctx, &invokerv1.ListInvokersRequest{})
		if err != nil {
			return false
		}
		for _, invoker := range list.GetInvokers() {
			for _, service := range s.Invokers {
				if invoker.GetInFlight() > 0 && strings.Contains(service.Log(), "grpc="+invoker.GetAddress()+" ") {
					found = service
				}
			}
		}
		return found != nil
	})
	return found
}

func TestAnInvokerDiesDuringCalls(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{Invokers: 2})
	ctx := limited(t)
	conn := s.Dial()
	results := watchResults(t, s)
	op := begin(ctx, t, conn, 30, 4)
	awaitCalls(ctx, t, conn, op, 5)
	victim := working(ctx, t, s, conn)
	victim.Kill()
	run := ended(ctx, t, conn, op)
	kept := results.nothingLost(ctx, t, s, run.GetName())
	if run.GetState() != experimentsv1.Run_STATE_PARTIAL && run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
		t.Errorf("the run is %s", run.GetState())
	}
	if kept < 4 {
		t.Errorf("%d results are kept of a run that had made 5 calls", kept)
	}
	// Between calls: the next run has only the other invoker.
	op = begin(ctx, t, conn, 2, 1)
	if run := ended(ctx, t, conn, op); run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
		t.Errorf("with one invoker left: %s, %q", run.GetState(), run.GetProblems())
	} else if kept := results.nothingLost(ctx, t, s, run.GetName()); kept != 2 {
		t.Errorf("with one invoker left: %d results of 2", kept)
	}
	victim.Restart()
	noBusySandboxes(ctx, t, s, conn)
}

// noBusySandboxes checks that what runs on the local platform is known to it and idle.
func noBusySandboxes(ctx context.Context, t *testing.T, s *stand.Suite, conn *grpc.ClientConn) {
	t.Helper()
	client := localv1.NewLocalServiceClient(conn)
	var known int
	stand.Await(ctx, t, "idle sandboxes", func() bool {
		list, err := client.ListSandboxes(ctx, &localv1.ListSandboxesRequest{})
		if err != nil {
			return false
		}
		known = len(list.GetSandboxes())
		for _, sandbox := range list.GetSandboxes() {
			if sandbox.GetBusy() {
				return false
			}
		}
		return len(s.Sandboxes()) == known
	})
}

func TestServicesDieDuringARun(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{})
	conn := s.Dial()
	results := watchResults(t, s)
	for _, c := range []struct {
		victim *stand.Service
		// harmless says that the run does not notice.
		harmless bool
	}{
		{s.Storage, true}, {s.Builder, true}, {s.Deployers[0], true}, {s.Invokers[0], false}, {s.Metrics, true},
		{s.Experiments, false}, {s.Local, false}, {s.Gateway.Service, true},
	} {
		t.Run(c.victim.Name, func(t *testing.T) {
			ctx := limited(t)
			op := begin(ctx, t, conn, 4, 1)
			awaitCalls(ctx, t, conn, op, 2)
			c.victim.Kill()
			c.victim.Restart()
			run := ended(ctx, t, conn, op)
			kept := results.nothingLost(ctx, t, s, run.GetName())
			if int64(kept) != run.GetInvocationCount() {
				t.Errorf("%d results of %d invocations", kept, run.GetInvocationCount())
			}
			if state := run.GetState(); c.harmless && state != experimentsv1.Run_STATE_SUCCEEDED || state == experimentsv1.Run_STATE_FAILED {
				t.Errorf("the run is %s", state)
			}
			noBusySandboxes(ctx, t, s, conn)
		})
	}
}

func TestServicesDieDuringThePreparation(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{})
	conn := s.Dial()
	for _, c := range []struct {
		victim *stand.Service
		phase  string
		// benchmark differs, so that each has something to prepare.
		benchmark string
		language  typev1.Language
	}{
		{s.Builder, "package", "110.dynamic-html", typev1.Language_LANGUAGE_PYTHON},
		{s.Storage, "package", "010.sleep", typev1.Language_LANGUAGE_PYTHON},
		{s.Experiments, "package", "503.graph-bfs", typev1.Language_LANGUAGE_PYTHON},
		{s.Deployers[0], "package", "311.compression", typev1.Language_LANGUAGE_PYTHON},
	} {
		t.Run(c.victim.Name, func(t *testing.T) {
			ctx := limited(t)
			request := benchmarkRequest(c.benchmark, 1)
			request.GetTarget().GetRuntime().Language = c.language
			client := experimentsv1.NewExperimentsServiceClient(conn)
			op, err := client.CreateRun(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			operations := longrunningpb.NewOperationsClient(conn)
			stand.Await(ctx, t, "the phase "+c.phase, func() bool {
				current, err := operations.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: op.GetName()})
				return err == nil && (current.GetDone() || metadataOf(t, current).GetPhase() == c.phase)
			})
			c.victim.Kill()
			c.victim.Restart()
			ended(ctx, t, conn, op)
			// Nothing is left in the way of the same run.
			request.RequestId = ""
			if op, err = client.CreateRun(ctx, request); err != nil {
				t.Fatal(err)
			}
			if run := finish(ctx, t, operations, op); run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
				t.Errorf("the run after it: %s, %q", run.GetState(), run.GetProblems())
			}
			noBusySandboxes(ctx, t, s, conn)
		})
	}
}

func TestContainersEndWithTheirPlatform(t *testing.T) {
	const image = "sebs/run.local.python.3.11"
	if out, err := exec.CommandContext(t.Context(), "docker", "image", "inspect", image).CombinedOutput(); err != nil {
		t.Skipf("needs docker with the image %s: %s", image, out)
	}
	s := stand.Start(t, binaries, stand.Options{Sandbox: "docker"})
	conn := s.Dial()
	ctx := limited(t)
	results := watchResults(t, s)
	op := begin(ctx, t, conn, 4, 1)
	awaitCalls(ctx, t, conn, op, 2)
	if n := len(s.Containers()); n != 1 {
		t.Errorf("%d containers during the calls", n)
	}
	s.Local.Kill()
	s.Local.Restart()
	run := ended(ctx, t, conn, op)
	results.nothingLost(ctx, t, s, run.GetName())
	client := localv1.NewLocalServiceClient(conn)
	stand.Await(ctx, t, "as many containers as sandboxes", func() bool {
		list, err := client.ListSandboxes(ctx, &localv1.ListSandboxesRequest{})
		return err == nil && len(s.Containers()) == len(list.GetSandboxes())
	})
	// An orderly end removes them all.
	s.Local.Cleanup()
	if left := s.Containers(); len(left) != 0 {
		t.Errorf("containers are left: %q", left)
	}
}

func TestStoresDieDuringARun(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{})
	conn := s.Dial()
	results := watchResults(t, s)
	for _, victim := range []*stand.Process{s.NATS.Process, s.Etcd.Process} {
		t.Run(victim.Name, func(t *testing.T) {
			ctx := limited(t)
			op := begin(ctx, t, conn, 5, 1)
			awaitCalls(ctx, t, conn, op, 2)
			victim.Kill()
			victim.Restart()
			run := ended(ctx, t, conn, op)
			if kept := results.nothingLost(ctx, t, s, run.GetName()); kept != 5 || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
				t.Errorf("the run is %s with %d results of 5", run.GetState(), kept)
			}
			noBusySandboxes(ctx, t, s, conn)
		})
	}
}
