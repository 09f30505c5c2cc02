// Package runtimetest runs packaged functions in a bare Lambda Runtime API host:
// what the local platform does, without its routing, limits and accounting. It
// is for tests of the function side and of benchmarks.
package runtimetest

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

	"github.com/sebs-suite/sebs/runtimes"
)

// Patience bounds every wait of a test; nothing should come near it.
const Patience = 60 * time.Second

// Interpreter is a program of this machine that runs a language.
type Interpreter struct {
	Language string
	Path     string
	Version  string // "3.11", "20"
}

// String is language and version.
func (i Interpreter) String() string { return i.Language + " " + i.Version }

// Interpreters finds one interpreter per supported version of each language,
// the default one of a language first.
func Interpreters(t *testing.T) []Interpreter {
	t.Helper()
	candidates := map[string][]string{
		"python": {"python3", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13"},
		"nodejs": {"node"},
	}
	version := map[string][]string{
		"python": {"-c", "import sys; print('%d.%d' % sys.version_info[:2])"},
		"nodejs": {"-p", "process.versions.node.split('.')[0]"},
	}
	var found []Interpreter
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
			i := Interpreter{Language: language, Path: path, Version: strings.TrimSpace(string(out))}
			if !slices.ContainsFunc(found, func(other Interpreter) bool { return other.String() == i.String() }) {
				found = append(found, i)
			}
		}
	}
	return found
}

// Delivery is what a process sent to the Runtime API.
type Delivery struct {
	// Path is relative to the Runtime API's root: "invocation/<id>/response".
	Path   string
	Header http.Header
	Body   []byte
}

// host is a Runtime API for one process.
type host struct {
	server *httptest.Server
	work   chan []byte // payloads to hand out
	sent   chan Delivery
	closed chan struct{}

	mu   sync.Mutex
	next int
}

// APIPrefix begins every path of the Runtime API.
const APIPrefix = "/2018-06-01/runtime/"

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{work: make(chan []byte), sent: make(chan Delivery, 16), closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+APIPrefix+"invocation/next", h.serveNext)
	mux.HandleFunc("POST "+APIPrefix, h.serveDelivery)
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
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(Patience).UnixMilli(), 10))
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
	h.sent <- Delivery{Path: strings.TrimPrefix(r.URL.Path, APIPrefix), Header: r.Header, Body: body}
}

