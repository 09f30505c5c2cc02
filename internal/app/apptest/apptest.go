// Package apptest runs services in tests, on loopback ports with an embedded etcd and NATS of their own.
package apptest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/embedded/nats"
)

// startLimit bounds the start of a process in a test.
const startLimit = 30 * time.Second

// Backends are the stores that the processes of a test share.
type Backends struct {
	Etcd *etcd.Server
	NATS *nats.Server
}

// NewBackends starts etcd and NATS in directories of the test and ends them with it.
func NewBackends(t testing.TB) *Backends {
	t.Helper()
	dir := t.TempDir()
	b := &Backends{}
	var err error
	if b.Etcd, err = etcd.Start(t.Context(), etcd.Config{Dir: filepath.Join(dir, "etcd"), NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWith(t, b.Etcd.Close) })
	// Nothing of a test has to survive a crash of the machine.
	if b.NATS, err = nats.Start(t.Context(), nats.Config{Dir: filepath.Join(dir, "nats"), SyncInterval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeWith(t, b.NATS.Close) })
	return b
}

func closeWith(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startLimit)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// Options of [StartWith]. The zero value is good.
type Options struct {
	// Name of the process. Default "sebs-test".
	Name string
	// Backends to share with other processes. Default: new ones.
	Backends *Backends
	// YAML holds sections of the configuration, without "version".
	YAML string
	// Sets are settings of the form "builder.cache_dir=/x".
	Sets []string
	// Adjust changes the configuration of the process.
	Adjust func(*app.Config)
	// LogLevel of what goes to the test's log. Default: warn.
	LogLevel slog.Level
}

// Running is a process that serves.
type Running struct {
	*app.Process
	Backends *Backends

	t      testing.TB
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// Start runs services in one process and returns when it answers calls. The process ends with the test.
func Start(t testing.TB, setups ...app.Setup) *Running {
	t.Helper()
	return StartWith(t, Options{}, setups...)
}

// StartWith is [Start] with options. Several processes on the same Backends find each other.
func StartWith(t testing.TB, opts Options, setups ...app.Setup) *Running {
	t.Helper()
	if opts.Backends == nil {
		opts.Backends = NewBackends(t)
	}
	if opts.Name == "" {
		opts.Name = "sebs-test"
	}
	if opts.LogLevel == 0 {
		opts.LogLevel = slog.LevelWarn
	}
	text := ""
	if opts.YAML != "" {
		text = "version: 1\n" + opts.YAML
	}
	source, err := app.NewSource("test.yaml", []byte(text), nil, opts.Sets)
	if err != nil {
		t.Fatal(err)
	}
	stateDir := t.TempDir()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	process, err := app.New(ctx, app.Options{
		Name:   opts.Name,
		Setups: setups,
		Source: source,
		Adjust: func(c *app.Config) {
			c.StateDir = stateDir
			c.Etcd.Endpoints = []string{opts.Backends.Etcd.Endpoint()}
			c.NATS.URLs = []string{opts.Backends.NATS.URL()}
			c.Shutdown.Grace = 2 * time.Second
			if opts.Adjust != nil {
				opts.Adjust(c)
			}
		},
		Log: slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: opts.LogLevel})),
	})
	if err != nil {
		cancel()
		t.Fatalf("start %s: %v", opts.Name, err)
	}
	r := &Running{Process: process, Backends: opts.Backends, t: t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- process.Run(ctx) }()
	t.Cleanup(r.Stop)
	select {
	case <-process.Serving():
	case <-time.After(startLimit):
		t.Fatalf("start %s: not serving after %s", opts.Name, startLimit)
	}
	return r
}

// Stop ends the process in order and waits for it.
func (r *Running) Stop() {
	r.once.Do(func() {
		r.cancel()
		if err := <-r.done; err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("%s ended with %v", r.Name, err)
		}
	})
}

// Conn returns a connection to a service, as another service would get it.
func (r *Running) Conn(service string) grpc.ClientConnInterface {
	r.t.Helper()
	conn, err := r.Dial(service)
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// testLog writes to the log of a test while the test runs.
type testLog struct {
	t testing.TB
}

// Write logs one line.
func (l *testLog) Write(line []byte) (int, error) {
	l.t.Log(string(line))
	return len(line), nil
}

// WithToken returns ctx for calls with a bearer token.
func WithToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}
