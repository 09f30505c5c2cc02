package runtimes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests; nothing should come near it.
const patience = 30 * time.Second

// interpreter is a program of this machine that runs a language.
type interpreter struct {
	language string
	path     string
	name     string // "python 3.11", "nodejs 20"
}

// interpreters finds one interpreter per supported version of each language.
func interpreters(t *testing.T) []interpreter {
	t.Helper()
	candidates := map[string][]string{
		"python": {"python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13"},
		"nodejs": {"node"},
	}
	version := map[string][]string{
		"python": {"-c", "import sys; print('%d.%d' % sys.version_info[:2])"},
		"nodejs": {"-p", "process.versions.node.split('.')[0]"},
	}
	var found []interpreter
	for _, language := range []string{"nodejs", "python"} {
		for _, program := range candidates[language] {
			path, err := exec.LookPath(program)
			if err != nil {
				continue
			}
			// A version manager may list programs that it cannot run.
			out, err := exec.CommandContext(t.Context(), path, version[language]...).Output()
			if err != nil {
				continue
			}
			name := language + " " + strings.TrimSpace(string(out))
			if !slices.ContainsFunc(found, func(i interpreter) bool { return i.name == name }) {
				found = append(found, interpreter{language: language, path: path, name: name})
			}
		}
	}
	return found
}

// eachInterpreter runs a test in every language and version found. sources
// holds the function's source per language.
func eachInterpreter(t *testing.T, sources map[string]string, test func(t *testing.T, p *process)) {
	t.Helper()
	all := interpreters(t)
	for _, language := range []string{"nodejs", "python"} {
		if !slices.ContainsFunc(all, func(i interpreter) bool { return i.language == language }) {
			t.Run(language, func(t *testing.T) { t.Skipf("needs an interpreter of %s on PATH", language) })
		}
	}
	for _, i := range all {
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			test(t, newProcess(t, i, sources[i.language]))
		})
	}
}

// delivery is what a process sent to the Runtime API.
type delivery struct {
	path   string
	header http.Header
	body   []byte
}

// host is a Runtime API for one process.
type host struct {
	server *httptest.Server
	work   chan []byte // payloads to hand out
	sent   chan delivery
	closed chan struct{}

	mu   sync.Mutex
	next int
}

const apiPrefix = "/2018-06-01/runtime/"

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{work: make(chan []byte), sent: make(chan delivery, 16), closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiPrefix+"invocation/next", h.serveNext)
	mux.HandleFunc("POST "+apiPrefix, h.serveDelivery)
	h.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		close(h.closed)
		h.server.Close()
	})
	return h
}

func (h *host) serveNext(w http.ResponseWriter, r *http.Request) {
	select {
	case payload := <-h.work:
		h.mu.Lock()
		h.next++
		id := fmt.Sprintf("request-%d", h.next)
		h.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(patience).UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Trace-Id", "trace-"+id)
		_, _ = w.Write(payload)
	case <-h.closed:
	case <-r.Context().Done():
	}
}

func (h *host) serveDelivery(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	h.sent <- delivery{path: strings.TrimPrefix(r.URL.Path, apiPrefix), header: r.Header, body: body}
}

// process is a bootstrap running a function.
type process struct {
	interpreter
	host   *host
	cmd    *exec.Cmd
	output *output
	exited chan error
}

// output collects what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// pack lays a function out as a builder does and returns the task root.
func pack(t *testing.T, c *Catalog, language, source string) string {
	t.Helper()
	layout, err := c.Layout("local", language)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := c.Write(layout.Files, root); err != nil {
		t.Fatal(err)
	}
	name := map[string]string{"python": "function.py", "nodejs": "function.js"}[language]
	if err := os.WriteFile(filepath.Join(root, layout.SourceDir, name), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

// newProcess packs the source; start starts it.
func newProcess(t *testing.T, i interpreter, source string) *process {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := c.Bootstrap(i.language)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := c.Layout("local", i.language)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := c.Write(bootstrap.Files, dir); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	out := &output{}
	cmd := exec.CommandContext(t.Context(), i.path, filepath.Join(dir, bootstrap.Entry)) //nolint:gosec // found on PATH
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + os.Getenv("HOME"),
		"TMPDIR=" + t.TempDir(),
		"PYTHONDONTWRITEBYTECODE=1",
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(h.server.URL, "http://"),
		"_HANDLER=" + layout.Handler,
		"LAMBDA_TASK_ROOT=" + pack(t, c, i.language, source),
	}
	cmd.Stdout, cmd.Stderr = out, out
	return &process{interpreter: i, host: h, cmd: cmd, output: out, exited: make(chan error, 1)}
}

func (p *process) start(t *testing.T, env ...string) {
	t.Helper()
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		p.exited <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-finished
	})
}

