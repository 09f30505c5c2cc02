// Package suite runs every service of the suite in one process, with embedded etcd, NATS JetStream and object store.
//
// It composes the same Setup functions that the separate processes use; only the embedded stores and the place of the
// data differ.
package suite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sebs-suite/sebs/gateway"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/services/builder"
	"github.com/sebs-suite/sebs/services/deployer"
	"github.com/sebs-suite/sebs/services/experiments"
	"github.com/sebs-suite/sebs/services/invoker"
	"github.com/sebs-suite/sebs/services/local"
	"github.com/sebs-suite/sebs/services/metrics"
	"github.com/sebs-suite/sebs/services/storage"
)

// readyTimeout bounds the wait until every service answers.
const readyTimeout = time.Minute

// Options tell how a suite is started.
type Options struct {
	// StateDir holds all data of the suite. The caller owns it; see package statedir.
	StateDir string
	// Listen is the gateway's address; empty means a free port of the loopback address.
	Listen string
	// ConfigFile is the services' configuration; empty means none.
	ConfigFile string
	// BenchmarksDirs and BenchmarksDataDirs are searched before the shipped catalogue.
	BenchmarksDirs, BenchmarksDataDirs []string
	// Settings are further settings of the configuration, in the form path=value.
	Settings []string
	// Sandbox is auto, docker or process.
	Sandbox string
	// NoEgress keeps functions from reaching beyond this machine.
	NoEgress bool
	// LogWriter receives the services' logs.
	LogWriter io.Writer
	// Verbose logs from level debug on.
	Verbose bool
	// Environ is the environment, in the form of os.Environ.
	Environ []string
}

// Suite is a running suite. Close it.
type Suite struct {
	process *app.Process
	gateway net.Addr
	etcd    *etcd.Server
	nats    *nats.Server
	cancel  context.CancelFunc
	done    chan struct{}
	failed  chan struct{}
	mu      sync.Mutex
	err     error
	closing bool
}

// Start runs the suite and returns when every service answers.
func Start(ctx context.Context, options Options) (_ *Suite, err error) {
	s := &Suite{done: make(chan struct{}), failed: make(chan struct{})}
	level := slog.LevelInfo
	if options.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(options.LogWriter, &slog.HandlerOptions{Level: level}))
	// The suite ends when it is closed, not when the context of its start ends: an interrupted command still cancels
	// its work through it.
	base := context.WithoutCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeStores(base))
		}
	}()
	if s.etcd, err = etcd.Start(ctx, etcd.Config{Dir: filepath.Join(options.StateDir, "etcd"), Log: log}); err != nil {
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	// Code of benchmarks runs on this machine too and could reach the port; nobody but this process knows the token.
	token := secret.New(rand.Text())
	if s.nats, err = nats.Start(ctx, nats.Config{Dir: filepath.Join(options.StateDir, "nats"), Token: token, Log: log}); err != nil {
		return nil, fmt.Errorf("start embedded NATS: %w", err)
	}
	source, err := app.LoadSource(options.ConfigFile, serviceEnvironment(options.Environ), options.settings())
	if err != nil {
		return nil, err
	}
	s.process, err = app.New(ctx, app.Options{
		Name: "sebs", Source: source, Log: log, Setups: s.setups(),
		Adjust: func(c *app.Config) {
			c.StateDir = filepath.Join(options.StateDir, "services")
			c.Etcd.Endpoints = []string{s.etcd.Endpoint()}
			c.NATS.URLs, c.NATS.Token = []string{s.nats.URL()}, token
		},
	})
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(base)
	s.cancel = cancel
	go s.run(run)
	return s, s.awaitReady(ctx)
}

// settings turns options into settings of the configuration.
func (o *Options) settings() []string {
	sets := slices.Clone(o.Settings)
	if o.Sandbox != "" {
		sets = append(sets, "local.sandbox="+o.Sandbox)
	}
	if o.NoEgress {
		sets = append(sets, "local.no_egress=true")
	}
	if o.Listen != "" {
		sets = append(sets, "gateway.listen="+o.Listen)
	}
	if len(o.BenchmarksDirs) > 0 {
		sets = append(sets, "builder.benchmarks_dirs="+strings.Join(o.BenchmarksDirs, ","))
	}
	if len(o.BenchmarksDataDirs) > 0 {
		sets = append(sets, "builder.benchmarks_data_dirs="+strings.Join(o.BenchmarksDataDirs, ","))
	}
	return sets
}

// commandVariables are read by the command line, not by the services.
var commandVariables = []string{
	"SEBS_STATE_DIR", "SEBS_SERVER", "SEBS_TOKEN", "SEBS_CA_FILE", "SEBS_SUITE_CONFIG", "SEBS_BENCHMARKS_DIR",
	"SEBS_BENCHMARKS_DATA_DIR", "SEBS_BACKGROUND_SETTINGS",
}

// serviceEnvironment leaves out the variables that are not the services'.
func serviceEnvironment(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.Contains(commandVariables, name) {
			kept = append(kept, entry)
		}
	}
	return kept
}

func (s *Suite) setups() []app.Setup {
	return []app.Setup{
		storage.Setup, local.Setup, builder.Setup, deployer.Setup, invoker.Setup, metrics.Setup, experiments.Setup,
		func(ctx context.Context, p *app.Process) (err error) {
			s.gateway, err = gateway.Open(ctx, p)
			return err
		},
	}
}

// run serves until the suite is closed or a part of it fails.
func (s *Suite) run(ctx context.Context) {
	defer close(s.done)
	err := s.process.Run(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	if !s.closing {
		if s.err == nil {
			s.err = errors.New("the process ended without being told to")
		}
		close(s.failed)
	}
}

func (s *Suite) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-s.process.Serving():
		return nil
	case <-s.failed:
		return errors.Join(s.Err(), s.Close(context.WithoutCancel(ctx)))
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("wait for the services: %w", ctx.Err()), s.Close(context.WithoutCancel(ctx)))
	}
}

// Conn returns a connection to the services.
func (s *Suite) Conn() grpc.ClientConnInterface { return &router{process: s.process} }

// Address returns the gateway's address, host:port.
func (s *Suite) Address() string { return s.gateway.String() }

// Failed is closed when the suite ended by itself.
func (s *Suite) Failed() <-chan struct{} { return s.failed }

// Err tells why the suite ended by itself.
func (s *Suite) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close stops the services, then the stores they stand on, and waits for them.
func (s *Suite) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.cancel()
	var err error
	select {
	case <-s.done:
		err = s.Err()
	case <-ctx.Done():
		err = fmt.Errorf("the services do not end: %w", ctx.Err())
	}
	return errors.Join(err, s.closeStores(ctx))
}

func (s *Suite) closeStores(ctx context.Context) error {
	var problems []error
	if s.nats != nil {
		problems = append(problems, s.nats.Close(ctx))
	}
	if s.etcd != nil {
		problems = append(problems, s.etcd.Close(ctx))
	}
	return errors.Join(problems...)
}

// router sends each call to the service that its method names.
type router struct{ process *app.Process }

func (r *router) to(method string) (grpc.ClientConnInterface, error) {
	service, err := gateway.ServiceOf(method)
	if err != nil {
		return nil, err
	}
	if service == "operations" {
		// Every process serves the operations of all, out of etcd.
		service = "experiments"
	}
	return r.process.Dial(service)
}

// Invoke makes a unary call.
func (r *router) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := r.to(method)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream.
func (r *router) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := r.to(method)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}
