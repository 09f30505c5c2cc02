package deployer

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Keys of a storage trigger, below its bucket. The function-side code writes its
// answer to resultsPrefix and the name of the event's object.
const (
	eventsPrefix  = "events/"
	resultsPrefix = "results/"
)

func triggerProto(name functionName, trigger driver.Trigger) *typev1.Trigger {
	out := &typev1.Trigger{
		Name: name.trigger(trigger.Type), Type: trigger.Type.Proto(), Url: trigger.URL,
		Attributes: make(map[string]string), CreateTime: timestamppb.Now(),
	}
	if trigger.Type == driver.TriggerStorage {
		out.Attributes["bucket"] = trigger.Bucket
		out.Attributes["prefix"] = trigger.Prefix
		out.Attributes["results_prefix"] = cmp.Or(trigger.ResultsPrefix, resultsPrefix)
	}
	maps.Copy(out.Attributes, trigger.Attributes)
	if trigger.Handle != "" {
		out.Attributes[attributeHandle] = trigger.Handle
	}
	return out
}

func recordedTrigger(record *typev1.Function, kind driver.TriggerType) *typev1.Trigger {
	for _, trigger := range record.GetTriggers() {
		if driver.TriggerTypeFromProto(trigger.GetType()) == kind {
			return trigger
		}
	}
	return nil
}

func actualTrigger(actual *driver.Function, kind driver.TriggerType) *driver.Trigger {
	for i := range actual.Triggers {
		if actual.Triggers[i].Type == kind {
			return &actual.Triggers[i]
		}
	}
	return nil
}

// mendTriggers makes the wanted triggers and those that the record has from before,
// anew where the deployment's settings ask for another kind, and writes them into the
// record as the platform reports them now.
func (d *Deployer) mendTriggers(ctx context.Context, platform *opened, deployment *typev1.Deployment, name functionName, record *typev1.Function, actual driver.Function, wanted []driver.TriggerType) error {
	var mended []*typev1.Trigger
	for _, kind := range triggerTypes() {
		recorded := recordedTrigger(record, kind)
		if recorded == nil && !slices.Contains(wanted, kind) {
			continue
		}
		trigger := actualTrigger(&actual, kind)
		if trigger != nil && outdated(platform.Name(), deployment.GetSettings(), trigger) {
			if _, err := platform.DeleteTrigger(ctx, name.ID, kind); err != nil {
				return err
			}
			trigger = nil
		}
		if trigger == nil {
			made, err := d.makeTrigger(ctx, platform, deployment, name, kind)
			if err != nil {
				return err
			}
			trigger = &made
		}
		out := triggerProto(name, *trigger)
		if recorded != nil {
			out.CreateTime = recorded.GetCreateTime()
		}
		mended = append(mended, out)
	}
	record.Triggers = mended
	return nil
}

func (d *Deployer) makeTrigger(ctx context.Context, platform *opened, deployment *typev1.Deployment, name functionName, kind driver.TriggerType) (driver.Trigger, error) {
	spec := driver.TriggerSpec{Type: kind, Settings: deployment.GetSettings()}
	if kind == driver.TriggerStorage {
		const role = typev1.BucketRole_BUCKET_ROLE_BENCHMARKS
		spec.Bucket = bucketOf(deployment, role)
		if spec.Bucket == "" {
			changed, err := d.withBucket(ctx, name.Deployment, role)
			if err != nil {
				return driver.Trigger{}, err
			}
			spec.Bucket = bucketOf(changed, role)
		}
		spec.Prefix, spec.ResultsPrefix = eventsPrefix+name.ID+"/", resultsPrefix
	}
	return platform.CreateTrigger(ctx, name.ID, spec)
}

