package metrics

import (
	"bytes"
	"context"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// folder is a store in a folder, so that a benchmark's memory is not the store's.
type folder struct{ dir string }

func (f folder) path(key string) string {
	return filepath.Join(f.dir, strings.ReplaceAll(key, "/", "_"))
}

func (f folder) Put(_ context.Context, key string, content io.ReadSeeker, _ int64) error {
	out, err := os.Create(f.path(key))
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	return out.Close()
}

func (f folder) Get(_ context.Context, key string) (io.ReadCloser, error) {
	in, err := os.Open(f.path(key))
	if os.IsNotExist(err) {
		return nil, errs.NotFound("OBJECT_NOT_FOUND", "no object %s", key)
	}
	return in, err
}

func (f folder) Delete(_ context.Context, key string) error { return os.Remove(f.path(key)) }

func (f folder) Ref(key string) string { return key }

type noLocks struct{}

func (noLocks) Lock(context.Context, string) (func(), error) { return func() {}, nil }

// store writes count records of one run, in segments as the ingester makes them.
func store(b *testing.B, count int) *results.Reader {
	b.Helper()
	f := folder{b.TempDir()}
	w := results.NewWriter(f, noLocks{})
	w.Reset(1)
	const perBatch = 256
	begin := time.Now()
	for n := 0; n*perBatch < count; n++ {
		batch := &typev1.InvocationBatch{Run: testRun, Invoker: "invokers/i1", Batch: int64(n)}
		for i := range perBatch {
			sequence := int64(n*perBatch + i)
			r := testRecord(sequence, begin)
			r.Result.OutputJson = `{"is_cold":false,"result":{"result":"ok"}}`
			r.Result.Stats.ColdStart = sequence%50 == 0
			r.Result.Times.ClientUs = 2000 + (sequence*7919)%5000
			r.Result.ProviderTimes = &typev1.ProviderTimes{ExecutionUs: proto.Int64(1500 + sequence%700)}
			r.Result.Billing = &typev1.ExecutionBilling{GbSeconds: proto.Float64(0.125)}
			batch.Records = append(batch.Records, r)
		}
		if err := w.Add(uint64(n+1), batch, perBatch*200); err != nil {
			b.Fatal(err)
		}
		if records, _ := w.Pending(); records >= 64<<10 {
			if _, err := w.Commit(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := w.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	r, err := results.NewReader(f, filepath.Join(b.TempDir(), "scratch"))
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// benchmarkRecords is a million, so that the benchmark is short; the time of ten million is ten times that.
const benchmarkRecords = 1_000_000

func BenchmarkRunStatistics(b *testing.B) {
	r := store(b, benchmarkRecords)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := runStatistics(b.Context(), r, testRun, "", testBook(b).Find("local", "", "x64")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchmarkRecords/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkCompact(b *testing.B) {
	r := store(b, benchmarkRecords/10)
	b.ResetTimer()
	for b.Loop() {
		// A change of rows has everything written again each time.
		if _, err := r.Rewrite(b.Context(), noLocks{}, testRun, results.Changes{Row: func(*results.Row) {}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchmarkRecords/10/b.Elapsed().Seconds(), "records/s")
}

// everything answers metrics for every request of a file.
type everything struct{ requests []string }

func (e everything) Metrics(context.Context, driver.MetricsQuery) iter.Seq2[driver.InvocationRecord, error] {
	return func(yield func(driver.InvocationRecord, error) bool) {
		d, memory := time.Millisecond, 128
		for _, id := range e.requests {
			if !yield(driver.InvocationRecord{RequestID: id, Duration: &d, Billed: &d, MemoryMB: &memory}, nil) {
				return
			}
		}
	}
}

func (e everything) Close() error { return nil }

func BenchmarkProcess10000Results(b *testing.B) {
	const count = 10_000
	raw := file(b, count, time.Now())
	var all everything
	for i := range count {
		all.requests = append(all.requests, testRecord(int64(i), time.Now()).GetResult().GetRequestId())
	}
	s := &service{scratch: b.TempDir(), prices: testBook(b), log: slog.New(slog.DiscardHandler), platforms: func(context.Context, string, driver.Scope) (providerMetrics, error) {
		return all, nil
	}}
	options, err := newFetchOptions(nil, nil, slog.New(slog.DiscardHandler), func(progress) {})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	var peak uint64
	b.ResetTimer()
	for b.Loop() {
		p, err := s.receive(bytes.NewReader(raw))
		if err != nil {
			b.Fatal(err)
		}
		if err := p.scan(); err != nil {
			b.Fatal(err)
		}
		if err := p.fill(b.Context(), "", options); err != nil {
			b.Fatal(err)
		}
		if err := p.write(io.Discard, p.collector(p.header)); err != nil {
			b.Fatal(err)
		}
		if p.outcome.found != count {
			b.Fatalf("found %d", p.outcome.found)
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		peak = max(peak, memory.HeapInuse)
		if err := p.close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(peak)/(1<<20), "heap-MB")
}
