package experiments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Phases of invocations within a run.
const (
	callsCold = "cold"
	callsMain = "invoke"
)

const (
	defaultRepetitions = 5
	// validators is how many answers are validated at once; each starts a process in the builder.
	validators = 2
)

// benchmarkInvoke prepares one function and invokes it some times.
func (w *work) benchmarkInvoke(ctx context.Context, spec *experimentsv1.BenchmarkInvokeSpec) error {
	if err := w.openDeployment(ctx); err != nil {
		return err
	}
	runtime, architecture, err := w.completeTarget(ctx)
	if err != nil {
		return err
	}
	kind := spec.GetTrigger()
	if kind == typev1.TriggerType_TRIGGER_TYPE_UNSPECIFIED {
		kind = typev1.TriggerType_TRIGGER_TYPE_HTTP
	}
	ready, err := w.prepare(ctx, wanted{
		source: spec.GetSource(), size: spec.GetSize(), functionID: spec.GetFunctionId(),
		memoryMB: spec.GetMemoryMb(), timeout: spec.GetTimeoutSeconds(),
		runtime: runtime, architecture: architecture, variant: w.request.GetTarget().GetSystemVariant(),
		triggers: []typev1.TriggerType{kind}, part: "benchmark",
		maxConcurrency: spec.GetMaxConcurrency(), provisionedConcurrency: spec.GetProvisionedConcurrency(),
		imageTagPrefix: spec.GetImageTagPrefix(),
	})
	if err != nil {
		return err
	}
	trigger := ready.triggers[kind]
	if err := w.openAccount(ctx, ready); err != nil {
		return err
	}
	if spec.GetColdFirst() {
		if err := w.enforceCold(ctx, ready); err != nil {
			return err
		}
	}
	// From here on there may be invocations: a run that is taken up later sees the function and does not repeat them.
	w.note(ready, trigger)
	w.noteOrigin(ctx, spec.GetSource(), ready)
	if err := w.store.save(ctx, w.run); err != nil {
		return err
	}
	checker := w.newChecker(spec.GetValidate(), spec.GetSource(), ready)
	failure := w.invokeAll(ctx, spec, ready, trigger, checker)
	if failure == nil || reached(failure) && w.run.GetInvocationCount() > 0 {
		failure = errors.Join(failure, checker.finish(ctx, w))
	}
	return w.conclude(ctx, failure)
}

// enforceCold makes the next invocation meet a new sandbox. A function that was just created has none yet.
func (w *work) enforceCold(ctx context.Context, ready *prepared) error {
	if ready.outcome == deployerv1.EnsureFunctionResponse_OUTCOME_CREATED {
		return nil
	}
	return w.replaceSandboxes(ctx, ready)
}

// replaceSandboxes has the platform put new sandboxes in the place of those that there are.
func (w *work) replaceSandboxes(ctx context.Context, ready *prepared) error {
	name := ready.function.GetName()
	at := w.progress.start(phaseFunction, "enforcing a cold start of "+lastPart(name))
	answer, err := w.services.Deployer.EnforceColdStart(ctx, &deployerv1.EnforceColdStartRequest{
		Parent: w.run.GetDeployment(), Functions: []string{name},
	})
	if err != nil {
		return wrapStatus(err, "enforce a cold start of function %s", lastPart(name))
	}
	for function, reason := range answer.GetFailures() {
		return errs.FailedPrecondition("COLD_START_FAILED", "enforce a cold start of function %s: %s", lastPart(function), reason)
	}
	at.done("cold start enforced")
	return nil
}

// coldTries bounds how often a cold start is enforced for the first invocation.
const coldTries = 3

// invokeCold makes the first invocation, which is to be cold, and looks into its answer whether it was. One that met an
// old sandbox counts among the invocations; the next one tries again. It returns how many were made.
func (w *work) invokeCold(ctx context.Context, request *invokerv1.InvokeManyRequest, ready *prepared, take func(*typev1.InvocationRecord)) (int64, error) {
	for made := int64(1); ; made++ {
		warm := false
		err := w.invokeSpan(ctx, request, span{from: made - 1, count: 1}, func(record *typev1.InvocationRecord) {
			warm = saysWarm(record)
			take(record)
		})
		if err != nil || !warm {
			return made, err
		}
		if made == coldTries {
			w.problem("a cold start was asked for, but %d invocations met a sandbox that was there before, although new ones were enforced", made)
			return made, nil
		}
		if err := w.replaceSandboxes(ctx, ready); err != nil {
			return made, err
		}
	}
}

