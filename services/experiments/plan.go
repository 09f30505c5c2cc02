package experiments

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// planned is one function of a plan.
type planned struct {
	*deployerv1.PlannedFunction
	invocations int64
}

// Plan tells what a run would make and what it would cost. It changes nothing on the platform.
func (r *Runner) Plan(ctx context.Context, request *experimentsv1.CreateRunRequest) (*experimentsv1.RunPlan, error) {
	w := &work{
		Runner: r, request: request, attempt: 1, ledger: newLedger(request), run: &experimentsv1.Run{Kind: kindOf(request), Request: request},
		progress: newProgress("", time.Now(), nil, func(*experimentsv1.RunMetadata) {}),
	}
	runtime, architecture, err := w.completeTarget(ctx)
	if err != nil {
		return nil, err
	}
	functions, err := w.plannedFunctions(ctx, runtime, architecture)
	if err != nil {
		return nil, err
	}
	target := request.GetTarget()
	ask := &deployerv1.PlanDeploymentRequest{Deployment: w.deploymentRequest()}
	for _, fn := range functions {
		ask.Functions = append(ask.Functions, fn.PlannedFunction)
	}
	answer, err := r.services.Deployer.PlanDeployment(ctx, ask)
	if err != nil {
		return nil, wrapStatus(err, "plan the deployment on platform %s", target.GetPlatform())
	}
	cost, err := r.planCost(ctx, target.GetPlatform(), answer.GetDeployment().GetRegion(), functions)
	if err != nil {
		return nil, err
	}
	return &experimentsv1.RunPlan{Deployment: answer.GetDeployment().GetName(), Resources: answer.GetResources(), Cost: cost, Skipped: w.run.GetSkipped()}, nil
}

// plannedFunctions lists the functions of a run with their invocations.
func (w *work) plannedFunctions(ctx context.Context, runtime *typev1.Runtime, architecture typev1.Architecture) ([]planned, error) {
	variant := w.request.GetTarget().GetSystemVariant()
	http := []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP}
	switch spec := w.request.GetSpec().(type) {
	case *experimentsv1.CreateRunRequest_BenchmarkInvoke:
		invoke := spec.BenchmarkInvoke
		if kind := invoke.GetTrigger(); kind != typev1.TriggerType_TRIGGER_TYPE_UNSPECIFIED {
			http = []typev1.TriggerType{kind}
		}
		fn, err := w.plannedFunction(ctx, invoke.GetSource(), &typev1.FunctionConfig{
			MemoryMb: invoke.GetMemoryMb(), TimeoutSeconds: invoke.GetTimeoutSeconds(), Runtime: runtime, Architecture: architecture, SystemVariant: variant,
			MaxConcurrency: invoke.GetMaxConcurrency(), ProvisionedConcurrency: invoke.GetProvisionedConcurrency(),
		}, http)
		if err != nil {
			return nil, err
		}
		fn.FunctionId = invoke.GetFunctionId()
		return []planned{{fn, int64(cmp.Or(invoke.GetRepetitions(), defaultRepetitions))}}, nil
	case *experimentsv1.CreateRunRequest_Regression:
		tests, triggers, err := w.matrix(ctx, spec.Regression, runtime)
		if err != nil {
			return nil, err
		}
		var functions []planned
		for _, one := range tests {
			fn, err := w.plannedFunction(ctx, one.source, &typev1.FunctionConfig{Runtime: runtime, Architecture: one.architecture, SystemVariant: one.variant}, triggers)
			if err != nil {
				return nil, err
			}
			functions = append(functions, planned{fn, int64(len(triggers))})
		}
		return functions, nil
	case *experimentsv1.CreateRunRequest_Deploy:
		fn, err := w.plannedFunction(ctx, spec.Deploy.GetSource(), &typev1.FunctionConfig{Runtime: runtime, Architecture: architecture, SystemVariant: variant}, http)
		if err != nil {
			return nil, err
		}
		return []planned{{fn, 0}}, nil
	}
	return nil, errs.Fields(errs.Field("spec", "must be set: one of benchmark_invoke, regression, deploy"))
}

// plannedFunction completes a function by its benchmark.
func (w *work) plannedFunction(ctx context.Context, source *builderv1.BenchmarkSource, config *typev1.FunctionConfig, triggers []typev1.TriggerType) (*deployerv1.PlannedFunction, error) {
	benchmark, err := w.services.Builder.GetBenchmark(ctx, &builderv1.GetBenchmarkRequest{Name: "benchmarks/" + source.GetBenchmark()})
	if err != nil {
		return nil, wrapStatus(err, "look up benchmark %s", source.GetBenchmark())
	}
	config.MemoryMb = cmp.Or(config.GetMemoryMb(), benchmark.GetMemoryMb())
	config.TimeoutSeconds = cmp.Or(config.GetTimeoutSeconds(), benchmark.GetTimeoutSeconds())
	return &deployerv1.PlannedFunction{
		Benchmark: benchmark.GetBenchmark(), Config: config, Triggers: triggers,
		UsesObjects: slices.Contains(benchmark.GetModules(), "storage"), UsesTables: slices.Contains(benchmark.GetModules(), "nosql"),
	}, nil
}

// planCost estimates what the invocations cost. A platform whose prices are not known has an estimate without an amount.
func (r *Runner) planCost(ctx context.Context, platform, region string, functions []planned) (*experimentsv1.CostEstimate, error) {
	estimate, total := &experimentsv1.CostEstimate{}, 0.0
	say := func(format string, args ...any) {
		if sentence := fmt.Sprintf(format, args...); !slices.Contains(estimate.GetBasis(), sentence) {
			estimate.Basis = append(estimate.Basis, sentence)
		}
	}
	known := true
	for _, fn := range functions {
		estimate.InvocationCount += fn.invocations
		each, measured, err := r.expectedDuration(ctx, platform, fn.GetBenchmark(), fn.GetConfig())
		if err != nil {
			return nil, err
		}
		if measured {
			say("%s takes %s as in its last run here with %d MB", fn.GetBenchmark(), each.Round(time.Millisecond), fn.GetConfig().GetMemoryMb())
		} else {
			say("%s was not measured here yet: each invocation counts with the time limit of %s, the most that it can take", fn.GetBenchmark(), each)
		}
		answer, err := r.estimateCost(ctx, platform, region, fn.GetConfig(), fn.invocations, each)
		if err != nil {
			known = false
			say("what platform %s costs is not known: %s", platform, publicText(err))
			continue
		}
		if answer.GetPrice() != nil {
			say("%s", priceSentence(answer.GetPrice()))
		}
		if answer.GetProvisionedUsd() > 0 {
			say("sandboxes that are kept initialised cost until they are taken back, beyond the run")
		}
		total += answer.GetUsd()
		estimate.Items = append(estimate.Items, &experimentsv1.CostItem{
			Benchmark: fn.GetBenchmark(), Function: fn.GetFunctionId(), InvocationCount: fn.invocations, MemoryMb: fn.GetConfig().GetMemoryMb(),
			DurationMs: float64(each) / float64(time.Millisecond), Measured: measured, Usd: answer.GetUsd(),
		})
	}
	if known {
		estimate.Usd = &total
	}
	return estimate, nil
}
