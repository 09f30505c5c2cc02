package deployer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Outcomes of EnsureFunction.
const (
	created       = deployerv1.EnsureFunctionResponse_OUTCOME_CREATED
	codeUpdated   = deployerv1.EnsureFunctionResponse_OUTCOME_CODE_UPDATED
	configUpdated = deployerv1.EnsureFunctionResponse_OUTCOME_CONFIG_UPDATED
	cached        = deployerv1.EnsureFunctionResponse_OUTCOME_CACHED
)

// ensuring is one get-function call, resolved.
type ensuring struct {
	deployment *typev1.Deployment
	platform   *opened
	caps       driver.Capabilities
	name       functionName
	adopted    bool
	pkg        *builderv1.Package
	code       driver.Code
	config     *typev1.FunctionConfig
	stores     stores
	triggers   []driver.TriggerType
	force      bool
}

// EnsureFunction makes a function be there as asked. Of many calls for the same
// function at once, in the whole system, one creates it.
func (d *Deployer) EnsureFunction(ctx context.Context, req *deployerv1.EnsureFunctionRequest, progress Progress) (*deployerv1.EnsureFunctionResponse, error) {
	e, err := d.resolve(ctx, req)
	if err != nil {
		return nil, err
	}
	// A function that is as it should be needs no lock.
	seen, want, err := d.look(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.decide(seen, want) == cached && !e.stale(seen) {
		return answerOf(seen.record, cached, seen.record.GetCodeHash(), false), nil
	}
	progress("lock", "waiting for the turn to change function "+e.name.ID)
	ctx, unlock, err := d.lockFunction(ctx, e.name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Another call may have done the work in the meantime.
	if seen, want, err = d.look(ctx, e); err != nil {
		return nil, err
	}
	return d.apply(ctx, e, seen, want, progress)
}

// lockFunction waits until nobody in the system changes the function.
func (d *Deployer) lockFunction(ctx context.Context, name functionName) (context.Context, func(), error) {
	held, unlock, err := d.records.LockContext(ctx, name.key())
	if err != nil {
		return nil, nil, fmt.Errorf("lock function %s: %w", name.ID, err)
	}
	return held, unlock, nil
}

// resolve checks the request and completes it from the package.
func (d *Deployer) resolve(ctx context.Context, req *deployerv1.EnsureFunctionRequest) (*ensuring, error) {
	parent, err := parseDeployment("parent", req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	e := &ensuring{force: req.GetForceCodeUpdate()}
	if e.deployment, e.platform, err = d.workOn(ctx, parent); err != nil {
		return nil, err
	}
	if e.pkg, err = d.getPackage(ctx, "package", req.GetPackage(), parent.Platform); err != nil {
		return nil, err
	}
	if e.config, err = complete(req.GetConfig(), e.pkg); err != nil {
		return nil, err
	}
	if e.caps, err = e.platform.Capabilities(ctx); err != nil {
		return nil, err
	}
	e.stores = stores{
		objects: req.GetUsesObjects() || slices.Contains(e.pkg.GetModules(), "storage"),
		tables:  req.GetUsesTables() || slices.Contains(e.pkg.GetModules(), "nosql"),
	}
	for _, kind := range req.GetTriggers() {
		trigger := driver.TriggerTypeFromProto(kind)
		if !slices.Contains(triggerTypes(), trigger) {
			return nil, errs.Fields(errs.Field("triggers", "type %s is not known; the types are http, library and storage", kind))
		}
		if err := e.platform.Require(string(trigger)+" triggers", e.caps.Triggers[trigger]); err != nil {
			return nil, err
		}
		e.triggers = append(e.triggers, trigger)
		e.stores.objects = e.stores.objects || needsStore(trigger)
	}
	if err := e.platform.CheckConfig(ctx, driverConfig(e.config)); err != nil {
		return nil, err
	}
	if e.config.GetSystemVariant() == typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER {
		if err := e.platform.Require("container images", e.caps.ContainerImages); err != nil {
			return nil, err
		}
	}
	const container = typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER
	if want, have := e.config.GetSystemVariant(), e.pkg.GetSystemVariant(); have != 0 && (want == container) != (have == container) {
		return nil, errs.Fields(errs.Field("config.system_variant", "is %s, the package %s; build a package of that variant",
			variantName(want), variantName(have)))
	}
	e.code = d.codeOf(parent, e.pkg)
	return e, d.chooseName(ctx, e, parent, req.GetFunctionId())
}

// variantName is the variant's name in SeBS files.
func variantName(variant typev1.SystemVariant) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variant.String(), "SYSTEM_VARIANT_")), "_", "-")
}

