package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/observe"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/internal/pagetoken"
)

// startTimeout bounds the wait for etcd and NATS at start, which may come up at the same time.
const startTimeout = 30 * time.Second

// Setup builds a service from its parts and tells the process what to serve. It must not call other services: they may not
// be there yet.
type Setup func(ctx context.Context, p *Process) error

// Options of [New].
type Options struct {
	// Name of the process, such as sebs-invoker.
	Name string
	// Setups of the services that the process hosts.
	Setups []Setup
	// Source of the configuration. Default: the environment alone.
	Source *Source
	// Adjust changes the configuration after it was read, such as the addresses of embedded stores.
	Adjust func(*Config)
	// NATSOptions are further options of the connection, such as an in-process server.
	NATSOptions []nats.Option
	// Log takes the place of the logger of the configuration.
	Log *slog.Logger
}

// Process is what a service sees of the process that hosts it. Make it with [New].
type Process struct {
	Name        string
	ID          string
	Config      Config
	Log         *slog.Logger
	Registry    *prometheus.Registry
	Tracing     *observe.Tracing
	Cache       *cache.Store
	Events      *events.Bus
	Operations  *operations.Manager
	Credentials *credentials.Resolver
	// Tokens, Authn and Policies tell who calls and what they may do; the gateway applies the same to REST.
	Tokens   *authn.Tokens
	Authn    *authn.Authenticator
	Policies *authn.Policies
	// PageTokens makes the tokens of lists, with a key that all processes share.
	PageTokens *pagetoken.Codec
	// StateDir is private to this process.
	StateDir string

	source    *Source
	server    *grpc.Server
	health    *health.Server
	inside    *bufconn.Listener
	listener  net.Listener
	web       *http.Server
	webSocket net.Listener
	mux       *http.ServeMux
	tls       *certificates
	validator protovalidate.Validator
	dialer    *dialer
	closers   closers
	drains    closers
	tasks     tasks
	// hosted are the short names of the services that this process serves, such as "builder".
	hosted []string
	// ready closes when all Setups are done; serving when calls are answered.
	ready, serving chan struct{}
	// lame ends the streams that outlive half of the grace period.
	lame    context.Context
	endLame context.CancelCauseFunc
	checks  checks
}

// New builds a process: it reads the configuration, connects, and runs the Setups. If it fails, what was built is closed.
func New(ctx context.Context, opts Options) (_ *Process, err error) {
	p := &Process{
		Name: opts.Name, ID: uuid.NewString(), source: opts.Source, Policies: authn.NewPolicies(),
		mux: http.NewServeMux(), ready: make(chan struct{}), serving: make(chan struct{}),
	}
	p.lame, p.endLame = context.WithCancelCause(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			p.closers.log = p.log()
			p.endLame(err)
			err = errors.Join(err, p.closers.close(context.WithoutCancel(ctx), 10*time.Second))
		}
	}()
	if err := p.configure(opts); err != nil {
		return nil, err
	}
	if err := p.listen(ctx); err != nil {
		return nil, err
	}
	if err := p.connect(ctx, opts); err != nil {
		return nil, err
	}
	if err := p.makeServer(); err != nil {
		return nil, err
	}
	for _, setup := range opts.Setups {
		if err := setup(ctx, p); err != nil {
			return nil, fmt.Errorf("set up %s: %w", p.Name, err)
		}
	}
	if err := p.source.Unclaimed(&p.Config, serviceNames()); err != nil {
		return nil, err
	}
	p.complete()
	return p, nil
}

