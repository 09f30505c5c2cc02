package invoker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

// Results takes the records of runs.
type Results interface {
	// Add takes a record; it is sent soon after.
	Add(record *typev1.InvocationRecord)
	// Flush returns when the records of a run that were added before are safe.
	Flush(ctx context.Context, run string) error
}

// Dependencies is what an invoker stands on.
type Dependencies struct {
	// ID names the invoker; unique for each start of a process.
	ID string
	// Capacity is how many calls are made at once.
	Capacity int
	// Records is the shared state.
	Records Records
	// Results takes the records of runs.
	Results Results
	// Storage keeps what is too large for a message.
	Storage storagev1.StorageServiceClient
	// HTTP, Library and Objects make the calls.
	HTTP, Library, Objects call.Caller
	// Registry takes the invoker's metrics; nil means none.
	Registry prometheus.Registerer
	// Log takes what callers do not see.
	Log *slog.Logger
}

// Invoker makes calls. It is safe for concurrent use.
type Invoker struct {
	id       string
	capacity int
	targets  *targets
	results  Results
	payloads *payloads
	callers  map[typev1.TriggerType]call.Caller
	log      *slog.Logger
	metrics  *meters

	// slots bounds the calls in flight; busy counts them.
	slots chan struct{}
	busy  atomic.Int64

	// drain ends when the invoker takes no more work.
	drainOnce sync.Once
	drained   chan struct{}
	working   sync.WaitGroup
}

// timeoutMargin is what a call gets on top of the function's own limit, and defaultLimit what is taken as that limit where
// the record names none.
const (
	timeoutMargin = 30 * time.Second
	defaultLimit  = 60 * time.Second
	maxTimeout    = 2 * time.Hour
)

// New returns an invoker.
func New(d Dependencies) *Invoker {
	return &Invoker{
		id:       "invokers/" + d.ID,
		capacity: max(d.Capacity, 1),
		targets:  newTargets(d.Records),
		results:  d.Results,
		payloads: &payloads{objects: storedObjects{client: d.Storage}},
		callers: map[typev1.TriggerType]call.Caller{
			typev1.TriggerType_TRIGGER_TYPE_HTTP:    d.HTTP,
			typev1.TriggerType_TRIGGER_TYPE_LIBRARY: d.Library,
			typev1.TriggerType_TRIGGER_TYPE_STORAGE: d.Objects,
		},
		log:     d.Log,
		metrics: newMeters(d.Registry),
		slots:   make(chan struct{}, max(d.Capacity, 1)),
		drained: make(chan struct{}),
	}
}

// Follow keeps what the invoker knows of functions true until ctx ends.
func (i *Invoker) Follow(ctx context.Context) error { return i.targets.follow(ctx) }