// chooseName sets the function's name: the requested one in the platform's form, the
// name under which SeBS made the function, or the default name.
func (d *Deployer) chooseName(ctx context.Context, e *ensuring, parent deploymentName, requested string) error {
	in := nameInput(parent, e.pkg.GetBenchmark(), e.config)
	id, err := e.platform.FunctionName(requested, in)
	if err != nil {
		return err
	}
	e.name = parent.function(id)
	if requested != "" {
		return nil
	}
	_, err = d.records.Get(ctx, e.name.key(), &typev1.Function{})
	if err == nil || !errs.Is(err, codes.NotFound) {
		return err
	}
	for _, legacy := range e.platform.Naming().Legacy(in) {
		name := parent.function(legacy)
		seen, err := d.observe(ctx, e.platform, name)
		if err != nil {
			return err
		}
		if adoptable(seen, parent, in) {
			e.name, e.adopted = name, true
			return nil
		}
	}
	return nil
}

// adoptable tells whether a function under a name of SeBS's is the one that is asked
// for. Such names lack architecture or variant, so what the function runs decides. A
// function of which only the record is left, as after the import of a cache, keeps its
// name when it is made again.
func adoptable(seen observed, parent deploymentName, in faas.NameInput) bool {
	var have driver.Config
	switch {
	case seen.actual != nil:
		have = seen.actual.Config
		if owner := seen.actual.Deployment; owner != "" && owner != parent.ID {
			return false
		}
	case seen.record != nil:
		have = driverConfig(seen.record.GetConfig())
	default:
		return false
	}
	return have.Runtime.Language == in.Runtime.Language && have.Runtime.Version == in.Runtime.Version &&
		variantOf(have.Runtime) == variantOf(in.Runtime) &&
		(have.Architecture == "" || have.Architecture == in.Architecture)
}

// nameInput is what the default name of a benchmark's function is made of.
func nameInput(parent deploymentName, benchmark string, config *typev1.FunctionConfig) faas.NameInput {
	in := faas.NameInput{
		Deployment:   parent.ID,
		Benchmark:    benchmark,
		Runtime:      driver.RuntimeFromProto(config.GetRuntime()),
		Architecture: driver.ArchitectureFromProto(config.GetArchitecture()),
		Container:    config.GetSystemVariant() == typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER,
	}
	if config.GetSystemVariant() == typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN2 {
		in.Flavor = faas.FlavorGen2
	}
	return in
}

// complete fills what the request leaves open from the package, and refuses what
// contradicts it.
func complete(asked *typev1.FunctionConfig, pkg *builderv1.Package) (*typev1.FunctionConfig, error) {
	config := &typev1.FunctionConfig{}
	if asked != nil {
		config = proto.CloneOf(asked)
	}
	have, want := driver.RuntimeFromProto(pkg.GetRuntime()), driver.RuntimeFromProto(config.GetRuntime())
	var problems []error
	if want.Language != "" && want.Language != have.Language || want.Version != "" && want.Version != have.Version ||
		want.Variant != "" && variantOf(want) != variantOf(have) {
		problems = append(problems, errs.Field("config.runtime", "is %s %s, the package is built for %s %s; build a package for that runtime",
			want.Language, want.Version, have.Language, have.Version))
	}
	if config.GetArchitecture() != typev1.Architecture_ARCHITECTURE_UNSPECIFIED && config.GetArchitecture() != pkg.GetArchitecture() {
		problems = append(problems, errs.Field("config.architecture", "is %s, the package is built for %s; build a package for that architecture",
			driver.ArchitectureFromProto(config.GetArchitecture()), driver.ArchitectureFromProto(pkg.GetArchitecture())))
	}
	problems = append(problems, checkEnvironment(config.GetEnvironment()))
	if err := errs.Fields(problems...); err != nil {
		return nil, err
	}
	config.Runtime, config.Architecture = have.Proto(), pkg.GetArchitecture()
	config.TimeoutSeconds = cmp.Or(config.GetTimeoutSeconds(), pkg.GetTimeoutSeconds())
	config.MemoryMb = cmp.Or(config.GetMemoryMb(), pkg.GetMemoryMb())
	config.SystemVariant = cmp.Or(config.GetSystemVariant(), pkg.GetSystemVariant())
	return config, nil
}

