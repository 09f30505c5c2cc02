package invoker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
)

// Names of the queue of asynchronous invocations.
const (
	workStream  = "SEBS_WORK"
	workSubject = "sebs.v1.work.invocation"
	// workSubjects are those of the whole stream: load shards go through it too.
	workSubjects = "sebs.v1.work.>"
	workDurable  = "invocations"
	stateBucket  = "SEBS_INVOCATIONS"
)

// Limits of the queue.
const (
	workMaxAge  = 24 * time.Hour
	stateMaxAge = 7 * 24 * time.Hour
	workMax     = 2 << 30
	// ackWait is how long an invoker may be silent before its invocation counts as lost or goes to another one.
	ackWait = 15 * time.Second
	// writeTimeout bounds the storing of a state.
	writeTimeout = 30 * time.Second
	// settleTimeout bounds the storing of a result, also through a time without the bus.
	settleTimeout = 10 * time.Minute
	// lastWrite bounds the storing of a call that was given up because the process ends.
	lastWrite  = 2 * time.Second
	writePause = 500 * time.Millisecond
	maxWait    = 15 * time.Minute
)

// Bus is what the queue needs of the event bus.
type Bus interface {
	EnsureQueue(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
	PublishMsg(ctx context.Context, msg *nats.Msg, msgID string) error
	Consume(ctx context.Context, spec events.Consumer, handle func(context.Context, events.Message) error) error
	JetStream() jetstream.JetStream
}

// Queue keeps asynchronous invocations and works on them. Their states stand in a key-value bucket of JetStream, so any
// invoker answers for all.
type Queue struct {
	invoker *Invoker
	bus     Bus
	ackWait time.Duration
	// hard ends calls that are in flight although the invoker's grace is over.
	hard context.Context

	mu     sync.Mutex
	states jetstream.KeyValue
}

// NewQueue returns the queue of an invoker. The calls that it takes end with hard at the latest.
func NewQueue(hard context.Context, invoker *Invoker, bus Bus, options QueueOptions) *Queue {
	if options.AckWait <= 0 {
		options.AckWait = ackWait
	}
	return &Queue{invoker: invoker, bus: bus, hard: hard, ackWait: options.AckWait}
}

// QueueOptions adjust a queue. The zero value is good.
type QueueOptions struct {
	// AckWait is how long an invoker may be silent before its invocation counts as lost or goes to another one; 15 s if 0.
	AckWait time.Duration
}

// prepare makes the queue and the bucket of states where they are missing.
func (q *Queue) prepare(ctx context.Context) (jetstream.KeyValue, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.states != nil {
		return q.states, nil
	}
	if _, err := q.bus.EnsureQueue(ctx, jetstream.StreamConfig{
		Name:        workStream,
		Description: "work that any invoker takes",
		Subjects:    []string{workSubjects},
		MaxAge:      workMaxAge,
		MaxBytes:    workMax,
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	states, err := q.bus.JetStream().CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:      stateBucket,
		Description: "states and results of asynchronous invocations",
		History:     1,
		TTL:         stateMaxAge,
		MaxBytes:    workMax,
		Storage:     jetstream.FileStorage,
	})
	if err != nil {
		return nil, unavailable("open the states of invocations", err)
	}
	q.states = states
	return states, nil
}

func unavailable(op string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return errs.Unavailable(events.ReasonUnavailable,
		"%s: the event bus (NATS JetStream) does not answer; look whether it runs and whether nats.urls is right", op).Wrap(err)
}

// Create queues an invocation. The same request id with the same trigger answers the same invocation.
func (q *Queue) Create(ctx context.Context, request *invokerv1.CreateInvocationRequest) (*invokerv1.Invocation, error) {
	// The plan finds what is wrong with the request before anything is queued.
	t, err := q.plan(ctx, request)
	if err != nil {
		return nil, err
	}
	states, err := q.prepare(ctx)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	if request.GetRequestId() != "" {
		sum := sha256.Sum256([]byte(request.GetTrigger() + "\x00" + request.GetRequestId()))
		id = hex.EncodeToString(sum[:16])
	}
	request = proto.CloneOf(request)
	if len(request.GetPayloadJson()) > inlineBytes {
		if request.PayloadRef, err = q.invoker.payloads.store(ctx, "payloads/"+id+".json", []byte(request.GetPayloadJson())); err != nil {
			return nil, err
		}
		request.PayloadJson = ""
	}
	now := timestamppb.Now()
	invocation := &invokerv1.Invocation{
		Name: "invocations/" + id, Trigger: request.GetTrigger(), State: invokerv1.Invocation_STATE_QUEUED, CreateTime: now, UpdateTime: now,
	}
	raw, err := proto.Marshal(invocation)
	if err != nil {
		return nil, errs.Internal(fmt.Errorf("encode %s: %w", invocation.GetName(), err))
	}
	if _, err := states.Create(ctx, id, raw); err != nil {
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return nil, unavailable("queue the invocation", err)
		}
		if invocation, _, err = q.read(ctx, states, id); err != nil || invocation.GetState() != invokerv1.Invocation_STATE_QUEUED {
			return invocation, err
		}
		// The process may have died between the two writes: the work is queued again, and taken once.
	}
	work := &invokerv1.InvocationWork{
		Invocation: invocation.GetName(), Request: request, CreateTime: now, TriggerType: t.target.Trigger.GetType(),
	}
	msg := nats.NewMsg(workSubject)
	events.Inject(ctx, msg.Header)
	if msg.Data, err = proto.Marshal(work); err != nil {
		return nil, errs.Internal(fmt.Errorf("encode %s: %w", invocation.GetName(), err))
	}
	if err := q.bus.PublishMsg(ctx, msg, invocation.GetName()); err != nil {
		return nil, fmt.Errorf("queue the invocation: %w", err)
	}
	return invocation, nil
}

