package onebox_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/goleak"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/services/builder"
	"github.com/sebs-suite/sebs/services/deployer"
	"github.com/sebs-suite/sebs/services/experiments"
	"github.com/sebs-suite/sebs/services/invoker"
	"github.com/sebs-suite/sebs/services/local"
	"github.com/sebs-suite/sebs/services/metrics"
	"github.com/sebs-suite/sebs/services/storage"
)

func TestMain(m *testing.M) {
	// The embedded object store's HTTP library never ends these two.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	)
}

// limit bounds one run of a test.
const limit = 3 * time.Minute

// box is the whole suite in one process.
type box struct {
	*apptest.Running
	t *testing.T
}

func start(t *testing.T, sets ...string) *box {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3 to run functions and input.py")
	}
	running := apptest.StartWith(t, apptest.Options{Name: "sebs", Sets: append(sets, "local.sandbox=process")},
		storage.Setup, builder.Setup, deployer.Setup, local.Setup, invoker.Setup, metrics.Setup, experiments.Setup)
	return &box{Running: running, t: t}
}

// run makes a run and returns its record.
func (b *box) run(ctx context.Context, request *experimentsv1.CreateRunRequest) (*experimentsv1.Run, error) {
	b.t.Helper()
	op, err := b.experiments().CreateRun(ctx, request)
	if err != nil {
		return nil, err
	}
	return b.wait(ctx, op)
}

// wait returns the record of the run that an operation makes.
func (b *box) wait(ctx context.Context, op *longrunningpb.Operation) (*experimentsv1.Run, error) {
	b.t.Helper()
	phase := ""
	done, err := operations.Wait(ctx, longrunningpb.NewOperationsClient(b.Conn("experiments")), op, func(state *longrunningpb.Operation) {
		metadata := &experimentsv1.RunMetadata{}
		if state.GetMetadata().UnmarshalTo(metadata) == nil && metadata.GetMessage() != phase {
			phase = metadata.GetMessage()
			b.t.Logf("%s: %s (%d/%d)", metadata.GetPhase(), phase, metadata.GetCurrent(), metadata.GetTotal())
		}
	})
	if err != nil {
		return nil, err
	}
	run := &experimentsv1.Run{}
	return run, operations.Result(done, run)
}

func TestSleepFromSourceToResult(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	run, err := b.run(ctx, &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local"},
		Spec: &experimentsv1.CreateRunRequest_BenchmarkInvoke{BenchmarkInvoke: &experimentsv1.BenchmarkInvokeSpec{
			Source: &builderv1.BenchmarkSource{Benchmark: "010.sleep"}, Size: "test", Repetitions: 3, ColdFirst: true, Validate: true,
			Trigger: typev1.TriggerType_TRIGGER_TYPE_HTTP,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.GetInvocationCount() != 3 {
		t.Errorf("the run is %s with %d invocations; problems: %q", run.GetState(), run.GetInvocationCount(), run.GetProblems())
	}
	if provenance := run.GetProvenance(); provenance.GetSandbox() != "process" || provenance.GetDigests()["source"] == "" ||
		provenance.GetDigests()["package"] == "" || provenance.GetDigests()["input"] == "" {
		t.Errorf("the provenance is %v", provenance)
	}
	for _, step := range run.GetSteps() {
		t.Logf("%-12s %8s %s", step.GetPhase(), step.GetDuration().AsDuration().Round(time.Millisecond), step.GetMessage())
	}
}
