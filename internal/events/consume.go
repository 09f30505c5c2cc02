package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// ErrDrop tells [Bus.Consume] that a message can never be handled: it is not delivered again.
var ErrDrop = errors.New("drop the message")

// Consumer describes who reads a stream.
type Consumer struct {
	// Stream to read; the stream of events by default.
	Stream string
	// Durable names the consumer: all processes that use the name share its messages.
	Durable string
	// Subjects to read, relative to [SubjectPrefix] for the stream of events and absolute for others. Empty means all.
	Subjects []string
	// Concurrency is how many messages are handled at once. Default 1, which keeps their order.
	Concurrency int
	// AckWait is how long a worker may be silent before its message goes to another. Default 30 s. While the handler
	// runs, the bus is told so: a long handler needs no long AckWait.
	AckWait time.Duration
	// MaxDeliver is how often a message is delivered at most. Default: without limit.
	MaxDeliver int
	// Backoff is the pause before a message whose handler failed is delivered again. Default 1 s.
	Backoff time.Duration
	// FromStart delivers what the stream already holds to a new durable consumer. Without it only what comes next.
	FromStart bool
}

func (c *Consumer) complete() {
	if c.Stream == "" {
		c.Stream = Stream
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 1
	}
	if c.AckWait <= 0 {
		c.AckWait = 30 * time.Second
	}
	if c.MaxDeliver == 0 {
		c.MaxDeliver = -1
	}
	if c.Backoff <= 0 {
		c.Backoff = time.Second
	}
}

func (c *Consumer) filters() []string {
	if c.Stream != Stream {
		return c.Subjects
	}
	filters := make([]string, len(c.Subjects))
	for i, subject := range c.Subjects {
		filters[i] = SubjectPrefix + subject
	}
	return filters
}

// Message is a message of a stream.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// Sequence is the position in the stream.
	Sequence uint64
	// Attempt counts deliveries from 1.
	Attempt uint64
	// Stored is when the stream took the message.
	Stored time.Time
}

// Event decodes a message of the stream of events.
func (m Message) Event() (*eventv1.Event, error) {
	event := &eventv1.Event{}
	if err := proto.Unmarshal(m.Data, event); err != nil {
		return nil, errs.DataLoss("EVENT_MALFORMED", "message %d of %s is no event: %v", m.Sequence, m.Subject, err)
	}
	if event.GetTime() == nil {
		event.Time = timestamppb.New(m.Stored)
	}
	return event, nil
}

// ID returns the message's id of de-duplication.
func (m Message) ID() string {
	return m.Header.Get(nats.MsgIdHdr)
}

func newMessage(msg jetstream.Msg) Message {
	m := Message{Subject: msg.Subject(), Header: msg.Headers(), Data: msg.Data(), Attempt: 1}
	if meta, err := msg.Metadata(); err == nil {
		m.Sequence, m.Attempt, m.Stored = meta.Sequence.Stream, meta.NumDelivered, meta.Timestamp
	}
	return m
}

// Consume hands messages to handle until ctx ends, then waits for the handlers that run and returns nil. A message is
// acknowledged when handle returns nil, delivered again after Backoff when it returns an error, and dropped for an error
// that wraps [ErrDrop]. Delivery is at least once. It starts again on its own when the bus comes back.
func (b *Bus) Consume(ctx context.Context, spec Consumer, handle func(context.Context, Message) error) error {
	spec.complete()
	for ctx.Err() == nil {
		err := b.consume(ctx, spec, handle)
		if ctx.Err() != nil {
			return nil
		}
		b.cfg.Log.Warn("reading a stream was interrupted; trying again", "stream", spec.Stream, "consumer", spec.Durable, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (b *Bus) consume(ctx context.Context, spec Consumer, handle func(context.Context, Message) error) error {
	consumer, err := b.ensureConsumer(ctx, spec)
	if err != nil {
		return err
	}
	// The client holds as many messages as are handled at once and no more, so that other workers get theirs.
	messages, err := consumer.Messages(jetstream.PullMaxMessages(spec.Concurrency), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return classify("read "+spec.Stream, err)
	}
	defer messages.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, spec.Concurrency)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return classify("read "+spec.Stream, err)
		}
		running.Go(func() {
			defer func() { <-slots }()
			b.handle(ctx, spec, msg, handle)
		})
	}
}

