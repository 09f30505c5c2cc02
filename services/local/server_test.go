package local_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/local"
	"github.com/sebs-suite/sebs/services/local/front"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "token-for-events"

// platform is a whole local platform with a client.
type platform struct {
	client localv1.LocalServiceClient
	host   *host.Host
	front  *front.Front
}

func newPlatform(t testing.TB) *platform {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	catalog, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := catalog.Bootstrap("python")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "runtimes")
	if err := catalog.Write(bootstrap.Files, filepath.Join(root, "python")); err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	kind, err := process.New(process.Options{Directory: filepath.Join(dir, "sandboxes"), Finder: process.NewFinder(os.Getenv, home, ""), Log: log, FirstUID: 420_000})
	if err != nil {
		t.Fatal(err)
	}
	closing := func(name string, f func(context.Context) error) {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := f(ctx); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
		})
	}
	closing("sandboxes", kind.Close)
	if err := kind.Available(t.Context(), sandbox.Runtime{Language: "python"}, ""); err != nil {
		t.Skipf("needs Python 3: %v", err)
	}
	f, err := front.Listen(t.Context(), front.Options{Address: "127.0.0.1:0", EventToken: token, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Options{StateDir: dir, RuntimeRoot: root, Kinds: []host.Kind{kind}, Ports: f, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	closing("host", h.Close)
	closing("front", f.Shutdown)
	f.Serve(h)

	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			out, err := next(ctx, req)
			return out, status(err)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return status(next(srv, stream))
		}),
	)
	local.NewServer(h, f, map[string]string{"docker": "not in this test"}).Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("passthrough:///local", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &platform{client: localv1.NewLocalServiceClient(conn), host: h, front: f}
}

// status converts as the server's interceptor does.
func status(err error) error {
	if err == nil {
		return nil
	}
	return errs.ToStatus(err).Err()
}

func zipOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, text := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// deploy sends a function in chunks that do not divide it evenly.
func (p *platform) deploy(ctx context.Context, spec *localv1.FunctionSpec, archive []byte) (*localv1.LocalFunction, error) {
	stream, err := p.client.DeployFunction(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Function{Function: spec}})
	for len(archive) > 0 && err == nil {
		n := min(len(archive), 97)
		err = stream.Send(&localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Chunk{Chunk: archive[:n]}})
		archive = archive[n:]
	}
	fn, err := stream.CloseAndRecv()
	return fn, errs.FromStatus(err)
}

func spec(name string, archive []byte) *localv1.FunctionSpec {
	sum := sha256.Sum256(archive)
	return &localv1.FunctionSpec{
		FunctionId: name, ArchiveSha256: hex.EncodeToString(sum[:]), ArchiveSizeBytes: int64(len(archive)), CodeHash: "hash-1",
		Configuration: &localv1.LocalConfiguration{
			Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON}, MemoryMb: 256, TimeoutSeconds: 20,
			Environment: map[string]string{"COLOUR": "blue"}, SecretEnvironment: map[string]string{"KEY": "secret value"},
			Labels: map[string]string{"deployment": "d1"},
		},
	}
}

const greeter = `
import os
def handler(event, context):
    if event.get("fail"):
        raise ValueError("asked to fail")
    print("greeting")
    return {"event": event, "colour": os.environ["COLOUR"], "key": os.environ["KEY"]}
`

