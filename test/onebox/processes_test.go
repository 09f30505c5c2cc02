package onebox_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/services/builder"
	"github.com/sebs-suite/sebs/services/deployer"
	"github.com/sebs-suite/sebs/services/experiments"
	"github.com/sebs-suite/sebs/services/invoker"
	"github.com/sebs-suite/sebs/services/local"
	"github.com/sebs-suite/sebs/services/metrics"
	"github.com/sebs-suite/sebs/services/storage"
)

// TestServicesInProcessesOfTheirOwn runs each service in its own process with two invokers, and ends the invoker at work
// in the middle of a run.
func TestServicesInProcessesOfTheirOwn(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3 to run functions and input.py")
	}
	backends := apptest.NewBackends(t)
	start := func(name string, options apptest.Options) apptest.Options {
		options.Name, options.Backends = name, backends
		return options
	}
	apptest.StartWith(t, start("storage", apptest.Options{}), storage.Setup)
	apptest.StartWith(t, start("builder", apptest.Options{}), builder.Setup)
	apptest.StartWith(t, start("deployer", apptest.Options{}), deployer.Setup)
	apptest.StartWith(t, start("local", apptest.Options{Sets: []string{"local.sandbox=process"}}), local.Setup)
	apptest.StartWith(t, start("metrics", apptest.Options{}), metrics.Setup)
	invokers := map[string]*apptest.Running{}
	for _, name := range []string{"invoker-1", "invoker-2"} {
		process := apptest.StartWith(t, start(name, apptest.Options{}), invoker.Setup)
		invokers["invokers/"+process.ID] = process
	}
	b := &box{Running: apptest.StartWith(t, start("experiments", apptest.Options{}), experiments.Setup), t: t}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	listed, err := invokerv1.NewInvokerServiceClient(b.Conn("invoker")).ListInvokers(ctx, &invokerv1.ListInvokersRequest{})
	if err != nil || len(listed.GetInvokers()) != 2 || listed.GetInvokers()[0].GetCapacity() == 0 || listed.GetInvokers()[0].GetAddress() == "" {
		t.Errorf("the invokers are %v, %v", listed, err)
	}
	op, err := b.experiments().CreateRun(ctx, invokeSpec("010.sleep", func(spec *experimentsv1.BenchmarkInvokeSpec) {
		spec.Repetitions, spec.Concurrency = 12, 2
	}))
	if err != nil {
		t.Fatal(err)
	}
	metadata := &experimentsv1.RunMetadata{}
	if err := op.GetMetadata().UnmarshalTo(metadata); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	var ended string
	for ended == "" {
		page, err := metricsv1.NewMetricsServiceClient(b.Conn("metrics")).ListInvocations(ctx, &metricsv1.ListInvocationsRequest{Parent: metadata.GetRun()})
		if err == nil && len(page.GetRecords()) > 0 {
			ended = page.GetRecords()[0].GetInvoker()
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("no result came")
		case <-look.C:
		}
	}
	if invokers[ended] == nil {
		t.Fatalf("the results are of %s, which is none of the invokers", ended)
	}
	invokers[ended].Stop()
	run, err := b.wait(ctx, op)
	if err != nil || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.GetInvocationCount() != 12 {
		t.Errorf("the run is %s with %d invocations; problems %q, %v", run.GetState(), run.GetInvocationCount(), run.GetProblems(), err)
	}
	by := map[string]int{}
	records := b.records(ctx, run.GetName())
	for i, record := range records {
		if record.GetSequence() != int64(i) {
			t.Errorf("record %d has the number %d", i, record.GetSequence())
		}
		by[record.GetInvoker()]++
	}
	if len(records) != 12 || len(by) != 2 {
		t.Errorf("%d records by %v; both invokers have to have some", len(records), by)
	}
}
