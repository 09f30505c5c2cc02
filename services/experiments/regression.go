package experiments

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// regressionBenchmarks are the benchmarks of a regression run by language, as numbers that begin their names.
func regressionBenchmarks(language typev1.Language) []string {
	switch language {
	case typev1.Language_LANGUAGE_PYTHON:
		return []string{"010", "110", "120", "130", "210", "220", "311", "411", "501", "502", "503", "504"}
	case typev1.Language_LANGUAGE_NODEJS:
		return []string{"010", "110", "120", "130", "210", "311"}
	case typev1.Language_LANGUAGE_JAVA:
		return []string{"010", "110"}
	case typev1.Language_LANGUAGE_CPP:
		return []string{"010", "210", "411", "501", "503"}
	default:
		return nil
	}
}

// test is one cell of the matrix: a benchmark on an architecture, packaged one way, called over each trigger.
type test struct {
	source       *builderv1.BenchmarkSource
	architecture typev1.Architecture
	variant      typev1.SystemVariant
}

func (t test) String() string {
	name := t.source.GetBenchmark()
	if t.architecture != typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		name += " on " + strings.ToLower(strings.TrimPrefix(t.architecture.String(), "ARCHITECTURE_"))
	}
	if t.variant != typev1.SystemVariant_SYSTEM_VARIANT_UNSPECIFIED {
		name += " as " + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(t.variant.String(), "SYSTEM_VARIANT_")), "_", "-")
	}
	return name
}

// regression invokes a matrix of benchmarks once over each trigger and validates the answers. A test that fails is a
// result; the others go on.
func (w *work) regression(ctx context.Context, spec *experimentsv1.RegressionSpec) error {
	if err := w.openDeployment(ctx); err != nil {
		return err
	}
	runtime, _, err := w.completeTarget(ctx)
	if err != nil {
		return err
	}
	tests, triggers, err := w.matrix(ctx, spec, runtime)
	if err != nil {
		return err
	}
	size := spec.GetSize()
	if size == "" {
		size = "test"
	}
	at := w.progress.start(phaseInvoke, fmt.Sprintf("%d tests over %d triggers", len(tests), len(triggers)))
	at.count(0, int64(len(tests)))
	var (
		mu   sync.Mutex
		done int64
	)
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(w.parallel)
	for i, one := range tests {
		group.Go(func() error {
			want := wanted{
				source: one.source, size: size, runtime: runtime, architecture: one.architecture, variant: one.variant,
				triggers: triggers, part: fmt.Sprintf("regression-%d", i),
			}
			outcome := w.test(limited, want, int64(i*len(triggers)))
			if limited.Err() != nil {
				return context.Cause(limited)
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			w.gather(outcome)
			at.count(done, int64(len(tests)))
			return w.store.save(limited, w.run)
		})
	}
	failure := group.Wait()
	if ctx.Err() != nil {
		failure = context.Cause(ctx)
	}
	slices.SortStableFunc(w.run.GetRegressionResults(), func(a, b *experimentsv1.RegressionResult) int {
		return strings.Compare(a.GetBenchmark(), b.GetBenchmark())
	})
	at.done(fmt.Sprintf("%d of %d tests made", done, len(tests)))
	return w.conclude(ctx, failure)
}

// tested is what came of one test.
type tested struct {
	ready   *prepared
	trigger *typev1.Trigger
	results []*experimentsv1.RegressionResult
}

// gather adds a test to the run's record. The caller holds the lock.
func (w *work) gather(t tested) {
	if t.ready != nil {
		w.note(t.ready, t.trigger)
	}
	var invalid int64
	for _, result := range t.results {
		w.run.RegressionResults = append(w.run.GetRegressionResults(), result)
		if result.GetRecord() != nil {
			w.run.InvocationCount++
			if result.GetRecord().GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
				w.run.FailureCount++
			}
		}
		if !result.GetValid() {
			invalid++
			w.problem("%s over %s: %s", result.GetBenchmark(), triggerWord(result.GetTrigger()), result.GetReason())
		}
	}
	invalid += w.run.GetInvalidCount()
	w.run.InvalidCount = &invalid
}

