package metrics

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

func TestExportFetchesOutputsThatTravelByReference(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	const ref = suiteDeployment + "/buckets/payloads" + refSeparator + "outputs/1.json"
	n.storage.mu.Lock()
	n.storage.objects[ref] = []byte(`{"request_id":"req-000","is_cold":true,"result":{"result":"large"}}`)
	n.storage.mu.Unlock()
	send := func(run, ref string) {
		t.Helper()
		r := testRecord(0, time.Now())
		r.Result.OutputJson, r.Result.OutputRef = "", ref
		batch := &typev1.InvocationBatch{Run: run, Invoker: "invokers/i1", Records: []*typev1.InvocationRecord{r}}
		if _, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: batch}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CompactRun(t.Context(), &metricsv1.CompactRunRequest{Run: run, ExpectedCount: 1}); err != nil {
			t.Fatal(err)
		}
	}
	send(testRun, ref)
	e, err := sebsformat.Read(bytes.NewReader(exported(t, client, metricsv1.ExportRunRequest_FORMAT_SEBS_JSON)), sebsformat.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if output := string(e.Invocations["f1"]["req-000"].Output); !strings.Contains(output, "large") {
		t.Errorf("output = %s", output)
	}
	// A reference leads into the suite's own buckets only.
	send("runs/r2", "platforms/local/deployments/abc/buckets/b/objects/secret")
	stream, err := client.ExportRun(t.Context(), &metricsv1.ExportRunRequest{Run: "runs/r2"})
	if err == nil {
		_, err = stream.Recv()
	}
	if !errs.Is(err, codes.DataLoss) {
		t.Errorf("a reference to a measured platform: %v", err)
	}
}

func TestDamagedManifestsAreNamed(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	for content, code := range map[string]codes.Code{"{": codes.DataLoss, `{"format":99}`: codes.FailedPrecondition} {
		n.storage.mu.Lock()
		n.storage.objects[bucketName()+refSeparator+"results/bad/manifest.json"] = []byte(content)
		n.storage.mu.Unlock()
		_, err := client.GetStatistics(t.Context(), &metricsv1.GetStatisticsRequest{Run: "runs/bad"})
		if !errs.Is(err, code) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: %v", content, err)
		}
	}
}
