package results

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/resultstream"
)

// Bus is what the ingester needs of the event bus.
type Bus interface {
	EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
}

// Leader elects the one process that reads the stream.
type Leader interface {
	// LockContext waits for the lock; the returned context ends when it is lost.
	LockContext(ctx context.Context, what string) (held context.Context, unlock func(), err error)
}

// IngestLimits says when what was read is written.
type IngestLimits struct {
	// Records and Bytes end a segment.
	Records, Bytes int
	// AlignedRange ends a segment at every stream position that it divides.
	AlignedRange uint64
	// Linger and MaxLinger bound how long a record waits: the shorter one after a pause, growing to the longer one under steady load, so
	// that a long run does not leave thousands of small segments.
	Linger, MaxLinger time.Duration
}

// DefaultIngestLimits keep memory below about 100 MB.
func DefaultIngestLimits() IngestLimits {
	return IngestLimits{Records: 64 << 10, Bytes: 32 << 20, AlignedRange: 1 << 12, Linger: 50 * time.Millisecond, MaxLinger: 5 * time.Second}
}

// Ingester reads the result stream into the store.
type Ingester struct {
	bus    Bus
	leader Leader
	writer *Writer
	limits IngestLimits
	log    *slog.Logger
	// hurry asks for a commit now.
	hurry   chan struct{}
	decoder *zstd.Decoder
	reader  *Reader
	locks   Locker
	meters  meters
	// retry is the pause after a failure.
	retry time.Duration
}

const (
	// maxBatchBytes bounds what a compressed batch may unpack to.
	maxBatchBytes = 64 << 20
	retryPause    = time.Second
	// finalCommit bounds the commit when the process stops.
	finalCommit = 10 * time.Second
)

// IngestOptions are the parts of an ingester.
type IngestOptions struct {
	Bus    Bus
	Leader Leader
	Locks  Locker
	Writer *Writer
	// Reader folds small segments.
	Reader *Reader
	Limits IngestLimits
	// Registry takes the ingester's own metrics.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// meters are the ingester's own metrics.
type meters struct {
	records prometheus.Counter
	commits prometheus.Histogram
	damaged prometheus.Counter
}

func newMeters(r prometheus.Registerer) (meters, error) {
	m := meters{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sebs_metrics_records_stored_total", Help: "Invocation records written to the object store.",
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sebs_metrics_commit_seconds", Help: "Time to write what was gathered.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sebs_metrics_batches_unreadable_total", Help: "Batches of results that could not be read and were left out.",
		}),
	}
	for _, c := range []prometheus.Collector{m.records, m.commits, m.damaged} {
		if err := r.Register(c); err != nil {
			return meters{}, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// NewIngester returns an ingester that writes through the writer.
func NewIngester(o IngestOptions) (*Ingester, error) {
	meters, err := newMeters(o.Registry)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBatchBytes))
	if err != nil {
		return nil, fmt.Errorf("open results: %w", err)
	}
	return &Ingester{
		bus: o.Bus, leader: o.Leader, locks: o.Locks, writer: o.Writer, reader: o.Reader, limits: o.Limits, log: o.Log,
		hurry: make(chan struct{}, 1), decoder: decoder, meters: meters, retry: retryPause,
	}, nil
}

// Hurry has everything that was read so far written without waiting for more.
func (i *Ingester) Hurry() {
	select {
	case i.hurry <- struct{}{}:
	default:
	}
}

// Run reads until ctx ends, and then writes what it holds. A bus, lock or store that is away is tried again; meanwhile batches wait
// in the stream.
func (i *Ingester) Run(ctx context.Context) error {
	defer i.decoder.Close()
	for ctx.Err() == nil {
		err := i.lead(ctx)
		if ctx.Err() != nil {
			return nil
		}
		i.log.Warn("reading results was interrupted; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(i.retry):
		}
	}
	return nil
}

func (i *Ingester) lead(ctx context.Context) error {
	held, unlock, err := i.leader.LockContext(ctx, "results-ingest")
	if err != nil {
		return err
	}
	defer unlock()
	stream, err := i.bus.EnsureStream(held, resultstream.Config())
	if err != nil {
		return err
	}
	return i.read(held, stream)
}

// delivery is a message or the error that ended the delivery.
type delivery struct {
	msg jetstream.Msg
	err error
}

