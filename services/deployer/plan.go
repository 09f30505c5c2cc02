package deployer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Actions of a plan.
const (
	actionCreate = deployerv1.PlannedResource_ACTION_CREATE
	actionUpdate = deployerv1.PlannedResource_ACTION_UPDATE
	actionKeep   = deployerv1.PlannedResource_ACTION_KEEP
)

// planning is a plan at work.
type planning struct {
	*Deployer
	name     deploymentName
	record   *typev1.Deployment
	platform *opened
	// there are the things of the deployment that the platform has.
	there []driver.Resource
	plan  *deployerv1.PlanDeploymentResponse
	// listed are the resources of the plan by type and name.
	listed map[[2]string]bool
}

// PlanDeployment tells what a deployment with functions would be made of. It changes
// nothing.
func (d *Deployer) PlanDeployment(ctx context.Context, req *deployerv1.PlanDeploymentRequest) (*deployerv1.PlanDeploymentResponse, error) {
	p, err := d.planDeployment(ctx, req.GetDeployment())
	if err != nil {
		return nil, err
	}
	const role = typev1.BucketRole_BUCKET_ROLE_BENCHMARKS
	if err := p.bucket(ctx, role); err != nil {
		return nil, err
	}
	for _, binding := range p.record.GetBuckets() {
		if binding.GetRole() != role {
			if err := p.bucket(ctx, binding.GetRole()); err != nil {
				return nil, err
			}
		}
	}
	for i, fn := range req.GetFunctions() {
		if err := p.function(ctx, fmt.Sprintf("functions[%d]", i), fn); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

// planDeployment works out which deployment it would be.
func (d *Deployer) planDeployment(ctx context.Context, req *deployerv1.CreateDeploymentRequest) (*planning, error) {
	platform, open, identity, err := d.asked(ctx, req)
	if err != nil {
		return nil, err
	}
	id, err := d.chooseID(ctx, platform, identity.Account, req)
	if err != nil {
		return nil, err
	}
	p := &planning{Deployer: d, name: deploymentName{platform, id}, platform: open, listed: make(map[[2]string]bool)}
	p.record, err = d.getDeployment(ctx, p.name)
	switch {
	case errs.Is(err, codes.NotFound):
		p.record = newDeployment(p.name, identity, req)
	case err != nil:
		return nil, err
	default:
		if err := checkReuse(ctx, open, p.record, req.GetRegion()); err != nil {
			return nil, err
		}
		if p.platform, err = d.platforms.get(ctx, platform, scopeOf(p.record)); err != nil {
			return nil, err
		}
	}
	merge(p.record, req.GetSettings(), req.GetBuckets())
	if req.GetTtl() != nil {
		p.record.ExpireTime = timestamppb.New(time.Now().Add(req.GetTtl().AsDuration()))
	}
	p.plan = &deployerv1.PlanDeploymentResponse{Deployment: p.record}
	p.there, err = p.platform.Discover(ctx, id)
	return p, err
}

// add lists a resource once.
func (p *planning) add(action deployerv1.PlannedResource_Action, kind, name, detail string) {
	key := [2]string{kind, name}
	if p.listed[key] {
		return
	}
	p.listed[key] = true
	p.plan.Resources = append(p.plan.Resources, &deployerv1.PlannedResource{Action: action, Type: kind, Name: name, Detail: detail})
}

// exists tells whether the platform has a thing of that name for the deployment. Its
// identifier may have more in front, such as an account.
func (p *planning) exists(name string) bool {
	return slices.ContainsFunc(p.there, func(r driver.Resource) bool {
		before, ok := strings.CutSuffix(r.ID, name)
		return ok && (before == "" || strings.HasSuffix(before, "/") || strings.HasSuffix(before, ":"))
	})
}

func (p *planning) keepOrCreate(kind, name, detail string) {
	action := actionCreate
	if p.exists(name) {
		action = actionKeep
	}
	p.add(action, kind, name, detail)
}

func (p *planning) bucket(ctx context.Context, role typev1.BucketRole) error {
	bucket := cmp.Or(bucketOf(p.record, role), standardBucket(role, p.name.ID))
	action := actionCreate
	// A deployment that is not recorded yet has no stores that could be asked.
	if p.record.GetCreateTime() != nil {
		_, err := p.storage.GetBucket(ctx, &storagev1.GetBucketRequest{Name: p.name.String() + "/buckets/" + bucket})
		switch {
		case err == nil:
			action = actionKeep
		case !errs.Is(err, codes.NotFound):
			return fmt.Errorf("look for bucket %s: %w", bucket, err)
		}
	}
	p.add(action, "bucket", bucket, map[typev1.BucketRole]string{
		typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT: "code packages", typev1.BucketRole_BUCKET_ROLE_BENCHMARKS: "input and output of benchmarks",
		typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS: "files that experiments leave",
	}[role])
	return nil
}

func (p *planning) function(ctx context.Context, field string, fn *deployerv1.PlannedFunction) error {
	config := driverConfig(fn.GetConfig())
	if err := p.platform.CheckConfig(ctx, config); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	e := &ensuring{platform: p.platform, pkg: &builderv1.Package{Benchmark: fn.GetBenchmark()}, config: fn.GetConfig()}
	if err := p.chooseName(ctx, e, p.name, fn.GetFunctionId()); err != nil {
		return err
	}
	seen, err := p.observe(ctx, p.platform, e.name)
	if err != nil {
		return err
	}
	for _, needed := range neededBy(p.name, p.record.GetSettings(), e.name.ID, fn.GetConfig().GetSystemVariant()) {
		p.keepOrCreate(needed.kind, needed.name, needed.detail)
	}
	if fn.GetUsesTables() {
		action := actionCreate
		if slices.ContainsFunc(p.record.GetTables(), func(t *typev1.TableBinding) bool { return t.GetBenchmark() == fn.GetBenchmark() }) {
			action = actionKeep
		}
		p.add(action, "tables", tablePrefix(p.name, stores{tables: true})+fn.GetBenchmark()+"-*", "tables of the benchmark")
	}
	if seen.actual == nil {
		p.add(actionCreate, "function", e.name.ID, fmt.Sprintf("%d MB, %s", config.MemoryMB, config.Timeout))
	} else if err := p.change(ctx, e, seen, config); err != nil {
		return err
	}
	for _, kind := range fn.GetTriggers() {
		p.trigger(e.name, driver.TriggerTypeFromProto(kind), seen)
	}
	return nil
}

// change lists what would be changed of a function that exists. Whether its code would
// be is not known before the package is built.
func (p *planning) change(ctx context.Context, e *ensuring, seen observed, want driver.Config) error {
	caps, err := p.platform.Capabilities(ctx)
	if err != nil {
		return err
	}
	// The environment follows from the stores, and the handler from the package.
	want.Environment, want.Handler, want.Secrets = seen.actual.Config.Environment, seen.actual.Config.Handler, seen.actual.Config.Secrets
	if parts := differences(*seen.actual, seen.record, want, caps); len(parts) > 0 {
		p.add(actionUpdate, "function", e.name.ID, "changes "+strings.Join(parts, ", ")+"; its code where the package differs")
		return nil
	}
	p.add(actionKeep, "function", e.name.ID, "its code is replaced where the package differs")
	return nil
}

func (p *planning) trigger(name functionName, kind driver.TriggerType, seen observed) {
	// Calls of the platform's own API need nothing on the platform.
	if kind == driver.TriggerLibrary {
		return
	}
	detail := string(kind)
	if want := wantedAttributes(p.name.Platform, kind, p.record.GetSettings()); want != nil {
		detail = strings.ReplaceAll(want[attributeImplementation], "_", " ") + ", authentication " + want[attributeAuth]
	}
	action := actionCreate
	if seen.actual != nil {
		if actual := actualTrigger(seen.actual, kind); actual != nil {
			if action = actionKeep; outdated(p.name.Platform, p.record.GetSettings(), actual) {
				action = actionUpdate
			}
		}
	}
	p.add(action, "trigger", name.ID+"/"+string(kind), detail)
}
