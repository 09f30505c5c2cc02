package experiments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/internal/pagetoken"
)

// Kinds of runs.
const (
	kindBenchmarkInvoke = "benchmark-invoke"
	kindRegression      = "regression"
	kindDeploy          = "deploy"
)

// Publisher tells facts to whoever listens.
type Publisher interface {
	Publish(ctx context.Context, subject string, m proto.Message, msgID string, opts ...events.PublishOption) error
}

// Runner makes runs. It is safe for concurrent use.
type Runner struct {
	services Services
	store    store
	events   Publisher
	log      *slog.Logger
	// parallel bounds the tests of a regression run that go side by side.
	parallel int
}

// Dependencies is what a Runner stands on.
type Dependencies struct {
	// Services are the other services.
	Services Services
	// Records is the shared state.
	Records Records
	// Events tells what happened.
	Events Publisher
	// PageTokens are the tokens of lists.
	PageTokens *pagetoken.Codec
	// Log takes what callers do not see.
	Log *slog.Logger
	// Parallel bounds the tests of a regression run that go side by side; 0 means 2.
	Parallel int
}

// NewRunner returns a runner.
func NewRunner(d Dependencies) *Runner {
	if d.Parallel <= 0 {
		d.Parallel = 2
	}
	return &Runner{services: d.Services, store: store{records: d.Records, tokens: d.PageTokens}, events: d.Events, log: d.Log, parallel: d.Parallel}
}

// maxProblems bounds the problems in a run's record.
const maxProblems = 100

// finishTimeout bounds what is done after a run was cancelled.
const finishTimeout = 30 * time.Second

// work is one run at work.
type work struct {
	*Runner
	run      *experimentsv1.Run
	request  *experimentsv1.CreateRunRequest
	progress *progress
	// attempt counts from 1 how often the operation was taken up; it is a part of the request ids of sub-operations.
	attempt int
	dropped int
	// region is that of the deployment.
	region string
	ledger *ledger
	// losses are the parts of the run whose invoker was lost.
	losses []loss
}

func kindOf(request *experimentsv1.CreateRunRequest) string {
	switch request.GetSpec().(type) {
	case *experimentsv1.CreateRunRequest_BenchmarkInvoke:
		return kindBenchmarkInvoke
	case *experimentsv1.CreateRunRequest_Regression:
		return kindRegression
	case *experimentsv1.CreateRunRequest_Deploy:
		return kindDeploy
	}
	return ""
}

// newRun returns the record of a run that begins now. Its id is that of the operation.
func newRun(operation string, request *experimentsv1.CreateRunRequest) *experimentsv1.Run {
	return &experimentsv1.Run{
		Name:       runName(operation),
		Kind:       kindOf(request),
		Request:    request,
		State:      experimentsv1.Run_STATE_RUNNING,
		StartTime:  timestamppb.Now(),
		Provenance: newProvenance(request),
		Operation:  operation,
	}
}

// runName returns the name of the run that an operation makes.
func runName(operation string) string {
	id := strings.TrimPrefix(operation, "operations/")
	if _, after, ok := strings.Cut(id, "-"); ok {
		id = after
	}
	return runsPrefix + id
}

// Make makes a run from its begin to its end and returns its record. Only a run that could not make its invocations is an
// error; failed invocations are results.
func (r *Runner) Make(ctx context.Context, operation string, attempt int, request *experimentsv1.CreateRunRequest,
	tell func(*experimentsv1.RunMetadata),
) (*experimentsv1.Run, error) {
	run, err := r.begin(ctx, operation, request)
	if err != nil {
		return nil, err
	}
	w := &work{
		Runner: r, run: run, request: request, attempt: attempt, ledger: newLedger(request),
		progress: newProgress(run.GetName(), run.GetStartTime().AsTime(), run.GetSteps(), tell),
	}
	if attempt == 1 {
		r.announce(ctx, "run_started", run)
	}
	switch {
	case len(run.GetFunctions()) > 0 && attempt > 1 && run.GetKind() != kindDeploy:
		err = w.interrupted(ctx)
	case run.GetKind() == kindBenchmarkInvoke:
		err = w.benchmarkInvoke(ctx, request.GetBenchmarkInvoke())
	case run.GetKind() == kindRegression:
		err = w.regression(ctx, request.GetRegression())
	case run.GetKind() == kindDeploy:
		// Functions that an earlier attempt made are found again.
		run.Functions = nil
		err = w.deploy(ctx, request.GetDeploy())
	default:
		err = errs.Fields(errs.Field("spec", "must be set: one of benchmark_invoke, regression, deploy"))
	}
	return w.end(ctx, err)
}