// CreateTrigger makes a trigger, or answers with the one of its type.
func (d *Deployer) CreateTrigger(ctx context.Context, req *deployerv1.CreateTriggerRequest) (*typev1.Trigger, error) {
	name, err := parseFunction("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	kind := driver.TriggerTypeFromProto(req.GetType())
	if kind == "" {
		if kind, err = triggerType("type_name", req.GetTypeName()); err != nil {
			return nil, err
		}
	} else if !slices.Contains(triggerTypes(), kind) {
		return nil, errs.Fields(errs.Field("type", "trigger type %s is not known; the types are http, library and storage", req.GetType()))
	}
	deployment, platform, err := d.workOn(ctx, name.Deployment)
	if err != nil {
		return nil, err
	}
	ctx, unlock, err := d.lockFunction(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	seen, err := d.present(ctx, platform, name)
	if err != nil {
		return nil, err
	}
	record := recordOf(name, *seen.actual, seen.record)
	if needsStore(kind) && !storesOf(record.GetPlatformAttributes()).objects {
		if err := d.giveStore(ctx, platform, name, record); err != nil {
			return nil, d.failed(ctx, name, seen, err)
		}
	}
	if err := d.mendTriggers(ctx, platform, deployment, name, record, *seen.actual, []driver.TriggerType{kind}); err != nil {
		return nil, err
	}
	if err := d.save(ctx, name, seen, record); err != nil {
		return nil, err
	}
	return recordedTrigger(record, kind), nil
}

// needsStore tells that a function with such a trigger reads its event from an object
// and writes its answer to one, whether or not its own code uses the store.
func needsStore(kind driver.TriggerType) bool { return kind == driver.TriggerStorage }

// giveStore gives a function that had none the account of the deployment's store.
func (d *Deployer) giveStore(ctx context.Context, platform *opened, name functionName, record *typev1.Function) error {
	uses := storesOf(record.GetPlatformAttributes())
	uses.objects = true
	want, err := d.desire(ctx, platform, wish{
		deployment: name.Deployment, benchmark: record.GetBenchmark(), config: record.GetConfig(), recorded: environmentOf(record),
		handler: record.GetPlatformAttributes()[attributeHandler], stores: uses, coldStart: coldStartOf(record.GetConfig().GetEnvironment()),
	})
	if err != nil {
		return err
	}
	if _, err := platform.UpdateConfiguration(ctx, name.ID, want); err != nil {
		return err
	}
	uses.mark(record.PlatformAttributes)
	record.Config = configProto(want, record.GetConfig().GetSystemVariant())
	record.SecretEnvironment = want.Secrets
	return nil
}

// present observes a function that must exist on the platform.
func (d *Deployer) present(ctx context.Context, platform *opened, name functionName) (observed, error) {
	seen, err := d.observe(ctx, platform, name)
	switch {
	case err != nil:
		return seen, err
	case seen.actual != nil && (seen.record != nil || seen.actual.Deployment == name.Deployment.ID):
		return seen, nil
	case seen.record == nil:
		_, _, err = d.getFunction(ctx, name)
		return seen, err
	}
	return seen, errs.FailedPrecondition("FUNCTION_GONE",
		"function %s is recorded, but platform %s no longer has it; deploy it again, which repairs the record",
		name.ID, name.Deployment.Platform).With("function", name.ID)
}

// ListTriggers lists a function's triggers of a type, or all of them.
func (d *Deployer) ListTriggers(ctx context.Context, req *deployerv1.ListTriggersRequest) (*deployerv1.ListTriggersResponse, error) {
	name, err := parseFunction("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	record, _, err := d.getFunction(ctx, name)
	if err != nil {
		return nil, err
	}
	var triggers []*typev1.Trigger
	for _, trigger := range record.GetTriggers() {
		if req.GetType() == typev1.TriggerType_TRIGGER_TYPE_UNSPECIFIED || req.GetType() == trigger.GetType() {
			triggers = append(triggers, trigger)
		}
	}
	filter := name.String() + "?" + req.GetType().String()
	page, next, err := paginate(triggers, (*typev1.Trigger).GetName, filter, req.GetPageSize(), req.GetPageToken())
	return &deployerv1.ListTriggersResponse{Triggers: page, NextPageToken: next}, err
}

// DeleteTrigger removes a trigger from platform and record.
func (d *Deployer) DeleteTrigger(ctx context.Context, req *deployerv1.DeleteTriggerRequest) error {
	name, kind, err := parseTrigger("name", req.GetName())
	if err != nil {
		return err
	}
	_, platform, err := d.workOn(ctx, name.Deployment)
	if err != nil {
		return err
	}
	ctx, unlock, err := d.lockFunction(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	record, revision, err := d.getFunction(ctx, name)
	if err != nil {
		return err
	}
	if recordedTrigger(record, kind) == nil {
		return errs.NotFound("TRIGGER_NOT_FOUND", "function %s has no %s trigger; list its triggers", name.ID, kind).
			Resource("sebs.Trigger", name.trigger(kind))
	}
	// A function that is gone has lost its triggers as well.
	if _, err := platform.DeleteTrigger(ctx, name.ID, kind); err != nil && !errs.Is(err, codes.NotFound) {
		return err
	}
	seen := observed{record: record, revision: revision}
	record.Triggers = slices.DeleteFunc(record.Triggers, func(t *typev1.Trigger) bool {
		return driver.TriggerTypeFromProto(t.GetType()) == kind
	})
	return d.save(ctx, name, seen, record)
}
