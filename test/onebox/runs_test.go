package onebox_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// invokeSpec asks for invocations of one benchmark.
func invokeSpec(benchmark string, edit func(*experimentsv1.BenchmarkInvokeSpec)) *experimentsv1.CreateRunRequest {
	spec := &experimentsv1.BenchmarkInvokeSpec{
		Source: &builderv1.BenchmarkSource{Benchmark: benchmark}, Size: "test", Repetitions: 3, Validate: true,
	}
	if edit != nil {
		edit(spec)
	}
	return &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local"},
		Spec:   &experimentsv1.CreateRunRequest_BenchmarkInvoke{BenchmarkInvoke: spec},
	}
}

// records returns what the metrics service stored of a run.
func (b *box) records(ctx context.Context, run string) []*typev1.InvocationRecord {
	b.t.Helper()
	page, err := metricsv1.NewMetricsServiceClient(b.Conn("metrics")).ListInvocations(ctx, &metricsv1.ListInvocationsRequest{Parent: run, PageSize: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	return page.GetRecords()
}

func (b *box) experiments() experimentsv1.ExperimentsServiceClient {
	return experimentsv1.NewExperimentsServiceClient(b.Conn("experiments"))
}

// benchmarks writes a folder with a benchmark whose function is the given Python code, and returns its root.
func writeBenchmark(t *testing.T, name, code string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"config.json":        `{"timeout": 2, "memory": 128, "languages": ["python"], "modules": []}`,
		"input.py":           "def generate_input(data_dir, size, bucket, inputs, outputs, upload, nosql):\n    return {'x': 1}\n\ndef validate_output(data_dir, config, output, language, storage=None):\n    return None\n",
		"python/function.py": code,
	} {
		full := filepath.Join(root, name, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTriggersOfARun(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, kind := range []typev1.TriggerType{
		typev1.TriggerType_TRIGGER_TYPE_HTTP, typev1.TriggerType_TRIGGER_TYPE_LIBRARY, typev1.TriggerType_TRIGGER_TYPE_STORAGE,
	} {
		run, err := b.run(ctx, invokeSpec("110.dynamic-html", func(spec *experimentsv1.BenchmarkInvokeSpec) {
			spec.Trigger, spec.ColdFirst = kind, true
		}))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.GetInvocationCount() != 3 || run.InvalidCount == nil || run.GetInvalidCount() != 0 {
			t.Errorf("%s: the run is %s with %d invocations; problems: %q", kind, run.GetState(), run.GetInvocationCount(), run.GetProblems())
		}
		records := b.records(ctx, run.GetName())
		if len(records) != 3 {
			t.Fatalf("%s: %d records are stored", kind, len(records))
		}
		for i, record := range records {
			result := record.GetResult()
			// The answer of a storage trigger is seen before its sandbox is free, so the next call may need another one.
			anyCold := i > 0 && kind == typev1.TriggerType_TRIGGER_TYPE_STORAGE
			if record.GetSequence() != int64(i) || record.GetTrigger() != kind || !anyCold && result.GetStats().GetColdStart() != (i == 0) ||
				result.ProviderTimes.GetExecutionUs() <= 0 || result.Billing == nil || result.GetTimes().GetBenchmarkUs() <= 0 ||
				(result.GetTimes().HttpStartupSeconds != nil) != (kind == typev1.TriggerType_TRIGGER_TYPE_HTTP) {
				t.Errorf("%s: record %d is %v", kind, i, strip(record))
			}
		}
		if groups := run.GetStatistics().GetFunctions(); len(groups) != 1 || groups[0].GetCount() != 3 || groups[0].CostUsd == nil {
			t.Errorf("%s: the statistics are %v", kind, run.GetStatistics())
		}
	}
}

// strip leaves the long answer out of a record that is printed.
func strip(record *typev1.InvocationRecord) *typev1.InvocationRecord {
	record.Result.OutputJson = ""
	return record
}

func TestFailuresAreResults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code  string
		class typev1.ErrorClass
		text  string
	}{
		"raises":       {"def handler(event):\n    raise ValueError('no such thing')\n", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "no such thing"},
		"never ends":   {"import time\ndef handler(event):\n    time.sleep(600)\n", typev1.ErrorClass_ERROR_CLASS_TIMEOUT, "raise it with --timeout"},
		"too hungry":   {"def handler(event):\n    x = bytearray(400 << 20)\n    for i in range(0, len(x), 4096): x[i] = 1\n    import time; time.sleep(1)\n    return {'result': 1}\n", typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY, "raise it with --memory"},
		"not JSON":     {"def handler(event):\n    return {'result': {1, 2}}\n", typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED, ""},
		"import error": {"import no_such_module\ndef handler(event):\n    return {'result': 1}\n", typev1.ErrorClass_ERROR_CLASS_INITIALIZATION, "no_such_module"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := writeBenchmark(t, "999.bad", test.code)
			b := start(t, "builder.benchmarks_dirs="+root)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			run, err := b.run(ctx, invokeSpec("999.bad", func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = 2 }))
			if err != nil {
				t.Fatal(err)
			}
			if run.GetState() != experimentsv1.Run_STATE_PARTIAL || run.GetFailureCount() != 2 || len(run.GetProblems()) < 2 {
				t.Errorf("the run is %s with %d failures; problems: %q", run.GetState(), run.GetFailureCount(), run.GetProblems())
			}
			for _, record := range b.records(ctx, run.GetName()) {
				if test.class != 0 && record.GetErrorClass() != test.class || !strings.Contains(record.GetErrorMessage(), test.text) {
					t.Errorf("recorded as %s: %q", record.GetErrorClass(), record.GetErrorMessage())
				}
				t.Logf("%s: %s", record.GetErrorClass(), record.GetErrorMessage())
			}
		})
	}
}