// Drain refuses new calls and waits for those in flight.
func (i *Invoker) Drain(ctx context.Context) error {
	i.drainOnce.Do(func() { close(i.drained) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		i.working.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain the invoker: %d calls are still in flight: %w", i.busy.Load(), context.Cause(ctx))
	}
}

// task is what all ways to invoke have in common.
type task struct {
	identity call.Identity
	target   call.Target
	caller   call.Caller
	payload  []byte
	timeout  time.Duration
	reuse    bool
	async    bool
}

// asked is the common part of the requests.
type asked struct {
	trigger, payloadJSON, payloadRef, run, phase string
	timeout                                      time.Duration
	platformAsync                                bool
}

// plan checks a request and finds everything that a call needs. Its errors are the request's own: no call was made.
func (i *Invoker) plan(ctx context.Context, a asked) (task, error) {
	if a.payloadJSON != "" && a.payloadRef != "" {
		return task{}, errs.Fields(errs.Field("payload_ref", "must be empty when payload_json is given"))
	}
	if a.timeout < 0 || a.timeout > maxTimeout {
		return task{}, errs.Fields(errs.Field("timeout", "must be between 0 and %s, not %s", maxTimeout, a.timeout))
	}
	if err := checkRun(a.run); err != nil {
		return task{}, err
	}
	target, err := i.targets.find(ctx, a.trigger)
	if err != nil {
		return task{}, err
	}
	caller := i.callers[target.Trigger.GetType()]
	if caller == nil {
		return task{}, errs.Unimplemented("TRIGGER_TYPE_NOT_AVAILABLE",
			"this invoker makes no calls over %s triggers of platform %s", triggerWord(target.Trigger.GetType()), target.Platform)
	}
	if checked, ok := caller.(interface{ Check(string) error }); ok {
		if err := checked.Check(target.Platform); err != nil {
			return task{}, err
		}
	}
	if a.platformAsync {
		if err := checkAsync(ctx, caller, target); err != nil {
			return task{}, err
		}
	}
	payload := []byte(a.payloadJSON)
	if a.payloadRef != "" {
		if payload, err = i.payloads.load(ctx, a.payloadRef); err != nil {
			return task{}, err
		}
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !json.Valid(payload) {
		return task{}, errs.Fields(errs.Field("payload_json", "is not JSON; it begins with %.60q", payload))
	}
	timeout := a.timeout
	if timeout == 0 {
		timeout = target.Timeout
		if timeout == 0 {
			timeout = defaultLimit
		}
		timeout += timeoutMargin
	}
	return task{
		identity: call.Identity{Run: a.run, Invoker: i.id, Phase: a.phase, Attempt: 1},
		target:   target, caller: caller, payload: payload, timeout: timeout, async: a.platformAsync,
	}, nil
}

// checkAsync refuses a call that the platform cannot queue by itself.
func checkAsync(ctx context.Context, caller call.Caller, target call.Target) error {
	checked, ok := caller.(interface {
		CheckAsync(ctx context.Context, target call.Target) error
	})
	if !ok || target.Trigger.GetType() != typev1.TriggerType_TRIGGER_TYPE_LIBRARY {
		return errs.Fields(errs.Field("platform_async",
			"is for library triggers only, and this is a trigger of type %s: leave it out, the suite's own queue serves every trigger, or name a library trigger",
			triggerWord(target.Trigger.GetType())))
	}
	return checked.CheckAsync(ctx, target)
}

// checkRun refuses what cannot be a part of a subject.
func checkRun(run string) error {
	if run == "" {
		return nil
	}
	id, ok := strings.CutPrefix(run, "runs/")
	if !ok || id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return errs.Fields(errs.Field("run", "%q is not of the form runs/{id}, the id of letters, digits, dashes and underscores", run))
	}
	return nil
}

// enter takes a slot; it waits for one as long as ctx allows.
func (i *Invoker) enter(ctx context.Context) (leave func(), err error) {
	select {
	case <-i.drained:
		return nil, errs.Unavailable("INVOKER_DRAINING", "the invoker stops; repeat the request, another one takes it")
	default:
	}
	select {
	case i.slots <- struct{}{}:
	case <-i.drained:
		return nil, errs.Unavailable("INVOKER_DRAINING", "the invoker stops; repeat the request, another one takes it")
	case <-ctx.Done():
		return nil, errs.ResourceExhausted(time.Second, "INVOKER_BUSY",
			"the invoker makes %d calls at once and none ended in time; raise invoker.capacity or start another invoker", i.capacity)
	}
	i.busy.Add(1)
	i.metrics.inFlight.Inc()
	return func() {
		i.metrics.inFlight.Dec()
		i.busy.Add(-1)
		<-i.slots
	}, nil
}

// perform makes one call and returns its record, which is on its way to metrics when it belongs to a run.
func (i *Invoker) perform(ctx context.Context, t task) *typev1.InvocationRecord {
	id := uuid.NewString()
	outcome := t.caller.Call(ctx, t.target, call.Input{ID: id, Payload: t.payload, Timeout: t.timeout, Reuse: t.reuse, Async: t.async})
	record := call.Record(t.identity, t.target, outcome)
	i.metrics.count(record)
	i.moveOutput(ctx, record, id)
	if record.GetRun() != "" {
		i.results.Add(record)
	}
	return record
}

// outputTimeout bounds the transfer of one large answer to the store.
const outputTimeout = time.Minute

// moveOutput puts an answer that is too large for a message into the suite's store.
func (i *Invoker) moveOutput(ctx context.Context, record *typev1.InvocationRecord, id string) {
	output := record.GetResult().GetOutputJson()
	if len(output) <= inlineBytes {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outputTimeout)
	defer cancel()
	folder := "single"
	if run := strings.TrimPrefix(record.GetRun(), "runs/"); run != "" {
		folder = run
	}
	ref, err := i.payloads.store(ctx, "outputs/"+folder+"/"+id+".json", []byte(output))
	record.Result.OutputJson = ""
	if err != nil {
		i.log.Warn("a large answer could not be stored", "function", record.GetFunction(), "bytes", len(output), "error", err)
		record.ErrorMessage = fmt.Sprintf("the invocation succeeded, but its answer of %d bytes could not be stored: %v", len(output), errs.FromStatus(err))
		return
	}
	record.Result.OutputRef = ref
}

// Invoke makes one call.
func (i *Invoker) Invoke(ctx context.Context, request *invokerv1.InvokeRequest) (*typev1.InvocationRecord, error) {
	t, err := i.plan(ctx, asked{
		trigger: request.GetTrigger(), payloadJSON: request.GetPayloadJson(), payloadRef: request.GetPayloadRef(),
		run: request.GetRun(), phase: request.GetPhase(), timeout: request.GetTimeout().AsDuration(),
	})
	if err != nil {
		return nil, err
	}
	t.identity.Sequence = request.GetSequence()
	t.reuse = request.GetReuseConnections()
	i.working.Add(1)
	defer i.working.Done()
	leave, err := i.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return i.perform(ctx, t), nil
}

// InvokeMany makes calls from some workers, each after the end of its last, and hands every record to each, one at a time.
// It ends early when ctx does or each fails; the calls in flight are then recorded as cancelled. When it returns, the
// records of the run are safe.
func (i *Invoker) InvokeMany(ctx context.Context, request *invokerv1.InvokeManyRequest, each func(*typev1.InvocationRecord) error) error {
	t, err := i.plan(ctx, asked{
		trigger: request.GetTrigger(), payloadJSON: request.GetPayloadJson(), payloadRef: request.GetPayloadRef(),
		run: request.GetRun(), phase: request.GetPhase(), timeout: request.GetTimeout().AsDuration(),
	})
	if err != nil {
		return err
	}
	t.reuse = request.GetReuseConnections()
	i.working.Add(1)
	defer i.working.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := min(max(int(request.GetConcurrency()), 1), int(request.GetCount()))
	records := make(chan *typev1.InvocationRecord, workers)
	var next atomic.Int64
	var refused atomic.Pointer[error]
	var busy sync.WaitGroup
	for range workers {
		busy.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(request.GetCount()) || ctx.Err() != nil {
					return
				}
				leave, err := i.enter(ctx)
				if err != nil {
					// The calls in flight go on to their ends.
					refused.CompareAndSwap(nil, &err)
					return
				}
				one := t
				one.identity.Sequence = request.GetFirstSequence() + n
				record := i.perform(ctx, one)
				leave()
				records <- record
			}
		})
	}
	go func() {
		busy.Wait()
		close(records)
	}()
	var failure error
	for record := range records {
		if failure != nil {
			continue
		}
		if failure = each(record); failure != nil {
			cancel(failure)
		}
	}
	switch {
	case failure != nil:
	case ctx.Err() != nil:
		failure = context.Cause(ctx)
	case refused.Load() != nil:
		failure = *refused.Load()
	}
	if t.identity.Run != "" {
		flush, stop := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer stop()
		if err := i.results.Flush(flush, t.identity.Run); err != nil {
			return err
		}
	}
	return failure
}

// flushTimeout bounds the wait for the bus at the end of many calls; after it results are in the spool.
const flushTimeout = 30 * time.Second