func (q *Queue) plan(ctx context.Context, request *invokerv1.CreateInvocationRequest) (task, error) {
	return q.invoker.plan(ctx, asked{
		trigger: request.GetTrigger(), payloadJSON: request.GetPayloadJson(), payloadRef: request.GetPayloadRef(),
		run: request.GetRun(), timeout: request.GetTimeout().AsDuration(), platformAsync: request.GetPlatformAsync(),
	})
}

// read returns a state and its revision.
func (q *Queue) read(ctx context.Context, states jetstream.KeyValue, id string) (*invokerv1.Invocation, uint64, error) {
	entry, err := states.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return nil, 0, errs.NotFound("INVOCATION_NOT_FOUND",
			"invocations/%s does not exist; queued invocations are kept for %s", id, stateMaxAge).Resource("sebs.Invocation", "invocations/"+id)
	}
	if err != nil {
		return nil, 0, unavailable("read invocations/"+id, err)
	}
	invocation, err := decodeInvocation(entry)
	return invocation, entry.Revision(), err
}

func decodeInvocation(entry jetstream.KeyValueEntry) (*invokerv1.Invocation, error) {
	invocation := &invokerv1.Invocation{}
	if err := proto.Unmarshal(entry.Value(), invocation); err != nil {
		return nil, errs.DataLoss("INVOCATION_MALFORMED", "the state of invocations/%s is not readable: %v", entry.Key(), err)
	}
	return invocation, nil
}

func parseInvocation(name string) (string, error) {
	id, ok := strings.CutPrefix(name, "invocations/")
	if !ok || id == "" || strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) {
		return "", errs.Fields(errs.Field("name", "%q is not of the form invocations/{id}", name))
	}
	return id, nil
}

func ended(state invokerv1.Invocation_State) bool {
	switch state {
	case invokerv1.Invocation_STATE_DONE, invokerv1.Invocation_STATE_CANCELLED, invokerv1.Invocation_STATE_LOST:
		return true
	default:
		return false
	}
}