// saysWarm tells that a successful answer says of itself that its sandbox had been used before. One that says nothing
// cannot be held against the platform.
func saysWarm(record *typev1.InvocationRecord) bool {
	var answer struct {
		IsCold *bool `json:"is_cold"`
	}
	if record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED || record.GetResult().GetStats().GetColdStart() ||
		json.Unmarshal([]byte(record.GetResult().GetOutputJson()), &answer) != nil {
		return false
	}
	return answer.IsCold != nil && !*answer.IsCold
}

// invokeAll makes the invocations: the first by itself where it shall be cold, then the rest.
func (w *work) invokeAll(ctx context.Context, spec *experimentsv1.BenchmarkInvokeSpec, ready *prepared, trigger *typev1.Trigger, checker *checker) error {
	repetitions := int64(spec.GetRepetitions())
	if repetitions == 0 {
		repetitions = defaultRepetitions
	}
	at := w.progress.start(phaseInvoke, fmt.Sprintf("invoking %s over %s", lastPart(ready.function.GetName()), triggerWord(trigger.GetType())))
	at.count(0, repetitions)
	request := &invokerv1.InvokeManyRequest{
		Trigger: trigger.GetName(), PayloadJson: ready.input.GetPayloadJson(), Run: w.run.GetName(),
		Concurrency: spec.GetConcurrency(), Phase: callsMain,
	}
	take := func(record *typev1.InvocationRecord) {
		w.count(record)
		checker.add(record)
		at.count(w.run.GetInvocationCount(), repetitions)
	}
	rest := span{from: 0, count: repetitions}
	if spec.GetColdFirst() {
		first := proto.CloneOf(request)
		first.Phase = callsCold
		made, err := w.invokeCold(ctx, first, ready, take)
		if err != nil {
			return err
		}
		rest = span{from: made, count: max(0, repetitions-made)}
	}
	if err := w.invokeSpan(ctx, request, rest, take); err != nil {
		return err
	}
	at.done(fmt.Sprintf("%d invocations, %d failed", w.run.GetInvocationCount(), w.run.GetFailureCount()))
	return nil
}