func (p *Process) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// configure reads the configuration and makes what needs nothing else.
func (p *Process) configure(opts Options) error {
	var err error
	if p.source == nil {
		if p.source, err = LoadSource("", os.Environ(), nil); err != nil {
			return err
		}
	}
	p.Config = DefaultConfig(p.Name)
	err = p.source.Decode("", &p.Config)
	if opts.Adjust != nil {
		opts.Adjust(&p.Config)
	}
	if err := errors.Join(err, p.Config.Validate(), p.source.Unclaimed(&p.Config, append(serviceNames(), sections(opts.Source)...))); err != nil {
		return fmt.Errorf("configuration of %s:\n%w", p.Name, err)
	}
	if p.Log = opts.Log; p.Log == nil {
		if p.Log, err = observe.NewLogger(os.Stderr, p.Config.Log); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	p.Log = p.Log.With("process", p.Name)
	p.closers.log, p.drains.log = p.Log, p.Log
	p.StateDir = p.Config.StateDir
	if err := os.MkdirAll(p.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if p.Registry, err = observe.NewRegistry(p.Name); err != nil {
		return err
	}
	p.Credentials = credentials.NewResolver(p.Config.Credentials, os.Getenv)
	p.tls, err = newCertificates(p.Config.TLS)
	return err
}

// sections returns the names of all keys of the file: which of them belong to nothing is known only after the Setups.
func sections(s *Source) []string {
	if s == nil || s.root == nil {
		return nil
	}
	var names []string
	for i := 0; i+1 < len(s.root.Content); i += 2 {
		if s.root.Content[i+1].Kind == 4 { // a mapping
			names = append(names, s.root.Content[i].Value)
		}
	}
	for _, set := range s.sets {
		names = append(names, set.path[0])
	}
	return names
}

// connect opens etcd, NATS and what stands on them.
func (p *Process) connect(ctx context.Context, opts Options) error {
	var err error
	if p.Tracing, err = observe.NewTracing(ctx, p.Name, observe.TraceConfig{
		Endpoint: p.Config.Telemetry.OTLPEndpoint, Insecure: p.Config.Telemetry.Insecure, SampleRatio: p.Config.Telemetry.SampleRatio,
	}); err != nil {
		return err
	}
	p.OnClose("traces", p.Tracing.Close)
	if p.Cache, err = openCache(p.Config.Etcd); err != nil {
		return err
	}
	p.OnClose("cache", p.Cache.Close)
	natsTLS, err := clientTLS(p.Config.NATS.CAFile, p.Config.NATS.CertFile, p.Config.NATS.KeyFile)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	n := p.Config.NATS
	if p.Events, err = events.Open(events.Config{
		URLs: n.URLs, Source: p.Name, TLS: natsTLS, Token: n.Token, CredentialsFile: n.CredentialsFile, Options: opts.NATSOptions,
		MaxAge: n.EventsMaxAge, MaxBytes: n.EventsMaxBytes, Replicas: n.Replicas, PublishTimeout: n.PublishTimeout, Log: p.Log,
	}); err != nil {
		return err
	}
	p.OnClose("events", p.Events.Close)
	if err := p.waitFor(ctx, "etcd at "+strings.Join(p.Config.Etcd.Endpoints, ", "), p.Cache.CheckVersion); err != nil {
		return err
	}
	if err := p.waitFor(ctx, "NATS at "+strings.Join(n.URLs, ", "), p.Events.Prepare); err != nil {
		return err
	}
	p.Operations = operations.New(p.Cache, operations.Config{Owner: p.ID, Retention: p.Config.Operations.Retention, Log: p.Log})
	if err := p.Operations.Open(ctx); err != nil {
		return err
	}
	p.OnClose("operations", p.Operations.Close)
	key, err := pageTokenKey(ctx, p.Cache)
	if err != nil {
		return err
	}
	p.PageTokens = pagetoken.New(key)
	p.Tokens = authn.NewTokens(p.Cache)
	p.Authn = authn.NewAuthenticator(p.Config.Auth.Required, p.Tokens)
	p.dialer = newDialer(p)
	p.OnClose("connections to services", p.dialer.close)
	return nil
}

// pageTokenKey returns the key of page tokens that all processes share. It protects nothing but the tokens' integrity, which
// is why it may stand in etcd.
func pageTokenKey(ctx context.Context, store *cache.Store) ([]byte, error) {
	const where = "page-token-key"
	fresh := make([]byte, pagetoken.KeyBytes)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make the key of page tokens: %w", err)
	}
	if _, err := store.Create(ctx, where, wrapperspb.Bytes(fresh)); err == nil || !errs.Is(err, codes.AlreadyExists) {
		return fresh, err
	}
	known := &wrapperspb.BytesValue{}
	if _, err := store.Get(ctx, where, known); err != nil {
		return nil, fmt.Errorf("read the key of page tokens: %w", err)
	}
	return known.GetValue(), nil
}

// waitFor repeats a step that fails because its server is not up yet.
func (p *Process) waitFor(ctx context.Context, what string, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	told := false
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, 5*time.Second)
		err := step(attempt)
		cancelAttempt()
		if err == nil || !transient(err) || ctx.Err() != nil {
			if err != nil {
				return fmt.Errorf("connect to %s: %w", what, err)
			}
			return nil
		}
		if !told {
			p.Log.Info("waiting", "for", what, "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// complete adds what depends on what the Setups registered.
func (p *Process) complete() {
	for name := range p.server.GetServiceInfo() {
		if parts := strings.Split(name, "."); len(parts) == 4 && parts[0] == "sebs" && !slices.Contains(p.hosted, parts[1]) {
			p.hosted = append(p.hosted, parts[1])
		}
	}
	slices.Sort(p.hosted)
	p.Operations.Serve(p.hosted...)
	longrunningpb.RegisterOperationsServer(p.server, p.Operations.Server())
	grpc_health_v1.RegisterHealthServer(p.server, p.health)
	if p.Config.GRPC.Reflection {
		reflection.Register(p.server)
	}
	p.setHealth(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	p.makeWeb()
	close(p.ready)
}

// RegisterGRPC registers a service with the process's gRPC server.
func (p *Process) RegisterGRPC(register func(grpc.ServiceRegistrar)) {
	register(p.server)
}

// Section fills into, which holds the defaults, with one section of the configuration: file, then SEBS_<NAME>_<FIELD>, then
// the command line. Unknown keys are errors; if into has a method Validate() error it is called. All problems come at once.
func (p *Process) Section(name string, into any) error {
	err := p.source.Decode(name, into)
	if v, ok := into.(interface{ Validate() error }); ok {
		if verr := v.Validate(); verr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, verr))
		}
	}
	if err != nil {
		return fmt.Errorf("configuration of %s:\n%w", p.Name, err)
	}
	return nil
}

// OnClose adds a step to the end of the process. Steps run in reverse order, each within a limit of time.
func (p *Process) OnClose(name string, f func(context.Context) error) {
	p.closers.add(name, f)
}

// OnDrain adds a step that stops taking work. It runs when the process was told to end, while what it has still works.
func (p *Process) OnDrain(name string, f func(context.Context) error) {
	p.drains.add(name, f)
}

// Go runs f in a goroutine of the process, from when it serves to its end; then its context is cancelled and f is waited
// for. If f returns an error before, the whole process ends with it.
func (p *Process) Go(name string, f func(context.Context) error) {
	p.tasks.add(name, f)
}

// HandleHTTP serves h on the process's HTTP listener. The caller is in the request's context (authn.FromContext); on
// loopback requests of other sites are refused.
func (p *Process) HandleHTTP(pattern string, h http.Handler) {
	p.mux.Handle(pattern, p.authenticated(h))
}

// OnReady adds a check to readiness. It is asked every few seconds with a short limit of time.
func (p *Process) OnReady(name string, f func(context.Context) error) {
	p.checks.add(name, f)
}

// Hosts reports whether the process serves a service, such as "builder". It is known when all Setups are done.
func (p *Process) Hosts(service string) bool {
	return slices.Contains(p.hosted, service)
}

// GRPCAddr is the address that gRPC is served on.
func (p *Process) GRPCAddr() string {
	return p.listener.Addr().String()
}

// HTTPAddr is the address that HTTP is served on.
func (p *Process) HTTPAddr() string {
	return p.webSocket.Addr().String()
}

// Serving closes when the process answers calls.
func (p *Process) Serving() <-chan struct{} {
	return p.serving
}

// Dial returns a connection to a service: "storage", "builder", "deployer", "invoker", "metrics", "experiments", "local". It
// may be called in a Setup: whether the service is in this process, at an address of the configuration (services.<name>)
// or to be found in etcd is decided at the first call. Calls wait for the service within their deadline, get the default
// deadline of the method where they have none, and return errors of package errs.
func (p *Process) Dial(service string) (grpc.ClientConnInterface, error) {
	if service == "" || strings.ContainsAny(service, "/:. ") {
		return nil, errs.Internal(fmt.Errorf("dial %q: no name of a service", service))
	}
	return p.dialer.to(service), nil
}
