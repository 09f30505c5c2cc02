package events_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
)

// TestConsumersComeBackWithTheServer restarts NATS under a consumer: what is published afterwards arrives.
func TestConsumersComeBackWithTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := nats.Start(t.Context(), nats.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b := bus(t, first)
	got := make(chan string, 10)
	spec := events.Consumer{Durable: "reader", Subjects: []string{"a.>"}, FromStart: true}
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, spec, func(_ context.Context, m events.Message) error {
			got <- m.ID()
			return nil
		})
	})
	if err := b.Publish(t.Context(), "a.b", wrapperspb.Bool(true), "before"); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != "before" {
		t.Fatalf("received %s", id)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := nats.Start(t.Context(), nats.Config{Dir: dir, Listen: strings.TrimPrefix(first.URL(), "nats://")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close(context.WithoutCancel(t.Context())) })
	limit, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		err := b.Publish(limit, "a.b", wrapperspb.Bool(true), "after")
		if err == nil {
			break
		}
		if errs.Reason(err) != events.ReasonUnavailable || limit.Err() != nil {
			t.Fatal(err)
		}
	}
	for {
		select {
		case id := <-got:
			if id == "after" {
				return
			}
		case <-limit.Done():
			t.Fatal("the consumer does not come back")
		}
	}
}
