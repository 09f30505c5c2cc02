package results

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/parquet-go/parquet-go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/google/go-cmp/cmp"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	natsserver "github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/resultstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store in memory whose writes can be made to fail.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	fail    func(key string) error
	puts    int
}

func newMemory() *memory { return &memory{objects: make(map[string][]byte)} }

func (m *memory) Put(_ context.Context, key string, content io.ReadSeeker, size int64) error {
	raw, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if int64(len(raw)) != size {
		return fmt.Errorf("%s: %d bytes announced, %d sent", key, size, len(raw))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(key); err != nil {
			return err
		}
	}
	m.objects[key] = raw
	m.puts++
	return nil
}

func (m *memory) Get(_ context.Context, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.objects[key]
	if !ok {
		return nil, errs.NotFound("OBJECT_NOT_FOUND", "no object %s", key)
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memory) Ref(key string) string { return "memory/" + key }

func (m *memory) setFail(f func(string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// locks are locks inside the process.
type locks struct{ mu sync.Mutex }

func (l *locks) Lock(context.Context, string) (func(), error) {
	l.mu.Lock()
	return l.mu.Unlock, nil
}

func (l *locks) LockContext(ctx context.Context, _ string) (context.Context, func(), error) {
	held, cancel := context.WithCancel(ctx)
	return held, cancel, nil
}

func record(run string, sequence int64) *typev1.InvocationRecord {
	begin := time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC).Add(time.Duration(sequence) * time.Millisecond)
	return &typev1.InvocationRecord{
		Run: run, Function: "platforms/local/deployments/d/functions/f", Trigger: typev1.TriggerType_TRIGGER_TYPE_HTTP,
		Invoker: "invokers/i", Sequence: sequence, Attempt: 1, StartedUnixNs: begin.UnixNano(), FinishedUnixNs: begin.UnixNano() + 5e6,
		HttpStatus: 200, Phase: "warm",
		Result: &typev1.ExecutionResult{
			RequestId:  fmt.Sprintf("r-%d", sequence),
			OutputJson: `{"result":{"result":1,"measurement":{"compute_time":12.5,"upload_time":3}}}`,
			Times: &typev1.ExecutionTimes{
				ClientUs: 5000 + sequence, ClientBegin: timestamppb.New(begin), ClientEnd: timestamppb.New(begin.Add(5 * time.Millisecond)),
				BenchmarkUs: proto.Int64(4000), HttpStartupSeconds: proto.Float64(0.001),
			},
			ProviderTimes: &typev1.ProviderTimes{},
			Stats:         &typev1.ExecutionStats{ColdStart: sequence%10 == 0},
			Billing:       &typev1.ExecutionBilling{},
		},
	}
}

func batch(run, invoker string, number, first int64, count int) *typev1.InvocationBatch {
	b := &typev1.InvocationBatch{Run: run, Invoker: invoker, Batch: number}
	for i := range count {
		b.Records = append(b.Records, record(run, first+int64(i)))
	}
	return b
}

func sequences(t *testing.T, r *Reader, run string) []int64 {
	t.Helper()
	var out []int64
	err := r.Scan(t.Context(), run, 0, func(_ int64, row *Row) (bool, error) {
		out = append(out, row.Sequence)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ascending(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func newReader(t testing.TB, store Store) *Reader {
	t.Helper()
	r, err := NewReader(store, filepath.Join(t.TempDir(), "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRowsKeepRecords(t *testing.T) {
	t.Parallel()
	full := record("runs/a", 7)
	full.Result.ProviderTimes = &typev1.ProviderTimes{ExecutionUs: proto.Int64(3), InitializationUs: proto.Int64(0)}
	full.Result.Stats.MemoryUsedMb = proto.Float64(71.5)
	full.Result.Billing = &typev1.ExecutionBilling{
		MemoryMb: proto.Int64(128), BilledTimeMs: proto.Int64(5), GbSeconds: proto.Float64(0.1), CostUsd: proto.Float64(1e-9), CostEstimated: true,
	}
	failed := &typev1.InvocationRecord{
		Run: "runs/a", Sequence: 8, ErrorClass: typev1.ErrorClass_ERROR_CLASS_TIMEOUT, ErrorMessage: "too slow",
		Result: &typev1.ExecutionResult{
			Times: &typev1.ExecutionTimes{}, ProviderTimes: &typev1.ProviderTimes{}, Stats: &typev1.ExecutionStats{Failure: true},
			Billing: &typev1.ExecutionBilling{},
		},
	}
	var file bytes.Buffer
	if err := encodeRows(&file, []Row{FromRecord(full), FromRecord(failed)}); err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[Row](bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*typev1.InvocationRecord{full, failed} {
		if diff := cmp.Diff(want, rows[i].Record(), protocmp.Transform()); diff != "" {
			t.Errorf("record %d changes (-want +got):\n%s", i, diff)
		}
	}
	if *rows[0].ComputeTimeUS != 12.5 || *rows[0].UploadTimeUS != 3 || rows[0].DownloadTimeUS != nil {
		t.Errorf("measurements = %v, %v, %v", rows[0].ComputeTimeUS, rows[0].UploadTimeUS, rows[0].DownloadTimeUS)
	}
}

func TestCommitAndCompact(t *testing.T) {
	t.Parallel()
	store, lock := newMemory(), &locks{}
	w, r := NewWriter(store, lock), newReader(t, store)
	w.Reset(1)
	random := rand.New(rand.NewPCG(1, 2))
	order := random.Perm(40)
	for position, n := range order {
		if err := w.Add(uint64(position+1), batch("runs/a", "invokers/i", int64(n), int64(n)*25, 25), 100); err != nil {
			t.Fatal(err)
		}
		if position%7 == 6 {
			if done, err := w.Commit(t.Context()); err != nil || done.Last != uint64(position+1) || done.Records != 7*25 {
				t.Fatalf("Commit = %+v, %v", done, err)
			}
		}
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(1000)) {
		t.Fatalf("records are not in order: %d of them", len(got))
	}
	m, err := r.Rewrite(t.Context(), lock, "runs/a", Changes{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Segments) != 1 || m.Count() != 1000 {
		t.Errorf("manifest = %+v", m)
	}
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(1000)) {
		t.Errorf("records are not in order after compaction: %d of them", len(got))
	}
	if keys := store.keys(); len(keys) != 2 {
		t.Errorf("old segments are left: %v", keys)
	}
	// What comes after compaction is added, what was there before is recognised.
	for _, b := range []*typev1.InvocationBatch{batch("runs/a", "invokers/i", 3, 75, 25), batch("runs/a", "invokers/i", 40, 1000, 5)} {
		if err := w.Add(uint64(100+b.GetBatch()), b, 100); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(1005)) {
		t.Errorf("%d records after a batch came twice", len(got))
	}
	var tail []int64
	err = r.Scan(t.Context(), "runs/a", 1000, func(position int64, row *Row) (bool, error) {
		tail = append(tail, position, row.Sequence)
		return len(tail) < 4, nil
	})
	if err != nil || !slices.Equal(tail, []int64{1000, 1000, 1001, 1001}) {
		t.Errorf("scan from 1000 = %v, %v", tail, err)
	}
}

func TestManySegmentsAreFolded(t *testing.T) {
	t.Parallel()
	store, lock := newMemory(), &locks{}
	w, r := NewWriter(store, lock), newReader(t, store)
	w.Reset(1)
	const rounds = foldSegments + 25
	for n := range int64(rounds) {
		if err := w.Add(uint64(n+1), batch("runs/a", "invokers/i", n, n*3, 3), 1); err != nil {
			t.Fatal(err)
		}
		done, err := w.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range done.Crowded {
			if err := r.Fold(t.Context(), lock, run); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(rounds*3)) {
		t.Errorf("%d records", len(got))
	}
	if keys := store.keys(); len(keys) > foldSegments+1 {
		t.Errorf("%d objects are left", len(keys))
	}
	scratch, err := os.ReadDir(r.scratch)
	if err != nil || len(scratch) != 0 {
		t.Errorf("scratch files are left: %v, %v", scratch, err)
	}
}

func TestRewriteChangesRows(t *testing.T) {
	t.Parallel()
	store, lock := newMemory(), &locks{}
	w, r := NewWriter(store, lock), newReader(t, store)
	w.Reset(1)
	if err := w.Add(1, batch("runs/a", "invokers/i", 0, 0, 2000), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	missing := int64(3)
	changes := Changes{Missing: &missing, Row: func(row *Row) {
		row.Apply(&Provider{ExecutionUS: proto.Int64(row.Sequence), BilledTimeMS: proto.Int64(1000), BilledMemoryMB: proto.Int64(512)})
	}}
	if _, err := r.Rewrite(t.Context(), lock, "runs/a", changes); err != nil {
		t.Fatal(err)
	}
	err := r.Scan(t.Context(), "runs/a", 0, func(_ int64, row *Row) (bool, error) {
		if *row.ProviderExecutionUS != row.Sequence || *row.GBSeconds != 0.5 || *row.BenchmarkUS != 4000 {
			return false, fmt.Errorf("row %d = %+v", row.Sequence, row)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
	if m, err := r.Manifest(t.Context(), "runs/a"); err != nil || *m.Missing != 3 {
		t.Errorf("manifest = %+v, %v", m, err)
	}
}

func TestRunNamesCannotLeaveTheirFolder(t *testing.T) {
	t.Parallel()
	r := newReader(t, newMemory())
	for _, name := range []string{"", "runs/", "runs/..", "runs/a/b", "runs/../x", "runs/a b", `runs/a\b`} {
		if _, err := r.Manifest(t.Context(), name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if m, err := r.Manifest(t.Context(), "runs/none"); err != nil || m.Count() != 0 {
		t.Errorf("a run without results = %+v, %v", m, err)
	}
}

func TestColumnsGiveEveryRow(t *testing.T) {
	t.Parallel()
	store := newMemory()
	w, r := NewWriter(store, &locks{}), newReader(t, store)
	w.Reset(1)
	for n := range int64(5) {
		if err := w.Add(uint64(n+1), batch("runs/a", "invokers/i", n, n*2000, 2000), 1); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{"client_us", "provider_execution_us", "function"}
	// Each visitor has figures of its own.
	var rows, sum, nulls [3]int64
	var visitors []func([][]parquet.Value) error
	for k := range rows {
		visitors = append(visitors, func(columns [][]parquet.Value) error {
			for i := range columns[0] {
				rows[k]++
				sum[k] += columns[0][i].Int64()
				if columns[1][i].IsNull() {
					nulls[k]++
				}
				if got := string(columns[2][i].ByteArray()); got != "platforms/local/deployments/d/functions/f" {
					return fmt.Errorf("function = %q", got)
				}
			}
			return nil
		})
	}
	err := r.Columns(t.Context(), "runs/a", names, visitors)
	total := func(values [3]int64) int64 { return values[0] + values[1] + values[2] }
	if err != nil || total(rows) != 10_000 || total(nulls) != 10_000 || total(sum) != 5000*10_000+9999*10_000/2 {
		t.Errorf("%v rows, %v nulls, sums %v, %v", rows, nulls, sum, err)
	}
	if rows[0] == 0 || rows[1] == 0 || rows[2] == 0 {
		t.Errorf("a visitor got nothing: %v", rows)
	}
	if err := r.Columns(t.Context(), "runs/a", []string{"no_such"}, visitors); err == nil {
		t.Error("an unknown column is read")
	}
}

// startBus starts NATS for a test.
func startBus(t *testing.T) *events.Bus {
	t.Helper()
	server, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	bus, err := events.Open(events.Config{URLs: []string{server.URL()}, Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Conn().Close() })
	return bus
}

func publish(t *testing.T, bus *events.Bus, b *typev1.InvocationBatch, id string) {
	t.Helper()
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg(resultstream.SubjectPrefix + "a.i")
	msg.Data = encoder.EncodeAll(raw, nil)
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := bus.PublishMsg(t.Context(), msg, id); err != nil {
		t.Fatal(err)
	}
}

// ingesting runs an ingester until stop is called.
func ingesting(t *testing.T, bus *events.Bus, store Store) (i *Ingester, w *Writer, stop func()) {
	t.Helper()
	lock := &locks{}
	w = NewWriter(store, lock)
	limits := DefaultIngestLimits()
	limits.Linger, limits.MaxLinger = 5*time.Millisecond, 20*time.Millisecond
	i, err := NewIngester(IngestOptions{
		Bus: bus, Leader: lock, Locks: lock, Writer: w, Reader: newReader(t, store), Limits: limits,
		Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	i.retry = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return i, w, stop
}

// eventually polls until the run has so many records.
func eventually(t *testing.T, r *Reader, run string, count int64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		m, err := r.Manifest(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		if m.Count() >= count {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %d of %d records", run, m.Count(), count)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestIngestStoresEveryRecordOnce(t *testing.T) {
	t.Parallel()
	bus, store := startBus(t), newMemory()
	r := newReader(t, store)
	stream, err := bus.EnsureStream(t.Context(), resultstream.Config())
	if err != nil {
		t.Fatal(err)
	}
	_, _, stop := ingesting(t, bus, store)
	for n := range int64(20) {
		publish(t, bus, batch("runs/a", "invokers/i", n, n*50, 50), "")
		if n%3 == 0 {
			// The publisher did not hear the answer.
			publish(t, bus, batch("runs/a", "invokers/i", n, n*50, 50), "")
		}
	}
	eventually(t, r, "runs/a", 1000)
	stop()
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(1000)) {
		t.Errorf("%d records", len(got))
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 0 {
		t.Errorf("stored batches stay in the stream: %+v, %v", info.State, err)
	}
}

func TestIngestSurvivesAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	bus, store := startBus(t), newMemory()
	r := newReader(t, store)
	if _, err := bus.EnsureStream(t.Context(), resultstream.Config()); err != nil {
		t.Fatal(err)
	}
	failures := make(chan struct{}, 100)
	store.setFail(func(string) error {
		select {
		case failures <- struct{}{}:
		default:
		}
		return errs.Unavailable("STORE_AWAY", "the store is away")
	})
	_, _, stop := ingesting(t, bus, store)
	for n := range int64(4) {
		publish(t, bus, batch("runs/a", "invokers/i", n, n*50, 50), "")
	}
	for range 3 {
		<-failures
	}
	// The process ends while the store is away, and another takes over.
	stop()
	store.setFail(nil)
	ingesting(t, bus, store)
	eventually(t, r, "runs/a", 200)
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(200)) {
		t.Errorf("%d records", len(got))
	}
}

func TestIngestRecognisesWhatWasStoredBeforeACrash(t *testing.T) {
	t.Parallel()
	bus, store := startBus(t), newMemory()
	r := newReader(t, store)
	if _, err := bus.EnsureStream(t.Context(), resultstream.Config()); err != nil {
		t.Fatal(err)
	}
	// The first process stored the batches and died before the stream forgot them.
	w := NewWriter(store, &locks{})
	w.Reset(1)
	for n := range int64(5) {
		b := batch("runs/a", "invokers/i", n, n*10, 10)
		publish(t, bus, b, "")
		if err := w.Add(uint64(n+1), b, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ingesting(t, bus, store)
	publish(t, bus, batch("runs/a", "invokers/i", 5, 50, 10), "")
	eventually(t, r, "runs/a", 60)
	if got := sequences(t, r, "runs/a"); !slices.Equal(got, ascending(60)) {
		t.Errorf("records = %v", got)
	}
}

func TestIngestLeavesOutWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	bus, store := startBus(t), newMemory()
	r := newReader(t, store)
	stream, err := bus.EnsureStream(t.Context(), resultstream.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"not a batch", zstdMagic + "broken", ""} {
		msg := nats.NewMsg(resultstream.SubjectPrefix + "a.i")
		msg.Data = []byte(data)
		if err := bus.PublishMsg(t.Context(), msg, ""); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, bus, batch("runs/../escape", "invokers/i", 0, 0, 1), "")
	publish(t, bus, batch("runs/a", "invokers/i", 0, 0, 10), "")
	_, _, stop := ingesting(t, bus, store)
	eventually(t, r, "runs/a", 10)
	stop()
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("the stream holds %+v, %v", info.State, err)
	}
	for _, key := range store.keys() {
		if want := "results/a/"; key[:len(want)] != want {
			t.Errorf("stored %s", key)
		}
	}
}

func TestStreamConfigRefusesWhenFull(t *testing.T) {
	t.Parallel()
	if c := resultstream.Config(); c.Discard != jetstream.DiscardNew || c.MaxBytes <= 0 {
		t.Errorf("config = %+v", c)
	}
}
