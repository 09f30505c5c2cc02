// Package nats runs a NATS server with JetStream inside the process, for one machine: `sebs up` and tests.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/sebs-suite/sebs/internal/secret"
)

// Defaults of [Config].
const (
	DefaultListen          = "127.0.0.1:0"
	DefaultMaxPayloadBytes = 8 << 20
	DefaultMaxStoreBytes   = 20 << 30
	DefaultMaxMemoryBytes  = 64 << 20
	startTimeout           = 20 * time.Second
)

// Config says where the server keeps its streams and where it listens.
type Config struct {
	// Dir holds the streams. It is created with mode 0700.
	Dir string
	// Listen is host:port for clients; port 0 takes a free one. Default 127.0.0.1:0. Only loopback is allowed without
	// a token and TLS in front of it, so any other address is refused.
	Listen string
	// Token, where set, is asked of every client.
	Token secret.String
	// SyncInterval is the longest time that an acknowledged message may live in the page cache alone. 0 syncs before
	// every acknowledgement.
	SyncInterval time.Duration
	// MaxPayloadBytes limits one message. Default 8 MiB.
	MaxPayloadBytes int32
	// MaxStoreBytes limits all streams on disk. Default 20 GiB.
	MaxStoreBytes int64
	// Log receives warnings and errors. Default: none.
	Log *slog.Logger
}

// Server is a running NATS server.
type Server struct {
	nats *server.Server
}

// Start runs a server and returns when it takes connections.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	host, portText, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start nats: listen address %q: %w", cfg.Listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("start nats: refuse to listen on %q, which is not loopback; "+
			"run a nats-server with TLS and accounts for other machines and set nats.urls", cfg.Listen)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("start nats: listen address %q: %w", cfg.Listen, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	ns, err := server.NewServer(options(cfg, host, port))
	if err != nil {
		return nil, fmt.Errorf("start nats in %s: %w", cfg.Dir, err)
	}
	if cfg.Log != nil {
		ns.SetLoggerV2(&bridge{log: cfg.Log.With("component", "nats")}, false, false, false)
	}
	ns.Start()
	limit := startTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	if !ns.ReadyForConnections(limit) {
		ns.Shutdown()
		return nil, fmt.Errorf("start nats in %s: not ready after %s; look whether the directory is writable and not in use", cfg.Dir, limit)
	}
	return &Server{nats: ns}, nil
}

func options(cfg Config, host string, port int) *server.Options {
	opts := &server.Options{
		ServerName:         "sebs",
		Host:               host,
		Port:               port,
		Authorization:      cfg.Token.Reveal(),
		JetStream:          true,
		StoreDir:           cfg.Dir,
		JetStreamMaxMemory: DefaultMaxMemoryBytes,
		JetStreamMaxStore:  cfg.MaxStoreBytes,
		MaxPayload:         cfg.MaxPayloadBytes,
		SyncInterval:       cfg.SyncInterval,
		SyncAlways:         cfg.SyncInterval <= 0,
		NoSigs:             true,
		NoLog:              cfg.Log == nil,
	}
	if opts.JetStreamMaxStore <= 0 {
		opts.JetStreamMaxStore = DefaultMaxStoreBytes
	}
	if opts.MaxPayload <= 0 {
		opts.MaxPayload = DefaultMaxPayloadBytes
	}
	return opts
}

// URL returns the address for clients.
func (s *Server) URL() string {
	return s.nats.ClientURL()
}

// InProcess is the option of nats.Connect that reaches the server without a socket.
func (s *Server) InProcess() nats.Option {
	return nats.InProcessServer(s.nats)
}

// Close stops the server and waits until its streams are on disk, or until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("close nats"), context.Cause(ctx))
	}
}

// bridge writes the server's warnings and errors to slog.
type bridge struct {
	log *slog.Logger
}

// Noticef leaves the many notices out.
func (b *bridge) Noticef(string, ...any) {}

// Debugf leaves debugging lines out.
func (b *bridge) Debugf(string, ...any) {}

// Tracef leaves the protocol trace out: it holds payloads.
func (b *bridge) Tracef(string, ...any) {}

// Warnf logs a warning.
func (b *bridge) Warnf(format string, v ...any) {
	b.log.Warn("NATS reports", "message", fmt.Sprintf(format, v...))
}

// Errorf logs an error.
func (b *bridge) Errorf(format string, v ...any) {
	b.log.Error("NATS reports", "message", fmt.Sprintf(format, v...))
}

// Fatalf logs an error; ending the process is the owner's decision.
func (b *bridge) Fatalf(format string, v ...any) {
	b.log.Error("NATS reports", "message", fmt.Sprintf(format, v...))
}
