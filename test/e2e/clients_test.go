package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/encoding/protojson"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

const repetitions = 3

func TestOneBenchmarkThroughEveryClient(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{Invokers: 2})
	ctx := limited(t)
	runs := map[string]*experimentsv1.Run{
		"cli":  throughCLI(ctx, t, s),
		"grpc": throughGRPC(ctx, t, s),
		"rest": throughREST(ctx, t, s),
	}
	want := shapeOf(t, ctx, s, runs["cli"])
	if want.Invocations != repetitions || want.Failures != 0 || want.State != "STATE_SUCCEEDED" || len(want.Answer) == 0 {
		t.Errorf("through the command line: %+v; problems %q", want, runs["cli"].GetProblems())
	}
	for _, client := range []string{"grpc", "rest"} {
		if got := shapeOf(t, ctx, s, runs[client]); !got.equal(want) {
			t.Errorf("through %s: %+v, through the command line: %+v", client, got, want)
		}
	}
	if left := len(s.Sandboxes()); left != 1 {
		t.Errorf("%d sandboxes run, want one warm one: %v", left, s.Sandboxes())
	}
}

// shape is what has to be the same whichever way a benchmark was asked for.
type shape struct {
	State                 string
	Invocations, Failures int64
	Function              string
	Benchmark             string
	Series                []string
	Answer                []string
	PackageDigest         string
	ColdStarts            int
}

func (s shape) equal(o shape) bool {
	return s.State == o.State && s.Invocations == o.Invocations && s.Failures == o.Failures && s.Function == o.Function &&
		s.Benchmark == o.Benchmark && slices.Equal(s.Series, o.Series) && slices.Equal(s.Answer, o.Answer) &&
		s.PackageDigest == o.PackageDigest && s.ColdStarts == o.ColdStarts
}

// shapeOf reads a run and its records back.
func shapeOf(t *testing.T, ctx context.Context, s *stand.Suite, run *experimentsv1.Run) shape {
	t.Helper()
	out := shape{State: run.GetState().String(), Invocations: run.GetInvocationCount(), Failures: run.GetFailureCount()}
	for _, f := range run.GetFunctions() {
		out.Function, out.Benchmark, out.PackageDigest = f.GetFunction().GetName(), f.GetFunction().GetBenchmark(), f.GetFunction().GetCodeHash()
	}
	for _, f := range run.GetStatistics().GetFunctions() {
		for _, g := range f.GetGroups() {
			for _, series := range g.GetSeries() {
				out.Series = append(out.Series, series.GetName()+" "+series.GetUnit())
			}
		}
	}
	for _, record := range invocations(ctx, t, s, run.GetName()) {
		if record.GetResult().GetStats().GetColdStart() {
			out.ColdStarts++
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(record.GetResult().GetOutputJson()), &answer); err != nil {
			t.Errorf("answer of %s: %v", run.GetName(), err)
		}
		for key := range answer {
			if !slices.Contains(out.Answer, key) {
				out.Answer = append(out.Answer, key)
			}
		}
	}
	sort.Strings(out.Answer)
	return out
}

// invocations lists all records of a run.
func invocations(ctx context.Context, t *testing.T, s *stand.Suite, run string) []*typev1.InvocationRecord {
	t.Helper()
	client := metricsv1.NewMetricsServiceClient(s.Dial())
	var records []*typev1.InvocationRecord
	for token := ""; ; {
		page, err := client.ListInvocations(ctx, &metricsv1.ListInvocationsRequest{Parent: run, PageToken: token})
		if err != nil {
			t.Fatalf("list the invocations of %s: %v", run, err)
		}
		records = append(records, page.GetRecords()...)
		if token = page.GetNextPageToken(); token == "" {
			return records
		}
	}
}

func benchmarkRequest(benchmark string, count int32) *experimentsv1.CreateRunRequest {
	return &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON}},
		Spec: &experimentsv1.CreateRunRequest_BenchmarkInvoke{BenchmarkInvoke: &experimentsv1.BenchmarkInvokeSpec{
			Source: &builderv1.BenchmarkSource{Benchmark: benchmark}, Size: "test", Repetitions: count, ColdFirst: true,
		}},
	}
}

