package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sebs-suite/sebs/gateway"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// limit bounds a call that should answer at once.
const limit = 30 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// stand is a gateway before the test's own backends.
type stand struct {
	*apptest.Running
	*backends
	t       *testing.T
	address string
	client  *http.Client
	scheme  string
}

// options say how a stand differs from the default.
type options struct {
	sets []string
	auth bool
	// apart puts the services into a process of their own.
	apart bool
}

func start(t *testing.T, o options) *stand {
	t.Helper()
	s := &stand{t: t, backends: &backends{}, scheme: "http"}
	transport := &http.Transport{}
	s.client = &http.Client{Transport: transport, Timeout: limit}
	t.Cleanup(transport.CloseIdleConnections)
	open := func(ctx context.Context, p *app.Process) error {
		address, err := gateway.Open(ctx, p)
		if err == nil {
			s.address = address.String()
		}
		return err
	}
	adjust := func(c *app.Config) { c.Auth.Required = o.auth }
	shared := apptest.NewBackends(t)
	setups := []app.Setup{open}
	if o.apart {
		apptest.StartWith(t, apptest.Options{Name: "services", Backends: shared, Adjust: adjust}, s.setup(t))
	} else {
		setups = append(setups, s.setup(t))
	}
	s.Running = apptest.StartWith(t, apptest.Options{Name: "gateway", Backends: shared, Sets: o.sets, Adjust: adjust}, setups...)
	return s
}

// request is a REST call.
type request struct {
	method, path, body, token string
	header                    map[string]string
	host                      string
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *stand) do(r request) answer {
	s.t.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	return s.send(r, body)
}

