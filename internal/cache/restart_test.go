package cache

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/errs"
)

// TestEverythingComesBackWithEtcd restarts the server under a watch, a registration and a lock.
func TestEverythingComesBackWithEtcd(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	first, err := etcd.Start(ctx, etcd.Config{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := connect(t, first)
	events, err := s.Watch(ctx, "services/")
	if err != nil {
		t.Fatal(err)
	}
	registration, err := s.Register(ctx, "services/a", text("here"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Type != EventPut {
		t.Fatalf("first event: %+v", e)
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	second, err := etcd.Start(ctx, etcd.Config{Dir: dir, NoSync: true, Listen: strings.TrimPrefix(first.Endpoint(), "http://")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close(context.WithoutCancel(t.Context())) })
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for s.Ping(limit) != nil {
		if limit.Err() != nil {
			t.Fatal("the store does not come back")
		}
	}
	if _, err := s.Put(limit, "services/b", text("new")); err != nil {
		t.Fatal(err)
	}
	for seen := false; !seen; {
		select {
		case e := <-events:
			seen = e.Key == "services/b"
		case <-limit.Done():
			t.Fatal("the watch does not come back")
		}
	}
	got := text("")
	for {
		if _, err := s.Get(limit, "services/a", got); err == nil {
			break
		} else if !errs.Is(err, codes.NotFound) || limit.Err() != nil {
			t.Fatalf("the registration does not come back: %v", err)
		}
	}
	if err := registration.Close(limit); err != nil {
		t.Error(err)
	}
	unlock, err := s.Lock(limit, "x")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestHoldersLearnThatTheyLostTheLock(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	held, unlock, err := s.LockContext(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	leases, err := s.client.Leases(ctx)
	if err != nil || len(leases.Leases) != 1 {
		t.Fatalf("leases %v, %v", leases, err)
	}
	if _, err := s.client.Revoke(ctx, leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Done():
		if cause := context.Cause(held); errs.Reason(cause) != "LOCK_LOST" {
			t.Errorf("ended with %v", cause)
		}
	case <-time.After(30 * time.Second):
		t.Error("the context of a lost lock lives on")
	}
}

func TestAFullStoreSaysSoAndRecovers(t *testing.T) {
	t.Parallel()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true, QuotaBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	s, ctx := connect(t, server), t.Context()
	large := text(strings.Repeat("x", 1<<20))
	for i := 0; ; i++ {
		_, err = s.Put(ctx, "runs/large", large)
		if err != nil {
			break
		}
		if i > 100 {
			t.Fatal("a quota of 8 MiB takes 100 MiB")
		}
	}
	if !errs.Is(err, codes.ResourceExhausted) || errs.Reason(err) != ReasonFull {
		t.Fatalf("a full store: %v", err)
	}
	if err := s.Delete(ctx, "runs/large"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "runs/small", text("x")); err != nil {
		t.Errorf("after the maintenance: %v", err)
	}
	tooLarge := text(strings.Repeat("x", 2<<20))
	if _, err := s.Put(ctx, "runs/too-large", tooLarge); errs.Reason(err) != ReasonTooLarge {
		t.Errorf("2 MiB in a record: %v", err)
	}
}
