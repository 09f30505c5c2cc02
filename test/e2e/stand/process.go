// Package stand runs the suite as separate processes for tests: each service, the gateway, etcd and NATS, on reserved
// loopback ports and in directories of the test.
package stand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// readyLimit bounds the start of one process.
	readyLimit = 30 * time.Second
	// endLimit bounds its orderly end, after which it is killed.
	endLimit = 20 * time.Second
	pollStep = 20 * time.Millisecond
	// tailBytes is how much of a log a failed test shows.
	tailBytes = 2 << 10
)

// Process is one program that a test runs. It can be run again after its end.
type Process struct {
	// Name tells processes apart in logs and names the log file.
	Name string
	// Path is the program.
	Path string
	// Args are its arguments.
	Args []string
	// Dir is where it works and logs.
	Dir string
	// Env is added to the environment.
	Env []string
	// Ready reports whether the process answers; nil means that it counts as ready once it runs.
	Ready func(ctx context.Context) error

	t    testing.TB
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	code int
}

// newProcess returns a process that ends with the test.
func newProcess(t testing.TB, name, path, dir string, args ...string) *Process {
	t.Helper()
	p := &Process{Name: name, Path: path, Args: args, Dir: dir, t: t}
	t.Cleanup(p.Cleanup)
	return p
}

// Run starts the process. Its output goes to a log file.
func (p *Process) Run() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, log, log
	cmd.Env = append(os.Environ(), p.Env...)
	// A signal for the test's own group does not reach it: only the test ends it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		p.t.Fatalf("start %s: %v", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait()
		_ = log.Close()
		p.mu.Lock()
		p.code = cmd.ProcessState.ExitCode()
		p.mu.Unlock()
		close(done)
	}()
}

func (p *Process) logPath() string { return filepath.Join(p.Dir, p.Name+".log") }

// PID is the id of the process that runs, or ran last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// WaitUntilReady returns when the process answers.
func (p *Process) WaitUntilReady() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), readyLimit)
	defer cancel()
	var last error
	for p.Ready != nil {
		if last = p.Ready(ctx); last == nil {
			return
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s ended with code %d before it was ready; its log ends with:\n%s", p.Name, p.Code(), p.Tail())
		case <-ctx.Done():
			p.t.Fatalf("%s is not ready after %s: %v; its log ends with:\n%s", p.Name, readyLimit, last, p.Tail())
		case <-time.After(pollStep):
		}
	}
}

// Restart runs the process again and waits until it is ready.
func (p *Process) Restart() {
	p.t.Helper()
	p.Run()
	p.WaitUntilReady()
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Interrupt sends SIGINT, as Ctrl-C does.
func (p *Process) Interrupt() {
	p.t.Helper()
	p.signal(os.Interrupt)
}

func (p *Process) signal(s os.Signal) {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("send %s to %s: %v", s, p.Name, err)
	}
}

// Wait returns the exit code when the process has ended by itself.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.Code()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %s; its log ends with:\n%s", p.Name, limit, p.Tail())
		return -1
	}
}

// Code is the exit code of the last end; -1 after a signal.
func (p *Process) Code() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}

// Cleanup ends the process: in order where it obeys, else by force.
func (p *Process) Cleanup() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(endLimit):
		p.t.Errorf("%s did not end within %s of SIGTERM", p.Name, endLimit)
		_ = cmd.Process.Kill()
		<-done
	}
	if strings.Contains(p.Log(), "WARNING: DATA RACE") || strings.Contains(p.Log(), "\npanic: ") {
		p.t.Errorf("%s reports a data race or panicked; its log: %s", p.Name, p.Log())
	}
	if p.t.Failed() {
		p.t.Logf("log of %s ends with:\n%s", p.Name, p.Tail())
	}
}

// Log is everything that the process wrote.
func (p *Process) Log() string {
	raw, err := os.ReadFile(p.logPath())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Tail is the end of the log.
func (p *Process) Tail() string {
	text := p.Log()
	return text[max(0, len(text)-tailBytes):]
}

// answers returns a check that an URL answers 200.
func answers(url string, trust *Authority) func(ctx context.Context) error {
	client := http.DefaultClient
	if trust != nil {
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: trust.TLS()}}
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		request.Close = true
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", url, response.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// accepts returns a check that an address takes connections.
func accepts(address string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// ports hands out each free port once.
type ports struct {
	mu   sync.Mutex
	used map[string]bool
}

var reserved = &ports{used: make(map[string]bool)}

// Address returns a free loopback address that no other caller of this test program gets.
func Address(t testing.TB) string {
	t.Helper()
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !reserved.used[address] {
			reserved.used[address] = true
			return address
		}
	}
}

func poll(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollStep):
		}
	}
	return nil
}
