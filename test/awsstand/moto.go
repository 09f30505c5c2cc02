package awsstand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moto is the server behind the proxy, a process of its own.
type moto struct {
	url       *url.URL
	region    string
	transport *http.Transport
	client    *http.Client
}

// motoCommand finds how moto's server is started here; nil means that it is not installed.
func motoCommand() []string {
	if path, err := exec.LookPath("moto_server"); err == nil {
		return []string{path}
	}
	python, err := exec.LookPath("python3")
	if err != nil || exec.Command(python, "-c", "import moto.server, flask").Run() != nil {
		return nil
	}
	return []string{python, "-m", "moto.server"}
}

func startMoto(t testing.TB, region string) *moto {
	t.Helper()
	command := motoCommand()
	if command == nil {
		t.Skip("needs moto's server: pip install 'moto[server]==5.2.5'")
	}
	dir := t.TempDir()
	var problems error
	// Between the choice of a port and moto's taking it another process may have taken it.
	for range 3 {
		m, err := runMoto(t, command, dir, region)
		if err == nil {
			return m
		}
		problems = errors.Join(problems, err)
	}
	t.Fatalf("moto does not start: %v", problems)
	return nil
}

func runMoto(t testing.TB, command []string, dir, region string) (*moto, error) {
	t.Helper()
	port, err := freePort(t.Context())
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "moto.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(command[0], append(command[1:], "-H", "127.0.0.1", "-p", port)...) //nolint:gosec // found on the path
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	cmd.Env = append(environment(), "MOTO_IAM_LOAD_MANAGED_POLICIES=false", "AWS_DEFAULT_REGION="+region)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start moto: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // a signal of the test ends it; an end before that shows as a server that does not answer
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second, DisableCompression: true}
	m := &moto{
		url: &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port)}, region: region,
		transport: transport, client: &http.Client{Transport: transport},
	}
	stop := func() {
		transport.CloseIdleConnections()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(stopLimit):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	if err := m.await(t.Context(), ended); err != nil {
		stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	t.Cleanup(stop)
	return m, nil
}

// environment is the test's own without what would lead moto's SDK elsewhere.
func environment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "AWS_") && !strings.HasPrefix(entry, "MOTO_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// await returns when moto answers. Its functions are never executed by moto, so it shall not look for Docker.
func (m *moto) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		answer, err := m.send(ctx, http.MethodPost, "/moto-api/config", nil, []byte(`{"lambda":{"use_docker":false}}`))
		if err == nil && answer.status/100 == 2 {
			return nil
		}
		select {
		case <-ended:
			return errors.New("moto ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("moto does not answer: %w", errors.Join(ctx.Err(), err))
		case <-time.After(5 * pollStep):
		}
	}
}

// answer is a whole answer of moto.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (m *moto) send(ctx context.Context, method, target string, header http.Header, body []byte) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, m.url.String()+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header
	}
	response, err := m.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read moto's answer: %w", err)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: content}, nil
}

// ask sends a request of the stand's own to a service. moto checks no signature, it only reads which service is meant.
func (m *moto) ask(ctx context.Context, service, method, target string, header http.Header, body []byte) (*answer, error) {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIASTAND/20260101/"+m.region+"/"+service+
		"/aws4_request, SignedHeaders=host, Signature=0")
	return m.send(ctx, method, target, header, body)
}

// target asks a service of the JSON protocol, whose operations stand in a header.
func (m *moto) target(ctx context.Context, service, operation string, body []byte) (*answer, error) {
	return m.ask(ctx, service, http.MethodPost, "/", http.Header{
		"X-Amz-Target": {operation}, "Content-Type": {"application/x-amz-json-1.1"},
	}, body)
}

// hand gives a request of a client to moto and returns the whole answer.
func (m *moto) hand(r *http.Request, body []byte) (*answer, error) {
	header := r.Header.Clone()
	header.Del("Accept-Encoding")
	return m.send(r.Context(), r.Method, r.URL.RequestURI(), header, body)
}

// give writes the answer to the client.
func (a *answer) give(w http.ResponseWriter) {
	for name, values := range a.header {
		switch name {
		case "Content-Length", "Connection", "Date", "Server", "Status":
		default:
			w.Header()[name] = values
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may have gone away
}
