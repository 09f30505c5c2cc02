package results

import (
	"log/slog"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

func BenchmarkIngest(b *testing.B) {
	store := newMemory()
	raw, err := proto.Marshal(batch("runs/a", "invokers/i", 0, 0, 256))
	if err != nil {
		b.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	data := encoder.EncodeAll(raw, nil)
	if err := encoder.Close(); err != nil {
		b.Fatal(err)
	}
	w := NewWriter(store, &locks{})
	w.Reset(1)
	i, err := NewIngester(IngestOptions{
		Writer: w, Limits: DefaultIngestLimits(), Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer i.decoder.Close()
	var n int64
	b.ReportAllocs()
	for b.Loop() {
		decoded, size, err := i.decode(data)
		if err != nil {
			b.Fatal(err)
		}
		decoded.Batch = n
		n++
		if err := w.Add(uint64(n), decoded, size); err != nil {
			b.Fatal(err)
		}
		if n%256 == 0 {
			if _, err := w.Commit(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(n*256)/b.Elapsed().Seconds(), "records/s")
}