func TestARunThatCannotBeginFails(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := b.run(ctx, invokeSpec("110.dynamic-htm", nil))
	if !errs.Is(err, codes.NotFound) || !strings.Contains(err.Error(), "110.dynamic-html") {
		t.Errorf("an unknown benchmark: %v", err)
	}
	list, err := b.experiments().ListRuns(ctx, &experimentsv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 1 || list.GetRuns()[0].GetState() != experimentsv1.Run_STATE_FAILED || len(list.GetRuns()[0].GetProblems()) == 0 {
		t.Errorf("the run's record is %v, %v", list, err)
	}
	request := invokeSpec("010.sleep", nil)
	request.Target.Runtime = &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "2.7"}
	if _, err := b.run(ctx, request); err == nil || !strings.Contains(err.Error(), "2.7") {
		t.Errorf("an unknown version: %v", err)
	}
	request = invokeSpec("010.sleep", nil)
	request.Target.Platform = "nowhere"
	if _, err := b.run(ctx, request); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("an unknown platform: %v", err)
	}
}

func TestACancelledRunKeepsItsResults(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	op, err := b.experiments().CreateRun(ctx, invokeSpec("010.sleep", func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = 10_000 }))
	if err != nil {
		t.Fatal(err)
	}
	metadata := &experimentsv1.RunMetadata{}
	if err := op.GetMetadata().UnmarshalTo(metadata); err != nil || metadata.GetRun() == "" {
		t.Fatalf("the operation does not name its run: %v, %v", metadata, err)
	}
	name := metadata.GetRun()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		page, err := metricsv1.NewMetricsServiceClient(b.Conn("metrics")).ListInvocations(ctx, &metricsv1.ListInvocationsRequest{Parent: name})
		if err == nil && len(page.GetRecords()) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("no result came")
		case <-look.C:
		}
	}
	if _, err := b.experiments().DeleteRun(ctx, &experimentsv1.DeleteRunRequest{Name: name}); !errs.Is(err, codes.FailedPrecondition) {
		t.Errorf("a run at work was deleted: %v", err)
	}
	run, err := b.experiments().CancelRun(ctx, &experimentsv1.CancelRunRequest{Name: name})
	if err != nil || run.GetState() != experimentsv1.Run_STATE_CANCELLED || run.GetInvocationCount() == 0 || run.GetInvocationCount() >= 10_000 {
		t.Errorf("the run is %v, %v", run, err)
	}
	if kept := len(b.records(ctx, name)); int64(kept) < run.GetInvocationCount() {
		t.Errorf("%d records are kept of %d", kept, run.GetInvocationCount())
	}
	if _, err := b.experiments().DeleteRun(ctx, &experimentsv1.DeleteRunRequest{Name: name}); err != nil {
		t.Error(err)
	}
	if _, err := b.experiments().GetRun(ctx, &experimentsv1.GetRunRequest{Name: name}); !errs.Is(err, codes.NotFound) {
		t.Errorf("the deleted run: %v", err)
	}
}

