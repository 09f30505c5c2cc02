package awsstand

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/services/local"
)

const (
	// accountID is the account of everything on the stand; moto knows no other one by default.
	accountID = "123456789012"
	// defaultRegion is where clients work that are not told another region.
	defaultRegion = "us-east-1"
	// startLimit bounds the start of a part of the stand, stopLimit its end.
	startLimit = 60 * time.Second
	stopLimit  = 10 * time.Second
	// pollStep is the pause between two looks at something that takes a moment.
	pollStep = 10 * time.Millisecond
)

// Options of [Start]. The zero value is good.
type Options struct {
	// Region of the stand; empty means us-east-1.
	Region string
	// Sandbox is the kind of sandbox that functions run in which are archives: process or docker; empty means process.
	Sandbox string
	// Registry asks for a registry of images behind ECR, and for docker sandboxes, in which functions run that are images.
	// The test is skipped where docker-registry is not installed or no Docker Engine answers.
	Registry bool
	// MotoTables keeps tables in moto also where DynamoDB Local is there, which knows no tags.
	MotoTables bool
	// Faults are scripted from the beginning.
	Faults Faults
}

// Stand is a running stand-in for AWS. It ends with its test.
type Stand struct {
	// Endpoint is the URL that takes the requests of all services.
	Endpoint string
	// Region is where the stand lies.
	Region string
	// AccessKey and SecretKey are the keys of the account's user.
	AccessKey, SecretKey string
	// Account is the account's number.
	Account string
	// Registry is host and port of the registry of images; empty where the test did not ask for one.
	Registry string

	// containers is the endpoint that functions in containers use, archives the kind of sandbox that archives run in.
	containers string
	archives   localv1.SandboxKind

	t        testing.TB
	ctx      context.Context // ends when the stand does
	moto     *moto
	host     localv1.LocalServiceClient
	pass     *httputil.ReverseProxy
	tables   http.Handler // nil where moto keeps the tables
	keys     *keyring
	script   *script
	calls    *journal
	lambda   *functions
	logs     *logs
	roles    roles
	insights insights
	images   *registry      // nil where the test needs none
	running  sync.WaitGroup // what goes on without a request that waits for it
}

// Start runs a stand until the end of the test. Where moto is not installed the test is skipped.
func Start(t testing.TB, o Options) *Stand {
	t.Helper()
	region, kind := cmp.Or(o.Region, defaultRegion), cmp.Or(o.Sandbox, "process")
	kinds := kind
	if o.Registry {
		kinds = "auto"
	}
	m := startMoto(t, region)
	process := apptest.StartWith(t, apptest.Options{Name: "aws-host", Sets: []string{
		"local.sandbox=" + kinds, "local.cpu_share=false", "local.max_concurrency=1000",
		// The suite's own local platform begins at its default ports.
		"local.first_port=0", "local.last_port=0",
	}}, local.Setup)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &Stand{
		Region: region, Account: accountID, t: t, ctx: ctx, moto: m,
		host:     localv1.NewLocalServiceClient(process.Conn("local")),
		archives: sandboxKinds[kind], keys: newKeyring(), script: newScript(o.Faults), calls: &journal{}, lambda: newFunctions(),
	}
	owner := s.keys.issue("AKIA", "")
	s.AccessKey, s.SecretKey = owner.accessKey, owner.secret
	s.logs = newLogs(s)
	if !o.MotoTables {
		s.tables = newTables(owner.accessKey, m.transport)
	}
	s.pass = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(m.url); r.Out.Host = r.In.Host },
		ModifyResponse: s.rewrite,
		Transport:      m.transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				t.Logf("awsstand: %s %s: %v", r.Method, r.URL.Path, err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	if o.Registry {
		s.startRegistry()
	}
	s.listen(ctx, cancel, s.forContainers(o.Registry || kind == "docker"))
	return s
}

var sandboxKinds = map[string]localv1.SandboxKind{
	"process": localv1.SandboxKind_SANDBOX_KIND_PROCESS, "docker": localv1.SandboxKind_SANDBOX_KIND_DOCKER,
}

// forContainers finds the address under which containers reach this machine; empty where none are wanted.
func (s *Stand) forContainers(wanted bool) string {
	s.t.Helper()
	if !wanted {
		return ""
	}
	host, err := s.host.GetHost(s.ctx, &localv1.GetHostRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	if !slices.Contains(host.GetSandboxKinds(), localv1.SandboxKind_SANDBOX_KIND_DOCKER) {
		s.t.Skip("needs a Docker Engine: " + host.GetSandboxNotes()["docker"])
	}
	return host.GetDockerStoreHost()
}

// listen serves requests until the end of the test, and then ends what goes on in the background.
func (s *Stand) listen(ctx context.Context, cancel context.CancelFunc, containers string) {
	s.t.Helper()
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 2)
	serve := func(host string) string {
		s.t.Helper()
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			s.t.Fatal(err)
		}
		go func() { served <- server.Serve(listener) }()
		return listener.Addr().String()
	}
	endpoint := func(host string) string { return (&url.URL{Scheme: "http", Host: host}).String() }
	s.Endpoint = endpoint(serve("127.0.0.1"))
	s.containers = s.Endpoint
	servers := 1
	if net.ParseIP(containers) != nil {
		s.containers = endpoint(serve(containers))
		servers++
	} else if containers != "" { // a name by which containers reach loopback addresses
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.Endpoint, "http://"))
		s.containers = endpoint(net.JoinHostPort(containers, port))
	}
	s.running.Go(s.logs.write)
	s.t.Cleanup(func() {
		cancel()
		if err := server.Close(); err != nil {
			s.t.Errorf("awsstand: close: %v", err)
		}
		for range servers {
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				s.t.Errorf("awsstand: serve: %v", err)
			}
		}
		s.running.Wait()
	})
}
