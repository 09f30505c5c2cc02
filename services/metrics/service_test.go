package metrics

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

const (
	testRun        = "runs/r1"
	testDeployment = "platforms/local/deployments/abc"
	testFunction   = testDeployment + "/functions/f1"
)

func testRecord(sequence int64, begin time.Time) *typev1.InvocationRecord {
	phase := "warm"
	if sequence == 0 {
		phase = "cold"
	}
	r := &typev1.InvocationRecord{
		Run: testRun, Function: testFunction, Trigger: typev1.TriggerType_TRIGGER_TYPE_HTTP, Invoker: "invokers/i1", Sequence: sequence, Attempt: 1,
		StartedUnixNs: begin.UnixNano(), FinishedUnixNs: begin.Add(2 * time.Millisecond).UnixNano(), HttpStatus: 200, Phase: phase,
		Result: &typev1.ExecutionResult{
			RequestId: fmt.Sprintf("req-%03d", sequence), OutputJson: `{"is_cold":false,"result":{"result":"ok","measurement":{"compute_time":7}}}`,
			Times: &typev1.ExecutionTimes{
				ClientUs: 2000 + sequence, ClientBegin: timestamppb.New(begin), ClientEnd: timestamppb.New(begin.Add(2 * time.Millisecond)),
				BenchmarkUs: proto.Int64(1000), HttpStartupSeconds: proto.Float64(0.0001), HttpFirstByteReturnSeconds: proto.Float64(0.0019),
			},
			Stats: &typev1.ExecutionStats{ColdStart: sequence == 0},
		},
	}
	return r
}

// fill sends a run of n good calls and one failed one, and tells the neighbours about it.
func fill(t *testing.T, client metricsv1.MetricsServiceClient, n *neighbours, count int64) time.Time {
	t.Helper()
	begin := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	batch := &typev1.InvocationBatch{Run: testRun, Invoker: "invokers/i1"}
	for i := range count {
		at := begin.Add(time.Duration(i) * time.Millisecond)
		batch.Records = append(batch.Records, testRecord(i, at))
		inv := &localv1.LocalInvocation{
			RequestId: fmt.Sprintf("req-%03d", i), FunctionId: "f1", StartTime: timestamppb.New(at), DurationUs: 1500, BilledMs: 1000, MemoryMb: 512,
			MaxMemoryUsedMb: proto.Float64(40 + float64(i)), ColdStart: i == 0,
		}
		if i == 0 {
			inv.InitDurationUs = proto.Int64(99)
		}
		n.local.invocations["f1"] = append(n.local.invocations["f1"], inv)
	}
	failed := testRecord(count, begin.Add(time.Duration(count)*time.Millisecond))
	failed.ErrorClass, failed.ErrorMessage = typev1.ErrorClass_ERROR_CLASS_TIMEOUT, "no answer"
	failed.Result = &typev1.ExecutionResult{RequestId: "failed-0", Stats: &typev1.ExecutionStats{Failure: true}}
	batch.Records = append(batch.Records, failed)
	n.experiments.runs[testRun] = &experimentsv1.Run{
		Name: testRun, Deployment: testDeployment, StartTime: timestamppb.New(begin), EndTime: timestamppb.New(begin.Add(time.Second)),
		Request: &experimentsv1.CreateRunRequest{Target: &experimentsv1.Target{
			Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.12"},
			Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE,
		}},
	}
	n.deployer.deployments[testDeployment] = &typev1.Deployment{
		Name: testDeployment, Platform: "local", ResourcesId: "abc",
		Buckets: []*typev1.BucketBinding{{Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, Bucket: "sebs-benchmarks-abc"}},
	}
	// Sent twice, as a client does that did not hear the first answer.
	for range 2 {
		answer, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: batch})
		if err != nil || answer.GetStoredCount() != count+1 {
			t.Fatalf("IngestInvocations = %v, %v", answer, err)
		}
	}
	compacted, err := client.CompactRun(t.Context(), &metricsv1.CompactRunRequest{Run: testRun, ExpectedCount: count + 1})
	if err != nil || compacted.GetStoredCount() != count+1 {
		t.Fatalf("CompactRun = %v, %v", compacted, err)
	}
	if _, ok := n.storage.get(compacted.GetObjectRef()); !ok {
		t.Errorf("there is no object %s", compacted.GetObjectRef())
	}
	return begin
}

