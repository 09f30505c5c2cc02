package experiments_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/experiments"
)

func bounded(usd float64, edit func(*experimentsv1.BenchmarkInvokeSpec)) *experimentsv1.CreateRunRequest {
	r := request(edit)
	r.MaxCostUsd = &usd
	return r
}

func TestMaxCostEndsARun(t *testing.T) {
	t.Parallel()
	s := newSuite()
	// Two milliseconds at 128 MB cost 0.25 US dollars, and a request 0.75.
	s.price = &metricsv1.Price{Platform: "local", UsdPerRequest: 0.75, UsdPerGbSecond: 1000, AsOf: "2025-01-01"}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	for _, one := range []struct {
		name        string
		usd         float64
		concurrency int32
		made        int64
		state       experimentsv1.Run_State
	}{
		{"one by one", 10_003.5, 1, 10, experimentsv1.Run_STATE_SUCCEEDED},
		{"four at once", 3.5, 4, 3, experimentsv1.Run_STATE_PARTIAL},
		{"just enough", 10.01, 4, 10, experimentsv1.Run_STATE_SUCCEEDED},
		{"half", 5.5, 2, 5, experimentsv1.Run_STATE_PARTIAL},
	} {
		s.requests = nil
		run, err := c.run(t, bounded(one.usd, func(spec *experimentsv1.BenchmarkInvokeSpec) {
			spec.Repetitions, spec.Concurrency, spec.Validate = 10, one.concurrency, true
		}))
		if err != nil {
			t.Fatal(err)
		}
		if run.GetInvocationCount() != one.made || run.GetState() != one.state || run.GetFailureCount() != 0 || run.InvalidCount == nil {
			t.Errorf("%s: %d invocations, %s: %v", one.name, run.GetInvocationCount(), run.GetState(), run.GetProblems())
		}
		if said := strings.Join(run.GetProblems(), "\n"); strings.Contains(said, "--max-cost") != (one.made < 10) {
			t.Errorf("%s: the problems are %q", one.name, said)
		}
		if usd := run.GetCost().GetUsd(); math.Abs(usd-float64(one.made)) > 1e-9 || usd > one.usd || run.GetCost().GetItems()[0].GetInvocationCount() != one.made {
			t.Errorf("%s: the cost is %v", one.name, run.GetCost())
		}
		if !slices.ContainsFunc(run.GetCost().GetBasis(), func(b string) bool { return strings.Contains(b, "2025-01-01") }) {
			t.Errorf("%s: the basis is %q", one.name, run.GetCost().GetBasis())
		}
	}
}

func TestMaxCostBelowOneInvocation(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.price = &metricsv1.Price{Platform: "local", UsdPerRequest: 1}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	_, err := c.run(t, bounded(0.5, nil))
	if errs.Reason(err) != "MAX_COST_REACHED" || len(s.requests) != 0 {
		t.Errorf("%v after %d calls", err, len(s.requests))
	}
	s.price = nil
	if _, err = c.run(t, bounded(0.5, nil)); errs.Reason(err) != "COST_UNKNOWN" || len(s.requests) != 0 {
		t.Errorf("without prices: %v after %d calls", err, len(s.requests))
	}
	zero := bounded(0, nil)
	if _, err := c.CreateRun(t.Context(), zero); err == nil || !strings.Contains(errs.FromStatus(err).Error(), "max_cost_usd") {
		t.Errorf("a bound of nothing: %v", err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	s := newSuite()
	s.price = &metricsv1.Price{Platform: "aws", UsdPerRequest: 1, UsdPerGbSecond: 8}
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	asked := request(func(spec *experimentsv1.BenchmarkInvokeSpec) { spec.Repetitions = 10 })
	asked.Target.Settings = map[string]string{"use-function-url": "false"}
	plan, err := c.PlanRun(t.Context(), &experimentsv1.PlanRunRequest{Run: asked})
	if err != nil {
		t.Fatal(err)
	}
	// Sixty seconds at 128 MB are 7.5 GB-seconds.
	if usd := plan.GetCost().GetUsd(); math.Abs(usd-10*(1+60)) > 1e-9 || plan.GetCost().GetItems()[0].GetMeasured() {
		t.Errorf("the cost is %v", plan.GetCost())
	}
	if !strings.Contains(strings.Join(plan.GetCost().GetBasis(), "\n"), "the time limit of 1m0s") || len(plan.GetResources()) != 1 {
		t.Errorf("the plan is %v", plan)
	}
	fn := s.plans[0].GetFunctions()[0]
	if s.plans[0].GetDeployment().GetSettings()["use-function-url"] != "false" || fn.GetConfig().GetMemoryMb() != 128 || !fn.GetUsesObjects() || fn.GetUsesTables() {
		t.Errorf("the deployer was asked %v", s.plans[0])
	}
	if len(s.requests) != 0 {
		t.Errorf("%d calls", len(s.requests))
	}
	runs, err := c.ListRuns(t.Context(), &experimentsv1.ListRunsRequest{})
	if err != nil || len(runs.GetRuns()) != 0 {
		t.Errorf("a plan left runs: %v (%v)", runs, err)
	}
	if _, err := c.run(t, asked); err != nil {
		t.Fatal(err)
	}
	plan, err = c.PlanRun(t.Context(), &experimentsv1.PlanRunRequest{Run: asked})
	if err != nil {
		t.Fatal(err)
	}
	// Four invocations took 2 ms, one 12 ms.
	if item := plan.GetCost().GetItems()[0]; !item.GetMeasured() || math.Abs(item.GetDurationMs()-4) > 1e-9 || math.Abs(plan.GetCost().GetUsd()-10*1.004) > 1e-9 {
		t.Errorf("after a run: %v", plan.GetCost())
	}
	s.mu.Lock()
	s.price = nil
	s.mu.Unlock()
	plan, err = c.PlanRun(t.Context(), &experimentsv1.PlanRunRequest{Run: asked})
	if err != nil || plan.GetCost().Usd != nil || !strings.Contains(strings.Join(plan.GetCost().GetBasis(), "\n"), "is not known") {
		t.Errorf("without prices: %v (%v)", plan.GetCost(), err)
	}
}

func TestColdStartIsVerifiedByTheAnswer(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name             string
		coldFrom         int64
		repetitions      int32
		made, coldStarts int
		problem          bool
	}{
		{"cold at once", 0, 5, 5, 0, false},
		{"cold after one more try", 1, 5, 5, 1, false},
		{"never cold", 100, 5, 5, 2, true},
		{"one invocation, never cold", 100, 1, 3, 2, true},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			s := newSuite()
			s.cold = func(sequence int64) bool { return sequence == one.coldFrom }
			c := newClient(apptest.Start(t, s.setup, experiments.Setup))
			run, err := c.run(t, request(func(spec *experimentsv1.BenchmarkInvokeSpec) {
				spec.Repetitions, spec.ColdFirst = one.repetitions, true
			}))
			if err != nil {
				t.Fatal(err)
			}
			if run.GetInvocationCount() != int64(one.made) || s.coldStarts != one.coldStarts {
				t.Errorf("%d invocations, %d cold starts enforced", run.GetInvocationCount(), s.coldStarts)
			}
			if got := s.sequences(run.GetName()); len(got) != one.made || got[len(got)-1] != int64(one.made-1) {
				t.Errorf("sequences %v", got)
			}
			said := strings.Join(run.GetProblems(), "\n")
			if strings.Contains(said, "a cold start was asked for") != one.problem || (run.GetState() == experimentsv1.Run_STATE_PARTIAL) != one.problem {
				t.Errorf("%s: %q", run.GetState(), said)
			}
		})
	}
}

