package awsstand

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
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
	// Sandbox is the kind of sandbox that functions run in: process, docker or auto; empty means process.
	Sandbox string
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

	t       testing.TB
	ctx     context.Context // ends when the stand does
	moto    *moto
	host    localv1.LocalServiceClient
	pass    *httputil.ReverseProxy
	tables  http.Handler // nil where moto keeps the tables
	keys    *keyring
	script  *script
	calls   *journal
	lambda  *functions
	logs    *logs
	roles   roles
	running sync.WaitGroup // what goes on without a request that waits for it
}

// Start runs a stand until the end of the test. Where moto is not installed the test is skipped.
func Start(t testing.TB, o Options) *Stand {
	t.Helper()
	region := cmp.Or(o.Region, defaultRegion)
	m := startMoto(t, region)
	process := apptest.StartWith(t, apptest.Options{Name: "aws-host", Sets: []string{
		"local.sandbox=" + cmp.Or(o.Sandbox, "process"), "local.cpu_share=false", "local.max_concurrency=1000",
		// The suite's own local platform begins at its default ports.
		"local.first_port=0", "local.last_port=0",
	}}, local.Setup)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &Stand{
		Region: region, Account: accountID, t: t, ctx: ctx, moto: m,
		host: localv1.NewLocalServiceClient(process.Conn("local")),
		keys: newKeyring(), script: newScript(o.Faults), calls: &journal{}, lambda: newFunctions(),
	}
	owner := s.keys.issue("AKIA", "")
	s.AccessKey, s.SecretKey = owner.accessKey, owner.secret
	s.logs = newLogs(s)
	s.tables = newTables(owner.accessKey, m.transport)
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
	s.listen(ctx, cancel)
	return s
}

// listen serves requests until the end of the test, and then ends what goes on in the background.
func (s *Stand) listen(ctx context.Context, cancel context.CancelFunc) {
	s.t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	s.Endpoint = (&url.URL{Scheme: "http", Host: listener.Addr().String()}).String()
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.running.Go(s.logs.write)
	s.t.Cleanup(func() {
		cancel()
		if err := server.Close(); err != nil {
			s.t.Errorf("awsstand: close: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("awsstand: serve: %v", err)
		}
		s.running.Wait()
	})
}