func (i *Ingester) read(ctx context.Context, stream jetstream.Stream) error {
	// Stored batches are purged, so the first message is the first that is not stored.
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256))
	if err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	deliveries := make(chan delivery)
	stop, cancel := context.WithCancel(ctx)
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		pump(stop, messages, deliveries)
	}()
	defer func() {
		cancel()
		messages.Stop()
		<-pumped
	}()
	i.writer.Reset(stream.CachedInfo().Created.Unix())
	err = i.gather(ctx, stream, deliveries)
	if ctx.Err() != nil {
		final, done := context.WithTimeout(context.WithoutCancel(ctx), finalCommit)
		defer done()
		return i.commit(final, stream)
	}
	return err
}

// pump hands messages on until ctx ends or the delivery does.
func pump(ctx context.Context, messages jetstream.MessagesContext, out chan<- delivery) {
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		select {
		case out <- delivery{msg: msg, err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// gather collects batches and commits them at the limits.
func (i *Ingester) gather(ctx context.Context, stream jetstream.Stream, in <-chan delivery) error {
	linger := i.limits.Linger
	timer := time.NewTimer(linger)
	timer.Stop()
	defer timer.Stop()
	waiting := false
	lastCommit := time.Now()
	commit := func() error {
		waiting = false
		timer.Stop()
		lastCommit = time.Now()
		return i.commit(ctx, stream)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d := <-in:
			if d.err != nil {
				return fmt.Errorf("read results: %w", d.err)
			}
			full := i.take(d.msg)
			if !full {
				if !waiting {
					linger = i.nextLinger(linger, time.Since(lastCommit))
					timer.Reset(linger)
					waiting = true
				}
				continue
			}
		case <-timer.C:
		case <-i.hurry:
		}
		if err := commit(); err != nil {
			return err
		}
	}
}

// nextLinger doubles the wait while batches keep coming and shortens it after a pause.
func (i *Ingester) nextLinger(last, idle time.Duration) time.Duration {
	if idle > 2*last {
		return i.limits.Linger
	}
	return min(2*last, i.limits.MaxLinger)
}

// take adds a message and reports whether a limit is reached.
func (i *Ingester) take(msg jetstream.Msg) (full bool) {
	meta, err := msg.Metadata()
	if err != nil {
		i.log.Error("a message of the result stream has no position; it is left out", "subject", msg.Subject(), "error", err)
		return false
	}
	position := meta.Sequence.Stream
	batch, size, err := i.decode(msg.Data())
	if err == nil {
		err = i.writer.Add(position, batch, size)
	}
	if err != nil {
		// Nothing can ever be made of it, and it must not hold up what comes after.
		i.log.Error("a batch of results cannot be read; it is left out", "subject", msg.Subject(), "position", position, "error", err)
		i.meters.damaged.Inc()
		i.writer.Skip(position)
	}
	records, bytes := i.writer.Pending()
	return records >= i.limits.Records || bytes >= i.limits.Bytes || (position+1)%i.limits.AlignedRange == 0
}

// zstdMagic starts a zstd frame.
const zstdMagic = "\x28\xb5\x2f\xfd"

func (i *Ingester) decode(data []byte) (*typev1.InvocationBatch, int, error) {
	if len(data) >= len(zstdMagic) && string(data[:len(zstdMagic)]) == zstdMagic {
		raw, err := i.decoder.DecodeAll(data, nil)
		if err != nil {
			return nil, 0, fmt.Errorf("decompress batch: %w", err)
		}
		data = raw
	}
	batch := &typev1.InvocationBatch{}
	if err := proto.Unmarshal(data, batch); err != nil {
		return nil, 0, fmt.Errorf("decode batch: %w", err)
	}
	return batch, len(data), nil
}

// commit writes what was gathered and lets the stream forget it.
func (i *Ingester) commit(ctx context.Context, stream jetstream.Stream) error {
	begin := time.Now()
	done, err := i.writer.Commit(ctx)
	if err != nil || done.Last == 0 {
		return err
	}
	i.meters.records.Add(float64(done.Records))
	i.meters.commits.Observe(time.Since(begin).Seconds())
	// What is stored should leave the stream even when the process stops now.
	purge, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalCommit)
	defer cancel()
	if err := stream.Purge(purge, jetstream.WithPurgeSequence(done.Last+1)); err != nil {
		// The batches are stored; delivered again they are recognised.
		i.log.Warn("stored results stay in the stream; they will be recognised", "position", done.Last, "error", err)
	}
	for _, run := range done.Crowded {
		if err := i.reader.Fold(ctx, i.locks, run); err != nil {
			// More segments are slower to read and no less right.
			i.log.Warn("the results of a run stay in many pieces", "run", run, "error", err)
		}
	}
	return nil
}