func TestService(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	ctx := t.Context()
	archive := zipOf(t, map[string]string{"handler.py": greeter})
	fn, err := p.deploy(ctx, spec("greet", archive), archive)
	if err != nil {
		t.Fatal(err)
	}
	if fn.GetVersion() != 1 || fn.GetCodeHash() != "hash-1" || fn.GetConfiguration().GetSecretEnvironment()["KEY"] != "" || fn.GetConfiguration().GetRuntime().GetVersion() == "" {
		t.Errorf("function %v", fn)
	}
	if _, err := p.deploy(ctx, spec("greet", archive), archive); !errs.Is(err, codes.AlreadyExists) {
		t.Errorf("second deployment: %v", err)
	}

	t.Run("http", func(t *testing.T) {
		for _, url := range []string{fn.GetUrl(), fn.GetOwnUrl()} {
			response, body := post(t, url, `{"n": 1}`)
			if response.StatusCode != http.StatusOK || !strings.Contains(body, `"colour": "blue"`) || !strings.Contains(body, `"key": "secret value"`) {
				t.Errorf("%s: status %d, body %s", url, response.StatusCode, body)
			}
			for _, h := range []string{front.HeaderRequestID, front.HeaderColdStart, front.HeaderBilledMS, front.HeaderSandbox} {
				if response.Header.Get(h) == "" {
					t.Errorf("%s: no header %s", url, h)
				}
			}
		}
		for path, method := range map[string]string{"alive": http.MethodGet, "./alive": http.MethodPost} {
			request, err := http.NewRequestWithContext(ctx, method, fn.GetOwnUrl()+strings.TrimPrefix(path, "./"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if response, body := do(t, request); response.StatusCode != http.StatusOK {
				t.Errorf("%s %s: %d %s", method, path, response.StatusCode, body)
			}
		}
	})
	t.Run("library", func(t *testing.T) {
		out, err := p.client.InvokeFunction(ctx, &localv1.InvokeFunctionRequest{FunctionId: "greet", Payload: []byte(`{}`), LogTail: true})
		if err != nil {
			t.Fatal(err)
		}
		if out.GetFunctionError() != "" || !strings.Contains(out.GetLogTail(), "greeting") || !strings.Contains(out.GetLogTail(), "REPORT RequestId: "+out.GetRequestId()) {
			t.Errorf("answer %v", out)
		}
		out, err = p.client.InvokeFunction(ctx, &localv1.InvokeFunctionRequest{FunctionId: "greet", Payload: []byte(`{"fail": true}`)})
		if err != nil || out.GetFunctionError() != host.FailureUnhandled || !strings.Contains(string(out.GetPayload()), "asked to fail") || out.GetInvocation().GetErrorType() != "ValueError" {
			t.Errorf("answer %v, error %v", out, err)
		}
	})
	t.Run("event", func(t *testing.T) {
		out, err := p.client.InvokeFunction(ctx, &localv1.InvokeFunctionRequest{
			FunctionId: "greet", Payload: []byte(`{"n": 2}`), InvocationType: localv1.InvokeFunctionRequest_INVOCATION_TYPE_EVENT,
		})
		if err != nil {
			t.Fatal(err)
		}
		record := p.waitFor(t, "greet", out.GetRequestId())
		if !strings.Contains(string(record.GetPayload()), `"n": 2`) {
			t.Errorf("record %v", record)
		}
	})
	t.Run("records and logs in pages", func(t *testing.T) {
		seen := map[string]bool{}
		request := &localv1.ListLocalInvocationsRequest{FunctionId: "greet", PageSize: 2}
		for {
			page, err := p.client.ListLocalInvocations(ctx, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.GetInvocations() {
				if seen[r.GetRequestId()] {
					t.Errorf("record %s came twice", r.GetRequestId())
				}
				seen[r.GetRequestId()] = true
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				break
			}
		}
		all, err := p.client.ListLocalInvocations(ctx, &localv1.ListLocalInvocationsRequest{FunctionId: "greet"})
		if err != nil || len(all.GetInvocations()) != len(seen) || len(seen) != 5 {
			t.Errorf("%d records in pages, %d at once, error %v", len(seen), len(all.GetInvocations()), err)
		}
		var paged []string
		logs := &localv1.ListLocalLogsRequest{FunctionId: "greet", PageSize: 3}
		for {
			page, err := p.client.ListLocalLogs(ctx, logs)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page.GetLines() {
				paged = append(paged, l.GetText())
			}
			if logs.PageToken = page.GetNextPageToken(); logs.PageToken == "" {
				break
			}
		}
		whole, err := p.client.ListLocalLogs(ctx, &localv1.ListLocalLogsRequest{FunctionId: "greet"})
		if err != nil || len(whole.GetLines()) != len(paged) {
			t.Errorf("%d log lines in pages, %d at once, error %v", len(paged), len(whole.GetLines()), err)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		c := proto.CloneOf(fn.GetConfiguration())
		c.Environment["COLOUR"] = "red"
		c.MemoryMb = 512
		changed, err := p.client.UpdateConfiguration(ctx, &localv1.UpdateConfigurationRequest{FunctionId: "greet", Configuration: c})
		if err != nil || changed.GetVersion() != 2 || changed.GetOwnUrl() != fn.GetOwnUrl() {
			t.Fatalf("changed function %v, error %v", changed, err)
		}
		response, body := post(t, fn.GetUrl(), `{}`)
		if !strings.Contains(body, `"red"`) || !strings.Contains(body, "secret value") || response.Header.Get(front.HeaderColdStart) != "true" {
			t.Errorf("answer %s, cold %s", body, response.Header.Get(front.HeaderColdStart))
		}
	})
	t.Run("host", func(t *testing.T) {
		h, err := p.client.GetHost(ctx, &localv1.GetHostRequest{})
		if err != nil || h.GetDefaultSandboxKind() != localv1.SandboxKind_SANDBOX_KIND_PROCESS || len(h.GetRuntimes()) == 0 || h.GetSandboxNotes()["docker"] == "" || h.GetSandboxNotes()["process"] == "" {
			t.Errorf("host %v, error %v", h, err)
		}
		list, err := p.client.ListLocalFunctions(ctx, &localv1.ListLocalFunctionsRequest{Deployment: "d1"})
		if err != nil || len(list.GetFunctions()) != 1 {
			t.Errorf("functions of d1: %v, error %v", list, err)
		}
		list, err = p.client.ListLocalFunctions(ctx, &localv1.ListLocalFunctionsRequest{Deployment: "d2"})
		if err != nil || len(list.GetFunctions()) != 0 {
			t.Errorf("functions of d2: %v, error %v", list, err)
		}
	})
	t.Run("measurement", func(t *testing.T) {
		m, err := p.client.StartMemoryMeasurement(ctx, &localv1.StartMemoryMeasurementRequest{Interval: durationpb.New(2 * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.client.WarmFunction(ctx, &localv1.WarmFunctionRequest{FunctionId: "greet", Count: 2}); err != nil {
			t.Fatal(err)
		}
		post(t, fn.GetUrl(), `{}`)
		stopped, err := p.client.StopMemoryMeasurement(ctx, &localv1.StopMemoryMeasurementRequest{Name: m.GetName()})
		if err != nil || len(stopped.GetProfiles()) == 0 {
			t.Errorf("measurement %v, error %v", stopped, err)
		}
	})
	if _, err := p.client.DeleteLocalFunction(ctx, &localv1.DeleteLocalFunctionRequest{FunctionId: "greet"}); err != nil {
		t.Fatal(err)
	}
	if response, _ := post(t, fn.GetUrl(), `{}`); response.StatusCode != http.StatusNotFound {
		t.Errorf("deleted function answers %d", response.StatusCode)
	}
	if _, err := p.client.DeleteLocalFunction(ctx, &localv1.DeleteLocalFunctionRequest{FunctionId: "greet"}); !errs.Is(errs.FromStatus(err), codes.NotFound) {
		t.Errorf("second deletion: %v", err)
	}
}

// waitFor polls for the record of an event.
func (p *platform) waitFor(t *testing.T, function, id string) *localv1.LocalInvocation {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		list, err := p.client.ListLocalInvocations(t.Context(), &localv1.ListLocalInvocationsRequest{FunctionId: function, RequestIds: []string{id}})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.GetInvocations()) == 1 {
			return list.GetInvocations()[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("event %s leaves no record", id)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func post(t testing.TB, url, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return do(t, request)
}

func do(t testing.TB, request *http.Request) (*http.Response, string) {
	t.Helper()
	request.Close = true // no connection outlives the test
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(response.Body)
	if closeErr := response.Body.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	return response, string(raw)
}

func TestHTTPStatuses(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	code := map[string]string{
		"raises": "def handler(e, c):\n    raise ValueError('no')",
		"exits":  "import os\ndef handler(e, c):\n    os._exit(1)",
		"hangs":  "import time\ndef handler(e, c):\n    time.sleep(1000)",
		"broken": "import nowhere",
		"busy":   "import time\ndef handler(e, c):\n    time.sleep(e.get('s', 0))",
	}
	for name, text := range code {
		archive := zipOf(t, map[string]string{"handler.py": text})
		s := spec(name, archive)
		if name == "hangs" {
			s.Configuration.TimeoutSeconds = 1
		}
		s.Configuration.MaxConcurrency = 1
		if _, err := p.deploy(t.Context(), s, archive); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		path, body string
		status     int
		typ        string
	}{
		{"/functions/raises", "{}", http.StatusInternalServerError, "ValueError"},
		{"/functions/exits", "{}", http.StatusBadGateway, "Runtime.ExitError"},
		{"/functions/hangs", "{}", http.StatusGatewayTimeout, "Sandbox.Timedout"},
		{"/functions/broken", "{}", http.StatusBadGateway, "Runtime.ImportModuleError"},
		{"/functions/raises", "{", http.StatusBadRequest, "InvalidRequestContent"},
		{"/functions/nobody", "{}", http.StatusNotFound, "ResourceNotFound"},
		{"/nothing", "{}", http.StatusNotFound, "NotFound"},
		{"/events/objects", "{}", http.StatusForbidden, "Forbidden"},
	}
	for _, test := range tests {
		response, body := post(t, p.front.URL()+test.path, test.body)
		var doc struct{ ErrorType, ErrorMessage, RequestID string }
		if err := json.Unmarshal([]byte(body), &doc); err != nil || response.StatusCode != test.status || doc.ErrorType != test.typ || doc.ErrorMessage == "" {
			t.Errorf("%s: status %d, body %s", test.path, response.StatusCode, body)
		}
	}
	busy := make(chan int)
	go func() {
		response, _ := post(t, p.front.URL()+"/functions/busy", `{"s": 3}`)
		busy <- response.StatusCode
	}()
	deadline := time.Now().Add(30 * time.Second)
	for {
		all, err := p.client.ListSandboxes(t.Context(), &localv1.ListSandboxesRequest{FunctionId: "busy"})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the function never became busy: %v", err)
		}
		if len(all.GetSandboxes()) == 1 && all.GetSandboxes()[0].GetBusy() {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	response, body := post(t, p.front.URL()+"/functions/busy", `{}`)
	if response.StatusCode != http.StatusTooManyRequests || !strings.Contains(body, "TooManyRequests") || response.Header.Get("Retry-After") == "" {
		t.Errorf("throttled answer %d %s, header %v", response.StatusCode, body, response.Header)
	}
	<-busy
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.front.URL()+"/functions/busy", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "http://elsewhere.example")
	if response, _ = do(t, request); response.StatusCode != http.StatusForbidden {
		t.Errorf("request of a web page: %d", response.StatusCode)
	}
}

func TestStorageTrigger(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	archive := zipOf(t, map[string]string{"handler.py": "def handler(e, c):\n    s3 = e['Records'][0]['s3']\n    return s3['bucket']['name'] + '/' + s3['object']['key']"})
	if _, err := p.deploy(t.Context(), spec("stored", archive), archive); err != nil {
		t.Fatal(err)
	}
	fn, err := p.client.SetStorageTrigger(t.Context(), &localv1.SetStorageTriggerRequest{
		FunctionId: "stored", Trigger: &localv1.StorageTrigger{Bucket: "b", Prefix: "in", ResultsPrefix: "results"},
	})
	if err != nil || fn.GetStorageTrigger().GetPrefix() != "in" || fn.GetVersion() != 1 {
		t.Fatalf("function %v, error %v", fn, err)
	}
	told, err := p.client.NotifyObjectCreated(t.Context(), &localv1.NotifyObjectCreatedRequest{Bucket: "b", Key: "in/call-1.json"})
	if err != nil || fmt.Sprint(told.GetRequestIds()) != "[call-1]" {
		t.Fatalf("answer %v, error %v", told, err)
	}
	if r := p.waitFor(t, "stored", "call-1"); string(r.GetPayload()) != `"b/in%2Fcall-1.json"` {
		t.Errorf("record %v", r)
	}
	for _, other := range []*localv1.NotifyObjectCreatedRequest{{Bucket: "c", Key: "in/x.json"}, {Bucket: "b", Key: "inside/x.json"}, {Bucket: "b", Key: "results/x.json"}} {
		if told, err := p.client.NotifyObjectCreated(t.Context(), other); err != nil || len(told.GetRequestIds()) != 0 {
			t.Errorf("%v set off %v, error %v", other, told, err)
		}
	}
	response, body := post(t, p.front.URL()+"/events/objects?token="+token,
		`{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"in%2Fcall+2.json"}}},{"eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"in/gone"}}}]}`)
	var ids struct{ RequestIDs []string }
	if err := json.Unmarshal([]byte(body), &ids); err != nil || response.StatusCode != http.StatusOK || len(ids.RequestIDs) != 1 {
		t.Fatalf("status %d, body %s", response.StatusCode, body)
	}
	if r := p.waitFor(t, "stored", ids.RequestIDs[0]); string(r.GetPayload()) != `"b/in%2Fcall+2.json"` {
		t.Errorf("record %v", r)
	}
}

func TestDeployRefusals(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	good := zipOf(t, map[string]string{"handler.py": greeter})
	tests := map[string]struct {
		change  func(*localv1.FunctionSpec)
		archive []byte
		says    string
	}{
		"name":       {change: func(s *localv1.FunctionSpec) { s.FunctionId = "../up" }, says: "function_id"},
		"memory":     {change: func(s *localv1.FunctionSpec) { s.Configuration.MemoryMb = 1 }, says: "configuration.memory_mb"},
		"timeout":    {change: func(s *localv1.FunctionSpec) { s.Configuration.TimeoutSeconds = 901 }, says: "configuration.timeout_seconds"},
		"digest":     {change: func(s *localv1.FunctionSpec) { s.ArchiveSha256 = strings.Repeat("0", 64) }, says: "SHA-256"},
		"no zip":     {archive: []byte("this is no zip file"), says: "zip"},
		"climbs":     {archive: zipOf(t, map[string]string{"../evil.py": ""}), says: "leads out of the package"},
		"variable":   {change: func(s *localv1.FunctionSpec) { s.Configuration.Environment["A B"] = "" }, says: "A B"},
		"no version": {change: func(s *localv1.FunctionSpec) { s.Configuration.Runtime.Version = "2.3" }, says: "no python 2.3 on this machine"},
		"old java": {change: func(s *localv1.FunctionSpec) {
			s.Configuration.Runtime.Language, s.Configuration.Runtime.Version = typev1.Language_LANGUAGE_JAVA, "8"
		}, says: "no java 8 on this machine"},
		"docker": {change: func(s *localv1.FunctionSpec) { s.Configuration.SandboxKind = localv1.SandboxKind_SANDBOX_KIND_DOCKER }, says: "docker"},
		"image": {change: func(s *localv1.FunctionSpec) {
			s.ArchiveSha256, s.ArchiveSizeBytes, s.ImageUri = "", 0, "127.0.0.1:1/a:b"
		}, says: "image"},
		"two codes":     {change: func(s *localv1.FunctionSpec) { s.ImageUri = "127.0.0.1:1/a:b" }, says: "exclude each other"},
		"variant":       {change: func(s *localv1.FunctionSpec) { s.Configuration.Runtime.Variant = "pypy" }, says: "pypy"},
		"other machine": {change: func(s *localv1.FunctionSpec) { s.Configuration.Architecture = otherArchitecture() }, says: "this host runs"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			archive := good
			if test.archive != nil {
				archive = test.archive
			}
			s := spec("refused", archive)
			if test.change != nil {
				test.change(s)
			}
			if _, err := p.deploy(t.Context(), s, archive); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v does not say %q", err, test.says)
			}
		})
	}
	if _, err := p.client.GetLocalFunction(t.Context(), &localv1.GetLocalFunctionRequest{FunctionId: "refused"}); !errs.Is(errs.FromStatus(err), codes.NotFound) {
		t.Errorf("a refused deployment left something: %v", err)
	}
}

func otherArchitecture() typev1.Architecture {
	if host.Architecture() == "x64" {
		return typev1.Architecture_ARCHITECTURE_ARM64
	}
	return typev1.Architecture_ARCHITECTURE_X64
}
