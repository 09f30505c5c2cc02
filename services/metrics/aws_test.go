package metrics

import (
	"bytes"
	"context"
	"flag"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	awsDeployment = "platforms/aws/deployments/aws-0a1b2c3d"
	awsFunction   = "sebs-aws-0a1b2c3d-110-dynamic-html-python-3-11-x64"
	awsLibraryID  = "8f507cfc-1d5a-4697-b07a-ac58fc914c95"
	awsHTTPID     = "11111111-1d5a-4697-b07a-ac58fc914c95"
	awsLateID     = "22222222-1d5a-4697-b07a-ac58fc914c95"
)

// awsReport is what Lambda reported about a call.
func awsReport(t *testing.T, id string, init bool) driver.InvocationRecord {
	t.Helper()
	line := "REPORT RequestId: " + id + "\tDuration: 102.31 ms\tBilled Duration: 103 ms\tMemory Size: 256 MB\tMax Memory Used: 71 MB\t"
	if init {
		line = strings.Replace(line, "103 ms", "333 ms", 1) + "Init Duration: 230.52 ms\t"
	}
	report, err := lambdalog.ParseReport(line)
	if err != nil {
		t.Fatal(err)
	}
	return report.Record(time.Time{})
}

// awsRun tells the neighbours about a run on AWS of a call by the library, whose log tail said what AWS measured, and two by HTTP.
func awsRun(t *testing.T, client metricsv1.MetricsServiceClient, n *neighbours, begin time.Time) {
	t.Helper()
	name := awsDeployment + "/functions/" + awsFunction
	record := func(sequence int64, id string, trigger typev1.TriggerType) *typev1.InvocationRecord {
		at := begin.Add(time.Duration(sequence) * time.Second)
		r := testRecord(sequence, at)
		r.Function, r.Trigger, r.Result.RequestId = name, trigger, id
		return r
	}
	library, http, late := record(0, awsLibraryID, typev1.TriggerType_TRIGGER_TYPE_LIBRARY), record(1, awsHTTPID, typev1.TriggerType_TRIGGER_TYPE_HTTP),
		record(2, awsLateID, typev1.TriggerType_TRIGGER_TYPE_HTTP)
	measured := awsReport(t, awsLibraryID, true)
	library.Result.Times.HttpStartupSeconds, library.Result.Times.HttpFirstByteReturnSeconds = nil, nil
	library.Result.ProviderTimes = &typev1.ProviderTimes{
		ExecutionUs: proto.Int64(measured.Duration.Microseconds()), InitializationUs: proto.Int64(measured.Init.Microseconds()),
	}
	library.Result.Stats.MemoryUsedMb = measured.MemoryUsedMB
	library.Result.Billing = &typev1.ExecutionBilling{
		MemoryMb: proto.Int64(int64(*measured.MemoryMB)), BilledTimeMs: proto.Int64(measured.Billed.Milliseconds()),
		GbSeconds: proto.Float64(float64(*measured.MemoryMB) / 1024 * measured.Billed.Seconds()),
	}
	n.experiments.runs[testRun] = &experimentsv1.Run{
		Name: testRun, Deployment: awsDeployment, StartTime: timestamppb.New(begin), EndTime: timestamppb.New(begin.Add(10 * time.Second)),
		Request: &experimentsv1.CreateRunRequest{Target: &experimentsv1.Target{
			Platform: "aws", Region: "us-east-2", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.11"},
			Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE,
		}},
		Functions: []*experimentsv1.RunFunction{{Function: &typev1.Function{
			Name: name,
			Config: &typev1.FunctionConfig{
				Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.11"}, MemoryMb: 256,
				Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE,
				Environment: map[string]string{"PASSWORD": "secret"},
			},
			PlatformAttributes: map[string]string{
				"role":   "arn:aws:iam::123456789012:role/sebs-lambda-role-aws-0a1b2c3d",
				"handle": "arn:aws:lambda:us-east-2:123456789012:function:" + awsFunction,
			},
			Triggers: []*typev1.Trigger{
				{Type: typev1.TriggerType_TRIGGER_TYPE_LIBRARY},
				{
					Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: "https://abc.lambda-url.us-east-2.on.aws/",
					Attributes: map[string]string{"implementation": "function_url", "auth_type": "NONE"},
				},
			},
		}}},
	}
	n.deployer.deployments[awsDeployment] = &typev1.Deployment{
		Name: awsDeployment, Platform: "aws", ResourcesId: "aws-0a1b2c3d", Region: "us-east-2", Account: "123456789012", Credential: "mine",
		Buckets: []*typev1.BucketBinding{
			{Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, Bucket: "sebs-benchmarks-aws-0a1b2c3d"},
			{Role: typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT, Bucket: "sebs-deployment-aws-0a1b2c3d"},
		},
		Settings: map[string]string{"docker-registry": "registry.example.com", "docker-username": "me", "container_repository": "functions"},
	}
	batch := &typev1.InvocationBatch{Run: testRun, Invoker: "invokers/i1", Records: []*typev1.InvocationRecord{library, http, late}}
	if _, err := client.IngestInvocations(t.Context(), &metricsv1.IngestInvocationsRequest{Batch: batch}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CompactRun(t.Context(), &metricsv1.CompactRunRequest{Run: testRun, ExpectedCount: 3}); err != nil {
		t.Fatal(err)
	}
}

// logsOf is a platform that has some records.
type logsOf struct {
	t       *testing.T
	records []driver.InvocationRecord
	closed  bool
}

func (l *logsOf) Close() error {
	l.closed = true
	return nil
}

func (l *logsOf) Metrics(_ context.Context, query driver.MetricsQuery) iter.Seq2[driver.InvocationRecord, error] {
	if query.Function != awsFunction || len(query.RequestIDs) == 0 {
		l.t.Errorf("asked for %+v", query)
	}
	return func(yield func(driver.InvocationRecord, error) bool) {
		for _, r := range l.records {
			if slices.Contains(query.RequestIDs, r.RequestID) && !yield(r, nil) {
				return
			}
		}
	}
}

// golden compares a file with the one that is kept. Times of day are written in local time.
func golden(t *testing.T, name string, got []byte, begin time.Time) {
	t.Helper()
	for second := range 3 {
		for _, after := range []time.Duration{0, 2 * time.Millisecond} {
			at := begin.Add(time.Duration(second)*time.Second + after)
			got = bytes.ReplaceAll(got, []byte(sebsformat.FormatTime(at.Local())), []byte(sebsformat.FormatTime(at.UTC())))
		}
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

func TestFilesOfARunOnAWS(t *testing.T) {
	t.Parallel()
	client, n, _ := start(t)
	begin := time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC)
	awsRun(t, client, n, begin)
	experiments := exported(t, client, metricsv1.ExportRunRequest_FORMAT_SEBS_JSON)
	golden(t, "experiments-aws.json", experiments, begin)
	if bytes.Contains(experiments, []byte("secret")) || bytes.Contains(experiments, []byte("PASSWORD")) {
		t.Error("the file holds a secret")
	}

	// What a call by HTTP cost stands in the log, later.
	source := &logsOf{t: t, records: []driver.InvocationRecord{awsReport(t, awsHTTPID, false), awsReport(t, awsLibraryID, true)}}
	var opened driver.Scope
	s := &service{
		scratch: t.TempDir(), prices: testBook(t), log: slog.New(slog.DiscardHandler), deployments: ownDeployer{n.deployer},
		platforms: func(_ context.Context, platform string, scope driver.Scope) (providerMetrics, error) {
			if platform != "aws" {
				t.Errorf("platform %s is asked", platform)
			}
			opened = scope
			return source, nil
		},
	}
	p, err := s.receive(bytes.NewReader(experiments))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.scan(); err != nil {
		t.Fatal(err)
	}
	// The calls are old: the platform is asked once.
	if err := p.fill(t.Context(), "", fetchOptions{log: s.log, progress: func(progress) {}}); err != nil {
		t.Fatal(err)
	}
	if opened != (driver.Scope{Credential: "mine", Region: "us-east-2"}) || !source.closed {
		t.Errorf("opened with %+v, closed %t", opened, source.closed)
	}
	if o := p.outcome; o.found != 2 || o.missing != 1 || !slices.Equal(o.missingIDs, []string{awsLateID}) {
		t.Errorf("found %d, missing %d: %v", o.found, o.missing, o.missingIDs)
	}
	var out bytes.Buffer
	c := p.collector(p.header)
	if err := p.write(&out, c); err != nil {
		t.Fatal(err)
	}
	golden(t, "results-aws.json", out.Bytes(), begin)
	f := c.message().GetFunctions()[0]
	// 333 ms and 103 ms of a quarter of a GB, and two requests.
	gbSeconds := 0.25 * (0.333 + 0.103)
	if diff := f.GetCostUsd() - (gbSeconds*0.0000166667 + 2*0.0000002); diff > 1e-15 || diff < -1e-15 || f.GetCostEstimated() {
		t.Errorf("the cost is %v, estimated %t", f.GetCostUsd(), f.GetCostEstimated())
	}
	if price := f.GetPrice(); price.GetRegion() != "us-east-2" || price.GetAsOf() == "" || len(price.GetTiers()) != 3 {
		t.Errorf("the price is %v", price)
	}
}

// ownDeployer asks the deployer without a connection.
type ownDeployer struct{ deployer *fakeDeployer }

func (k ownDeployer) GetDeployment(_ context.Context, name string) (*typev1.Deployment, error) {
	return k.deployer.deployments[name], nil
}
