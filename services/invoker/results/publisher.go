// Package results sends invocation records to the metrics service over JetStream: in batches of some hundreds, compressed,
// and by way of a directory while the bus is away.
package results

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/resultstream"
)

// Headers of a message.
const (
	// encodingHeader names the compression of a message, and encodingZstd its one value.
	encodingHeader = "Content-Encoding"
	encodingZstd   = "zstd"
	// typeHeader names the message inside.
	typeHeader = "Sebs-Type"
)

// Limits of a batch.
const (
	// batchRecords and batchBytes end a batch; a message has to stay below NATS's default limit of 1 MB.
	batchRecords = 256
	batchBytes   = 512 << 10
	// lingers is how long a record waits for others.
	lingers = 200 * time.Millisecond
	// forgetAfter is how long the number of a run's last batch is remembered; the stream remembers ids for two minutes.
	forgetAfter = time.Hour
	// spoolPause is the pause between two tries to send what is spooled.
	spoolPause = time.Second
)

// Bus is what the publisher needs of the event bus.
type Bus interface {
	// EnsureStream makes a stream or brings it up to date.
	EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
	// PublishMsg stores a message once for an id.
	PublishMsg(ctx context.Context, msg *nats.Msg, msgID string) error
}

// Publisher gathers records and sends them. It is safe for concurrent use.
type Publisher struct {
	bus     Bus
	invoker string
	spool   *spool
	log     *slog.Logger
	encoder *zstd.Encoder

	mu       sync.Mutex
	prepared bool
	runs     map[string]*pending
	wake     chan struct{}
}

// pending holds the records of one run that are not sent yet.
type pending struct {
	// sending is held while a batch of the run is numbered and sent, so that batches leave in order.
	sending sync.Mutex
	next    int64
	records []*typev1.InvocationRecord
	bytes   int
	since   time.Time
}

// New returns a publisher for an invoker, whose name is unique for each start of the process. The directory takes batches
// while the bus is away; batches that an earlier process left there are sent too.
func New(bus Bus, invoker, spoolDir string, log *slog.Logger) (*Publisher, error) {
	spool, err := openSpool(spoolDir)
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open results: %w", err))
	}
	return &Publisher{
		bus: bus, invoker: invoker, spool: spool, log: log, encoder: encoder,
		runs: make(map[string]*pending), wake: make(chan struct{}, 1),
	}, nil
}

// Add takes a record of a run. It is sent with others soon after, or by [Publisher.Flush].
func (p *Publisher) Add(record *typev1.InvocationRecord) {
	run := record.GetRun()
	p.mu.Lock()
	state := p.runs[run]
	if state == nil {
		state = &pending{}
		p.runs[run] = state
	}
	if len(state.records) == 0 {
		state.since = time.Now()
	}
	state.records = append(state.records, record)
	state.bytes += proto.Size(record)
	full := len(state.records) >= batchRecords || state.bytes >= batchBytes
	first := len(state.records) == 1
	p.mu.Unlock()
	if full || first {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// Flush sends what is gathered of a run. When it returns nil every record added before is in the stream or in the spool.
func (p *Publisher) Flush(ctx context.Context, run string) error {
	p.mu.Lock()
	state := p.runs[run]
	p.mu.Unlock()
	if state == nil {
		return nil
	}
	state.sending.Lock()
	defer state.sending.Unlock()
	for {
		batch := p.take(run, state)
		if batch == nil {
			return nil
		}
		if err := p.deliver(ctx, batch); err != nil {
			return err
		}
	}
}

// take cuts the next batch off; nil when nothing is left. The caller holds state.sending.
func (p *Publisher) take(run string, state *pending) *typev1.InvocationBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	count, size := 0, 0
	for _, record := range state.records {
		size += proto.Size(record)
		if count > 0 && (count == batchRecords || size > batchBytes) {
			break
		}
		count++
	}
	if count == 0 {
		return nil
	}
	batch := &typev1.InvocationBatch{Run: run, Invoker: p.invoker, Batch: state.next, Records: state.records[:count:count]}
	state.next++
	state.records = state.records[count:]
	state.bytes = 0
	for _, record := range state.records {
		state.bytes += proto.Size(record)
	}
	if len(state.records) == 0 {
		state.records = nil
	}
	return batch
}

// message encodes a batch.
func (p *Publisher) message(batch *typev1.InvocationBatch) (*nats.Msg, string, error) {
	raw, err := proto.Marshal(batch)
	if err != nil {
		return nil, "", errs.Internal(fmt.Errorf("encode results of %s: %w", batch.GetRun(), err))
	}
	subject, id := resultstream.Address(batch)
	msg := nats.NewMsg(subject)
	msg.Header.Set(encodingHeader, encodingZstd)
	msg.Header.Set(typeHeader, string(batch.ProtoReflect().Descriptor().FullName()))
	msg.Data = p.encoder.EncodeAll(raw, nil)
	return msg, id, nil
}

// deliver publishes a batch, or spools it where the bus does not take it.
func (p *Publisher) deliver(ctx context.Context, batch *typev1.InvocationBatch) error {
	msg, id, err := p.message(batch)
	if err != nil {
		return err
	}
	if p.spool.empty() {
		err = p.publish(ctx, msg, id)
		if err == nil {
			return nil
		}
		p.log.Warn("the event bus does not take results; they go to the spool", "run", batch.GetRun(), "records", len(batch.GetRecords()), "error", err)
	}
	if err := p.spool.put(spooled{Subject: msg.Subject, ID: id, Data: msg.Data}); err != nil {
		return fmt.Errorf("keep results of %s while the event bus is away: %w", batch.GetRun(), err)
	}
	return nil
}

// publish stores a message in the stream, which it makes where it is missing.
func (p *Publisher) publish(ctx context.Context, msg *nats.Msg, id string) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	err := p.bus.PublishMsg(ctx, msg, id)
	if errs.Is(err, codes.NotFound) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		p.mu.Lock()
		p.prepared = false
		p.mu.Unlock()
		if err = p.prepare(ctx); err == nil {
			err = p.bus.PublishMsg(ctx, msg, id)
		}
	}
	return err
}