// test prepares one benchmark and invokes it once over each trigger.
func (w *work) test(ctx context.Context, want wanted, sequence int64) tested {
	newResult := func(trigger typev1.TriggerType) *experimentsv1.RegressionResult {
		return &experimentsv1.RegressionResult{
			Benchmark: want.source.GetBenchmark(), Architecture: want.architecture, SystemVariant: want.variant, Trigger: trigger,
		}
	}
	ready, err := w.prepare(ctx, want)
	if err != nil {
		outcome := tested{}
		for _, trigger := range want.triggers {
			result := newResult(trigger)
			result.Reason = publicText(err)
			outcome.results = append(outcome.results, result)
		}
		return outcome
	}
	outcome := tested{ready: ready, trigger: ready.triggers[want.triggers[0]]}
	unpriced := w.openAccount(ctx, ready)
	for i, kind := range want.triggers {
		result := newResult(kind)
		outcome.results = append(outcome.results, result)
		if unpriced != nil {
			result.Reason = publicText(unpriced)
			continue
		}
		function := ready.function.GetName()
		each := w.ledger.each(function)
		if w.ledger.allow(function, 1) == 0 {
			result.Reason = publicText(w.ledger.stopped(function))
			continue
		}
		answer, err := w.services.Invoker.Invoke(ctx, &invokerv1.InvokeRequest{
			Trigger: ready.triggers[kind].GetName(), PayloadJson: ready.input.GetPayloadJson(), Run: w.run.GetName(),
			Sequence: sequence + int64(i), Phase: callsMain,
		})
		w.ledger.settle(each)
		if err != nil {
			result.Reason = publicText(wrapStatus(err, "invoke"))
			continue
		}
		w.ledger.count(answer.GetRecord())
		result.Record = proto.CloneOf(answer.GetRecord())
		if answer.GetRecord().GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
			result.Reason = answer.GetRecord().GetErrorMessage()
			continue
		}
		check := w.newChecker(true, want.source, ready)
		verdict, err := check.validate(ctx, w, resultOf(answer.GetRecord()))
		if err != nil {
			result.Reason = publicText(err)
			continue
		}
		result.Valid, result.Reason = verdict.GetValid(), verdict.GetReason()
	}
	return outcome
}

// matrix returns the tests of a run and the triggers that each is called over.
func (w *work) matrix(ctx context.Context, spec *experimentsv1.RegressionSpec, runtime *typev1.Runtime) ([]test, []typev1.TriggerType, error) {
	target := w.request.GetTarget()
	platform, err := w.platform(ctx, target.GetPlatform())
	if err != nil {
		return nil, nil, err
	}
	sources := spec.GetSources()
	if len(sources) == 0 {
		if sources, err = w.regressionSources(ctx, runtime.GetLanguage()); err != nil {
			return nil, nil, err
		}
	}
	architectures := spec.GetArchitectures()
	if len(architectures) == 0 {
		if architectures, err = w.runnable(ctx, target, platform); err != nil {
			return nil, nil, err
		}
	}
	variants := []typev1.SystemVariant{target.GetSystemVariant()}
	if target.GetSystemVariant() == typev1.SystemVariant_SYSTEM_VARIANT_UNSPECIFIED && len(platform.GetSystemVariants()) > 0 {
		variants = platform.GetSystemVariants()
	}
	var tests []test
	for _, variant := range variants {
		for _, architecture := range architectures {
			for _, source := range sources {
				one := test{source: source, architecture: architecture, variant: variant}
				if reason := skipReason(target.GetPlatform(), runtime, one); reason != "" {
					w.log.Info("a regression test is left out", "run", w.run.GetName(), "test", one.String(), "reason", reason)
					w.run.Skipped = append(w.run.GetSkipped(), one.String()+": "+reason)
					continue
				}
				tests = append(tests, one)
			}
		}
	}
	if len(tests) == 0 {
		return nil, nil, errs.FailedPrecondition("NOTHING_TO_TEST",
			"no benchmark of the regression list has %s on platform %s; name benchmarks or another language", languageName(runtime.GetLanguage()), target.GetPlatform())
	}
	return tests, regressionTriggers(target.GetPlatform(), platform), nil
}