// observed is a function as record and platform show it. Either may be missing.
type observed struct {
	record   *typev1.Function
	revision int64
	actual   *driver.Function
}

// observe reads record and platform.
func (d *Deployer) observe(ctx context.Context, platform *opened, name functionName) (observed, error) {
	var seen observed
	record := &typev1.Function{}
	revision, err := d.records.Get(ctx, name.key(), record)
	switch {
	case err == nil:
		seen.record, seen.revision = record, revision
	case !errs.Is(err, codes.NotFound):
		return seen, err
	}
	actual, err := platform.GetFunction(ctx, name.ID)
	switch {
	case err == nil:
		seen.actual = &actual
	case !errs.Is(err, codes.NotFound):
		return seen, err
	}
	return seen, nil
}

// look observes the function and works out what it is to be.
func (d *Deployer) look(ctx context.Context, e *ensuring) (observed, driver.Config, error) {
	seen, err := d.observe(ctx, e.platform, e.name)
	if err != nil {
		return seen, driver.Config{}, err
	}
	for _, trigger := range seen.record.GetTriggers() {
		e.stores.objects = e.stores.objects || needsStore(driver.TriggerTypeFromProto(trigger.GetType()))
	}
	coldStart := coldStartOf(seen.record.GetConfig().GetEnvironment())
	if seen.actual != nil {
		for name, value := range coldStartOf(seen.actual.Config.Environment) {
			coldStart[name] = cmp.Or(value, coldStart[name])
		}
	}
	want, err := d.desire(ctx, e.platform, wish{
		deployment: e.name.Deployment, benchmark: e.pkg.GetBenchmark(), config: e.config,
		handler: e.pkg.GetHandler(), stores: e.stores, coldStart: coldStart,
	})
	want.ColdStartMethod = e.deployment.GetSettings()[settingColdStart]
	return seen, want, err
}

// decide tells what is to be done.
func (e *ensuring) decide(seen observed, want driver.Config) deployerv1.EnsureFunctionResponse_Outcome {
	switch {
	case seen.actual == nil:
		return created
	case e.force || seen.actual.Digest != e.pkg.GetDigest():
		return codeUpdated
	case len(differences(*seen.actual, seen.record, want, e.caps)) > 0:
		return configUpdated
	case e.granted(seen.record) != "" && e.granted(seen.record) != e.grants():
		return configUpdated
	}
	return cached
}

// stale tells that the record is missing, or does not show the function's triggers
// as they are and as they are asked for.
func (e *ensuring) stale(seen observed) bool {
	if seen.record == nil || seen.record.GetCodeHash() != seen.actual.Digest || seen.record.GetState() != typev1.Function_STATE_ACTIVE {
		return true
	}
	for _, kind := range e.triggers {
		if recordedTrigger(seen.record, kind) == nil {
			return true
		}
	}
	for _, trigger := range seen.record.GetTriggers() {
		actual := actualTrigger(seen.actual, driver.TriggerTypeFromProto(trigger.GetType()))
		if actual == nil || actual.URL != trigger.GetUrl() || outdated(e.deployment.GetPlatform(), e.deployment.GetSettings(), actual) {
			return true
		}
		for name, value := range actual.Attributes {
			if trigger.GetAttributes()[name] != value {
				return true
			}
		}
	}
	return false
}