func wait(t *testing.T, r *apptest.Running, op *longrunningpb.Operation, into proto.Message) {
	t.Helper()
	op, err := operations.Wait(t.Context(), longrunningpb.NewOperationsClient(r.Conn("metrics")), op, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := operations.Result(op, into); err != nil {
		t.Fatal(err)
	}
}

func TestRunFromIngestToExport(t *testing.T) {
	t.Parallel()
	client, n, running := start(t)
	fill(t, client, n, 40)

	stats, err := client.GetStatistics(t.Context(), &metricsv1.GetStatisticsRequest{Run: testRun, WaitForCount: 41})
	if err != nil {
		t.Fatal(err)
	}
	f := stats.GetFunctions()[0]
	if f.GetCount() != 41 || f.GetFailureCount() != 1 || f.GetFailures()["timeout"] != 1 || f.CostUsd != nil {
		t.Errorf("statistics = %v", f)
	}
	if len(f.GetGroups()) != 2 || !f.GetGroups()[0].GetColdStart() || f.GetGroups()[0].GetCount() != 1 || f.GetGroups()[1].GetCount() != 39 {
		t.Errorf("groups = %v", f.GetGroups())
	}
	client1 := f.GetGroups()[1].GetSeries()[0]
	if client1.GetName() != "client_exec" || client1.GetUnit() != "us" || client1.GetMedian() != 2020 || len(client1.GetIntervals()) != 4 {
		t.Errorf("series = %v", client1)
	}

	n.local.mu.Lock()
	n.local.late = 2
	n.local.mu.Unlock()
	op, err := client.DownloadMetrics(t.Context(), &metricsv1.DownloadMetricsRequest{Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	response := &metricsv1.DownloadMetricsResponse{}
	wait(t, running, op, response)
	if response.GetFoundCount() != 40 || response.GetMissingCount() != 0 {
		t.Errorf("download = %v", response)
	}
	if got := response.GetMetrics()["f1"].GetFields()["billed_time_ms"].GetNumberValue(); got != 40_000 {
		t.Errorf("billed time = %v", got)
	}
	stats, err = client.GetStatistics(t.Context(), &metricsv1.GetStatisticsRequest{Run: testRun})
	if err != nil {
		t.Fatal(err)
	}
	f = stats.GetFunctions()[0]
	want := 20*0.0000166667 + 40*0.0000002
	if f.GetGbSeconds() != 20 || !f.GetCostEstimated() || f.GetCostUsd() < want*0.999 || f.GetCostUsd() > want*1.001 {
		t.Errorf("cost %v (estimated %v) for %v GB-seconds", f.GetCostUsd(), f.GetCostEstimated(), f.GetGbSeconds())
	}
	checkExports(t, client)
}

func exported(t *testing.T, client metricsv1.MetricsServiceClient, format metricsv1.ExportRunRequest_Format) []byte {
	t.Helper()
	stream, err := client.ExportRun(t.Context(), &metricsv1.ExportRunRequest{Run: testRun, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	return collect(t, stream)
}

func collect(t *testing.T, stream grpc.ServerStreamingClient[httpbody.HttpBody]) []byte {
	t.Helper()
	var out []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, part.GetData()...)
	}
}

func checkExports(t *testing.T, client metricsv1.MetricsServiceClient) {
	t.Helper()
	e, err := sebsformat.Read(bytes.NewReader(exported(t, client, metricsv1.ExportRunRequest_FORMAT_SEBS_JSON)), sebsformat.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inv := e.Invocations["f1"]["req-003"]
	if len(e.Invocations["f1"]) != 41 || *inv.ProviderTimes.ExecutionMicros != 1500 || *inv.Billing.BilledTimeMS != 1000 || *inv.Stats.MemoryUsedMB != 43 {
		t.Errorf("%d invocations, %+v", len(e.Invocations["f1"]), inv)
	}
	if failed := e.Invocations["f1"]["failed-40"]; failed == nil || !failed.Stats.Failure {
		t.Errorf("the failed call = %+v", failed)
	}
	if e.Config.Platform() != "local" || e.Config.Buckets()["benchmarks"] != "sebs-benchmarks-abc" || e.Config.Experiments.Runtime.Version != "3.12" || e.Metrics["f1"] == nil {
		t.Errorf("header = %+v", e.Header)
	}
	rows, err := csv.NewReader(bytes.NewReader(exported(t, client, metricsv1.ExportRunRequest_FORMAT_CSV))).ReadAll()
	if err != nil || len(rows) != 42 || len(rows[0]) != len(csvColumns) {
		t.Errorf("CSV has %d lines, %v", len(rows), err)
	}
	raw := exported(t, client, metricsv1.ExportRunRequest_FORMAT_PARQUET)
	table, err := parquet.Read[results.Row](bytes.NewReader(raw), int64(len(raw)))
	if err != nil || len(table) != 41 || table[40].ErrorMessage != "no answer" {
		t.Errorf("Parquet has %d rows, %v", len(table), err)
	}
	lines := strings.Split(strings.TrimSpace(string(exported(t, client, metricsv1.ExportRunRequest_FORMAT_JSON_LINES))), "\n")
	record := &typev1.InvocationRecord{}
	if err := protojson.Unmarshal([]byte(lines[5]), record); err != nil || len(lines) != 41 || record.GetSequence() != 5 {
		t.Errorf("JSON lines: %d, %v, %v", len(lines), record, err)
	}
}

func TestListPagesAndFilters(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	fill(t, client, n, 40)
	seen, pages := 0, 0
	in := &metricsv1.ListInvocationsRequest{Parent: testRun, PageSize: 7, Failure: proto.Bool(false), Phase: "warm"}
	for {
		page, err := client.ListInvocations(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, r := range page.GetRecords() {
			seen++
			if r.GetSequence() != int64(seen) {
				t.Errorf("record %d has sequence %d", seen, r.GetSequence())
			}
		}
		if in.PageToken = page.GetNextPageToken(); in.PageToken == "" {
			break
		}
	}
	if seen != 39 || pages != 6 {
		t.Errorf("%d records on %d pages", seen, pages)
	}
	first, err := client.ListInvocations(t.Context(), &metricsv1.ListInvocationsRequest{Parent: testRun, PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, request := range map[string]*metricsv1.ListInvocationsRequest{
		"other filter": {Parent: testRun, Phase: "cold", PageToken: first.GetNextPageToken()},
		"no token":     {Parent: testRun, PageToken: "abc"},
		"bad run":      {Parent: "runs/../x"},
	} {
		if _, err := client.ListInvocations(t.Context(), request); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cold, err := client.ListInvocations(t.Context(), &metricsv1.ListInvocationsRequest{Parent: testRun, ColdStart: proto.Bool(true)})
	if err != nil || len(cold.GetRecords()) != 1 {
		t.Errorf("cold = %v, %v", cold, err)
	}
}

func TestCompactionLeavesOtherRunsAlone(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	fill(t, client, n, 3)
	before := n.storage.digests()
	batch := &typev1.InvocationBatch{Run: "runs/r2", Invoker: "invokers/i1", Records: []*typev1.InvocationRecord{{Run: "runs/r2", Function: testFunction}}}
	if _, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: batch}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CompactRun(t.Context(), &metricsv1.CompactRunRequest{Run: "runs/r2", ExpectedCount: 1}); err != nil {
		t.Fatal(err)
	}
	after := n.storage.digests()
	maps.DeleteFunc(after, func(ref string, _ [32]byte) bool { return strings.Contains(ref, "/r2/") })
	if !maps.Equal(before, after) {
		t.Errorf("objects of another run changed: %v, %v", before, after)
	}
}

// file writes a result file of count invocations.
func file(t testing.TB, count int, begin time.Time) []byte {
	t.Helper()
	e := &sebsformat.Experiment{}
	e.BeginSeconds, e.EndSeconds = float64(begin.Unix()), float64(begin.Unix()+60)
	e.Config.Deployment = map[string]any{"name": "local", "region": "", "resources": map[string]any{}}
	e.Config.Experiments = sebsformat.ExperimentsConfig{Architecture: "x64"}
	for i := range count {
		e.Add("f1", sebsformat.FromRecord(testRecord(int64(i), begin.Add(time.Duration(i)*time.Millisecond))))
	}
	var out bytes.Buffer
	if err := sebsformat.Write(&out, e); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDownloadMetricsFillsAFile(t *testing.T) {
	t.Parallel()
	client, n, running := start(t)
	begin := fill(t, client, n, 10)
	// Two requests are not known to the platform; the calls are recent, so it is asked until the wait is over.
	op, err := client.DownloadMetrics(t.Context(), &metricsv1.DownloadMetricsRequest{
		ResultsJson: file(t, 12, begin), Wait: durationpb.New(300 * time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	response := &metricsv1.DownloadMetricsResponse{}
	wait(t, running, op, response)
	if response.GetFoundCount() != 10 || response.GetMissingCount() != 2 || response.GetMissingRequestIds()[1] != "req-011" {
		t.Errorf("response = %v", response)
	}
	e, err := sebsformat.Read(bytes.NewReader(response.GetResultsJson()), sebsformat.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if inv := e.Invocations["f1"]["req-000"]; *inv.ProviderTimes.InitializationMicros != 99 || *inv.Billing.GBSeconds != 0.5 {
		t.Errorf("invocation = %+v", inv)
	}
	if inv := e.Invocations["f1"]["req-011"]; inv.ProviderTimes.ExecutionMicros != nil || inv.Billing.GBSeconds != nil {
		t.Errorf("invocation without metrics = %+v", inv)
	}
}

func TestLargeFilesAreAnsweredByReference(t *testing.T) {
	t.Parallel()
	client, n, running := start(t)
	begin := fill(t, client, n, 300)
	raw := file(t, 300, begin)
	op, err := client.DownloadMetrics(t.Context(), &metricsv1.DownloadMetricsRequest{ResultsJson: raw, Deployment: testDeployment})
	if err != nil {
		t.Fatal(err)
	}
	response := &metricsv1.DownloadMetricsResponse{}
	wait(t, running, op, response)
	stored, ok := n.storage.get(response.GetResultsRef())
	if !ok || len(response.GetResultsJson()) != 0 || len(stored) < len(raw) {
		t.Fatalf("reference %q leads to %d bytes", response.GetResultsRef(), len(stored))
	}
	e, err := sebsformat.Read(bytes.NewReader(stored), sebsformat.ReadOptions{})
	if err != nil || len(e.Invocations["f1"]) != 300 {
		t.Errorf("%d invocations, %v", len(e.Invocations["f1"]), err)
	}
}

// processed sends a file and returns the filled one with its summary.
func processed(t *testing.T, client metricsv1.MetricsServiceClient, options *metricsv1.ProcessResultsOptions, raw []byte) ([]byte, *metricsv1.ProcessResultsSummary, error) {
	t.Helper()
	stream, err := client.ProcessResults(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&metricsv1.ProcessResultsRequest{Part: &metricsv1.ProcessResultsRequest_Options{Options: options}})
	for err == nil && len(raw) > 0 {
		n := min(len(raw), 100_000)
		err = stream.Send(&metricsv1.ProcessResultsRequest{Part: &metricsv1.ProcessResultsRequest_Chunk{Chunk: raw[:n]}})
		raw = raw[n:]
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var out []byte
	for {
		part, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		out = append(out, part.GetChunk()...)
		if part.GetSummary() != nil {
			return out, part.GetSummary(), nil
		}
	}
}

func TestProcessResults(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	begin := fill(t, client, n, 100)
	raw, summary, err := processed(t, client, &metricsv1.ProcessResultsOptions{}, file(t, 100, begin))
	if err != nil {
		t.Fatal(err)
	}
	if summary.GetFoundCount() != 100 || summary.GetMissingCount() != 0 || summary.GetStatistics().GetFunctions()[0].GetGbSeconds() != 50 {
		t.Errorf("summary = %v", summary)
	}
	e, err := sebsformat.Read(bytes.NewReader(raw), sebsformat.ReadOptions{})
	if err != nil || len(e.Invocations["f1"]) != 100 || e.Metrics["f1"] == nil {
		t.Fatalf("%d invocations, %v", len(e.Invocations["f1"]), err)
	}
	_, only, err := processed(t, client, &metricsv1.ProcessResultsOptions{StatisticsOnly: true}, raw)
	if diff := cmp.Diff(summary.GetStatistics(), only.GetStatistics(), protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("statistics of the filled file differ (-filled +only): %v\n%s", err, diff)
	}
	computed, err := client.ComputeStatistics(t.Context(), &metricsv1.ComputeStatisticsRequest{ResultsJson: raw})
	if diff := cmp.Diff(summary.GetStatistics(), computed, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("ComputeStatistics differs (-filled +computed): %v\n%s", err, diff)
	}
	// Keys that are not in order are put in order.
	unsorted := bytes.Replace(raw, []byte(`"req-000": {`), []byte(`"zzz": {`), 1)
	raw, _, err = processed(t, client, &metricsv1.ProcessResultsOptions{}, unsorted)
	if err != nil || bytes.Index(raw, []byte(`"zzz"`)) < bytes.Index(raw, []byte(`"req-099"`)) {
		t.Errorf("the file is not in order: %v", err)
	}
}

func TestProcessResultsRefuses(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	begin := fill(t, client, n, 3)
	good := file(t, 3, begin)
	for name, c := range map[string]struct {
		options *metricsv1.ProcessResultsOptions
		raw     []byte
		code    codes.Code
		text    string
	}{
		"not JSON":         {&metricsv1.ProcessResultsOptions{}, []byte("hello"), codes.InvalidArgument, "not JSON"},
		"empty":            {&metricsv1.ProcessResultsOptions{}, nil, codes.InvalidArgument, "ends too early"},
		"no platform":      {&metricsv1.ProcessResultsOptions{}, bytes.Replace(good, []byte(`"name": "local"`), []byte(`"name": ""`), 1), codes.InvalidArgument, "deployment"},
		"cloud":            {&metricsv1.ProcessResultsOptions{}, bytes.Replace(good, []byte(`"name": "local"`), []byte(`"name": "gcp"`), 1), codes.Unimplemented, "gcp"},
		"unknown platform": {&metricsv1.ProcessResultsOptions{}, bytes.Replace(good, []byte(`"name": "local"`), []byte(`"name": "moon"`), 1), codes.InvalidArgument, "moon"},
		"negative":         {&metricsv1.ProcessResultsOptions{Wait: durationpb.New(-1)}, good, codes.InvalidArgument, "negative"},
	} {
		_, _, err := processed(t, client, c.options, c.raw)
		if !errs.Is(err, c.code) || !strings.Contains(fmt.Sprint(err), c.text) && len(errs.Violations(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A function that is gone has no metrics any more; that is no failure.
	gone := bytes.Replace(good, []byte(`"f1": {`), []byte(`"f2": {`), 1)
	_, summary, err := processed(t, client, &metricsv1.ProcessResultsOptions{}, gone)
	if err != nil || summary.GetMissingCount() != 3 {
		t.Errorf("a function that is gone: %v, %v", summary, err)
	}
}

func TestUnknownRunsAndPrices(t *testing.T) {
	t.Parallel()
	client, _, _ := start(t)
	stream, err := client.ExportRun(t.Context(), &metricsv1.ExportRunRequest{Run: "runs/none"})
	if err == nil {
		_, err = stream.Recv()
	}
	if !errs.Is(err, codes.NotFound) {
		t.Errorf("export of an unknown run: %v", err)
	}
	if _, err := client.DownloadMetrics(t.Context(), &metricsv1.DownloadMetricsRequest{}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("download of nothing: %v", err)
	}
	prices, err := client.ListPrices(t.Context(), &metricsv1.ListPricesRequest{Parent: "platforms/local"})
	if err != nil || len(prices.GetPrices()) != 2 || !prices.GetPrices()[0].GetEstimated() || prices.GetPrices()[0].GetAsOf() == "" {
		t.Errorf("prices = %v, %v", prices, err)
	}
	if _, err := client.ListPrices(t.Context(), &metricsv1.ListPricesRequest{Parent: "platforms/gcp"}); !errs.Is(err, codes.Unimplemented) {
		t.Errorf("prices of gcp: %v", err)
	}
	if _, err := client.ListPrices(t.Context(), &metricsv1.ListPricesRequest{Parent: "platforms/moon"}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("prices of the moon: %v", err)
	}
	estimate, err := client.EstimateCost(t.Context(), &metricsv1.EstimateCostRequest{
		Parent: "platforms/aws", Region: "us-east-1", Architecture: "arm64", MemoryMb: 512, Invocations: 1000, Duration: durationpb.New(1500 * time.Microsecond),
	})
	// 1,000 invocations of 2 ms at half a GB are one GB-second.
	if err != nil || estimate.GetGbSeconds() != 1 || math.Abs(estimate.GetUsd()-(0.0000133334+0.0002)) > 1e-12 || estimate.GetEstimated() ||
		estimate.GetTier() != 1 || estimate.GetPrice().GetRegion() != "us-east-1" || estimate.GetPrice().GetAsOf() == "" {
		t.Errorf("estimate = %v, %v", estimate, err)
	}
	if _, err := client.EstimateCost(t.Context(), &metricsv1.EstimateCostRequest{Parent: "platforms/moon", MemoryMb: 128}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("an estimate on the moon: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = client.CompactRun(ctx, &metricsv1.CompactRunRequest{Run: "runs/none", ExpectedCount: 5})
	if !errs.Is(err, codes.DeadlineExceeded) {
		t.Errorf("results that never come: %v", err)
	}
}

func TestIngestRefusesNamesThatAreNone(t *testing.T) {
	t.Parallel()
	client, _, _ := start(t)
	for _, b := range []*typev1.InvocationBatch{
		{Run: "runs/a.b", Invoker: "invokers/i"}, {Run: "", Invoker: "invokers/i"}, {Run: "runs/a", Invoker: "invokers/>"}, {Run: "runs/../x", Invoker: "i"},
	} {
		if _, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: b}); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%v: %v", b, err)
		}
	}
}