// platform returns what the deployer tells of a platform.
func (w *work) platform(ctx context.Context, name string) (*deployerv1.Platform, error) {
	answer, err := w.services.Deployer.ListPlatforms(ctx, &deployerv1.ListPlatformsRequest{})
	if err != nil {
		return nil, wrapStatus(err, "list the platforms")
	}
	for _, platform := range answer.GetPlatforms() {
		if platform.GetName() == "platforms/"+name {
			return platform, nil
		}
	}
	return nil, errs.InvalidArgument("PLATFORM_UNKNOWN", "platform %q is not known to the deployer", name)
}

// runnable returns the architectures that functions can run on: a cloud's all, on this machine its own.
func (w *work) runnable(ctx context.Context, target *experimentsv1.Target, platform *deployerv1.Platform) ([]typev1.Architecture, error) {
	if target.GetArchitecture() != typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		return []typev1.Architecture{target.GetArchitecture()}, nil
	}
	if target.GetPlatform() == platformLocal {
		host, err := w.services.Local.GetHost(ctx, &localv1.GetHostRequest{})
		if err != nil {
			return nil, wrapStatus(err, "ask the local platform what it can run")
		}
		return []typev1.Architecture{host.GetArchitecture()}, nil
	}
	if len(platform.GetArchitectures()) == 0 {
		return []typev1.Architecture{typev1.Architecture_ARCHITECTURE_X64}, nil
	}
	return platform.GetArchitectures(), nil
}

// regressionSources returns the benchmarks of the list that the builder finds in the language.
func (w *work) regressionSources(ctx context.Context, language typev1.Language) ([]*builderv1.BenchmarkSource, error) {
	numbers := regressionBenchmarks(language)
	var sources []*builderv1.BenchmarkSource
	token := ""
	for {
		page, err := w.services.Builder.ListBenchmarks(ctx, &builderv1.ListBenchmarksRequest{PageToken: token, PageSize: 1000})
		if err != nil {
			return nil, wrapStatus(err, "list the benchmarks")
		}
		for _, benchmark := range page.GetBenchmarks() {
			number, _, _ := strings.Cut(benchmark.GetBenchmark(), ".")
			has := slices.ContainsFunc(benchmark.GetLanguages(), func(l *builderv1.BenchmarkLanguage) bool { return l.GetLanguage() == language })
			if has && slices.Contains(numbers, number) {
				sources = append(sources, &builderv1.BenchmarkSource{Benchmark: benchmark.GetBenchmark()})
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return sources, nil
		}
	}
}

// regressionTriggers are those of SeBS: library and HTTP where the platform's API answers what the function does.
func regressionTriggers(name string, platform *deployerv1.Platform) []typev1.TriggerType {
	triggers := []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP}
	library := typev1.TriggerType_TRIGGER_TYPE_LIBRARY
	if (name == "aws" || name == platformLocal) && slices.Contains(platform.GetTriggers(), library) {
		triggers = append(triggers, library)
	}
	return triggers
}

// skipReason tells why a test cannot succeed on a platform; empty where it can.
func skipReason(platform string, runtime *typev1.Runtime, t test) string {
	cpp := runtime.GetLanguage() == typev1.Language_LANGUAGE_CPP
	arm := t.architecture == typev1.Architecture_ARCHITECTURE_ARM64
	if cpp && arm {
		return "C++ functions are built for x64 only"
	}
	if !strings.HasPrefix(t.source.GetBenchmark(), "411.") {
		return ""
	}
	python, version := runtime.GetLanguage() == typev1.Language_LANGUAGE_PYTHON, runtime.GetVersion()
	asPackage := t.variant == typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE
	switch {
	case platform == "aws" && asPackage && (cpp || python && slices.Contains([]string{"3.9", "3.10", "3.11"}, version)):
		return "the code package is larger than Lambda takes"
	case platform == "aws" && arm:
		return "the dependencies do not exist for arm64 on Lambda"
	case platform == "gcp" && t.variant == typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN1 && python &&
		slices.Contains([]string{"3.8", "3.9", "3.10", "3.11", "3.12"}, version):
		return "the code package is larger than functions of the first generation take"
	}
	return ""
}

// notFound tells an error of a service that lacks something.
func notFound(err error) bool { return errs.Is(errs.FromStatus(err), codes.NotFound) }
