package ratelimit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

const (
	testKey = "AKIAEXAMPLE"
	testAPI = "cloudwatch logs"
)

func startEtcd(t *testing.T) *etcd.Server {
	t.Helper()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	return server
}

func connect(t *testing.T, endpoint string) *cache.Store {
	t.Helper()
	store, err := cache.Open(cache.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	return store
}

func always(limit Limit) func(string) Limit { return func(string) Limit { return limit } }

// tally counts what is granted and checks it against the bound at each grant.
type tally struct {
	limit Limit
	began time.Time

	mu    sync.Mutex
	count int
	over  []string
}

func (c *tally) grant() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	// The grant itself was earlier than this, so the bound that is computed here is not too low.
	if most := c.limit.PerSecond*time.Since(c.began).Seconds() + float64(c.limit.Burst); float64(c.count) > most {
		c.over = append(c.over, time.Since(c.began).String())
	}
	return c.count
}

func TestProcessesShareOneRate(t *testing.T) {
	t.Parallel()
	server := startEtcd(t)
	limit := Limit{PerSecond: 100, Burst: 10}
	const processes, callers, wanted = 4, 8, 150
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := &tally{limit: limit, began: time.Now()}
	var all sync.WaitGroup
	each := make([]int, processes)
	for i := range processes {
		limiter := New(connect(t, server.Endpoint()), "aws", always(limit), slog.New(slog.DiscardHandler))
		for range callers {
			all.Go(func() {
				for limiter.Wait(ctx, testKey, testAPI) == nil {
					n := count.grant()
					count.mu.Lock()
					each[i]++
					// Every process has its turn at some time.
					enough := n >= wanted && !slices.Contains(each, 0)
					count.mu.Unlock()
					if enough {
						cancel()
					}
				}
			})
		}
	}
	all.Wait()
	if len(count.over) > 0 {
		t.Errorf("more than the rate and the burst after %v", count.over)
	}
	if count.count < wanted {
		t.Errorf("%d grants, want %d", count.count, wanted)
	}
}

func TestBucketsNameNoKey(t *testing.T) {
	t.Parallel()
	server := startEtcd(t)
	store := connect(t, server.Endpoint())
	limiter := New(store, "aws", always(Limit{PerSecond: 1000, Burst: 10}), slog.New(slog.DiscardHandler))
	for _, key := range []string{testKey, "AKIAOTHER", testKey} {
		if err := limiter.Wait(t.Context(), key, testAPI); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.Client().Get(t.Context(), store.Key("ratelimits/aws/"+account(testKey)+"/cloudwatch-logs"))
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
		t.Fatalf("the bucket is %v (%v), want it under a lease", got, err)
	}
	buckets := 0
	err = store.List(t.Context(), "ratelimits/", func(key string, _ int64, raw []byte) error {
		buckets++
		if strings.Contains(key+string(raw), "AKIA") {
			t.Errorf("%s = %s holds the access key", key, raw)
		}
		return nil
	})
	if err != nil || buckets != 2 {
		t.Errorf("%d buckets (%v)", buckets, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := startEtcd(t)
	limiter := New(connect(t, server.Endpoint()), "aws", always(Limit{PerSecond: 0.001, Burst: 2}), slog.New(slog.DiscardHandler))
	if err := limiter.Wait(t.Context(), testKey, testAPI); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for i := range 3 {
		if err := limiter.Wait(ctx, testKey, testAPI); i > 0 && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait %d: %v", i, err)
		}
	}
	// Another account has a bucket of its own.
	if err := limiter.Wait(t.Context(), "AKIAOTHER", testAPI); err != nil {
		t.Error(err)
	}
}

func TestNoBoundAsksNobody(t *testing.T) {
	t.Parallel()
	limiter := New(nil, "aws", always(Limit{}), slog.New(slog.DiscardHandler))
	for range 1000 {
		if err := limiter.Wait(t.Context(), testKey, testAPI); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoesOnAloneWithAShare(t *testing.T) {
	t.Parallel()
	// Nobody listens there.
	var log bytes.Buffer
	limit := Limit{PerSecond: 400, Burst: 16}
	limiter := New(connect(t, "http://127.0.0.1:1"), "aws", always(limit), slog.New(slog.NewTextHandler(&log, nil)))
	count := &tally{limit: limit.share(), began: time.Now()}
	for range 30 {
		if err := limiter.Wait(t.Context(), testKey, testAPI); err != nil {
			t.Fatal(err)
		}
		count.grant()
	}
	if len(count.over) > 0 {
		t.Errorf("more than the share after %v", count.over)
	}
	if n := strings.Count(log.String(), "rates are not shared"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// TestTokensKeepTheBound checks the arithmetic: of the tokens that random takers get, used as late as they may be, no
// stretch of time has more than the rate and the burst allow.
func TestTokensKeepTheBound(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		limit := Limit{PerSecond: 0.5 + 200*random.Float64(), Burst: 2 + random.IntN(30)}
		now := time.Unix(1_700_000_000, 0)
		var until time.Time
		var used []time.Time
		for range 100 {
			now = now.Add(time.Duration(random.ExpFloat64() * float64(3*limit.interval())))
			var slots []time.Time
			slots, until = limit.take(until, now, 1+random.IntN(maxBatch))
			for _, slot := range slots {
				if slot.Before(now) || slot.After(now.Add(horizon)) {
					t.Fatalf("seed %d: at %s a token for %s", seed, now, slot)
				}
				// Late or not, but the order stays.
				at := slot.Add(time.Duration(random.Float64() * float64(limit.grace())))
				if n := len(used); n > 0 && at.Before(used[n-1]) {
					at = used[n-1]
				}
				used = append(used, at)
			}
		}
		// With n the number of tokens before a time t, the tokens between two times are n₂ - n₁, and at most
		// rate × (t₂ - t₁) + burst: so n - rate × t rises by no more than the burst.
		lowest := math.Inf(1)
		for n, at := range used {
			spent := limit.PerSecond * at.Sub(used[0]).Seconds()
			lowest = min(lowest, float64(n)-spent)
			if over := float64(n+1) - spent - lowest - float64(limit.Burst); over > 1e-6 {
				t.Fatalf("seed %d, %+v: %g tokens too many up to number %d", seed, limit, over, n)
			}
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add(int64(0), int64(1_700_000_000), 3, 15.0, 15)
	f.Fuzz(func(t *testing.T, until, now int64, n int, rate float64, burst int) {
		if !(rate >= 1e-3 && rate <= 1e6) || burst < 2 || burst > 1000 || n < 0 || n > 100 || until < 0 || until > 1<<33 || now < 0 || now > 1<<33 {
			return
		}
		at := time.Unix(now, 0)
		slots, next := Limit{PerSecond: rate, Burst: burst}.take(time.Unix(until, 0), at, n)
		for i, slot := range slots {
			if slot.Before(at) || slot.After(at.Add(horizon)) || i > 0 && slot.Before(slots[i-1]) {
				t.Errorf("slots %v", slots)
			}
		}
		if len(slots) > n || next.Before(time.Unix(until, 0)) {
			t.Errorf("%d of %d tokens, until %s after %s", len(slots), n, next, time.Unix(until, 0))
		}
	})
}
