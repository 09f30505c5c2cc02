package events_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func server(t *testing.T) *nats.Server {
	t.Helper()
	s, err := nats.Start(t.Context(), nats.Config{Dir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.WithoutCancel(t.Context())) })
	return s
}

func bus(t *testing.T, s *nats.Server) *events.Bus {
	t.Helper()
	b, err := events.Open(events.Config{URLs: []string{s.URL()}, Source: "test", PublishTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.WithoutCancel(t.Context())) })
	if err := b.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// background runs f until the test ends or stop is called, and waits for it.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		cancel()
		if stopped.CompareAndSwap(false, true) {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestPublishedEventsArriveOnceInOrder(t *testing.T) {
	t.Parallel()
	b, ctx := bus(t, server(t)), t.Context()
	spec := events.Consumer{Durable: "reader", Subjects: []string{"builder.*"}, FromStart: true}
	for i := range 5 {
		for range 2 { // the second is a duplicate
			err := b.Publish(ctx, "builder.package_built", wrapperspb.Int64(int64(i)), fmt.Sprint("id-", i), events.About("packages/x"))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Publish(ctx, "deployer.function_created", wrapperspb.Int64(99), ""); err != nil {
		t.Fatal(err)
	}
	got := make(chan *eventv1.Event, 20)
	stop := background(t, func(ctx context.Context) error {
		return b.Consume(ctx, spec, func(_ context.Context, m events.Message) error {
			e, err := m.Event()
			got <- e
			return err
		})
	})
	for i := range 5 {
		e := <-got
		value := &wrapperspb.Int64Value{}
		if err := e.GetData().UnmarshalTo(value); err != nil {
			t.Fatal(err)
		}
		if value.GetValue() != int64(i) || e.GetType() != "sebs.v1.builder.package_built" ||
			e.GetSource() != "/sebs/builder" || e.GetSubject() != "packages/x" || e.GetTime() == nil || e.GetId() != fmt.Sprint("id-", i) {
			t.Errorf("event %d is %v", i, e)
		}
	}
	stop()
	if len(got) != 0 {
		t.Errorf("%d events too many", len(got))
	}
}

func TestFailedMessagesComeAgainAndHopelessOnesDoNot(t *testing.T) {
	t.Parallel()
	b, ctx := bus(t, server(t)), t.Context()
	_, err := b.EnsureQueue(ctx, jetstream.StreamConfig{Name: "WORK", Subjects: []string{"sebs.v1.work.>"}, MaxAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"retry", "hopeless", "good"} {
		if err := b.PublishMsg(ctx, &natsgo.Msg{Subject: "sebs.v1.work.x", Data: []byte(text)}, text); err != nil {
			t.Fatal(err)
		}
	}
	attempts := make(chan string, 20)
	spec := events.Consumer{Stream: "WORK", Durable: "workers", Backoff: time.Millisecond, Concurrency: 2}
	stop := background(t, func(ctx context.Context) error {
		return b.Consume(ctx, spec, func(_ context.Context, m events.Message) error {
			defer func() { attempts <- fmt.Sprint(string(m.Data), m.Attempt) }()
			switch {
			case string(m.Data) == "retry" && m.Attempt < 3:
				return errors.New("try again")
			case string(m.Data) == "hopeless":
				return fmt.Errorf("cannot read it: %w", events.ErrDrop)
			}
			return nil
		})
	})
	seen := map[string]int{}
	for range 5 {
		seen[<-attempts]++
	}
	for _, want := range []string{"retry1", "retry2", "retry3", "hopeless1", "good1"} {
		if seen[want] != 1 {
			t.Errorf("handled %v, want %s once", seen, want)
		}
	}
	stop()
}

func TestFollowStartsInThePast(t *testing.T) {
	t.Parallel()
	b, ctx := bus(t, server(t)), t.Context()
	before := time.Now().Add(-time.Minute)
	if err := b.Publish(ctx, "a.first", wrapperspb.Bool(true), "1"); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var types []string
	err := b.Follow(ctx, nil, before, func() {
		if err := b.Publish(ctx, "b.second", wrapperspb.Bool(true), "2"); err != nil {
			t.Error(err)
		}
	}, func(e *eventv1.Event) error {
		if types = append(types, e.GetType()); len(types) == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || fmt.Sprint(types) != "[sebs.v1.a.first sebs.v1.b.second]" {
		t.Errorf("followed %v, %v", types, err)
	}
}

func TestABusThatIsDownAnswersUnavailable(t *testing.T) {
	t.Parallel()
	s := server(t)
	b := bus(t, s)
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Publish(ctx, "a.b", wrapperspb.Bool(true), ""); !errs.Is(err, codes.Unavailable) {
		t.Errorf("publish without a server: %v", err)
	}
	if err := b.Ping(t.Context()); !errs.Is(err, codes.Unavailable) {
		t.Errorf("ping without a server: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	b, ctx := bus(t, server(t)), t.Context()
	for _, subject := range []string{"", "one", "a.*", "a b.c", "a.>"} {
		if err := b.Publish(ctx, subject, wrapperspb.Bool(true), ""); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("subject %q: %v", subject, err)
		}
	}
	large := wrapperspb.Bytes(make([]byte, 9<<20))
	if err := b.Publish(ctx, "a.b", large, ""); errs.Reason(err) != events.ReasonTooLarge {
		t.Errorf("9 MiB: %v", err)
	}
	if _, err := b.EnsureStream(ctx, jetstream.StreamConfig{Name: "ENDLESS", Subjects: []string{"x"}}); err == nil {
		t.Error("a stream without limits was made")
	}
	if _, err := events.Open(events.Config{}); err == nil {
		t.Error("opened without an address")
	}
}