// Get returns an invocation, at its end or when the wait is over.
func (q *Queue) Get(ctx context.Context, name string, wait time.Duration) (*invokerv1.Invocation, error) {
	id, err := parseInvocation(name)
	if err != nil {
		return nil, err
	}
	if wait < 0 || wait > maxWait {
		return nil, errs.Fields(errs.Field("wait", "must be between 0 and %s, not %s", maxWait, wait))
	}
	states, err := q.prepare(ctx)
	if err != nil {
		return nil, err
	}
	invocation, _, err := q.read(ctx, states, id)
	if err != nil || wait == 0 || ended(invocation.GetState()) {
		return invocation, err
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	watch, err := states.Watch(limited, id)
	if err != nil {
		return nil, unavailable("wait for "+name, err)
	}
	defer func() { _ = watch.Stop() }()
	for {
		select {
		case entry, ok := <-watch.Updates():
			if !ok {
				return invocation, nil
			}
			if entry == nil {
				continue
			}
			if invocation, err = decodeInvocation(entry); err != nil || ended(invocation.GetState()) {
				return invocation, err
			}
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return invocation, nil
		}
	}
}

// Cancel takes an invocation out of the queue that no invoker has taken.
func (q *Queue) Cancel(ctx context.Context, name string) (*invokerv1.Invocation, error) {
	id, err := parseInvocation(name)
	if err != nil {
		return nil, err
	}
	states, err := q.prepare(ctx)
	if err != nil {
		return nil, err
	}
	for {
		invocation, revision, err := q.read(ctx, states, id)
		if err != nil {
			return nil, err
		}
		switch invocation.GetState() {
		case invokerv1.Invocation_STATE_CANCELLED:
			return invocation, nil
		case invokerv1.Invocation_STATE_QUEUED:
		default:
			return nil, errs.FailedPrecondition("INVOCATION_TAKEN",
				"%s was taken by an invoker already (it is %s) and cannot be cancelled", name, stateWord(invocation.GetState()))
		}
		invocation.State = invokerv1.Invocation_STATE_CANCELLED
		won, err := q.swap(ctx, states, id, revision, invocation)
		if err != nil {
			return nil, err
		}
		if won {
			return invocation, nil
		}
	}
}

func stateWord(state invokerv1.Invocation_State) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "STATE_"))
}

// swap writes a state if nobody wrote it since; false if somebody did.
func (q *Queue) swap(ctx context.Context, states jetstream.KeyValue, id string, revision uint64, invocation *invokerv1.Invocation) (bool, error) {
	invocation.UpdateTime = timestamppb.Now()
	raw, err := proto.Marshal(invocation)
	if err != nil {
		return false, errs.Internal(fmt.Errorf("encode %s: %w", invocation.GetName(), err))
	}
	_, err = states.Update(ctx, id, raw, revision)
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return false, nil
	}
	if err != nil {
		return false, unavailable("store "+invocation.GetName(), err)
	}
	return true, nil
}

