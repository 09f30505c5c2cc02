package e2e

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// resultsSubjects are where invokers publish batches of records: sebs.v1.results.<run id>.<invoker>.
const resultsSubjects = "sebs.v1.results.>"

// ledger notes what invokers publish, beside the stream that the metrics service reads and empties.
type ledger struct {
	mu        sync.Mutex
	published map[string]map[string]bool
	problems  []error
}

// watchResults starts to note what is published.
func watchResults(t *testing.T, s *stand.Suite) *ledger {
	t.Helper()
	l := &ledger{published: make(map[string]map[string]bool)}
	conn, err := nats.Connect(s.NATS.URL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(decoder.Close)
	if _, err := conn.Subscribe(resultsSubjects, func(msg *nats.Msg) { l.note(decoder, msg.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) note(decoder *zstd.Decoder, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := &typev1.InvocationBatch{}
	raw, err := decoder.DecodeAll(data, nil)
	if err == nil {
		err = proto.Unmarshal(raw, batch)
	}
	if err != nil {
		l.problems = append(l.problems, err)
		return
	}
	if l.published[batch.GetRun()] == nil {
		l.published[batch.GetRun()] = make(map[string]bool)
	}
	for _, record := range batch.GetRecords() {
		l.published[batch.GetRun()][identity(record)] = true
	}
}

// of returns what was published of a run.
func (l *ledger) of(t *testing.T, run string) map[string]bool {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.problems {
		t.Errorf("a published batch cannot be read: %v", err)
	}
	return maps.Clone(l.published[run])
}

// identity tells invocations of a run apart.
func identity(record *typev1.InvocationRecord) string {
	return fmt.Sprintf("%s/%d/%s", record.GetPhase(), record.GetSequence(), record.GetResult().GetRequestId())
}

// nothingLost checks that the metrics service has exactly what was published for a run.
func (l *ledger) nothingLost(ctx context.Context, t *testing.T, s *stand.Suite, run string) int {
	t.Helper()
	want := l.of(t, run)
	client := metricsv1.NewMetricsServiceClient(s.Dial())
	stand.Await(ctx, t, fmt.Sprintf("%d results of %s", len(want), run), func() bool {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		page, err := client.ListInvocations(short, &metricsv1.ListInvocationsRequest{Parent: run, PageSize: 1000})
		return (err == nil && len(page.GetRecords()) >= len(want)) || len(want) == 0
	})
	if len(want) == 0 {
		return 0
	}
	got := make(map[string]bool)
	for _, record := range invocations(ctx, t, s, run) {
		if got[identity(record)] {
			t.Errorf("%s: %s is there twice", run, identity(record))
		}
		got[identity(record)] = true
	}
	for id := range want {
		if !got[id] {
			t.Errorf("%s: %s was published and is lost", run, id)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d results of %d published", run, len(got), len(want))
	}
	return len(got)
}
