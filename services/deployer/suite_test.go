package deployer_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/services/deployer"
	local "github.com/sebs-suite/sebs/services/local"
)

// echo is the archive of a function that answers its event.
func echo(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	file, err := archive.Create("handler.py")
	if err == nil {
		_, err = file.Write([]byte("import os\ncold = True\ndef handler(event, context=None):\n    global cold\n    was, cold = cold, False\n    return {'cold': was, 'secret': os.environ.get('MINIO_SECRET_KEY')}\n"))
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// archiveStorage is storage that has one archive.
type archiveStorage struct {
	*storage
	archive []byte
}

func (s *archiveStorage) DownloadObject(_ *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	return stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: s.archive}})
}

// TestOnTheLocalPlatform runs two deployers and the real local platform as two
// processes that share etcd and NATS.
func TestOnTheLocalPlatform(t *testing.T) {
	t.Parallel()
	backends := apptest.NewBackends(t)
	packages := &builder{packages: make(map[string]*builderv1.Package)}
	store := &archiveStorage{&storage{buckets: make(map[string]bool), secret: "top-secret-value"}, echo(t)}
	neighbours := func(_ context.Context, p *app.Process) error {
		p.RegisterGRPC(func(r grpc.ServiceRegistrar) {
			storagev1.RegisterStorageServiceServer(r, store)
			builderv1.RegisterBuilderServiceServer(r, packages)
		})
		return nil
	}
	first := apptest.StartWith(t, apptest.Options{Name: "first", Backends: backends, Sets: []string{"local.sandbox=process"}}, deployer.Setup, local.Setup, neighbours)
	second := apptest.StartWith(t, apptest.Options{Name: "second", Backends: backends}, deployer.Setup)
	services := []*service{of(t, first), of(t, second)}
	runtime, architecture := python(t, first)
	pkg := packages.add("aaaa", func(p *builderv1.Package) {
		p.Runtime, p.Architecture, p.SizeBytes, p.Modules = runtime, architecture, int64(len(store.archive)), []string{"storage"}
	})
	parent := services[1].deployment(t).GetName()
	req := &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP}}
	outcomes := make(map[deployerv1.EnsureFunctionResponse_Outcome]int)
	var (
		mu  sync.Mutex
		all sync.WaitGroup
		fn  *typev1.Function
	)
	for i := range 20 {
		all.Go(func() {
			answer, err := services[i%2].ensure(t.Context(), proto.CloneOf(req))
			if err != nil {
				t.Errorf("call %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[answer.GetOutcome()]++
			fn = answer.GetFunction()
		})
	}
	all.Wait()
	if outcomes[created] != 1 || outcomes[cached] != 19 {
		t.Fatalf("outcomes %v, want 1 CREATED and 19 CACHED", outcomes)
	}
	url := fn.GetTriggers()[0].GetUrl()
	for i, want := range []string{"true", "false"} {
		if got := post(t, url); got != fmt.Sprintf("%s top-secret-value", want) {
			t.Errorf("invocation %d answered %q", i, got)
		}
	}
	cold, err := services[0].EnforceColdStart(t.Context(), &deployerv1.EnforceColdStartRequest{Parent: parent, Functions: []string{fn.GetName()}})
	if err != nil || len(cold.GetFailures()) != 0 {
		t.Fatalf("%v (%v)", cold, err)
	}
	if got := post(t, url); got != "true top-secret-value" {
		t.Errorf("after enforcing a cold start: %q", got)
	}
	if again, err := services[1].ensure(t.Context(), req); err != nil || again.GetOutcome() != cached {
		t.Errorf("again: %v (%v)", again, err)
	}
	logs, err := services[1].GetFunctionLogs(t.Context(), &deployerv1.GetFunctionLogsRequest{Name: fn.GetName()})
	if err != nil || len(logs.GetLines()) == 0 || !strings.Contains(fmt.Sprint(logs), "REPORT") {
		t.Errorf("logs %v (%v)", logs, err)
	}
	answer := &deployerv1.DeleteDeploymentResponse{}
	op, err := services[1].DeleteDeployment(t.Context(), &deployerv1.DeleteDeploymentRequest{Name: parent})
	if err := services[1].wait(t.Context(), op, err, answer); err != nil || len(answer.GetDeleted()["functions"].GetResources()) != 1 {
		t.Errorf("deleted %v (%v)", answer, err)
	}
}

// python returns a runtime that the suite supports and the host has.
func python(t *testing.T, p *apptest.Running) (*typev1.Runtime, typev1.Architecture) {
	t.Helper()
	conn, err := p.Dial("local")
	if err != nil {
		t.Fatal(err)
	}
	host, err := localv1.NewLocalServiceClient(conn).GetHost(t.Context(), &localv1.GetHostRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range host.GetRuntimes() {
		supported := slices.Contains([]string{"3.9", "3.10", "3.11", "3.12", "3.13"}, r.GetRuntime().GetVersion())
		if r.GetRuntime().GetLanguage() == typev1.Language_LANGUAGE_PYTHON && supported {
			return r.GetRuntime(), host.GetArchitecture()
		}
	}
	t.Skip("needs a Python interpreter of version 3.9 to 3.13")
	return nil, 0
}

// of returns the deployer that a process hosts.
func of(t *testing.T, p *apptest.Running) *service {
	t.Helper()
	conn, err := p.Dial("deployer")
	if err != nil {
		t.Fatal(err)
	}
	return &service{
		DeployerServiceClient: deployerv1.NewDeployerServiceClient(conn),
		operations:            longrunningpb.NewOperationsClient(conn),
	}
}

// post invokes the function and returns what it said of itself.
func post(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Cold   bool   `json:"cold"`
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(body, &said); err != nil || answer.StatusCode != http.StatusOK {
		return string(body)
	}
	return fmt.Sprint(said.Cold, " ", said.Secret)
}