func TestRegressionAndRerun(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	run, err := b.run(ctx, &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local", ResourcePrefix: "regr"},
		Spec: &experimentsv1.CreateRunRequest_Regression{Regression: &experimentsv1.RegressionSpec{
			Sources: []*builderv1.BenchmarkSource{{Benchmark: "010.sleep"}, {Benchmark: "110.dynamic-html"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, result := range run.GetRegressionResults() {
		tests = append(tests, result.GetBenchmark()+" "+result.GetTrigger().String())
		if !result.GetValid() || !json.Valid([]byte(result.GetRecord().GetResult().GetOutputJson())) {
			t.Errorf("%s is invalid: %s", tests[len(tests)-1], result.GetReason())
		}
	}
	if len(tests) != 4 || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || len(run.GetFunctions()) != 2 || len(b.records(ctx, run.GetName())) != 4 {
		t.Errorf("%s with tests %q; problems %q", run.GetState(), tests, run.GetProblems())
	}
	if !strings.Contains(run.GetDeployment(), "/regr") {
		t.Errorf("the deployment is %s", run.GetDeployment())
	}
	op, err := b.experiments().RerunRun(ctx, &experimentsv1.RerunRunRequest{Name: run.GetName(), RequestId: "again"})
	if err != nil {
		t.Fatal(err)
	}
	same, err := b.experiments().RerunRun(ctx, &experimentsv1.RerunRunRequest{Name: run.GetName(), RequestId: "again"})
	if err != nil || same.GetName() != op.GetName() {
		t.Errorf("the same request id started another run: %v, %v", same, err)
	}
	again, err := b.wait(ctx, op)
	if err != nil || again.GetState() != experimentsv1.Run_STATE_SUCCEEDED || again.GetRequest().GetLabels()["rerun-of"] != run.GetName() {
		t.Errorf("the second run is %v, %v", again, err)
	}
	first, err := b.experiments().ListRuns(ctx, &experimentsv1.ListRunsRequest{PageSize: 1})
	if err != nil || len(first.GetRuns()) != 1 || first.GetRuns()[0].GetName() != again.GetName() || first.GetNextPageToken() == "" {
		t.Fatalf("the first page is %v, %v", first, err)
	}
	second, err := b.experiments().ListRuns(ctx, &experimentsv1.ListRunsRequest{PageSize: 1, PageToken: first.GetNextPageToken()})
	if err != nil || len(second.GetRuns()) != 1 || second.GetRuns()[0].GetName() != run.GetName() || second.GetNextPageToken() != "" {
		t.Errorf("the second page is %v, %v", second, err)
	}
}

func TestDeployMakesFunctionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	run, err := b.run(ctx, &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local"},
		Spec: &experimentsv1.CreateRunRequest_Deploy{Deploy: &experimentsv1.DeploySpec{
			Source: &builderv1.BenchmarkSource{Benchmark: "110.dynamic-html"}, Count: 3,
		}},
	})
	if err != nil || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
		t.Fatalf("the run is %v, %v", run, err)
	}
	var names, urls []string
	for _, function := range run.GetFunctions() {
		names = append(names, function.GetFunction().GetName())
		for _, trigger := range function.GetFunction().GetTriggers() {
			if trigger.GetUrl() != "" {
				urls = append(urls, trigger.GetUrl())
			}
		}
		// The functions can be called, queued as well.
		invocations := invokerv1.NewInvokerServiceClient(b.Conn("invoker"))
		queued, err := invocations.CreateInvocation(ctx, &invokerv1.CreateInvocationRequest{Trigger: function.GetTrigger(), PayloadJson: function.GetPayloadJson()})
		if err != nil {
			t.Fatal(err)
		}
		done, err := invocations.GetInvocation(ctx, &invokerv1.GetInvocationRequest{Name: queued.GetName(), Wait: durationpb.New(time.Minute)})
		if err != nil || done.GetState() != invokerv1.Invocation_STATE_DONE || done.GetRecord().GetErrorClass() != 0 {
			t.Errorf("queued call of %s: %v, %v", function.GetTrigger(), done, err)
		}
	}
	slices.Sort(names)
	slices.Sort(urls)
	if len(slices.Compact(names)) != 3 || len(slices.Compact(urls)) != 3 {
		t.Errorf("functions %q at %q are not three different ones", names, urls)
	}
}
