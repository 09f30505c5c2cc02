package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	lockTTL = 15 * time.Second
	// releaseTimeout bounds giving a lease back; after it the lease's own time to live does it.
	releaseTimeout = 3 * time.Second
	retryPause     = 500 * time.Millisecond
)

// Lock waits until nobody in the whole system holds locks/<what>, and takes it. It waits as long as ctx allows. The lock
// is kept alive until unlock is called, also after ctx ended, and falls free 15 s after this process died.
func (s *Store) Lock(ctx context.Context, what string) (unlock func(), err error) {
	_, unlock, err = s.LockContext(ctx, what)
	return unlock, err
}

// LockContext is [Store.Lock] that returns a context as well, which ends when the lock is lost because etcd was away for
// longer than the lease lives.
func (s *Store) LockContext(ctx context.Context, what string) (held context.Context, unlock func(), err error) {
	key := "locks/" + what
	if err := checkKey(key); err != nil {
		return nil, nil, err
	}
	grantCtx, cancelGrant := bound(ctx)
	lease, err := s.client.Grant(grantCtx, int64(lockTTL/time.Second))
	cancelGrant()
	if err != nil {
		return nil, nil, Classify("lock "+what, err)
	}
	session, err := concurrency.NewSession(s.client, concurrency.WithLease(lease.ID), concurrency.WithContext(s.life))
	if err != nil {
		return nil, nil, Classify("lock "+what, err)
	}
	release := func() {
		session.Orphan()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_, _ = s.client.Revoke(ctx, lease.ID)
	}
	mutex := concurrency.NewMutex(session, s.Key(key))
	if err := mutex.Lock(ctx); err != nil {
		release()
		return nil, nil, lockError(ctx, what, err)
	}
	held, lost := context.WithCancelCause(ctx)
	s.owned.Go(func() {
		select {
		case <-session.Done():
			lost(errs.Aborted("LOCK_LOST", "the lock %s was lost", what))
		case <-held.Done():
		}
	})
	var once sync.Once
	return held, func() {
		once.Do(func() {
			lost(context.Canceled)
			release()
		})
	}, nil
}

func lockError(ctx context.Context, what string, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errs.DeadlineExceeded("LOCK_HELD", "lock %s: another request still holds it", what)
	}
	return Classify("lock "+what, err)
}

// Registration is a record that lives as long as its process: it is gone a time to live after the process died, and comes
// back when etcd does.
type Registration struct {
	store *Store
	key   string
	ttl   time.Duration
	stop  context.CancelFunc
	done  chan struct{}

	mu    sync.Mutex
	value string
	lease clientv3.LeaseID
}

// Register writes a record under a lease of ttl (at least one second) and keeps it alive until Close.
func (s *Store) Register(ctx context.Context, key string, m proto.Message, ttl time.Duration) (*Registration, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	value, err := Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", key, err)
	}
	life, stop := context.WithCancel(s.life)
	r := &Registration{store: s, key: key, ttl: max(ttl, time.Second), stop: stop, done: make(chan struct{}), value: string(value)}
	alive, err := r.grant(ctx, life)
	if err != nil {
		stop()
		return nil, err
	}
	s.owned.Go(func() { r.keep(life, alive) })
	return r, nil
}

// Update replaces the record's value.
func (r *Registration) Update(ctx context.Context, m proto.Message) error {
	value, err := Marshal(m)
	if err != nil {
		return fmt.Errorf("update %s: %w", r.key, err)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.value = string(value)
	_, err = r.store.client.Put(ctx, r.store.Key(r.key), r.value, clientv3.WithLease(r.lease))
	return Classify("update "+r.key, err)
}

// Close removes the record.
func (r *Registration) Close(ctx context.Context) error {
	r.stop()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unregister %s: %w", r.key, context.Cause(ctx))
	}
}

// grant takes a lease and writes the record under it. The keep-alive channel lives as long as life.
func (r *Registration) grant(ctx, life context.Context) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	lease, err := r.store.client.Grant(ctx, int64(r.ttl/time.Second))
	if err != nil {
		return nil, Classify("register "+r.key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.store.client.Put(ctx, r.store.Key(r.key), r.value, clientv3.WithLease(lease.ID)); err != nil {
		return nil, Classify("register "+r.key, err)
	}
	r.lease = lease.ID
	alive, err := r.store.client.KeepAlive(life, lease.ID)
	if err != nil {
		return nil, Classify("register "+r.key, err)
	}
	return alive, nil
}

// keep drains the keep-alive channel and registers again whenever the lease was lost.
func (r *Registration) keep(life context.Context, alive <-chan *clientv3.LeaseKeepAliveResponse) {
	defer close(r.done)
	for {
		if alive != nil {
			// The answers carry nothing that is needed; the channel closes when the lease is lost.
			for range alive {
				continue
			}
		}
		if life.Err() != nil {
			r.release(life)
			return
		}
		var err error
		if alive, err = r.grant(life, life); err == nil {
			continue
		}
		alive = nil
		select {
		case <-life.Done():
		case <-time.After(retryPause):
		}
	}
}

// release revokes the lease, which removes the record at once.
func (r *Registration) release(life context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(life), releaseTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.store.client.Revoke(ctx, r.lease)
}

// Increment adds one to a counter and returns the new value. A counter that is not there counts from 0.
func (s *Store) Increment(ctx context.Context, key string) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	for {
		got, err := s.client.Get(ctx, s.Key(key))
		if err != nil {
			return 0, Classify("count "+key, err)
		}
		var value, rev int64
		if len(got.Kvs) > 0 {
			rev = got.Kvs[0].ModRevision
			if value, err = strconv.ParseInt(strings.TrimSpace(string(got.Kvs[0].Value)), 10, 64); err != nil {
				return 0, errs.DataLoss(ReasonBadValue, "count %s: the record is no number", key)
			}
		}
		value++
		answer, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(s.Key(key)), "=", rev)).
			Then(clientv3.OpPut(s.Key(key), strconv.FormatInt(value, 10))).
			Commit()
		if err != nil {
			return 0, Classify("count "+key, err)
		}
		if answer.Succeeded {
			return value, nil
		}
	}
}