// Process is a bootstrap running a function.
type Process struct {
	Interpreter
	// Platform is the one whose layout the package has.
	Platform string
	// Root is the directory of the code package. It may be added to before
	// Start.
	Root string
	// Output is all that the process printed so far.
	Output fmt.Stringer

	host   *host
	cmd    *exec.Cmd
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

// New lays out a code package for platform local as NewOn does.
func New(t *testing.T, i Interpreter, sources map[string]string) *Process {
	t.Helper()
	return NewOn(t, "local", i, sources)
}

// NewOn lays out a code package for a platform as a builder does, with sources
// (content by name) as the benchmark's own files, and prepares a process for it.
// Start starts it.
func NewOn(t *testing.T, platform string, i Interpreter, sources map[string]string) *Process {
	t.Helper()
	c, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := c.Bootstrap(i.Language)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := c.Layout(platform, i.Language)
	if err != nil {
		t.Fatal(err)
	}
	dir, root := t.TempDir(), t.TempDir()
	if err := errors.Join(c.Write(bootstrap.Files, dir), c.Write(layout.Files, root)); err != nil {
		t.Fatal(err)
	}
	for name, content := range sources {
		target := filepath.Join(root, layout.SourceDir, filepath.FromSlash(name))
		err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, []byte(content), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	return Prepare(t, platform, i, root, layout.Handler, filepath.Join(dir, bootstrap.Entry))
}

// Prepare prepares a process of the program i.Path with arguments for the
// package that is unpacked in root. Start starts it.
func Prepare(t *testing.T, platform string, i Interpreter, root, handler string, arguments ...string) *Process {
	t.Helper()
	h := newHost(t)
	out := &output{}
	cmd := exec.CommandContext(t.Context(), i.Path, arguments...) //nolint:gosec // found on this machine
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + os.Getenv("HOME"),
		"TMPDIR=" + t.TempDir(),
		"PYTHONDONTWRITEBYTECODE=1",
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(h.server.URL, "http://"),
		"_HANDLER=" + handler,
		"LAMBDA_TASK_ROOT=" + root,
	}
	cmd.Stdout, cmd.Stderr = out, out
	return &Process{Interpreter: i, Platform: platform, Root: root, Output: out, host: h, cmd: cmd, exited: make(chan error, 1)}
}

// Start starts the process with variables ("NAME=value") beyond the usual ones.
// It is killed when the test ends.
func (p *Process) Start(t *testing.T, env ...string) {
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

// Await returns the next Delivery.
func (p *Process) Await(t *testing.T) Delivery {
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
		t.Fatalf("the process ended (%v) without an answer; it printed:\n%s", err, p.Output)
	case <-time.After(Patience):
		t.Fatalf("no answer within %v; the process printed:\n%s", Patience, p.Output)
	}
	panic("unreachable")
}

// Invoke hands out a payload and returns the answer to it.
func (p *Process) Invoke(t *testing.T, payload string) Delivery {
	t.Helper()
	p.Hand(t, payload)
	return p.Await(t)
}

// Hand hands out a payload.
func (p *Process) Hand(t *testing.T, payload string) {
	t.Helper()
	select {
	case p.host.work <- []byte(payload):
	case err := <-p.exited:
		t.Fatalf("the process ended (%v); it printed:\n%s", err, p.Output)
	case <-time.After(Patience):
		t.Fatalf("the process asked for no work within %v; it printed:\n%s", Patience, p.Output)
	}
}

// Answer is what a wrapper answers, the one shape of the suite.
type Answer struct {
	Begin        string          `json:"begin"`
	End          string          `json:"end"`
	ResultsTime  *float64        `json:"results_time"`
	IsCold       *bool           `json:"is_cold"`
	RequestID    string          `json:"request_id"`
	ContainerID  string          `json:"container_id"`
	ColdStartVar *string         `json:"cold_start_var"`
	Result       json.RawMessage `json:"result"`
}

// Succeed invokes and decodes a response; fields beyond the shape fail.
func (p *Process) Succeed(t *testing.T, payload string) Answer {
	t.Helper()
	d := p.Invoke(t, payload)
	if !strings.HasSuffix(d.Path, "/response") {
		t.Fatalf("%s: %.2000s", d.Path, d.Body)
	}
	var a Answer
	decode(t, p.unwrap(t, d.Body), &a)
	if want := "invocation/" + a.RequestID + "/response"; d.Path != want {
		t.Errorf("sent to %s, want %s", d.Path, want)
	}
	return a
}

// unwrap takes an answer out of the HTTP response that functions on AWS make.
func (p *Process) unwrap(t *testing.T, answer []byte) []byte {
	t.Helper()
	if p.Platform != "aws" {
		return answer
	}
	var response struct {
		StatusCode int    `json:"statusCode"`
		Body       string `json:"body"`
	}
	decode(t, answer, &response)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %.500s", response.StatusCode, answer)
	}
	return []byte(response.Body)
}

// decode reads JSON that may hold the fields of into alone.
func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("decode %.500s: %v", raw, err)
	}
}

// Failure is the body of an error.
type Failure struct {
	ErrorType    string   `json:"errorType"`
	ErrorMessage string   `json:"errorMessage"`
	StackTrace   []string `json:"stackTrace"`
	RequestID    string   `json:"requestId"`
}

// DecodeFailure reads the body of an error and compares it with the header.
func DecodeFailure(t *testing.T, d Delivery) Failure {
	t.Helper()
	var f Failure
	if err := json.Unmarshal(d.Body, &f); err != nil {
		t.Fatalf("%s: decode %.500s: %v", d.Path, d.Body, err)
	}
	if got := d.Header.Get("Lambda-Runtime-Function-Error-Type"); got != f.ErrorType {
		t.Errorf("header names error type %q, body %q", got, f.ErrorType)
	}
	return f
}

// Fail invokes and decodes an error.
func (p *Process) Fail(t *testing.T, payload string) Failure {
	t.Helper()
	d := p.Invoke(t, payload)
	if !strings.HasSuffix(d.Path, "/error") {
		t.Fatalf("%s: %.2000s, want an error", d.Path, d.Body)
	}
	f := DecodeFailure(t, d)
	if want := "invocation/" + f.RequestID + "/error"; d.Path != want {
		t.Errorf("sent to %s, want %s", d.Path, want)
	}
	return f
}

// Exit waits for the end of the process and returns its exit code.
func (p *Process) Exit(t *testing.T) int {
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
	case <-time.After(Patience):
		t.Fatalf("the process is still running after %v; it printed:\n%s", Patience, p.Output)
	}
	panic("unreachable")
}