// begin writes the run's record, or reads the one that an earlier owner of the operation wrote.
func (r *Runner) begin(ctx context.Context, operation string, request *experimentsv1.CreateRunRequest) (*experimentsv1.Run, error) {
	run := newRun(operation, request)
	if err := r.store.create(ctx, run); err != nil {
		return nil, err
	}
	return r.store.get(ctx, run.GetName())
}

// end decides the run's state and stores its record.
func (w *work) end(ctx context.Context, failure error) (*experimentsv1.Run, error) {
	if failure != nil && ctx.Err() != nil && !operations.Cancelled(ctx) {
		// The process stops: another one takes the run up, so its record stays as it is.
		return nil, failure
	}
	cancelled := operations.Cancelled(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	w.run.Cost = w.ledger.estimate()
	w.run.Steps = w.progress.steps()
	w.run.EndTime = timestamppb.Now()
	if w.dropped > 0 {
		w.run.Problems = append(w.run.GetProblems(), fmt.Sprintf("and %d more problems", w.dropped))
	}
	switch {
	case failure != nil && cancelled:
		w.run.State = experimentsv1.Run_STATE_CANCELLED
	case failure != nil:
		w.run.State = experimentsv1.Run_STATE_FAILED
		w.run.Problems = append([]string{publicText(failure)}, w.run.GetProblems()...)
	case w.run.GetFailureCount() > 0, w.run.GetInvalidCount() > 0, len(w.run.GetProblems()) > 0, anyInvalid(w.run):
		w.run.State = experimentsv1.Run_STATE_PARTIAL
	default:
		w.run.State = experimentsv1.Run_STATE_SUCCEEDED
	}
	if err := w.store.save(ctx, w.run); err != nil {
		w.log.Error("the end of a run could not be stored", "run", w.run.GetName(), "error", err)
		failure = errors.Join(failure, err)
	}
	w.announce(ctx, "run_finished", w.run)
	if failure != nil {
		return nil, failure
	}
	return w.run, nil
}

func anyInvalid(run *experimentsv1.Run) bool {
	for _, result := range run.GetRegressionResults() {
		if !result.GetValid() {
			return true
		}
	}
	return false
}

// publicText is what clients may see of an error.
func publicText(err error) string { return errs.ToStatus(err).Message() }

// announce tells a fact about a run. Who misses it can read the record.
func (r *Runner) announce(ctx context.Context, event string, run *experimentsv1.Run) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	fact := &eventv1.RunChanged{
		Run: run.GetName(), Kind: run.GetKind(), State: strings.TrimPrefix(run.GetState().String(), "STATE_"),
	}
	if err := r.events.Publish(ctx, "experiments."+event, fact, run.GetName()+"/"+event, events.About(run.GetName())); err != nil {
		r.log.Warn("an event could not be published", "event", event, "run", run.GetName(), "error", err)
	}
}

// problem notes what went wrong without ending the run.
func (w *work) problem(format string, args ...any) {
	if len(w.run.GetProblems()) >= maxProblems-1 {
		w.dropped++
		return
	}
	w.run.Problems = append(w.run.GetProblems(), fmt.Sprintf(format, args...))
}

// requestID names a part of the run, so that a repeated request answers the same operation.
func (w *work) requestID(part string) string {
	return fmt.Sprintf("%s/%d/%s", w.run.GetName(), w.attempt, part)
}

// interrupted ends a run whose process was lost while it invoked. A measurement is not taken up in the middle: what was
// published is kept, and the record says what is missing.
func (w *work) interrupted(ctx context.Context) error {
	w.problem("the process that made the run was lost during the invocations; the results so far are kept, make the run again for all of them")
	results := w.progress.start(phaseResults, "gathering the results of the interrupted run")
	// Results that were on their way arrive within a moment; how many there are nobody knows.
	if err := w.statistics(ctx, 0); err != nil {
		return err
	}
	var failed int64
	var count int64
	for _, function := range w.run.GetStatistics().GetFunctions() {
		count += function.GetCount()
		failed += function.GetFailureCount()
	}
	w.run.InvocationCount, w.run.FailureCount = count, failed
	results.done(fmt.Sprintf("kept %d results", count))
	return nil
}
