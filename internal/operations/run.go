package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	writeTimeout = 10 * time.Second
	// finishTimeout bounds the attempts to store a result while etcd is away; after it the owner's lease is long gone and
	// another replica decides.
	finishTimeout = 2 * time.Minute
	finishPause   = 300 * time.Millisecond
)

// Causes of the end of a run's context.
var (
	errCancelled = errors.New("the operation was cancelled")
	errStopping  = errors.New("the process stops")
	errLost      = errors.New("another process owns the operation")
)

// Cancelled reports whether the context of a run ended because the operation was cancelled, and not because its process
// stops, in which case another one takes it up.
func Cancelled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errCancelled)
}

// Handle is what a running operation sees of itself.
type Handle struct {
	manager *Manager
	cancel  context.CancelCauseFunc
	wake    chan struct{}

	// write guards the record and its revision while they are stored.
	write sync.Mutex
	rec   *record
	rev   int64

	mu      sync.Mutex
	pending proto.Message
}

// Name returns the operation's name, such as operations/builder-0198….
func (h *Handle) Name() string { return h.rec.Name }

// Attempt counts from 1 how often the operation was taken up.
func (h *Handle) Attempt() int { return h.rec.Attempt }

// Update replaces the metadata that clients see. It returns at once; updates that come faster than the manager's interval
// are merged, the last one counts.
func (h *Handle) Update(metadata proto.Message) {
	h.mu.Lock()
	h.pending = proto.Clone(metadata)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// launch runs an operation in a goroutine of its own.
func (m *Manager) launch(ctx context.Context, rec *record, rev int64, run Run) error {
	runCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	h := &Handle{manager: m, cancel: cancel, wake: make(chan struct{}, 1), rec: rec, rev: rev}
	m.mu.Lock()
	if m.stopping {
		m.mu.Unlock()
		cancel(errStopping)
		h.finish(context.WithoutCancel(ctx), nil, errs.Unavailable(ReasonStopping, "the service stops; repeat the request"))
		return errs.Unavailable(ReasonStopping, "the service stops; repeat the request")
	}
	m.handles[rec.Name] = h
	m.running.Add(1)
	m.mu.Unlock()
	go func() {
		defer m.running.Done()
		defer func() {
			m.mu.Lock()
			delete(m.handles, rec.Name)
			m.mu.Unlock()
			cancel(nil)
		}()
		h.work(runCtx, run)
	}()
	return nil
}

// work runs the function while a second goroutine stores its progress, then stores the result.
func (h *Handle) work(ctx context.Context, run Run) {
	progress, stop := context.WithCancel(ctx)
	var flushing sync.WaitGroup
	flushing.Go(func() { h.flush(progress) })
	response, err := h.call(ctx, run)
	stop()
	flushing.Wait()
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errLost):
		h.manager.cfg.Log.Warn("an operation was taken over by another process; its result here is dropped", "operation", h.rec.Name)
		return
	case err != nil && errors.Is(cause, errStopping) && h.manager.resumable(h.rec):
		// Left as it is: the owner's registration ends now and another replica takes the operation up.
		return
	case err != nil && errors.Is(cause, errStopping):
		err = errs.Unavailable(ReasonOwnerLost, "the process that ran the operation stopped; start it again").Wrap(err)
	case err != nil && errors.Is(cause, errCancelled):
		err = errs.Canceled(ReasonCancelled, "the operation was cancelled").Wrap(err)
	}
	h.finish(context.WithoutCancel(ctx), response, err)
}

// call runs the function and turns a panic into an error.
func (h *Handle) call(ctx context.Context, run Run) (response proto.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.manager.cfg.Log.Error("an operation panicked", "operation", h.rec.Name, "panic", p, "stack", string(debug.Stack()))
			err = errs.Internal(fmt.Errorf("panic: %v", p))
		}
	}()
	return run(ctx, h)
}

// flush stores progress when there is new one, not more often than the interval.
func (h *Handle) flush(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		if err := h.store(ctx); errors.Is(err, errLost) {
			h.cancel(errLost)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(h.manager.cfg.UpdateInterval):
		}
	}
}

