package results_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/resultstream"
	"github.com/sebs-suite/sebs/services/invoker/results"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memBus keeps messages by their ids, and can be away.
type memBus struct {
	mu       sync.Mutex
	away     bool
	messages map[string]*natsgo.Msg
	order    []string
}

func (b *memBus) EnsureStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return nil, errs.Unavailable("EVENTS_UNAVAILABLE", "away")
	}
	return nil, nil
}

func (b *memBus) PublishMsg(_ context.Context, msg *natsgo.Msg, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errs.Unavailable("EVENTS_UNAVAILABLE", "away")
	}
	if b.messages == nil {
		b.messages = map[string]*natsgo.Msg{}
	}
	if b.messages[id] == nil {
		b.order = append(b.order, id)
	}
	b.messages[id] = msg
	return nil
}

func (b *memBus) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

// batches decodes what the bus has, in order.
func (b *memBus) batches(t *testing.T) []*typev1.InvocationBatch {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*typev1.InvocationBatch, 0, len(b.order))
	for _, id := range b.order {
		batch := decode(t, b.messages[id].Data)
		want := fmt.Sprintf("%s/%s/%d", batch.GetRun()[len("runs/"):], batch.GetInvoker(), batch.GetBatch())
		if id != want || b.messages[id].Subject != "sebs.v1.results."+batch.GetRun()[len("runs/"):]+"."+batch.GetInvoker() {
			t.Errorf("message %s on %s holds batch %s", id, b.messages[id].Subject, want)
		}
		all = append(all, batch)
	}
	return all
}

func decode(t *testing.T, data []byte) *typev1.InvocationBatch {
	t.Helper()
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	raw, err := decoder.DecodeAll(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	batch := &typev1.InvocationBatch{}
	if err := proto.Unmarshal(raw, batch); err != nil {
		t.Fatal(err)
	}
	return batch
}

func open(t *testing.T, bus results.Bus, dir string) *results.Publisher {
	t.Helper()
	p, err := results.New(bus, "i1", dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.WithoutCancel(t.Context())) })
	return p
}

func add(p *results.Publisher, run string, from, count int) {
	for i := range count {
		p.Add(&typev1.InvocationRecord{Run: run, Sequence: int64(from + i), ErrorMessage: "text"})
	}
}

func TestFlushSendsBatchesInOrder(t *testing.T) {
	t.Parallel()
	bus := &memBus{}
	p := open(t, bus, t.TempDir())
	add(p, "runs/a", 0, 600)
	add(p, "runs/b", 0, 1)
	if err := errors.Join(p.Flush(t.Context(), "runs/a"), p.Flush(t.Context(), "runs/b"), p.Flush(t.Context(), "runs/none")); err != nil {
		t.Fatal(err)
	}
	sequence, batches := int64(0), bus.batches(t)
	if len(batches) != 4 {
		t.Fatalf("%d batches, want 3 of run a and 1 of run b", len(batches))
	}
	for i, batch := range batches[:3] {
		if batch.GetBatch() != int64(i) || len(batch.GetRecords()) > 256 {
			t.Errorf("batch %d has number %d and %d records", i, batch.GetBatch(), len(batch.GetRecords()))
		}
		for _, record := range batch.GetRecords() {
			if record.GetSequence() != sequence {
				t.Fatalf("record %d comes where %d is due", record.GetSequence(), sequence)
			}
			sequence++
		}
	}
	if sequence != 600 {
		t.Errorf("%d records arrived of 600", sequence)
	}
}

func TestLargeRecordsStayBelowTheLimitOfAMessage(t *testing.T) {
	t.Parallel()
	bus := &memBus{}
	p := open(t, bus, t.TempDir())
	for i := range 10 {
		noise := make([]byte, 200<<10)
		for j := range noise {
			noise[j] = "0123456789abcdefghijklmnopqrstuvwxyz"[(j*j+i*7+j/13)%36]
		}
		p.Add(&typev1.InvocationRecord{Run: "runs/a", Sequence: int64(i), Result: &typev1.ExecutionResult{OutputJson: string(noise)}})
	}
	if err := p.Flush(t.Context(), "runs/a"); err != nil {
		t.Fatal(err)
	}
	for _, batch := range bus.batches(t) {
		if size := proto.Size(batch); size > 900<<10 {
			t.Errorf("a batch has %d bytes before it is compressed", size)
		}
	}
}

// eventually repeats a look until it is true.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func run(t *testing.T, p *results.Publisher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRecordsLeaveByThemselves(t *testing.T) {
	t.Parallel()
	bus := &memBus{}
	p := open(t, bus, t.TempDir())
	run(t, p)
	add(p, "runs/a", 0, 3)
	eventually(t, "three records sent", func() bool {
		n := 0
		for _, batch := range bus.batches(t) {
			n += len(batch.GetRecords())
		}
		return n == 3
	})
}

func TestRecordsWaitInTheSpoolWhileTheBusIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bus := &memBus{away: true}
	p := open(t, bus, dir)
	add(p, "runs/a", 0, 300)
	if err := p.Flush(t.Context(), "runs/a"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.batch"))
	if err != nil || len(files) != 2 {
		t.Fatalf("the spool holds %v, %v; want two batches", files, err)
	}
	// A file that cannot be read is set aside and does not stop the others.
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000000-000000.batch"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The next process finds and sends what this one left.
	bus.setAway(false)
	next := open(t, bus, dir)
	run(t, next)
	eventually(t, "both batches sent", func() bool { return len(bus.batches(t)) == 2 })
	eventually(t, "an empty spool", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "*.batch"))
		return err == nil && len(left) == 0
	})
	if aside, err := filepath.Glob(filepath.Join(dir, "*.unreadable")); err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

func TestJetStreamTakesEachBatchOnce(t *testing.T) {
	t.Parallel()
	server, err := nats.Start(t.Context(), nats.Config{Dir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	bus, err := events.Open(events.Config{URLs: []string{server.URL()}, Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	for range 2 { // the second publisher sends the same batch again, as after a lost acknowledgement
		p := open(t, bus, t.TempDir())
		add(p, "runs/a", 0, 5)
		if err := p.Flush(t.Context(), "runs/a"); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := bus.JetStream().Stream(t.Context(), resultstream.Name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Fatalf("the stream has %d messages, %v", info.State.Msgs, err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil || len(decode(t, msg.Data).GetRecords()) != 5 {
		t.Errorf("the stream holds %v, %v", msg, err)
	}
}
