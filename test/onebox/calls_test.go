package onebox_test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func TestBothLanguagesGiveValidAnswers(t *testing.T) {
	t.Parallel()
	b := start(t)
	for language, tools := range map[typev1.Language][]string{
		typev1.Language_LANGUAGE_PYTHON: {"python3"}, typev1.Language_LANGUAGE_NODEJS: {"node", "npm"},
	} {
		for _, benchmark := range []string{"010.sleep", "110.dynamic-html"} {
			t.Run(fmt.Sprintf("%s in %s", benchmark, language), func(t *testing.T) {
				for _, tool := range tools {
					if _, err := exec.LookPath(tool); err != nil {
						t.Skipf("needs %s to build and run functions of this language", tool)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				request := invokeSpec(benchmark, func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.ColdFirst, spec.Repetitions = true, 2 })
				request.GetTarget().Runtime = &typev1.Runtime{Language: language}
				run, err := b.run(ctx, request)
				if err != nil {
					t.Fatal(err)
				}
				if run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.InvalidCount == nil || run.GetInvalidCount() != 0 {
					t.Errorf("the run is %s; problems: %q", run.GetState(), run.GetProblems())
				}
				var cold []bool
				for _, record := range b.records(ctx, run.GetName()) {
					cold = append(cold, record.GetResult().GetStats().GetColdStart())
				}
				if !slices.Equal(cold, []bool{true, false}) {
					t.Errorf("cold starts of the two calls: %v", cold)
				}
			})
		}
	}
}

// deployed makes functions of 110.dynamic-html that can be called.
func (b *box) deployed(ctx context.Context, count int32) *experimentsv1.Run {
	b.t.Helper()
	run, err := b.run(ctx, &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON}},
		Spec: &experimentsv1.CreateRunRequest_Deploy{Deploy: &experimentsv1.DeploySpec{
			Source: &builderv1.BenchmarkSource{Benchmark: "110.dynamic-html"}, Count: count,
		}},
	})
	if err != nil || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED {
		b.t.Fatalf("the run is %v, %v", run, err)
	}
	return run
}

