package experiments

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// platformLocal is the platform whose host tells what it can run and which measures at once.
const platformLocal = "local"

// maxPayloadInRecord is the largest payload that a run's record shows.
const maxPayloadInRecord = 256 << 10

// wanted is what a run needs of one function.
type wanted struct {
	source       *builderv1.BenchmarkSource
	size         string
	functionID   string
	memoryMB     int32
	timeout      int32
	runtime      *typev1.Runtime
	architecture typev1.Architecture
	variant      typev1.SystemVariant
	triggers     []typev1.TriggerType
	// maxConcurrency and provisionedConcurrency are 0 for the platform's default.
	maxConcurrency, provisionedConcurrency int32
	// imageTagPrefix begins the tag of a container image.
	imageTagPrefix string
	// part names the function within the run, for request ids.
	part string
}

// prepared is a function that is ready for invocations.
type prepared struct {
	function *typev1.Function
	outcome  deployerv1.EnsureFunctionResponse_Outcome
	pkg      *builderv1.Package
	input    *builderv1.BenchmarkInput
	triggers map[typev1.TriggerType]*typev1.Trigger
}

// openDeployment makes or finds the deployment that the run works on.
func (w *work) openDeployment(ctx context.Context) error {
	target := w.request.GetTarget()
	opening := w.progress.start(phaseDeployment, "opening the deployment on platform "+target.GetPlatform())
	request := w.deploymentRequest()
	request.RequestId = w.requestID("deployment")
	deployment, err := w.services.Deployer.CreateDeployment(ctx, request)
	if err != nil {
		return wrapStatus(err, "open the deployment on platform %s", target.GetPlatform())
	}
	w.run.Deployment, w.region = deployment.GetName(), deployment.GetRegion()
	opening.done("deployment " + deployment.GetResourcesId())
	return w.store.save(ctx, w.run)
}

// deploymentRequest asks for the deployment of the target.
func (w *work) deploymentRequest() *deployerv1.CreateDeploymentRequest {
	target := w.request.GetTarget()
	return &deployerv1.CreateDeploymentRequest{
		Parent:         "platforms/" + target.GetPlatform(),
		ResourcesId:    target.GetResourcesId(),
		ResourcePrefix: target.GetResourcePrefix(),
		Region:         target.GetRegion(),
		Credential:     target.GetCredential(),
		Settings:       target.GetSettings(),
		Buckets:        target.GetBuckets(),
		Ttl:            target.GetTtl(),
	}
}

// completeTarget fills in language, version and architecture where the caller left them to the platform.
func (w *work) completeTarget(ctx context.Context) (*typev1.Runtime, typev1.Architecture, error) {
	target := w.request.GetTarget()
	runtime := proto.CloneOf(target.GetRuntime())
	if runtime == nil {
		runtime = &typev1.Runtime{}
	}
	if runtime.GetLanguage() == typev1.Language_LANGUAGE_UNSPECIFIED {
		runtime.Language = typev1.Language_LANGUAGE_PYTHON
	}
	architecture := target.GetArchitecture()
	if target.GetPlatform() != platformLocal {
		return w.completeForCloud(ctx, runtime, architecture)
	}
	if runtime.GetVersion() != "" && architecture != typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		return runtime, architecture, nil
	}
	host, err := w.services.Local.GetHost(ctx, &localv1.GetHostRequest{})
	if err != nil {
		return nil, 0, wrapStatus(err, "ask the local platform what it can run")
	}
	if architecture == typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		architecture = host.GetArchitecture()
	}
	if runtime.GetVersion() == "" {
		if runtime.Version, err = newest(host, runtime.GetLanguage()); err != nil {
			return nil, 0, err
		}
	}
	return runtime, architecture, nil
}

// completeForCloud takes the newest version that the builder builds for the platform, and x64 where that has it, as SeBS
// does.
func (w *work) completeForCloud(ctx context.Context, runtime *typev1.Runtime, architecture typev1.Architecture) (*typev1.Runtime, typev1.Architecture, error) {
	if runtime.GetVersion() != "" && architecture != typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		return runtime, architecture, nil
	}
	platform := w.request.GetTarget().GetPlatform()
	answer, err := w.services.Builder.ListRuntimes(ctx, &builderv1.ListRuntimesRequest{Parent: "platforms/" + platform})
	if err != nil {
		return nil, 0, wrapStatus(err, "ask for the runtimes of platform %s", platform)
	}
	var all []string
	for _, supported := range answer.GetRuntimes() {
		candidate := supported.GetRuntime()
		all = append(all, languageName(candidate.GetLanguage())+" "+candidate.GetVersion())
		if candidate.GetLanguage() != runtime.GetLanguage() || runtime.GetVersion() != "" && candidate.GetVersion() != runtime.GetVersion() {
			continue
		}
		if architecture != typev1.Architecture_ARCHITECTURE_UNSPECIFIED && !slices.Contains(supported.GetArchitectures(), architecture) {
			continue
		}
		if architecture == typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
			architecture = typev1.Architecture_ARCHITECTURE_X64
			if has := supported.GetArchitectures(); len(has) > 0 && !slices.Contains(has, architecture) {
				architecture = has[0]
			}
		}
		// The newest version stands first.
		runtime.Version = candidate.GetVersion()
		return runtime, architecture, nil
	}
	return nil, 0, errs.FailedPrecondition("RUNTIME_NOT_AVAILABLE", "%s does not run on platform %s as asked for; it runs %s",
		strings.TrimSpace(languageName(runtime.GetLanguage())+" "+runtime.GetVersion()), platform, orNone(all))
}

