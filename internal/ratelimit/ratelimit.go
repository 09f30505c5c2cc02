package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// maxBatch bounds the tokens that a process takes at once.
	maxBatch = 16
	// horizon is how far in the future the tokens of a batch may lie. What a process that dies had taken is lost.
	horizon = 2 * time.Second
	// leaseLife is how long a bucket is kept after its last use, and leaseUse how long one lease serves new uses.
	leaseLife = 5 * time.Minute
	leaseUse  = time.Minute
	// storeTimeout bounds a question to etcd, and alone is how long a process goes without it after it failed.
	storeTimeout = time.Second
	alone        = 5 * time.Second
	// aloneShare is the part of the rate that a process takes while it is on its own: four of them keep the bound.
	aloneShare = 0.25
)

// Limiter is one process's view of the shared buckets. It is safe for concurrent use and needs no closing: it has no
// goroutines, and what it wrote goes by itself.
type Limiter struct {
	store *cache.Store
	group string
	limit func(api string) Limit
	log   *slog.Logger

	mu      sync.Mutex
	buckets map[string]*bucket

	lease struct {
		sync.Mutex
		id      clientv3.LeaseID
		granted time.Time
	}
	// away is when etcd failed last, in nanoseconds; 0 while it answers.
	away atomic.Int64
}

// bucket is what a process has of one shared bucket.
type bucket struct {
	key   string
	limit Limit
	// waiting is how many requests wait for a token.
	waiting atomic.Int64
	// turn is held by the one request that takes the next token.
	turn chan struct{}

	// The holder of turn owns what follows.
	slots []time.Time
	batch int
	// until and revision are the shared bucket as it was seen last.
	until    time.Time
	revision int64
	// ownUntil is the bucket of a process that is on its own.
	ownUntil time.Time
}

// New returns a limiter whose buckets lie in the store under the group's name, such as that of a platform. limit says what
// an API allows.
func New(store *cache.Store, group string, limit func(api string) Limit, log *slog.Logger) *Limiter {
	return &Limiter{store: store, group: group, limit: limit, log: log, buckets: make(map[string]*bucket)}
}

// account is what stands for an access key where others can read it.
func account(accessKey string) string {
	sum := sha256.Sum256([]byte(accessKey))
	return hex.EncodeToString(sum[:8])
}

// bucket returns the bucket of an account and an API; nil where there is no bound.
func (l *Limiter) bucket(accessKey, api string) *bucket {
	limit := l.limit(api)
	if limit.PerSecond <= 0 {
		return nil
	}
	limit.Burst = max(limit.Burst, 2)
	key := "ratelimits/" + l.group + "/" + account(accessKey) + "/" + strings.ReplaceAll(api, " ", "-")
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.buckets[key]; found != nil {
		return found
	}
	b := &bucket{key: key, limit: limit, batch: 1, turn: make(chan struct{}, 1)}
	l.buckets[key] = b
	return b
}