// invokeMany streams the records of many invocations to each.
func (w *work) invokeMany(ctx context.Context, request *invokerv1.InvokeManyRequest, each func(*typev1.InvocationRecord)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.services.Invoker.InvokeMany(ctx, request)
	for err == nil {
		var answer *invokerv1.InvokeManyResponse
		if answer, err = stream.Recv(); err == nil {
			each(answer.GetRecord())
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return wrapStatus(err, "invoke over %s", request.GetTrigger())
}

// count adds a record to the run's figures.
func (w *work) count(record *typev1.InvocationRecord) {
	w.run.InvocationCount++
	w.ledger.count(record)
	if record.GetErrorClass() == typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
		if record.GetErrorMessage() != "" {
			w.problem("invocation %d: %s", record.GetSequence(), record.GetErrorMessage())
		}
		return
	}
	w.run.FailureCount++
	w.problem("invocation %d (%s): %s", record.GetSequence(), record.GetResult().GetRequestId(), record.GetErrorMessage())
}

// conclude gathers the results after the invocations, also after those of a cancelled run.
func (w *work) conclude(ctx context.Context, failure error) error {
	if failure != nil && w.run.GetInvocationCount() == 0 {
		return failure
	}
	if failure != nil {
		if ctx.Err() == nil {
			w.problem("%s", publicText(failure))
			failure = nil
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
		defer cancel()
	}
	at := w.progress.start(phaseResults, "gathering the results")
	if err := w.recover(ctx); err != nil {
		w.problem("the results of a lost invoker could not be gathered: %s", publicText(err))
	}
	if err := w.statistics(ctx, w.run.GetInvocationCount()); err != nil {
		if ctx.Err() != nil {
			return errors.Join(failure, context.Cause(ctx))
		}
		// The invocations are made and their records published; only what is computed from them is missing.
		w.problem("the results could not be gathered: %s; ask for the run's statistics later", publicText(err))
	}
	at.done(fmt.Sprintf("%d results", w.run.GetInvocationCount()))
	return failure
}

// statistics waits until the results are stored, adds the platform's figures where they are there at once, and keeps the
// statistics in the run's record.
func (w *work) statistics(ctx context.Context, count int64) error {
	ctx, cancel := context.WithTimeout(ctx, resultsTimeout)
	defer cancel()
	_, err := w.services.Metrics.GetStatistics(ctx, &metricsv1.GetStatisticsRequest{Run: w.run.GetName(), WaitForCount: count})
	if err != nil {
		return wrapStatus(err, "wait for the results of %s", w.run.GetName())
	}
	if w.request.GetTarget().GetPlatform() == platformLocal && count > 0 {
		w.download(ctx)
	}
	if _, err := w.services.Metrics.CompactRun(ctx, &metricsv1.CompactRunRequest{Run: w.run.GetName(), ExpectedCount: count}); err != nil {
		return wrapStatus(err, "close the results of %s", w.run.GetName())
	}
	statistics, err := w.services.Metrics.GetStatistics(ctx, &metricsv1.GetStatisticsRequest{Run: w.run.GetName()})
	if err != nil {
		return wrapStatus(err, "compute the statistics of %s", w.run.GetName())
	}
	w.run.Statistics = statistics
	return nil
}

// download adds what the platform measured. Without it the run is complete in all that the client saw.
func (w *work) download(ctx context.Context) {
	op, err := w.services.Metrics.DownloadMetrics(ctx, &metricsv1.DownloadMetricsRequest{
		Run: w.run.GetName(), Wait: durationpb.New(localMetricsWait),
	})
	answer := &metricsv1.DownloadMetricsResponse{}
	if err == nil {
		err = await(ctx, w.services.MetricsOperations, op, answer, nil)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Warn("the platform's metrics could not be downloaded", "run", w.run.GetName(), "error", err)
		w.problem("the platform's figures could not be added: %s; download them later with 'sebs benchmark process'", publicText(errs.FromStatus(err)))
	}
}

// checker validates answers by the benchmark's own validator.
type checker struct {
	enabled bool
	source  *builderv1.BenchmarkSource
	ready   *prepared
	// answers are the distinct answers by the invocations that gave them: equal ones are validated once.
	answers map[string][]int64
	order   []string
	missing int64
}

func (w *work) newChecker(enabled bool, source *builderv1.BenchmarkSource, ready *prepared) *checker {
	return &checker{enabled: enabled, source: source, ready: ready, answers: make(map[string][]int64)}
}

// add keeps the answer of a successful invocation.
func (c *checker) add(record *typev1.InvocationRecord) {
	if !c.enabled || record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
		return
	}
	output := resultOf(record)
	if output == "" {
		c.missing++
		return
	}
	if _, known := c.answers[output]; !known {
		c.order = append(c.order, output)
	}
	c.answers[output] = append(c.answers[output], record.GetSequence())
}

// resultOf returns the wrapper's `result` object of a record's answer.
func resultOf(record *typev1.InvocationRecord) string {
	var answer struct {
		Result json.RawMessage `json:"result"`
	}
	if json.Unmarshal([]byte(record.GetResult().GetOutputJson()), &answer) != nil {
		return ""
	}
	return string(answer.Result)
}

// finish validates what was kept and counts the invalid answers.
func (c *checker) finish(ctx context.Context, w *work) error {
	if !c.enabled {
		return nil
	}
	at := w.progress.start(phaseResults, "validating the answers")
	answers := make([]*builderv1.ValidateOutputResponse, len(c.order))
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(validators)
	for i, output := range c.order {
		group.Go(func() (err error) {
			answers[i], err = c.validate(limited, w, output)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	var invalid int64
	for i, output := range c.order {
		if answers[i].GetValid() {
			continue
		}
		for _, sequence := range c.answers[output] {
			invalid++
			w.problem("invocation %d: the answer is invalid: %s", sequence, answers[i].GetReason())
		}
	}
	if c.missing > 0 {
		invalid += c.missing
		w.problem("%d answers were too large to be validated", c.missing)
	}
	w.run.InvalidCount = &invalid
	at.done(fmt.Sprintf("%d distinct answers validated, %d invocations invalid", len(c.order), invalid))
	return nil
}

func (c *checker) validate(ctx context.Context, w *work, output string) (*builderv1.ValidateOutputResponse, error) {
	answer, err := w.services.Builder.ValidateOutput(ctx, &builderv1.ValidateOutputRequest{
		Parent: w.run.GetDeployment(), Source: c.source, PayloadJson: c.ready.input.GetPayloadJson(), OutputJson: output,
		Language: c.ready.pkg.GetRuntime().GetLanguage(),
	})
	return answer, wrapStatus(err, "validate an answer of %s", c.source.GetBenchmark())
}

// resultsTimeout bounds the gathering of results; a run may have a million.
const resultsTimeout = 15 * time.Minute

// localMetricsWait is how long the local platform's figures are waited for; they are there when the answer is.
const localMetricsWait = 5 * time.Second