// Work takes invocations from the queue until ctx ends, and then waits for those in flight.
func (q *Queue) Work(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := q.prepare(ctx)
		if err == nil {
			return q.bus.Consume(ctx, events.Consumer{
				Stream: workStream, Durable: workDurable, Subjects: []string{workSubject},
				Concurrency: q.invoker.capacity, AckWait: q.ackWait,
			}, q.handle)
		}
		q.invoker.log.Warn("the queue of invocations cannot be opened; trying again", "error", err)
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// handle makes the call of one message.
func (q *Queue) handle(ctx context.Context, message events.Message) error {
	work := &invokerv1.InvocationWork{}
	if err := proto.Unmarshal(message.Data, work); err != nil {
		return fmt.Errorf("read a queued invocation: %w: %w", err, events.ErrDrop)
	}
	id, err := parseInvocation(work.GetInvocation())
	if err != nil {
		return fmt.Errorf("read a queued invocation: %w: %w", err, events.ErrDrop)
	}
	q.invoker.working.Add(1)
	defer q.invoker.working.Done()
	leave, err := q.invoker.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	// A call that was begun is ended and stored although the process stops: it is given up only at the hard end.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(q.hard, cancel)()
	states, err := q.prepare(ctx)
	if err != nil {
		return err
	}
	attempt, err := q.claim(ctx, states, id, work)
	if err != nil || attempt == 0 {
		return err
	}
	record := q.attempt(ctx, work, attempt)
	if q.hard.Err() != nil {
		// The call was given up; its record says so, and is stored if that is quick.
		var end context.CancelFunc
		ctx, end = context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
		defer end()
	}
	return q.settle(ctx, states, id, func(invocation *invokerv1.Invocation) bool {
		if ended(invocation.GetState()) || invocation.GetAttempt() != attempt {
			return false
		}
		if record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED && attempt < work.GetRequest().GetMaxAttempts() {
			invocation.State = invokerv1.Invocation_STATE_QUEUED
			return true
		}
		invocation.State, invocation.Record = invokerv1.Invocation_STATE_DONE, record
		return true
	})
}

// claim marks an invocation as taken and returns the number of the attempt, from 1; 0 means that there is nothing to do.
func (q *Queue) claim(ctx context.Context, states jetstream.KeyValue, id string, work *invokerv1.InvocationWork) (int32, error) {
	for {
		invocation, revision, err := q.read(ctx, states, id)
		if err != nil {
			if errs.Is(err, codes.NotFound) {
				return 0, fmt.Errorf("%w: %w", err, events.ErrDrop)
			}
			return 0, err
		}
		if ended(invocation.GetState()) {
			return 0, nil
		}
		// Found running, the message was delivered again: the invoker that had it is gone.
		if invocation.GetState() == invokerv1.Invocation_STATE_RUNNING && invocation.GetAttempt() >= max(work.GetRequest().GetMaxAttempts(), 1) {
			invocation.State = invokerv1.Invocation_STATE_LOST
			invocation.Record = lostRecord(work, invocation.GetAttempt())
			won, err := q.swap(ctx, states, id, revision, invocation)
			if err != nil {
				return 0, err
			}
			if won {
				if invocation.GetRecord().GetRun() != "" {
					q.invoker.results.Add(invocation.GetRecord())
				}
				return 0, nil
			}
			continue
		}
		invocation.State = invokerv1.Invocation_STATE_RUNNING
		invocation.Attempt++
		won, err := q.swap(ctx, states, id, revision, invocation)
		if err != nil {
			return 0, err
		}
		if won {
			return invocation.GetAttempt(), nil
		}
	}
}

// lostRecord tells of a call of which nobody knows whether it was made.
func lostRecord(work *invokerv1.InvocationWork, attempt int32) *typev1.InvocationRecord {
	record := &typev1.InvocationRecord{
		Run:             work.GetRequest().GetRun(),
		Trigger:         work.GetTriggerType(),
		Attempt:         attempt,
		ScheduledUnixNs: work.GetCreateTime().AsTime().UnixNano(),
		ErrorClass:      typev1.ErrorClass_ERROR_CLASS_UNKNOWN,
		ErrorMessage:    "the invoker that had taken the invocation was lost before it reported; it is not known whether the function ran",
		Result: &typev1.ExecutionResult{
			RequestId: "failed-" + strings.TrimPrefix(work.GetInvocation(), "invocations/"),
			Stats:     &typev1.ExecutionStats{Failure: true},
		},
	}
	if name, err := parseTrigger(work.GetRequest().GetTrigger()); err == nil {
		record.Function = name.Parent().String()
	}
	return record
}

// attempt makes the call. What is wrong by now, such as a function that is gone, is a record too.
func (q *Queue) attempt(ctx context.Context, work *invokerv1.InvocationWork, attempt int32) *typev1.InvocationRecord {
	t, err := q.plan(ctx, work.GetRequest())
	if err != nil {
		record := lostRecord(work, attempt)
		record.Invoker = q.invoker.id
		record.ErrorClass, record.ErrorMessage = typev1.ErrorClass_ERROR_CLASS_PLATFORM, errs.ToStatus(err).Message()
		if record.GetRun() != "" {
			q.invoker.results.Add(record)
		}
		return record
	}
	t.identity.Attempt = attempt
	t.identity.Scheduled = work.GetCreateTime().AsTime()
	return q.invoker.perform(ctx, t)
}

// settle changes a state until the change is stored; change answers false where nothing is to be done. It tries again while
// the bus is away, so that a result is not lost.
func (q *Queue) settle(ctx context.Context, states jetstream.KeyValue, id string, change func(*invokerv1.Invocation) bool) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		invocation, revision, err := q.read(ctx, states, id)
		if errs.Is(err, codes.NotFound) {
			return fmt.Errorf("%w: %w", err, events.ErrDrop)
		}
		if err == nil {
			if !change(invocation) {
				return nil
			}
			var won bool
			if won, err = q.swap(ctx, states, id, revision, invocation); won {
				if invocation.GetState() == invokerv1.Invocation_STATE_QUEUED {
					return errs.Unavailable("ATTEMPT_FAILED", "attempt %d of invocations/%s failed; another one follows", invocation.GetAttempt(), id)
				}
				return nil
			}
			if err == nil {
				continue
			}
		}
		timer := time.NewTimer(writePause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}
