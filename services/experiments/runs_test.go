package experiments_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/services/experiments"
)

func TestARunSucceedsAndIsToldInFull(t *testing.T) {
	t.Parallel()
	s := newSuite()
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) {
		spec.Repetitions, spec.Validate, spec.ColdFirst = 4, true, true
	}))
	if err != nil {
		t.Fatal(err)
	}
	if run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.GetInvocationCount() != 4 || run.GetFailureCount() != 0 ||
		run.InvalidCount == nil || run.GetInvalidCount() != 0 || len(run.GetProblems()) != 0 || run.GetEndTime() == nil || run.GetKind() != "benchmark-invoke" {
		t.Errorf("the run is %v", run)
	}
	function, provenance := run.GetFunctions()[0], run.GetProvenance()
	if function.GetOutcome() != "CREATED" || function.GetPayloadJson() != `{"a":1}` || function.GetFunction().GetConfig().GetRuntime().GetVersion() != "3.13" ||
		function.GetTrigger() != deployment+"/functions/f/triggers/http" {
		t.Errorf("its function is %v", function)
	}
	if provenance.GetDigests()["package"] != "p1" || provenance.GetDigests()["input"] != "i1" || provenance.GetSuiteVersion() == "" ||
		provenance.GetHostProcessors() < 1 || !strings.Contains(provenance.GetConfigurationJson(), "repetitions") {
		t.Errorf("its provenance is %v", provenance)
	}
	var phases []string
	for _, step := range run.GetSteps() {
		if !slices.Contains(phases, step.GetPhase()) {
			phases = append(phases, step.GetPhase())
		}
	}
	slices.Sort(phases)
	if got := strings.Join(phases, " "); got != "deployment function input invoke package results trigger" {
		t.Errorf("its steps are of the phases %s", got)
	}
	if s.coldStarts != 0 || s.validations != 1 {
		t.Errorf("%d cold starts were enforced on a new function; equal answers were validated %d times", s.coldStarts, s.validations)
	}
	if len(s.requests) != 2 || s.requests[0].GetPhase() != "cold" || s.requests[0].GetCount() != 1 || s.requests[1].GetFirstSequence() != 1 || s.requests[1].GetCount() != 3 {
		t.Errorf("the invoker was asked for %v", s.requests)
	}
	if got := s.sequences(run.GetName()); fmt.Sprint(got) != "[0 1 2 3]" || s.waited[0] != 4 {
		t.Errorf("stored %v, waited for %v", got, s.waited)
	}
}

func TestColdStartsAreEnforcedOnKnownFunctions(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.outcome = deployerv1.EnsureFunctionResponse_OUTCOME_CACHED
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	if run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.ColdFirst = true })); err != nil || run.GetInvocationCount() != 5 {
		t.Errorf("the run is %v, %v", run, err)
	}
	if s.coldStarts != 1 {
		t.Errorf("%d cold starts were enforced", s.coldStarts)
	}
}

func TestInvalidAnswersMakeARunPartial(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.verdict.Valid, s.verdict.Reason = false, "the answer lacks y"
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Validate = true }))
	if err != nil || run.GetState() != experimentsv1.Run_STATE_PARTIAL || run.GetInvalidCount() != 5 || !strings.Contains(run.GetProblems()[0], "lacks y") {
		t.Errorf("the run is %v, %v", run, err)
	}
}

func TestARunThatCannotInvokeFails(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.build = func(context.Context) error {
		return errs.FailedPrecondition("BUILD_FAILED", "requirement nosuch==1 does not exist; correct requirements.txt")
	}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	run, err := c.run(t, request(nil))
	if errs.Reason(err) != "BUILD_FAILED" || !strings.Contains(err.Error(), "build the package of x: requirement nosuch==1") {
		t.Errorf("the operation's error is %v", err)
	}
	if run.GetState() != experimentsv1.Run_STATE_FAILED || !strings.Contains(run.GetProblems()[0], "nosuch==1") || len(s.requests) != 0 {
		t.Errorf("the run is %v", run)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	c := newClient(apptest.Start(t, newSuite().setup, experiments.Setup))
	for name, wrong := range map[string]*experimentsv1.CreateRunRequest{
		"nothing":   {},
		"no spec":   {Target: &experimentsv1.Target{Platform: "local"}},
		"no size":   request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Size = "" }),
		"size":      request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Size = "huge" }),
		"benchmark": request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Source.Benchmark = "" }),
		"negative":  request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = -1 }),
	} {
		if _, err := c.CreateRun(t.Context(), wrong); !errs.Is(err, codes.InvalidArgument) || len(errs.Violations(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"x", "runs/", "runs/../a", "runs/A"} {
		if _, err := c.GetRun(t.Context(), &experimentsv1.GetRunRequest{Name: name}); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := c.ListRuns(t.Context(), &experimentsv1.ListRunsRequest{PageToken: "?"}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("a page token that is none: %v", err)
	}
}

func TestTheSameRequestIDIsTheSameRun(t *testing.T) {
	t.Parallel()
	s := newSuite()
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	once := request(nil)
	once.RequestId = "once"
	_, first := c.create(t, once)
	_, second := c.create(t, once)
	if run, err := c.run(t, once); err != nil || first != second || run.GetName() != first {
		t.Errorf("runs %s, %s, %v, %v", first, second, run.GetName(), err)
	}
}

func TestALostInvokerCostsOnePart(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.invoke = func(call int, request *invokerv1.InvokeManyRequest, send func(int64, bool) error) error {
		if call != 2 {
			return sendAll(request, send)
		}
		// It reports 10 invocations, of which 4 are not published, publishes two more, and dies.
		for i := range int64(10) {
			if err := send(request.GetFirstSequence()+i, i < 6); err != nil {
				return err
			}
		}
		for i := range int64(2) {
			s.store(&typev1.InvocationRecord{Run: request.GetRun(), Sequence: request.GetFirstSequence() + 10 + i})
		}
		return errs.Unavailable("GONE", "the connection is lost")
	}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = 500 }))
	if err != nil {
		t.Fatal(err)
	}
	const unknown = 16 - 12
	if run.GetState() != experimentsv1.Run_STATE_PARTIAL || run.GetInvocationCount() != 500 || run.GetFailureCount() != unknown ||
		len(run.GetProblems()) != 1 || !strings.Contains(run.GetProblems()[0], fmt.Sprint("of ", unknown)) {
		t.Errorf("the run is %s with %d invocations, %d failed; problems %q", run.GetState(), run.GetInvocationCount(), run.GetFailureCount(), run.GetProblems())
	}
	stored := s.sequences(run.GetName())
	for i := range int64(500) {
		if stored[i] != i {
			t.Fatalf("result %d is stored where %d is due: one is lost or doubled", stored[i], i)
		}
	}
	asked := map[int64]int{}
	for _, request := range s.requests {
		for i := range int64(request.GetCount()) {
			asked[request.GetFirstSequence()+i]++
		}
	}
	for sequence, times := range asked {
		if times != 1 {
			t.Errorf("invocation %d was asked for %d times", sequence, times)
		}
	}
}