func (p *Publisher) prepare(ctx context.Context) error {
	p.mu.Lock()
	prepared := p.prepared
	p.mu.Unlock()
	if prepared {
		return nil
	}
	if _, err := p.bus.EnsureStream(ctx, resultstream.Config()); err != nil {
		return err
	}
	p.mu.Lock()
	p.prepared = true
	p.mu.Unlock()
	return nil
}

// Run sends batches when they are full or old enough, and what is spooled when the bus is back, until ctx ends. Call
// [Publisher.Close] afterwards.
func (p *Publisher) Run(ctx context.Context) error {
	linger := time.NewTimer(spoolPause)
	defer linger.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-linger.C:
		}
		p.sendDue(ctx)
		p.drainSpool(ctx)
		linger.Reset(p.pause())
	}
}

// pause is how long nothing needs to be done.
func (p *Publisher) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := spoolPause
	for _, state := range p.runs {
		if len(state.records) > 0 {
			next = min(next, max(time.Until(state.since.Add(lingers)), time.Millisecond))
		}
	}
	return next
}

// sendDue flushes the runs whose batch is full or old enough.
func (p *Publisher) sendDue(ctx context.Context) {
	p.mu.Lock()
	var due []string
	for run, state := range p.runs {
		switch {
		case len(state.records) >= batchRecords, state.bytes >= batchBytes, len(state.records) > 0 && time.Since(state.since) >= lingers:
			due = append(due, run)
		case len(state.records) == 0 && time.Since(state.since) > forgetAfter:
			// A run that publishes again counts its batches from 0 again: by then the stream has forgotten their ids.
			delete(p.runs, run)
		}
	}
	p.mu.Unlock()
	for _, run := range due {
		if err := p.Flush(ctx, run); err != nil {
			p.log.Error("results could not be kept", "run", run, "error", err)
		}
	}
}

// drainSpool sends spooled batches, oldest first, until one is refused.
func (p *Publisher) drainSpool(ctx context.Context) {
	for ctx.Err() == nil {
		name, message, err := p.spool.oldest()
		if err != nil {
			p.log.Error("a spooled batch of results cannot be read; it is set aside", "file", name, "error", err)
			continue
		}
		if name == "" {
			return
		}
		msg := nats.NewMsg(message.Subject)
		msg.Header.Set(encodingHeader, encodingZstd)
		msg.Header.Set(typeHeader, "sebs.type.v1.InvocationBatch")
		msg.Data = message.Data
		if err := p.publish(ctx, msg, message.ID); err != nil {
			return
		}
		if err := p.spool.remove(name); err != nil {
			p.log.Error("a sent batch of results stays in the spool; it will be sent again", "file", name, "error", err)
			return
		}
	}
}

// Close sends or spools everything that is left.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	runs := make([]string, 0, len(p.runs))
	for run := range p.runs {
		runs = append(runs, run)
	}
	p.mu.Unlock()
	var problems []error
	for _, run := range runs {
		problems = append(problems, p.Flush(ctx, run))
	}
	p.drainSpool(ctx)
	problems = append(problems, p.encoder.Close())
	return errors.Join(problems...)
}