// newest returns the newest version of a language that the host can run in its default kind of sandbox.
func newest(host *localv1.Host, language typev1.Language) (string, error) {
	var versions, all []string
	for _, candidate := range host.GetRuntimes() {
		name := languageName(candidate.GetRuntime().GetLanguage()) + " " + candidate.GetRuntime().GetVersion()
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
		if candidate.GetRuntime().GetLanguage() == language {
			versions = append(versions, candidate.GetRuntime().GetVersion())
		}
	}
	if len(versions) == 0 {
		slices.Sort(all)
		return "", errs.FailedPrecondition("RUNTIME_NOT_AVAILABLE",
			"the local platform finds no %s on this machine; it can run: %s; install one or pull its image", languageName(language), orNone(all))
	}
	return slices.MaxFunc(versions, compareVersions), nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// compareVersions orders versions such as 3.9 and 3.13 by their numbers.
func compareVersions(a, b string) int {
	left, right := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(left), len(right)) {
		x, errX := strconv.Atoi(left[i])
		y, errY := strconv.Atoi(right[i])
		if errX != nil || errY != nil {
			if c := strings.Compare(left[i], right[i]); c != 0 {
				return c
			}
			continue
		}
		if x != y {
			return x - y
		}
	}
	return len(left) - len(right)
}

// languageName is the language's name in SeBS files.
func languageName(language typev1.Language) string {
	return strings.ToLower(strings.TrimPrefix(language.String(), "LANGUAGE_"))
}

// prepare makes input and package side by side, and then the function with its triggers.
func (w *work) prepare(ctx context.Context, want wanted) (*prepared, error) {
	ready := &prepared{}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		ready.pkg, err = w.buildPackage(both, want)
		return err
	})
	group.Go(func() (err error) {
		ready.input, err = w.prepareInput(both, want)
		return err
	})
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if err := w.ensureFunction(ctx, want, ready); err != nil {
		return nil, err
	}
	return ready, w.findTriggers(ctx, want, ready)
}

func (w *work) prepareInput(ctx context.Context, want wanted) (*builderv1.BenchmarkInput, error) {
	name := want.source.GetBenchmark()
	at := w.progress.start(phaseInput, "preparing the "+want.size+" input of "+name)
	op, err := w.services.Builder.PrepareInput(ctx, &builderv1.PrepareInputRequest{
		Parent:          w.run.GetDeployment(),
		Source:          want.source,
		Size:            want.size,
		ReplaceExisting: w.request.GetTarget().UpdateStorage,
		RequestId:       w.requestID(want.part + "/input"),
	})
	input := &builderv1.BenchmarkInput{}
	if err == nil {
		err = await(ctx, w.services.BuilderOperations, op, input, at.say)
	}
	if err != nil {
		return nil, wrapStatus(err, "prepare the %s input of %s", want.size, name)
	}
	message := fmt.Sprintf("input %s of %s", want.size, name)
	if input.GetUsesObjects() {
		message += fmt.Sprintf(", %d objects uploaded, %d there before", input.GetUploadedCount(), input.GetSkippedCount())
	}
	at.done(message)
	return input, nil
}

func (w *work) buildPackage(ctx context.Context, want wanted) (*builderv1.Package, error) {
	name := want.source.GetBenchmark()
	at := w.progress.start(phasePackage, "building the package of "+name)
	op, err := w.services.Builder.CreatePackage(ctx, &builderv1.CreatePackageRequest{
		Source:        want.source,
		Platform:      w.request.GetTarget().GetPlatform(),
		Runtime:       want.runtime,
		Architecture:  want.architecture,
		SystemVariant: want.variant,
		Force:         w.request.GetTarget().GetUpdateCode(),
		RequestId:     w.requestID(want.part + "/package"),
		// A container image goes into the registry of the deployment.
		Deployment:     w.run.GetDeployment(),
		ImageTagPrefix: want.imageTagPrefix,
	})
	built := &builderv1.Package{}
	if err == nil {
		err = await(ctx, w.services.BuilderOperations, op, built, at.say)
	}
	if err != nil {
		return nil, wrapStatus(err, "build the package of %s", name)
	}
	how := "built"
	if built.GetCached() {
		how = "built before"
	}
	at.done(fmt.Sprintf("package of %s for %s %s, %s, %d bytes", name,
		languageName(built.GetRuntime().GetLanguage()), built.GetRuntime().GetVersion(), how, built.GetSizeBytes()))
	return built, nil
}

