package experiments

import (
	"context"
	"fmt"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

const maxDeployCount = 1000

// deploy prepares a benchmark and leaves functions deployed: as many as asked, each a function of its own.
func (w *work) deploy(ctx context.Context, spec *experimentsv1.DeploySpec) error {
	if err := w.openDeployment(ctx); err != nil {
		return err
	}
	runtime, architecture, err := w.completeTarget(ctx)
	if err != nil {
		return err
	}
	size := spec.GetSize()
	if size == "" {
		size = "test"
	}
	want := wanted{
		source: spec.GetSource(), size: size, runtime: runtime, architecture: architecture,
		variant:  w.request.GetTarget().GetSystemVariant(),
		triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP}, part: "deploy-0",
	}
	first, err := w.prepare(ctx, want)
	if err != nil {
		return err
	}
	w.note(first, first.triggers[typev1.TriggerType_TRIGGER_TYPE_HTTP])
	if count := max(spec.GetCount(), 1); count > 1 {
		if err := w.deployMore(ctx, want, first, count); err != nil {
			return err
		}
	}
	return w.store.save(ctx, w.run)
}

// deployMore makes further functions of the same package and input. The first keeps its default name; the others get a
// number behind it.
func (w *work) deployMore(ctx context.Context, want wanted, first *prepared, count int32) error {
	answer, err := w.services.Deployer.GetDefaultFunctionName(ctx, &deployerv1.GetDefaultFunctionNameRequest{
		Parent: w.run.GetDeployment(), Benchmark: want.source.GetBenchmark(), Runtime: first.pkg.GetRuntime(),
		Architecture: first.pkg.GetArchitecture(), SystemVariant: first.pkg.GetSystemVariant(),
	})
	if err != nil {
		return wrapStatus(err, "name further functions of %s", want.source.GetBenchmark())
	}
	for i := int32(1); i < count; i++ {
		next := want
		next.part = fmt.Sprintf("deploy-%d", i)
		next.functionID = fmt.Sprintf("%s-%d", answer.GetFunctionId(), i)
		another := &prepared{pkg: first.pkg, input: first.input}
		if err := w.ensureFunction(ctx, next, another); err != nil {
			return err
		}
		if err := w.findTriggers(ctx, next, another); err != nil {
			return err
		}
		w.note(another, another.triggers[typev1.TriggerType_TRIGGER_TYPE_HTTP])
	}
	return nil
}

func checkDeploy(spec *experimentsv1.DeploySpec) error {
	if spec.GetCount() < 0 || spec.GetCount() > maxDeployCount {
		return errs.Field("deploy.count", "must be between 0 and %d, not %d", maxDeployCount, spec.GetCount())
	}
	return checkSize("deploy.size", spec.GetSize())
}
