package host

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// scriptedKind starts sandboxes whose runtime lives in the test.
type scriptedKind struct {
	runtimes sync.WaitGroup
	// answer lets the runtime answer the invocation that it has fetched.
	answer chan struct{}
	// fetched is closed when the runtime has an invocation, killing when the sandbox is to end, ended when it has.
	fetched, killing, ended chan struct{}
	// mayEnd holds the end of a sandbox up.
	mayEnd chan struct{}
	// onStart, if any, holds its start up.
	onStart func(sandbox.Spec)
}

func newScriptedKind() *scriptedKind {
	return &scriptedKind{
		answer: make(chan struct{}), fetched: make(chan struct{}), killing: make(chan struct{}), ended: make(chan struct{}), mayEnd: make(chan struct{}),
	}
}

func (k *scriptedKind) Name() string                                             { return "scripted" }
func (k *scriptedKind) Capabilities() sandbox.Capabilities                       { return sandbox.Capabilities{} }
func (k *scriptedKind) Available(context.Context, sandbox.Runtime, string) error { return nil }
func (k *scriptedKind) Runtimes(context.Context) []sandbox.Offer                 { return nil }
func (k *scriptedKind) Orphans(context.Context, bool) ([]string, error)          { return nil, nil }
func (k *scriptedKind) Close(context.Context) error                              { return nil }

func (k *scriptedKind) RuntimeAPIHost(context.Context) (listen, advertise string, err error) {
	return "127.0.0.1", "127.0.0.1", nil
}

// Start runs a runtime that fetches one invocation, answers it when it may, and asks for the next until the API is closed.
func (k *scriptedKind) Start(_ context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	if k.onStart != nil {
		k.onStart(spec)
	}
	base := "http://" + spec.RuntimeAPI + "/2018-06-01/runtime/invocation/"
	k.runtimes.Go(func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		next, err := client.Get(base + "next") //nolint:noctx // ends with the API
		if err != nil {
			return
		}
		_ = next.Body.Close()
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		if id == "" {
			return
		}
		close(k.fetched)
		<-k.answer
		if answered, err := client.Post(base+id+"/response", "application/json", strings.NewReader("{}")); err == nil { //nolint:noctx // ends with the API
			_ = answered.Body.Close()
		}
	})
	spec.Peer(func(net.Conn) bool { return true })
	return &scriptedInstance{kind: k, id: spec.ID}, nil
}

type scriptedInstance struct {
	kind *scriptedKind
	id   string
	once sync.Once
}

func (i *scriptedInstance) ID() string                                { return i.id }
func (i *scriptedInstance) Done() <-chan struct{}                     { return i.kind.ended }
func (i *scriptedInstance) Exit() sandbox.Exit                        { return sandbox.Exit{Signal: "killed"} }
func (i *scriptedInstance) Throttle(context.Context) error            { return nil }
func (i *scriptedInstance) MemoryUsed(context.Context) (int64, error) { return 0, nil }
func (i *scriptedInstance) MemoryPeak() int64                         { return 0 }
func (i *scriptedInstance) EndOutput() <-chan struct{}                { return nil }

func (i *scriptedInstance) Kill(context.Context) error {
	i.once.Do(func() {
		close(i.kind.killing)
		<-i.kind.mayEnd
		close(i.kind.ended)
	})
	return nil
}

// scripted makes a host with one function on a scripted kind.
func scripted(t *testing.T) (*Host, *function, *scriptedKind) {
	t.Helper()
	k := newScriptedKind()
	h, err := New(Options{StateDir: t.TempDir(), Kinds: []Kind{k}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	def := &Definition{Name: "f", Version: 1, Kind: "scripted", Config: Config{MemoryMB: 128, Timeout: time.Minute}}
	dir := filepath.Join(h.options.StateDir, "functions", "f")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFunction(h, dir, def)
	h.mu.Lock()
	h.ready["f"] = f
	h.mu.Unlock()
	return h, f, k
}

func closing(t *testing.T, h *Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
}

// checkEmpty tells whether a sandbox outlived its host. The Runtime API of one would keep the runtime waiting.
func checkEmpty(t *testing.T, f *function, k *scriptedKind) {
	t.Helper()
	f.mu.Lock()
	boxes, idle, live := len(f.boxes), len(f.idle), f.live
	f.mu.Unlock()
	if boxes != 0 || idle != 0 || live != 0 {
		t.Fatalf("%d sandboxes (%d idle, %d counted) outlived the host", boxes, idle, live)
	}
	k.runtimes.Wait()
}

func TestSandboxThatIsReadyAfterTheEndIsEnded(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"for an invocation": true, "in advance": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f, k := scripted(t)
			close(k.mayEnd)
			def, err := f.room()
			if err != nil {
				t.Fatal(err)
			}
			f.stopAll()
			if _, fail := h.startBox(f, def, busy); fail == nil || fail.typ != "Sandbox.Stopped" {
				t.Errorf("the start gave %+v, want Sandbox.Stopped", fail)
			}
			closing(t, h)
			checkEmpty(t, f, k)
		})
	}
}

func TestAnswerWhileTheSandboxIsBeingEnded(t *testing.T) {
	t.Parallel()
	h, f, k := scripted(t)
	answered := make(chan error, 1)
	go func() {
		_, err := h.Invoke(context.Background(), Call{Function: "f"})
		answered <- err
	}()
	<-k.fetched
	var closer sync.WaitGroup
	closer.Go(func() { closing(t, h) })
	<-k.killing
	close(k.answer)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	close(k.mayEnd)
	closer.Wait()
	checkEmpty(t, f, k)
}

func TestCodeStaysWhileASandboxStartsOnIt(t *testing.T) {
	t.Parallel()
	deploy := func(t *testing.T, h *Host, code string) {
		t.Helper()
		spec := Spec{Name: "f", Replace: true, Config: Config{Runtime: sandbox.Runtime{Language: "python"}, MemoryMB: 128, Timeout: time.Minute}}
		if _, err := h.Deploy(t.Context(), spec, bytes.NewReader(archive(t, file("handler.py", code, 0o644)))); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*testing.T, *Host){
		"replaced": func(t *testing.T, h *Host) { deploy(t, h, "new") },
		"deleted": func(t *testing.T, h *Host) {
			if err := h.Delete("f"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f, k := scripted(t)
			close(k.mayEnd)
			close(k.answer)
			starting, mayStart := make(chan string), make(chan struct{})
			k.onStart = func(spec sandbox.Spec) {
				starting <- spec.TaskRoot
				<-mayStart
			}
			deploy(t, h, "old")
			answered := make(chan error, 1)
			go func() {
				_, err := h.Invoke(context.Background(), Call{Function: "f"})
				answered <- err
			}()
			code := <-starting
			change(t, h)
			h.collectCode()
			if got, err := os.ReadFile(filepath.Join(code, "handler.py")); err != nil || string(got) != "old" {
				t.Errorf("the code of the sandbox that starts = %q, %v", got, err)
			}
			close(mayStart)
			if err := <-answered; err != nil {
				t.Error(err)
			}
			closing(t, h)
			checkEmpty(t, f, k)
			h.collectCode()
			if exists(code) {
				t.Error("the code stayed when its last sandbox had ended")
			}
		})
	}
}
