package metrics

import (
	"testing"
	"time"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
)

// TestAnotherProcessTakesOver runs two replicas: either answers for all results, and when the one that reads the stream ends, the
// other goes on where it stopped.
func TestAnotherProcessTakesOver(t *testing.T) {
	t.Parallel()
	backends := apptest.NewBackends(t)
	apptest.StartWith(t, apptest.Options{Backends: backends, Name: "neighbours"}, newNeighbours().setup)
	first := apptest.StartWith(t, apptest.Options{Backends: backends, Name: "metrics-1"}, Setup)
	second := apptest.StartWith(t, apptest.Options{Backends: backends, Name: "metrics-2"}, Setup)
	send := func(client metricsv1.MetricsServiceClient, number int64) {
		t.Helper()
		batch := &typev1.InvocationBatch{Run: testRun, Invoker: "invokers/i1", Batch: number}
		for i := range int64(20) {
			batch.Records = append(batch.Records, testRecord(number*20+i, time.Now()))
		}
		if _, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: batch}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := metricsv1.NewMetricsServiceClient(first.Conn("metrics")), metricsv1.NewMetricsServiceClient(second.Conn("metrics"))
	for n := range int64(5) {
		send(one, n)
	}
	statistics, err := two.GetStatistics(t.Context(), &metricsv1.GetStatisticsRequest{Run: testRun, WaitForCount: 100})
	if err != nil || statistics.GetFunctions()[0].GetCount() != 100 {
		t.Fatalf("statistics of the other replica = %v, %v", statistics, err)
	}
	for n := range int64(5) {
		send(two, 5+n)
	}
	first.Stop()
	compacted, err := two.CompactRun(t.Context(), &metricsv1.CompactRunRequest{Run: testRun, ExpectedCount: 200})
	if err != nil || compacted.GetStoredCount() != 200 {
		t.Errorf("after the take-over: %v, %v", compacted, err)
	}
}