// apply does what decide says, under the function's lock.
func (d *Deployer) apply(ctx context.Context, e *ensuring, seen observed, want driver.Config, progress Progress) (*deployerv1.EnsureFunctionResponse, error) {
	outcome := e.decide(seen, want)
	oldHash := seen.record.GetCodeHash()
	if seen.actual != nil {
		oldHash = seen.actual.Digest
		if owner := seen.actual.Deployment; owner != "" && owner != e.name.Deployment.ID {
			return nil, errs.AlreadyExists("FUNCTION_OF_OTHER_DEPLOYMENT",
				"function %s on platform %s belongs to deployment %s; set another name with --function-name",
				e.name.ID, e.name.Deployment.Platform, owner).With("function", e.name.ID)
		}
	}
	var (
		actual driver.Function
		err    error
	)
	if (outcome == codeUpdated || outcome == configUpdated) && e.granted(seen.record) != e.grants() {
		progress("update-configuration", "giving function "+e.name.ID+" its rights")
		if err := e.platform.Grant(ctx, e.spec()); err != nil {
			return nil, d.failed(ctx, e.name, seen, err)
		}
	}
	switch outcome {
	case created:
		progress("create", "creating function "+e.name.ID)
		actual, err = d.create(ctx, e, want)
	case codeUpdated:
		progress("update-code", "updating the code of function "+e.name.ID)
		actual, err = e.platform.UpdateCode(ctx, e.name.ID, e.code, want)
	case configUpdated:
		progress("update-configuration", "updating the configuration of function "+e.name.ID)
		actual, err = e.platform.UpdateConfiguration(ctx, e.name.ID, want)
	default:
		actual = *seen.actual
	}
	if err != nil {
		return nil, d.failed(ctx, e.name, seen, err)
	}
	record := recordOf(e.name, actual, seen.record)
	e.fill(record, want, outcome)
	progress("trigger", "checking the triggers of function "+e.name.ID)
	if err := d.mendTriggers(ctx, e.platform, e.deployment, e.name, record, actual, e.triggers); err != nil {
		return nil, err
	}
	if err := d.save(ctx, e.name, seen, record); err != nil {
		return nil, err
	}
	switch outcome {
	case created:
		d.tellFunction(ctx, "function_created", record)
	case codeUpdated, configUpdated:
		d.tellFunction(ctx, "function_updated", record)
	default:
		// Nothing happened.
	}
	if outcome == created {
		oldHash = ""
	}
	return answerOf(record, outcome, oldHash, outcome == created && seen.record != nil), nil
}

// create makes the function. One that appeared since it was looked for, which only a
// stranger to the lock can have made, gets our code.
func (d *Deployer) create(ctx context.Context, e *ensuring, want driver.Config) (driver.Function, error) {
	labels := make(map[string]string)
	e.stores.mark(labels)
	// Kept by the platform as well, so that it is known after the records were lost.
	if expires := e.deployment.GetExpireTime(); expires != nil {
		labels[labelExpires] = expires.AsTime().UTC().Format(time.RFC3339)
	}
	spec := e.spec()
	spec.Config, spec.Code, spec.Labels = want, e.code, labels
	actual, fresh, err := e.platform.CreateFunction(ctx, spec)
	if err != nil || fresh {
		return actual, err
	}
	return e.platform.UpdateCode(ctx, e.name.ID, e.code, want)
}

// spec is what the function is made from, without code and configuration.
func (e *ensuring) spec() driver.FunctionSpec {
	return driver.FunctionSpec{
		Name: e.name.ID, Deployment: e.name.Deployment.ID, Benchmark: e.pkg.GetBenchmark(),
		Buckets: functionBuckets(e.deployment), TablePrefix: tablePrefix(e.name.Deployment, e.stores), Settings: e.deployment.GetSettings(),
	}
}

// grants names the role and the stores that the function is to have rights to.
func (e *ensuring) grants() string {
	spec := e.spec()
	return strings.Join(append([]string{spec.Settings[settingRole], spec.TablePrefix}, spec.Buckets...), " ")
}

// granted is what grants was when the function got its rights last; empty where that is not known.
func (e *ensuring) granted(record *typev1.Function) string {
	return record.GetPlatformAttributes()[attributeGrants]
}

// fill writes into the record what the platform does not report.
func (e *ensuring) fill(record *typev1.Function, want driver.Config, outcome deployerv1.EnsureFunctionResponse_Outcome) {
	record.Benchmark = e.pkg.GetBenchmark()
	record.CodeHash = e.pkg.GetDigest()
	record.Package = e.pkg.GetName()
	record.Config = configProto(want, e.config.GetSystemVariant())
	record.SecretEnvironment = want.Secrets
	record.UpdatedCode = outcome == codeUpdated
	record.Adopted = record.GetAdopted() || e.adopted
	e.stores.mark(record.PlatformAttributes)
	record.PlatformAttributes[attributeGrants] = e.grants()
}

func answerOf(record *typev1.Function, outcome deployerv1.EnsureFunctionResponse_Outcome, oldHash string, repaired bool) *deployerv1.EnsureFunctionResponse {
	fn := proto.CloneOf(record)
	fn.UpdatedCode = outcome == codeUpdated
	return &deployerv1.EnsureFunctionResponse{
		Function: fn, Outcome: outcome, OldHash: oldHash, NewHash: fn.GetCodeHash(), Repaired: repaired,
	}
}