// EnsureConsumer makes the durable consumer without reading, so that nothing published from now on is missed.
func (b *Bus) EnsureConsumer(ctx context.Context, spec Consumer) error {
	spec.complete()
	_, err := b.ensureConsumer(ctx, spec)
	return err
}

func (b *Bus) ensureConsumer(ctx context.Context, spec Consumer) (jetstream.Consumer, error) {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable:        spec.Durable,
		FilterSubjects: spec.filters(),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        spec.AckWait,
		MaxDeliver:     spec.MaxDeliver,
		DeliverPolicy:  jetstream.DeliverNewPolicy,
	}
	if existing, err := b.js.Consumer(ctx, spec.Stream, spec.Durable); err == nil {
		// Where a consumer starts is fixed when it is made.
		cfg.DeliverPolicy = existing.CachedInfo().Config.DeliverPolicy
	} else if spec.FromStart || b.isQueue(ctx, spec.Stream) {
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, spec.Stream, cfg)
	if err != nil {
		return nil, classify("create consumer "+spec.Durable+" of "+spec.Stream, err)
	}
	return consumer, nil
}

// isQueue reports whether a stream is a work queue, which only can be read from its start.
func (b *Bus) isQueue(ctx context.Context, name string) bool {
	stream, err := b.js.Stream(ctx, name)
	return err == nil && stream.CachedInfo().Config.Retention == jetstream.WorkQueuePolicy
}

// handle runs the handler for one message, keeps the message while it runs, and answers the stream.
func (b *Bus) handle(ctx context.Context, spec Consumer, msg jetstream.Msg, handle func(context.Context, Message) error) {
	ctx = Extract(ctx, msg.Headers())
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(spec.AckWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = msg.InProgress()
			}
		}
	})
	m := newMessage(msg)
	err := handle(ctx, m)
	close(done)
	ticking.Wait()
	switch {
	case err == nil:
		err = msg.Ack()
	case errors.Is(err, ErrDrop):
		b.cfg.Log.Warn("dropped a message", "subject", m.Subject, "sequence", m.Sequence, "error", err)
		err = msg.Term()
	case ctx.Err() != nil:
		// This process stops: another may take the message at once.
		err = msg.Nak()
	default:
		b.cfg.Log.Warn("handling a message failed", "subject", m.Subject, "sequence", m.Sequence, "attempt", m.Attempt, "error", err)
		err = msg.NakWithDelay(spec.Backoff)
	}
	if err != nil {
		b.cfg.Log.Warn("answering a stream failed; the message will come again", "subject", m.Subject, "error", err)
	}
}

// Follow hands every event whose subject matches one of the filters (relative to [SubjectPrefix]; empty means all) to each,
// in order, without leaving a trace in the stream. It starts at from, or with the next event where from is zero, calls
// started once when nothing can be missed any more, and ends when ctx does or each returns an error.
func (b *Bus) Follow(ctx context.Context, filters []string, from time.Time, started func(), each func(*eventv1.Event) error) error {
	spec := Consumer{Stream: Stream, Subjects: filters}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: spec.filters(), DeliverPolicy: jetstream.DeliverNewPolicy}
	if !from.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	setup, cancel := b.bound(ctx)
	consumer, err := b.js.OrderedConsumer(setup, Stream, cfg)
	cancel()
	if err != nil {
		return classify("follow events", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return classify("follow events", err)
	}
	defer messages.Stop()
	if started != nil {
		started()
	}
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return classify("follow events", err)
		}
		event, err := newMessage(msg).Event()
		if err != nil {
			b.cfg.Log.Warn("left out a message that is no event", "error", err)
			continue
		}
		if err := each(event); err != nil {
			return err
		}
	}
}