func TestADrainingInvokerCostsNothing(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.invoke = func(call int, request *invokerv1.InvokeManyRequest, send func(int64, bool) error) error {
		if call != 1 {
			return sendAll(request, send)
		}
		for _, i := range []int64{0, 1, 3, 4, 9} {
			if err := send(request.GetFirstSequence()+i, true); err != nil {
				return err
			}
		}
		return errs.Unavailable("INVOKER_DRAINING", "the invoker stops")
	}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = 100 }))
	if err != nil || run.GetState() != experimentsv1.Run_STATE_SUCCEEDED || run.GetInvocationCount() != 100 {
		t.Errorf("the run is %s with %d invocations, %q, %v", run.GetState(), run.GetInvocationCount(), run.GetProblems(), err)
	}
	for i, sequence := range s.sequences(run.GetName()) {
		if sequence != int64(i) {
			t.Fatalf("result %d is stored where %d is due", sequence, i)
		}
	}
}

func TestCancelReachesTheOperationOfAnotherService(t *testing.T) {
	t.Parallel()
	s := newSuite()
	building := make(chan struct{})
	s.build = func(ctx context.Context) error {
		close(building)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	_, name := c.create(t, request(nil))
	<-building
	run, err := c.CancelRun(t.Context(), &experimentsv1.CancelRunRequest{Name: name})
	if err != nil || run.GetState() != experimentsv1.Run_STATE_CANCELLED || run.GetEndTime() == nil {
		t.Errorf("the run is %v, %v", run, err)
	}
	eventually(t, "the build cancelled", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.buildsCancelled == 1
	})
	if again, err := c.CancelRun(t.Context(), &experimentsv1.CancelRunRequest{Name: name}); err != nil || again.GetState() != experimentsv1.Run_STATE_CANCELLED {
		t.Errorf("cancelled again: %v, %v", again, err)
	}
}

// eventually repeats a look until it is true.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestAnotherProcessTakesARunUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// block makes the first attempt wait for its process's end.
		block func(s *suite, reached chan<- struct{})
		state experimentsv1.Run_State
		count int64
		text  string
	}{
		"before the invocations": {
			block: func(s *suite, reached chan<- struct{}) {
				first := true
				s.build = func(ctx context.Context) error {
					s.mu.Lock()
					mine := first
					first = false
					s.mu.Unlock()
					if !mine {
						return nil
					}
					reached <- struct{}{}
					<-ctx.Done()
					return context.Cause(ctx)
				}
			},
			state: experimentsv1.Run_STATE_SUCCEEDED, count: 5,
		},
		"during the invocations": {
			block: func(s *suite, reached chan<- struct{}) {
				s.invoke = func(_ int, request *invokerv1.InvokeManyRequest, send func(int64, bool) error) error {
					for i := range int64(3) {
						if err := send(request.GetFirstSequence()+i, true); err != nil {
							return err
						}
					}
					reached <- struct{}{}
					for {
						if err := send(3, false); err != nil {
							return err
						}
					}
				}
			},
			state: experimentsv1.Run_STATE_PARTIAL, count: 3, text: "was lost during the invocations",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, reached := newSuite(), make(chan struct{}, 1)
			test.block(s, reached)
			backends := apptest.NewBackends(t)
			apptest.StartWith(t, apptest.Options{Name: "services", Backends: backends}, s.setup)
			first := apptest.StartWith(t, apptest.Options{Name: "first", Backends: backends}, experiments.Setup)
			op, run := newClient(first).create(t, request(nil))
			<-reached
			first.Stop()
			c := newClient(apptest.StartWith(t, apptest.Options{Name: "second", Backends: backends}, experiments.Setup))
			if _, err := operations.Wait(t.Context(), c.operations, op, nil); err != nil {
				t.Errorf("the operation: %v", err)
			}
			got, err := c.GetRun(t.Context(), &experimentsv1.GetRunRequest{Name: run})
			if err != nil || got.GetState() != test.state || got.GetInvocationCount() != test.count || !strings.Contains(strings.Join(got.GetProblems(), "\n"), test.text) {
				t.Errorf("the run is %s with %d invocations, problems %q, %v", got.GetState(), got.GetInvocationCount(), got.GetProblems(), err)
			}
			if kept := len(s.sequences(run)); int64(kept) != test.count {
				t.Errorf("%d results are stored", kept)
			}
		})
	}
}