func throughCLI(ctx context.Context, t *testing.T, s *stand.Suite) *experimentsv1.Run {
	t.Helper()
	out := t.TempDir()
	cli := s.CLI("cli-run", "benchmark", "invoke", "110.dynamic-html", "test", "--repetitions", "3", "--output-dir", out, "--output", "json")
	cli.Run()
	if code := cli.Wait(testLimit); code != 0 {
		t.Fatalf("the command line ended with %d:\n%s", code, cli.Log())
	}
	raw, err := os.ReadFile(filepath.Join(out, "experiments.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Invocations map[string]map[string]any `json:"_invocations"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for function, calls := range file.Invocations {
		if len(calls) != repetitions {
			t.Errorf("experiments.json has %d invocations of %s", len(calls), function)
		}
	}
	list, err := experimentsv1.NewExperimentsServiceClient(s.Dial()).ListRuns(ctx, &experimentsv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 1 {
		t.Fatalf("%d runs after the first: %v", len(list.GetRuns()), err)
	}
	return list.GetRuns()[0]
}

func throughGRPC(ctx context.Context, t *testing.T, s *stand.Suite) *experimentsv1.Run {
	t.Helper()
	conn := s.Dial()
	op, err := experimentsv1.NewExperimentsServiceClient(conn).CreateRun(ctx, benchmarkRequest("110.dynamic-html", repetitions))
	if err != nil {
		t.Fatal(err)
	}
	return finish(ctx, t, longrunningpb.NewOperationsClient(conn), op)
}

// finish waits for the run of an operation that succeeds.
func finish(ctx context.Context, t *testing.T, client longrunningpb.OperationsClient, op *longrunningpb.Operation) *experimentsv1.Run {
	t.Helper()
	done := await(ctx, t, client, op)
	if done.GetError() != nil {
		t.Fatalf("%s: %s", op.GetName(), done.GetError())
	}
	run := &experimentsv1.Run{}
	if err := done.GetResponse().UnmarshalTo(run); err != nil {
		t.Fatal(err)
	}
	return run
}

// await polls an operation until it is done, also while the gateway or a service is away.
func await(ctx context.Context, t *testing.T, client longrunningpb.OperationsClient, op *longrunningpb.Operation) *longrunningpb.Operation {
	t.Helper()
	var done *longrunningpb.Operation
	stand.Await(ctx, t, "the end of "+op.GetName(), func() bool {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		current, err := client.GetOperation(short, &longrunningpb.GetOperationRequest{Name: op.GetName()})
		if err == nil && current.GetDone() {
			done = current
		}
		return done != nil
	})
	return done
}

func throughREST(ctx context.Context, t *testing.T, s *stand.Suite) *experimentsv1.Run {
	t.Helper()
	body, err := protojson.Marshal(benchmarkRequest("110.dynamic-html", repetitions))
	if err != nil {
		t.Fatal(err)
	}
	var op struct {
		Name     string          `json:"name"`
		Done     bool            `json:"done"`
		Response json.RawMessage `json:"response"`
		Error    json.RawMessage `json:"error"`
	}
	call(ctx, t, http.MethodPost, s.Gateway.URL+"/v1/runs", body, &op)
	for !op.Done {
		call(ctx, t, http.MethodPost, s.Gateway.URL+"/v1/"+op.Name+":wait", []byte("{}"), &op)
	}
	if op.Error != nil {
		t.Fatalf("%s: %s", op.Name, op.Error)
	}
	// The run in the answer and the run asked for are the same.
	var answered struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(op.Response, &answered); err != nil {
		t.Fatal(err)
	}
	var raw json.RawMessage
	call(ctx, t, http.MethodGet, s.Gateway.URL+"/v1/"+answered.Name, nil, &raw)
	run := &experimentsv1.Run{}
	if err := protojson.Unmarshal(raw, run); err != nil {
		t.Fatal(err)
	}
	return run
}

// call makes a REST call that has to succeed.
func call(ctx context.Context, t *testing.T, method, url string, body []byte, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, strings.TrimPrefix(url, "http://"), response.Status, raw)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s %s: %v in %s", method, url, err, raw)
	}
}