// Wait returns when one more request may be sent to an API in the name of an access key, or when ctx ends. The key itself
// goes nowhere: what is written has a part of its hash.
func (l *Limiter) Wait(ctx context.Context, accessKey, api string) error {
	b := l.bucket(accessKey, api)
	if b == nil {
		return ctx.Err()
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	slot, err := l.token(ctx, b)
	if err == nil {
		err = sleepUntil(ctx, slot)
	}
	if err != nil {
		return fmt.Errorf("wait for a turn to ask %s: %w", api, err)
	}
	return nil
}

// token returns the time of the next token.
func (l *Limiter) token(ctx context.Context, b *bucket) (time.Time, error) {
	select {
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	case b.turn <- struct{}{}:
	}
	defer func() { <-b.turn }()
	for {
		now := time.Now()
		for len(b.slots) > 0 {
			slot := b.slots[0]
			b.slots = b.slots[1:]
			if !slot.Add(b.limit.grace()).Before(now) {
				return slot, nil
			}
			// The token is void. Fewer at once would have done.
			b.batch = 1
		}
		wait, err := l.refill(ctx, b, now)
		if err != nil {
			return time.Time{}, err
		}
		if len(b.slots) > 0 {
			continue
		}
		if err := sleepUntil(ctx, now.Add(wait)); err != nil {
			return time.Time{}, err
		}
	}
}

// refill takes tokens. Where there are none within the horizon it returns how long to wait before the next try.
func (l *Limiter) refill(ctx context.Context, b *bucket, now time.Time) (time.Duration, error) {
	want := min(max(b.batch, int(b.waiting.Load())), maxBatch)
	b.batch = min(2*b.batch, maxBatch)
	if since := l.away.Load(); since == 0 || now.UnixNano()-since >= int64(alone) {
		slots, err := l.shared(ctx, b, want)
		switch {
		case err == nil:
			if l.away.Swap(0) != 0 {
				l.log.InfoContext(ctx, "rates are shared again", "group", l.group)
			}
			b.slots = slots
			// Others may have had the tokens up to the horizon; not all come back at the same moment.
			return b.limit.interval() + rand.N(b.limit.interval()), nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		}
		if l.away.Swap(now.UnixNano()) == 0 {
			l.log.WarnContext(ctx, "rates are not shared while etcd does not answer; this process goes on with a share of its own",
				"group", l.group, "share", aloneShare, "error", err)
		}
	}
	share := b.limit.share()
	b.slots, b.ownUntil = share.take(b.ownUntil, now, 1)
	return share.interval(), nil
}

// shared takes tokens out of the bucket in etcd.
func (l *Limiter) shared(ctx context.Context, b *bucket, want int) ([]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	lease, err := l.granted(ctx)
	if err != nil {
		return nil, err
	}
	key := l.store.Key(b.key)
	for {
		slots, until := b.limit.take(b.until, time.Now(), want)
		if len(slots) == 0 {
			// What is known of the bucket may be old: others' tokens are void by now, or the bucket is.
			got, err := l.store.Client().Get(ctx, key)
			if err != nil {
				return nil, cache.Classify("read "+b.key, err)
			}
			var changed bool
			if changed, err = b.seen(got); err != nil || !changed {
				return nil, err
			}
			continue
		}
		answer, err := l.store.Client().Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", b.revision)).
			Then(clientv3.OpPut(key, strconv.FormatInt(until.UnixNano(), 10), clientv3.WithLease(lease))).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			l.forget(lease)
			return nil, cache.Classify("take tokens of "+b.key, err)
		}
		if answer.Succeeded {
			b.until, b.revision = until, answer.Header.Revision
			return slots, nil
		}
		if _, err := b.seen((*clientv3.GetResponse)(answer.Responses[0].GetResponseRange())); err != nil {
			return nil, err
		}
	}
}

// seen notes the bucket as etcd has it, and answers whether that is new.
func (b *bucket) seen(got *clientv3.GetResponse) (bool, error) {
	before := b.revision
	b.until, b.revision = time.Time{}, 0
	if len(got.Kvs) > 0 {
		nanos, err := strconv.ParseInt(string(got.Kvs[0].Value), 10, 64)
		if err != nil {
			return false, errs.DataLoss(cache.ReasonBadValue, "the record %s is no number", b.key)
		}
		b.until, b.revision = time.Unix(0, nanos), got.Kvs[0].ModRevision
	}
	return b.revision != before, nil
}

// granted returns a lease under which a bucket lives long enough.
func (l *Limiter) granted(ctx context.Context) (clientv3.LeaseID, error) {
	l.lease.Lock()
	defer l.lease.Unlock()
	if l.lease.id != 0 && time.Since(l.lease.granted) < leaseUse {
		return l.lease.id, nil
	}
	lease, err := l.store.Client().Grant(ctx, int64(leaseLife/time.Second))
	if err != nil {
		return 0, cache.Classify("take a lease for rates", err)
	}
	l.lease.id, l.lease.granted = lease.ID, time.Now()
	return lease.ID, nil
}

// forget drops a lease that may be gone, as after etcd lost its data.
func (l *Limiter) forget(lease clientv3.LeaseID) {
	l.lease.Lock()
	defer l.lease.Unlock()
	if l.lease.id == lease {
		l.lease.id = 0
	}
}

// sleepUntil returns at a time, or when ctx ends.
func sleepUntil(ctx context.Context, at time.Time) error {
	pause := time.Until(at)
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