func (s *stand) send(r request, body io.Reader) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	if r.method == "" {
		r.method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, r.method, s.scheme+"://"+s.address+r.path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for key, value := range r.header {
		req.Header.Set(key, value)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.host != "" {
		req.Host = r.host
	}
	response, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return answer{response.StatusCode, response.Header, raw}
}

// reason is that of an error body.
func (a answer) reason() string {
	var body struct {
		Details []struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}
	if json.Unmarshal(a.body, &body) != nil {
		return ""
	}
	for _, d := range body.Details {
		if d.Reason != "" {
			return d.Reason
		}
	}
	return ""
}

// dial connects over gRPC.
func (s *stand) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	if len(opts) == 0 {
		opts = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient(s.address, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestBodiesOfREST(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	const target = deployment + "/functions/f1/triggers/http"
	for name, c := range map[string]struct {
		request
		status int
	}{
		"storage_ok":          {request{path: "/v1/" + deployment + "/buckets/b1"}, 200},
		"storage_missing":     {request{path: "/v1/" + deployment + "/buckets/none"}, 404},
		"storage_refused":     {request{method: "DELETE", path: "/v1/" + deployment + "/tables/t1"}, 501},
		"builder_ok":          {request{path: "/v1/benchmarks/010.sleep"}, 200},
		"builder_missing":     {request{path: "/v1/benchmarks/nothing"}, 404},
		"deployer_ok":         {request{path: "/v1/" + deployment + "/functions/f1"}, 200},
		"deployer_missing":    {request{path: "/v1/" + deployment + "/functions/none"}, 404},
		"deployer_deleted":    {request{method: "DELETE", path: "/v1/" + deployment + "/functions/f1"}, 200},
		"invoker_ok":          {request{method: "POST", path: "/v1/" + target + ":invoke", body: `{"payloadJson":"{}"}`}, 200},
		"invoker_throttled":   {request{method: "POST", path: "/v1/" + target + ":invoke", body: `{"payloadJson":"\"throttled\""}`}, 429},
		"metrics_ok":          {request{path: "/v1/runs/r1/statistics"}, 200},
		"metrics_missing":     {request{path: "/v1/runs/r2/statistics"}, 404},
		"experiments_ok":      {request{path: "/v1/runs/r1"}, 200},
		"experiments_missing": {request{path: "/v1/runs/r2"}, 404},
		"experiments_invalid": {request{method: "POST", path: "/v1/runs", body: `{"benchmarkInvoke":{"size":"huge"}}`}, 400},
		"local_ok":            {request{path: "/v1/local/functions/f1"}, 200},
		"local_missing":       {request{path: "/v1/local/functions/none"}, 404},
		"auth_ok":             {request{path: "/v1/whoami"}, 200},
		"auth_invalid":        {request{method: "POST", path: "/v1/tokens", body: `{"role":"ROLE_UNSPECIFIED"}`}, 400},
		"operation_missing":   {request{path: "/v1/operations/experiments-none"}, 404},
		"not_json":            {request{method: "POST", path: "/v1/runs", body: `{`}, 400},
		"field_unknown":       {request{method: "POST", path: "/v1/runs", body: `{"bogus":1}`}, 400},
		"route_unknown":       {request{path: "/v1/nothing"}, 404},
		"route_unknown_root":  {request{path: "/nothing"}, 404},
		"method_not_allowed":  {request{method: "PUT", path: "/v1/runs"}, 405},
	} {
		got := s.do(c.request)
		if got.status != c.status || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s: %s", name, got.status, got.header.Get("Content-Type"), got.body)
		}
		if ids := got.header.Values("X-Request-Id"); strings.HasPrefix(c.path, "/v1/") && (len(ids) != 1 || ids[0] == "") {
			t.Errorf("%s: request ids %q", name, ids)
		}
		if c.status != 200 && got.reason() == "" && name != "storage_refused" {
			t.Errorf("%s names no reason: %s", name, got.body)
		}
		if wait := got.header.Get("Retry-After"); (c.status == http.StatusTooManyRequests) != (wait == "3") {
			t.Errorf("%s: Retry-After %q", name, wait)
		}
		golden(t, name, got.body)
	}
}

// golden compares a body with its file. protojson puts spaces at random into what it writes; they do not count.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var compact, indented bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		t.Errorf("%s: %v in %s", name, err, body)
		return
	}
	if err := json.Indent(&indented, compact.Bytes(), "", "  "); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	indented.WriteByte('\n')
	file := filepath.Join("testdata", "rest", name+".json")
	if *update {
		if err := os.WriteFile(file, indented.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if !bytes.Equal(want, indented.Bytes()) {
		t.Errorf("%s: got\n%swant\n%s", name, indented.Bytes(), want)
	}
}

func TestTheRequestIDOfTheClientIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	got := s.do(request{path: "/v1/runs/r1", header: map[string]string{"X-Request-Id": "mine-1"}})
	if ids := got.header.Values("X-Request-Id"); len(ids) != 1 || ids[0] != "mine-1" {
		t.Errorf("request ids %q", ids)
	}
}

func TestFixedRoutes(t *testing.T) {
	t.Parallel()
	s := start(t, options{auth: true})
	for path, want := range map[string]string{
		"/": `"openapi":"/openapi.json"`, "/healthz": `"status":"ok"`, "/version": `"version"`, "/openapi.json": "/v1/runs",
	} {
		if got := s.do(request{path: path}); got.status != http.StatusOK || !strings.Contains(strings.ToLower(string(got.body)), want) {
			t.Errorf("%s: %d %.200s", path, got.status, got.body)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, options{sets: []string{"gateway.max_body_bytes=2048"}})
	large := `{"labels":{"a":"` + strings.Repeat("x", 4096) + `"}}`
	for name, body := range map[string]io.Reader{
		"announced": strings.NewReader(large), "chunked": io.MultiReader(strings.NewReader(large)),
	} {
		if got := s.send(request{method: "POST", path: "/v1/runs"}, body); got.status != http.StatusRequestEntityTooLarge || got.reason() != "BODY_TOO_LARGE" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// Objects are streamed and have no bound.
	content := strings.Repeat("y", 3<<20)
	if got := s.do(request{method: "PUT", path: "/v1/content/" + deployment + "/buckets/b1/large", body: content}); got.status != http.StatusOK {
		t.Errorf("a large object: %d %s", got.status, got.body)
	}
	if got := s.do(request{path: "/v1/content/" + deployment + "/buckets/b1/large"}); string(got.body) != content {
		t.Errorf("the large object has %d bytes of %d", len(got.body), len(content))
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host, origin string
		status       int
	}{
		"address":         {"", "", 200},
		"localhost":       {"localhost:" + port, "http://localhost:3000", 200},
		"v6":              {"[::1]:" + port, "", 200},
		"rebound name":    {"evil.example", "", 403},
		"page of another": {"", "http://evil.example", 403},
		"null origin":     {"", "null", 403},
		"other machine":   {"10.1.2.3:" + port, "", 403},
	} {
		for _, path := range []string{"/v1/runs/r1", "/healthz", "/openapi.json"} {
			header := map[string]string{}
			if c.origin != "" {
				header["Origin"] = c.origin
			}
			if got := s.do(request{path: path, host: c.host, header: header}); got.status != c.status {
				t.Errorf("%s, %s: %d %s", name, path, got.status, got.body)
			}
		}
	}
}

func TestListeningBeyondLoopbackIsRefused(t *testing.T) {
	t.Parallel()
	shared := apptest.NewBackends(t)
	cert, key := certificate(t)
	for name, c := range map[string]struct {
		sets []string
		auth bool
		ok   bool
	}{
		"open":          {[]string{"gateway.listen=0.0.0.0:0"}, false, false},
		"only auth":     {[]string{"gateway.listen=0.0.0.0:0"}, true, false},
		"only tls":      {[]string{"gateway.listen=0.0.0.0:0", "gateway.cert_file=" + cert, "gateway.key_file=" + key}, false, false},
		"both":          {[]string{"gateway.listen=127.0.0.1:0", "gateway.cert_file=" + cert, "gateway.key_file=" + key}, true, true},
		"key alone":     {[]string{"gateway.key_file=" + key}, false, false},
		"no port":       {[]string{"gateway.listen=127.0.0.1"}, false, false},
		"no cert there": {[]string{"gateway.cert_file=/does/not/exist", "gateway.key_file=" + key}, false, false},
		"small bodies":  {[]string{"gateway.max_body_bytes=1"}, false, false},
	} {
		source, err := app.NewSource("", nil, nil, append(c.sets, "log.level=error"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := app.New(t.Context(), app.Options{Name: "gateway", Source: source, Setups: []app.Setup{gateway.Setup}, Adjust: func(cfg *app.Config) {
			cfg.StateDir = t.TempDir()
			cfg.Etcd.Endpoints, cfg.NATS.URLs = []string{shared.Etcd.Endpoint()}, []string{shared.NATS.URL()}
			cfg.Auth.Required = c.auth
		}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "gateway") {
			t.Errorf("%s: the error does not name the section: %v", name, err)
		}
		if p != nil && err == nil {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.Run(ended); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