// takePending moves the latest progress into the record.
func (h *Handle) takePending() error {
	h.mu.Lock()
	metadata := h.pending
	h.pending = nil
	h.mu.Unlock()
	if metadata == nil {
		return nil
	}
	packed, err := pack(metadata)
	if err != nil {
		return err
	}
	h.rec.Metadata = packed
	return nil
}

// store writes the record if this process still owns it.
func (h *Handle) store(ctx context.Context, more ...clientv3.Op) error {
	h.write.Lock()
	defer h.write.Unlock()
	if err := h.takePending(); err != nil {
		return err
	}
	rev, err := h.manager.replace(ctx, h.rec, h.rev, more...)
	if err != nil {
		return err
	}
	h.rev = rev
	return nil
}

// replace writes a record whose revision is rev; errLost if somebody else wrote it.
func (m *Manager) replace(ctx context.Context, rec *record, rev int64, more ...clientv3.Op) (int64, error) {
	raw, err := json.Marshal(rec)
	if err != nil {
		return 0, errs.Internal(err)
	}
	key := m.store.Key(keyOperations + strings.TrimPrefix(rec.Name, namePrefix))
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	answer, err := m.store.Client().Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
		Then(append([]clientv3.Op{clientv3.OpPut(key, string(raw))}, more...)...).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return 0, cache.Classify("store "+rec.Name, err)
	}
	if answer.Succeeded {
		return answer.Header.Revision, nil
	}
	// An answer that was lost on the way back may have been written: then the record is ours as it stands.
	for _, kv := range answer.Responses[0].GetResponseRange().GetKvs() {
		if string(kv.Value) == string(raw) {
			return kv.ModRevision, nil
		}
		if found, err := decode(kv.Value); err == nil && found.Owner == rec.Owner && found.Attempt == rec.Attempt && !found.Done {
			return m.replace(ctx, rec, kv.ModRevision, more...)
		}
	}
	return 0, errLost
}

// finish stores the result and tries again while etcd is away.
func (h *Handle) finish(ctx context.Context, response proto.Message, failure error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	h.conclude(response, failure)
	id := strings.TrimPrefix(h.rec.Name, namePrefix)
	gone := []clientv3.Op{
		clientv3.OpDelete(h.manager.store.Key(keyActive + id)),
		clientv3.OpDelete(h.manager.store.Key(keyCancel + id)),
	}
	for {
		err := h.store(ctx, gone...)
		if err == nil || errors.Is(err, errLost) {
			return
		}
		h.manager.cfg.Log.Warn("storing the result of an operation failed; trying again", "operation", h.rec.Name, "error", err)
		if errs.Reason(err) == cache.ReasonTooLarge {
			h.conclude(nil, errs.Internal(fmt.Errorf("the result of %s is too large for etcd", h.rec.Name)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(finishPause):
		}
	}
}

// conclude sets the record to done.
func (h *Handle) conclude(response proto.Message, failure error) {
	h.write.Lock()
	defer h.write.Unlock()
	log := h.manager.cfg.Log
	now := time.Now().UTC()
	h.rec.Done, h.rec.Ended, h.rec.Expires = true, now, now.Add(h.manager.cfg.Retention)
	h.rec.Request, h.rec.Response, h.rec.Error = value{}, value{}, value{}
	if failure == nil && response == nil {
		failure = errs.Internal(fmt.Errorf("the operation %s ended without a result", h.rec.Kind))
	}
	var err error
	if failure == nil {
		if h.rec.Response, err = pack(response); err == nil {
			return
		}
		failure = err
	}
	log.Warn("an operation failed", "operation", h.rec.Name, "kind", h.rec.Kind, "error", failure)
	if h.rec.Error, err = pack(errs.ToStatus(failure).Proto()); err != nil {
		log.Error("the error of an operation cannot be stored", "operation", h.rec.Name, "error", err)
	}
}

// resumable reports whether another replica can take an operation up.
func (m *Manager) resumable(rec *record) bool {
	return m.resumer(rec) != nil && !rec.Request.empty()
}

func (m *Manager) resumer(rec *record) Resume {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.resumes[rec.Service+"/"+rec.Kind]; f != nil {
		return f
	}
	return m.resumes[rec.Kind]
}