func TestQueuedInvocations(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	function := b.deployed(ctx, 1).GetFunctions()[0]
	client := invokerv1.NewInvokerServiceClient(b.Conn("invoker"))
	const count = 12
	names := make(map[string]bool)
	for i := range count {
		request := &invokerv1.CreateInvocationRequest{
			Trigger: function.GetTrigger(), PayloadJson: function.GetPayloadJson(), RequestId: fmt.Sprintf("queued-%d", i),
		}
		first, err := client.CreateInvocation(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := client.CreateInvocation(ctx, request); err != nil || again.GetName() != first.GetName() {
			t.Errorf("the same request id made %s and %s: %v", first.GetName(), again.GetName(), err)
		}
		names[first.GetName()] = true
	}
	if len(names) != count {
		t.Errorf("%d invocations of %d requests", len(names), count)
	}
	requests := make(map[string]bool)
	for name := range names {
		done, err := client.GetInvocation(ctx, &invokerv1.GetInvocationRequest{Name: name, Wait: durationpb.New(time.Minute)})
		if err != nil || done.GetState() != invokerv1.Invocation_STATE_DONE || done.GetAttempt() != 1 || done.GetRecord().GetErrorClass() != 0 {
			t.Errorf("%s: %v, %v", name, done, err)
		}
		requests[done.GetRecord().GetResult().GetRequestId()] = true
	}
	if len(requests) != count {
		t.Errorf("%d calls were made for %d invocations", len(requests), count)
	}
	page, err := localv1.NewLocalServiceClient(b.Conn("local")).ListLocalInvocations(ctx, &localv1.ListLocalInvocationsRequest{
		FunctionId: last(function.GetFunction().GetName()),
	})
	if err != nil || len(page.GetInvocations()) != count {
		t.Errorf("the platform made %d calls of %d: %v", len(page.GetInvocations()), count, err)
	}
}

func last(name string) string { return name[strings.LastIndex(name, "/")+1:] }

func TestColdStartsOfManyFunctionsAtOnce(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	run := b.deployed(ctx, 2)
	invoker := invokerv1.NewInvokerServiceClient(b.Conn("invoker"))
	call := func(cold bool) {
		t.Helper()
		for _, f := range run.GetFunctions() {
			answer, err := invoker.Invoke(ctx, &invokerv1.InvokeRequest{Trigger: f.GetTrigger(), PayloadJson: f.GetPayloadJson()})
			if err != nil || answer.GetRecord().GetResult().GetStats().GetColdStart() != cold {
				t.Errorf("%s, want a cold start: %t; got %v, %v", f.GetTrigger(), cold, answer, err)
			}
		}
	}
	var names []string
	for _, f := range run.GetFunctions() {
		names = append(names, f.GetFunction().GetName())
	}
	call(true)
	call(false)
	deployer := deployerv1.NewDeployerServiceClient(b.Conn("deployer"))
	var counter int64
	for range 2 {
		answer, err := deployer.EnforceColdStart(ctx, &deployerv1.EnforceColdStartRequest{Parent: run.GetDeployment(), Functions: names})
		if err != nil || len(answer.GetFailures()) > 0 || answer.GetCounter() <= counter {
			t.Fatalf("enforce cold starts after counter %d: %v, %v", counter, answer, err)
		}
		counter = answer.GetCounter()
		call(true)
		call(false)
	}
	answer, err := deployer.EnforceColdStart(ctx, &deployerv1.EnforceColdStartRequest{
		Parent: run.GetDeployment(), Functions: append(names, run.GetDeployment()+"/functions/missing"),
	})
	if err == nil && len(answer.GetFailures()) != 1 {
		t.Errorf("with a function that does not exist: %v", answer)
	}
}

func TestAnUploadInvokesAFunction(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	run := b.deployed(ctx, 1)
	function := run.GetFunctions()[0].GetFunction().GetName()
	if _, err := deployerv1.NewDeployerServiceClient(b.Conn("deployer")).CreateTrigger(ctx, &deployerv1.CreateTriggerRequest{
		Parent: function, TypeName: "Storage",
	}); err != nil {
		t.Fatal(err)
	}
	local := localv1.NewLocalServiceClient(b.Conn("local"))
	running, err := local.GetLocalFunction(ctx, &localv1.GetLocalFunctionRequest{FunctionId: last(function)})
	if err != nil || running.GetStorageTrigger().GetBucket() == "" {
		t.Fatalf("the function has no storage trigger: %v, %v", running, err)
	}
	where := running.GetStorageTrigger()
	bucket := run.GetDeployment() + "/buckets/" + where.GetBucket()
	payload := run.GetFunctions()[0].GetPayloadJson()
	// Not below the prefix: nobody is called.
	b.upload(ctx, bucket, "elsewhere/event-1.json", payload)
	b.upload(ctx, bucket, where.GetPrefix()+"event-2.json", payload)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := local.ListLocalInvocations(ctx, &localv1.ListLocalInvocationsRequest{FunctionId: last(function)})
		if err != nil {
			t.Fatal(err)
		}
		if calls := len(page.GetInvocations()); calls == 1 {
			break
		} else if calls > 1 {
			t.Fatalf("%d calls for one event", calls)
		}
		select {
		case <-ctx.Done():
			t.Fatal("the upload did not invoke the function")
		case <-tick.C:
		}
	}
}

func (b *box) upload(ctx context.Context, bucket, key, content string) {
	b.t.Helper()
	stream, err := storagev1.NewStorageServiceClient(b.Conn("storage")).UploadObject(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	size := int64(len(content))
	for _, m := range []*storagev1.UploadObjectRequest{
		{Part: &storagev1.UploadObjectRequest_Target{Target: &storagev1.UploadTarget{Bucket: bucket, Key: key, SizeBytes: &size}}},
		{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: []byte(content)}},
	} {
		if err := stream.Send(m); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		b.t.Fatalf("upload %s: %v", key, err)
	}
}
