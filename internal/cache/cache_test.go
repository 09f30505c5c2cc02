package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/errs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The log rotation of a dependency of the embedded server starts it at load.
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

func open(t *testing.T) *Store {
	t.Helper()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	return connect(t, server)
}

func connect(t *testing.T, server *etcd.Server) *Store {
	t.Helper()
	store, err := Open(Config{Endpoints: []string{server.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	return store
}

func text(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

func TestRecords(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	got := text("")
	if _, err := s.Get(ctx, "functions/a", got); !errs.Is(err, codes.NotFound) {
		t.Fatalf("reading what is not there: %v", err)
	}
	rev, err := s.Create(ctx, "functions/a", text("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "functions/a", text("2")); !errs.Is(err, codes.AlreadyExists) {
		t.Fatalf("creating twice: %v", err)
	}
	next, err := s.CompareAndSwap(ctx, "functions/a", rev, text("3"))
	if err != nil || next <= rev {
		t.Fatalf("swap: revision %d after %d, %v", next, rev, err)
	}
	if _, err := s.CompareAndSwap(ctx, "functions/a", rev, text("4")); !errs.Is(err, codes.Aborted) {
		t.Fatalf("swap with an old revision: %v", err)
	}
	if r, err := s.Get(ctx, "functions/a", got); err != nil || got.GetValue() != "3" || r != next {
		t.Fatalf("read back %q at %d, %v", got.GetValue(), r, err)
	}
	if _, err := s.Put(ctx, "functions/a", text("5")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Delete(ctx, "functions/a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(ctx, "functions/a", got); !errs.Is(err, codes.NotFound) {
		t.Fatalf("after delete: %v", err)
	}
	for _, key := range []string{"", "/a", "a/", "a\x00b"} {
		if _, err := s.Put(ctx, key, got); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

func TestListPagesInOrder(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	const n = listPage + 7
	for i := range n {
		if _, err := s.Put(ctx, fmt.Sprintf("runs/%05d", i), text(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Put(ctx, "runt", text("not below runs/")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := s.List(ctx, "runs/", func(key string, rev int64, raw []byte) error {
		got := text("")
		if err := Unmarshal(raw, got); err != nil {
			return err
		}
		if want := fmt.Sprintf("runs/%05d", seen); key != want || got.GetValue() != fmt.Sprint(seen) || rev == 0 {
			t.Fatalf("record %d is %s = %q at %d", seen, key, got.GetValue(), rev)
		}
		seen++
		return nil
	})
	if err != nil || seen != n {
		t.Fatalf("listed %d of %d, %v", seen, n, err)
	}
	stop := errors.New("stop")
	if err := s.List(ctx, "runs/", func(string, int64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of each: %v", err)
	}
	if gone, err := s.DeletePrefix(ctx, "runs/"); err != nil || gone != n {
		t.Errorf("deleted %d, %v", gone, err)
	}
}

func TestLockLetsOneInAtATime(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			unlock, err := s.Lock(ctx, "function/f")
			if err != nil {
				t.Error(err)
				return
			}
			most.Store(max(most.Load(), inside.Add(1)))
			inside.Add(-1)
			unlock()
			unlock()
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d holders at once", most.Load())
	}
	unlock, err := s.Lock(ctx, "function/f")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(short, "function/f"); !errs.Is(err, codes.DeadlineExceeded) {
		t.Errorf("locking what is held: %v", err)
	}
}

func TestWatchSeesEveryChange(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := s.Watch(ctx, "services/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "other/x", text("no")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Put(ctx, "services/a", text(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, "services/a"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		e := <-events
		got := text("")
		if err := Unmarshal(e.Value, got); err != nil || e.Type != EventPut || e.Key != "services/a" || got.GetValue() != fmt.Sprint(i) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
	if e := <-events; e.Type != EventDelete || e.Value != nil {
		t.Fatalf("last event: %+v", e)
	}
	cancel()
	for range events {
		t.Error("an event after the end")
	}
}

func TestRegistrationLivesAndGoes(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	r, err := s.Register(ctx, "services/a/1", text("here"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Update(ctx, text("moved")); err != nil {
		t.Fatal(err)
	}
	events, err := s.Watch(ctx, "services/a/")
	if err != nil {
		t.Fatal(err)
	}
	// Taking the lease away is what a long absence of etcd does: the record must come back on its own.
	if _, err := s.client.Revoke(ctx, r.lease); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Type != EventDelete {
		t.Fatalf("after the lease ended: %+v", e)
	}
	if e := <-events; e.Type != EventPut {
		t.Fatalf("the registration did not come back: %+v", e)
	}
	got := text("")
	if _, err := s.Get(ctx, "services/a/1", got); err != nil || got.GetValue() != "moved" {
		t.Fatalf("came back as %q, %v", got.GetValue(), err)
	}
	if err := r.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "services/a/1", got); !errs.Is(err, codes.NotFound) {
		t.Errorf("after close: %v", err)
	}
}

func TestIncrementCountsEveryCall(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				if _, err := s.Increment(ctx, "counters/cold"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := s.Increment(ctx, "counters/cold"); err != nil || got != 41 {
		t.Errorf("the 41st count is %d, %v", got, err)
	}
	value := text("")
	for want := range 3 {
		_, err := s.Update(ctx, "counters/update", value, true, func() error { value.Value += "x"; return nil })
		if err != nil || len(value.GetValue()) != want+1 {
			t.Errorf("update %d leaves %q, %v", want, value.GetValue(), err)
		}
	}
}

func TestStateVersion(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	var ran []int
	steps := []Migration{
		func(context.Context, *Store) error { ran = append(ran, 1); return nil },
		func(context.Context, *Store) error { ran = append(ran, 2); return nil },
	}
	if err := s.checkVersion(ctx, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.checkVersion(ctx, 3, steps); err != nil || fmt.Sprint(ran) != "[1 2]" {
		t.Fatalf("migrations run %v, %v", ran, err)
	}
	if err := s.checkVersion(ctx, 3, steps); err != nil || len(ran) != 2 {
		t.Fatalf("migrated again: %v, %v", ran, err)
	}
	if err := s.CheckVersion(ctx); !errs.Is(err, codes.FailedPrecondition) || errs.Reason(err) != "STATE_TOO_NEW" {
		t.Errorf("an older binary: %v", err)
	}
	if sizes, err := s.Maintain(ctx); err != nil || len(sizes) != 1 {
		t.Errorf("maintain: %v, %v", sizes, err)
	}
}

func TestEtcdAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := connect(t, server)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Ping(ctx); !errs.Is(err, codes.Unavailable) || errs.Reason(err) != ReasonUnavailable {
		t.Errorf("ping without etcd: %v", err)
	}
}
