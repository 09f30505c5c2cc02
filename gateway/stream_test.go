package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

func upload(ctx context.Context, conn *grpc.ClientConn, key, content string) error {
	stream, err := storagev1.NewStorageServiceClient(conn).UploadObject(ctx)
	if err != nil {
		return err
	}
	messages := []*storagev1.UploadObjectRequest{
		{Part: &storagev1.UploadObjectRequest_Target{Target: &storagev1.UploadTarget{Bucket: deployment + "/buckets/b1", Key: key}}},
		{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: []byte(content)}},
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func TestCallsArePassedOn(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"one process": false, "services apart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, options{apart: apart})
			conn := s.dial()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			run, err := experimentsv1.NewExperimentsServiceClient(conn).GetRun(ctx, &experimentsv1.GetRunRequest{Name: "runs/r1"})
			if err != nil || run.GetInvocationCount() != 3 {
				t.Errorf("unary: %v, %v", run, err)
			}
			_, err = experimentsv1.NewExperimentsServiceClient(conn).GetRun(ctx, &experimentsv1.GetRunRequest{Name: "runs/none"})
			if e := errs.FromStatus(err); errs.Reason(e) != "RUN_NOT_FOUND" || errs.Code(e) != codes.NotFound {
				t.Errorf("a failure: %v", err)
			}
			_, err = invokerv1.NewInvokerServiceClient(conn).Invoke(ctx, &invokerv1.InvokeRequest{Trigger: "t", PayloadJson: `"throttled"`})
			if wait, ok := errs.RetryDelay(errs.FromStatus(err)); !ok || wait != 3*time.Second {
				t.Errorf("a failure with details: %v", err)
			}
			if err := upload(ctx, conn, "passed", strings.Repeat("p", 300_000)); err != nil {
				t.Errorf("client stream: %v", err)
			}
			if err := upload(ctx, conn, "refused", "x"); status.Code(err) != codes.PermissionDenied {
				t.Errorf("client stream that is refused: %v", err)
			}
			if n, err := download(ctx, conn, "passed"); n != 300_000 || err != nil {
				t.Errorf("server stream: %d bytes, %v", n, err)
			}
			if _, err := download(ctx, conn, "none"); status.Code(err) != codes.NotFound {
				t.Errorf("server stream that fails: %v", err)
			}
			for _, method := range []string{"/sebs.builder.v1.BuilderService/Nothing", "/sebs.nothing.v1.Service/Nothing", "/other.Service/Nothing"} {
				if err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unimplemented {
					t.Errorf("%s: %v", method, err)
				}
			}
		})
	}
}

func download(ctx context.Context, conn *grpc.ClientConn, key string) (int, error) {
	stream, err := storagev1.NewStorageServiceClient(conn).DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: deployment + "/buckets/b1", Key: key})
	if err != nil {
		return 0, err
	}
	for total := 0; ; {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		total += len(part.GetChunk())
	}
}

func TestCancellationAndDeadlinesReachTheService(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	client := invokerv1.NewInvokerServiceClient(s.dial())
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	inner, leave := context.WithCancel(ctx)
	stream, err := client.InvokeMany(inner, &invokerv1.InvokeManyRequest{Trigger: "t", Count: 3, Phase: "endless"})
	if err != nil {
		t.Fatal(err)
	}
	for want := range int64(3) {
		if got, err := stream.Recv(); err != nil || got.GetRecord().GetSequence() != want {
			t.Fatalf("message %d: %v, %v", want, got, err)
		}
	}
	leave()
	select {
	case err := <-s.streams.cancelled:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the service sees %v", err)
		}
	case <-ctx.Done():
		t.Error("the service does not see that the client left")
	}
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := client.Invoke(short, &invokerv1.InvokeRequest{Trigger: "t", PayloadJson: `"slow"`}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("past the deadline: %v", err)
	}
	// The deadline of a REST client is a header.
	got := s.do(request{method: "POST", path: "/v1/" + deployment + "/functions/f1/triggers/http:invoke", body: `{"payloadJson":"\"slow\""}`, header: map[string]string{"Grpc-Timeout": "200m"}})
	if got.status != http.StatusGatewayTimeout {
		t.Errorf("past the deadline over REST: %d %s", got.status, got.body)
	}
}

func TestEventsAreStreamedAsLines(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/v1/events:watch?filter=builder.%3E", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	for i, name := range []string{"packages/a", "packages/b"} {
		for _, subject := range []string{"deployer.function_deleted", "builder.package_built"} {
			if err := s.Events.Publish(ctx, subject, &eventv1.PackageBuilt{Package: name}, name+subject); err != nil {
				t.Fatal(err)
			}
		}
		if !lines.Scan() {
			t.Fatalf("no line %d: %v", i, lines.Err())
		}
		var line struct {
			Result struct {
				Type string
				Data struct{ Package string }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Result.Data.Package != name || !strings.HasSuffix(line.Result.Type, "builder.package_built") {
			t.Errorf("line %d: %v in %s", i, err, lines.Bytes())
		}
	}
}

func TestAFileIsStreamedAsItIs(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	if got := s.do(request{path: "/v1/runs/r1:export?format=FORMAT_CSV"}); got.status != http.StatusOK || string(got.body) != "a,b\n1,2\n" || got.header.Get("Content-Type") != "text/csv" {
		t.Errorf("export: %d %q %s", got.status, got.body, got.header.Get("Content-Type"))
	}
}

func TestOperationsOverREST(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"one process": false, "services apart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, options{apart: apart})
			body := `{"requestId":"same","target":{"platform":"local"},"benchmarkInvoke":{"source":{"benchmark":"010.sleep"},"size":"test"}}`
			var first, second struct{ Name string }
			for _, into := range []*struct{ Name string }{&first, &second} {
				got := s.do(request{method: "POST", path: "/v1/runs", body: body})
				if err := json.Unmarshal(got.body, into); err != nil || into.Name == "" {
					t.Fatalf("create: %d %s", got.status, got.body)
				}
			}
			if first != second {
				t.Errorf("the same request id made %s and %s", first.Name, second.Name)
			}
			var done struct {
				Done     bool
				Response struct{ Name, State string }
			}
			got := s.do(request{method: "POST", path: "/v1/" + first.Name + ":wait", body: "{}"})
			if err := json.Unmarshal(got.body, &done); err != nil || !done.Done || done.Response.State != "STATE_SUCCEEDED" {
				t.Errorf("wait: %v: %s", err, got.body)
			}
			list := s.do(request{path: "/v1/operations?filter=service%3Dexperiments%20AND%20done%3Dtrue"})
			if list.status != 200 || !strings.Contains(string(list.body), first.Name) {
				t.Errorf("list: %d %s", list.status, list.body)
			}
			overGRPC, err := longrunningpb.NewOperationsClient(s.dial()).ListOperations(t.Context(), &longrunningpb.ListOperationsRequest{Name: "operations"})
			if err != nil || len(overGRPC.GetOperations()) != 1 {
				t.Errorf("list over gRPC: %v, %v", overGRPC, err)
			}
			if got := s.do(request{path: "/v1/" + first.Name}); got.status != 200 {
				t.Errorf("get: %d %s", got.status, got.body)
			}
			if got := s.do(request{method: "DELETE", path: "/v1/" + first.Name}); got.status != 200 {
				t.Errorf("delete: %d %s", got.status, got.body)
			}
			if got := s.do(request{path: "/v1/" + first.Name}); got.status != 404 {
				t.Errorf("get after delete: %d %s", got.status, got.body)
			}
		})
	}
}