// await returns the next delivery.
func (p *process) await(t *testing.T) delivery {
	t.Helper()
	select {
	case d := <-p.host.sent:
		return d
	case err := <-p.exited:
		// What it sent before it ended still counts.
		p.exited <- err
		select {
		case d := <-p.host.sent:
			return d
		default:
		}
		t.Fatalf("the process ended (%v) without an answer; it printed:\n%s", err, p.output)
	case <-time.After(patience):
		t.Fatalf("no answer within %v; the process printed:\n%s", patience, p.output)
	}
	panic("unreachable")
}

// invoke hands out a payload and returns the answer to it.
func (p *process) invoke(t *testing.T, payload string) delivery {
	t.Helper()
	select {
	case p.host.work <- []byte(payload):
	case err := <-p.exited:
		t.Fatalf("the process ended (%v); it printed:\n%s", err, p.output)
	case <-time.After(patience):
		t.Fatalf("the process asked for no work within %v; it printed:\n%s", patience, p.output)
	}
	return p.await(t)
}

// answer is the shape of section "Results" of the design.
type answer struct {
	Begin        string          `json:"begin"`
	End          string          `json:"end"`
	ResultsTime  *float64        `json:"results_time"`
	IsCold       *bool           `json:"is_cold"`
	RequestID    string          `json:"request_id"`
	ContainerID  string          `json:"container_id"`
	ColdStartVar *string         `json:"cold_start_var"`
	Result       json.RawMessage `json:"result"`
}

// succeed invokes and decodes a response; fields beyond the shape fail.
func (p *process) succeed(t *testing.T, payload string) answer {
	t.Helper()
	d := p.invoke(t, payload)
	if !strings.HasSuffix(d.path, "/response") {
		t.Fatalf("%s: %.2000s", d.path, d.body)
	}
	var a answer
	decoder := json.NewDecoder(bytes.NewReader(d.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		t.Fatalf("decode %.500s: %v", d.body, err)
	}
	if want := "invocation/" + a.RequestID + "/response"; d.path != want {
		t.Errorf("sent to %s, want %s", d.path, want)
	}
	return a
}

// failure is the body of an error.
type failure struct {
	ErrorType    string   `json:"errorType"`
	ErrorMessage string   `json:"errorMessage"`
	StackTrace   []string `json:"stackTrace"`
	RequestID    string   `json:"requestId"`
}

func decodeFailure(t *testing.T, d delivery) failure {
	t.Helper()
	var f failure
	if err := json.Unmarshal(d.body, &f); err != nil {
		t.Fatalf("%s: decode %.500s: %v", d.path, d.body, err)
	}
	if got := d.header.Get("Lambda-Runtime-Function-Error-Type"); got != f.ErrorType {
		t.Errorf("header names error type %q, body %q", got, f.ErrorType)
	}
	return f
}

// fail invokes and decodes an error.
func (p *process) fail(t *testing.T, payload string) failure {
	t.Helper()
	d := p.invoke(t, payload)
	if !strings.HasSuffix(d.path, "/error") {
		t.Fatalf("%s: %.2000s, want an error", d.path, d.body)
	}
	f := decodeFailure(t, d)
	if want := "invocation/" + f.RequestID + "/error"; d.path != want {
		t.Errorf("sent to %s, want %s", d.path, want)
	}
	return f
}

// exit waits for the end of the process and returns its exit code.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	case <-time.After(patience):
		t.Fatalf("the process is still running after %v; it printed:\n%s", patience, p.output)
	}
	panic("unreachable")
}