// ensureFunction makes the function be there.
func (w *work) ensureFunction(ctx context.Context, want wanted, ready *prepared) error {
	name := want.source.GetBenchmark()
	at := w.progress.start(phaseFunction, "deploying the function of "+name)
	op, err := w.services.Deployer.EnsureFunction(ctx, &deployerv1.EnsureFunctionRequest{
		Parent:     w.run.GetDeployment(),
		FunctionId: want.functionID,
		Package:    ready.pkg.GetName(),
		Config: &typev1.FunctionConfig{
			TimeoutSeconds: want.timeout,
			MemoryMb:       want.memoryMB,
			Runtime:        ready.pkg.GetRuntime(),
			Architecture:   ready.pkg.GetArchitecture(),
			SystemVariant:  ready.pkg.GetSystemVariant(),
			MaxConcurrency: want.maxConcurrency,

			ProvisionedConcurrency: want.provisionedConcurrency,
		},
		UsesObjects:     ready.input.GetUsesObjects(),
		UsesTables:      ready.input.GetUsesTables(),
		Triggers:        want.triggers,
		ForceCodeUpdate: w.request.GetTarget().GetUpdateCode(),
		RequestId:       w.requestID(want.part + "/function"),
	})
	answer := &deployerv1.EnsureFunctionResponse{}
	if err == nil {
		err = await(ctx, w.services.DeployerOperations, op, answer, at.say)
	}
	if err != nil {
		return wrapStatus(err, "deploy the function of %s", name)
	}
	ready.function, ready.outcome = answer.GetFunction(), answer.GetOutcome()
	at.done(fmt.Sprintf("function %s: %s", lastPart(ready.function.GetName()), outcomeWord(ready.outcome)))
	return nil
}

func outcomeWord(outcome deployerv1.EnsureFunctionResponse_Outcome) string {
	return strings.TrimPrefix(outcome.String(), "OUTCOME_")
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// findTriggers takes the triggers from the function's record and creates what is missing.
func (w *work) findTriggers(ctx context.Context, want wanted, ready *prepared) error {
	at := w.progress.start(phaseTrigger, "looking for the triggers of "+lastPart(ready.function.GetName()))
	ready.triggers = make(map[typev1.TriggerType]*typev1.Trigger)
	for _, kind := range want.triggers {
		for _, trigger := range ready.function.GetTriggers() {
			if trigger.GetType() == kind {
				ready.triggers[kind] = trigger
			}
		}
		if ready.triggers[kind] != nil {
			continue
		}
		trigger, err := w.services.Deployer.CreateTrigger(ctx, &deployerv1.CreateTriggerRequest{
			Parent: ready.function.GetName(), Type: kind, RequestId: w.requestID(want.part + "/trigger/" + kind.String()),
		})
		if err != nil {
			return wrapStatus(err, "create the %s trigger of function %s", triggerWord(kind), lastPart(ready.function.GetName()))
		}
		ready.triggers[kind] = trigger
	}
	at.done(fmt.Sprintf("%d triggers", len(ready.triggers)))
	return nil
}

func triggerWord(kind typev1.TriggerType) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "TRIGGER_TYPE_"))
}

// note keeps in the run's record what a prepared function is.
func (w *work) note(ready *prepared, trigger *typev1.Trigger) {
	payload := ready.input.GetPayloadJson()
	if len(payload) > maxPayloadInRecord {
		payload = ""
	}
	w.run.Functions = append(w.run.GetFunctions(), &experimentsv1.RunFunction{
		Function: ready.function, Outcome: outcomeWord(ready.outcome), Package: ready.pkg, PayloadJson: payload, Trigger: trigger.GetName(),
	})
	// An empty map is nil after its way through etcd.
	if w.run.GetProvenance().GetDigests() == nil {
		w.run.Provenance.Digests = make(map[string]string)
	}
	digests := w.run.GetProvenance().GetDigests()
	suffix := ""
	if len(w.run.GetFunctions()) > 1 {
		suffix = ":" + lastPart(ready.function.GetName())
	}
	digests["package"+suffix] = ready.pkg.GetDigest()
	digests["input"+suffix] = ready.input.GetDigest()
	if ready.pkg.GetDependencyDigest() != "" {
		digests["dependencies"+suffix] = ready.pkg.GetDependencyDigest()
	}
}