func TestPlanOnACloud(t *testing.T) {
	t.Parallel()
	s := newSuite()
	c := newClient(apptest.Start(t, s.setup, experiments.Setup))
	for _, one := range []struct {
		name         string
		runtime      *typev1.Runtime
		architecture typev1.Architecture
		want         string
	}{
		{"newest on x64", nil, 0, "3.11 ARCHITECTURE_X64"},
		{"newest for the architecture", nil, typev1.Architecture_ARCHITECTURE_ARM64, "3.11 ARCHITECTURE_ARM64"},
		{"version", &typev1.Runtime{Version: "3.9"}, 0, "3.9 ARCHITECTURE_X64"},
		{"no x64", &typev1.Runtime{Language: typev1.Language_LANGUAGE_JAVA}, 0, "17 ARCHITECTURE_ARM64"},
		{"not there", &typev1.Runtime{Version: "3.12"}, 0, "RUNTIME_NOT_AVAILABLE"},
	} {
		asked := request(nil)
		asked.Target = &experimentsv1.Target{Platform: "aws", Runtime: one.runtime, Architecture: one.architecture}
		s.plans = nil
		_, err := c.PlanRun(t.Context(), &experimentsv1.PlanRunRequest{Run: asked})
		got := errs.Reason(errs.FromStatus(err))
		if len(s.plans) == 1 {
			config := s.plans[0].GetFunctions()[0].GetConfig()
			got = config.GetRuntime().GetVersion() + " " + config.GetArchitecture().String()
		}
		if got != one.want {
			t.Errorf("%s: %s, want %s (%v)", one.name, got, one.want, err)
		}
	}
	s.plans = nil
	plan, err := c.PlanRun(t.Context(), &experimentsv1.PlanRunRequest{Run: &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "aws"},
		Spec: &experimentsv1.CreateRunRequest_Regression{Regression: &experimentsv1.RegressionSpec{
			Sources: []*builderv1.BenchmarkSource{{Benchmark: "010.sleep"}, {Benchmark: "411.image-recognition"}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	// 010 in all four ways, 411 as an image for x64 only.
	if n := len(s.plans[0].GetFunctions()); n != 5 || len(plan.GetSkipped()) != 3 || plan.GetCost().GetInvocationCount() != 10 {
		t.Errorf("%d functions, %d invocations, left out %q", n, plan.GetCost().GetInvocationCount(), plan.GetSkipped())
	}
	if !slices.ContainsFunc(plan.GetSkipped(), func(reason string) bool {
		return reason == "411.image-recognition on x64 as package: the code package is larger than Lambda takes"
	}) {
		t.Errorf("left out %q", plan.GetSkipped())
	}
}
