// Package etcd runs a single etcd member inside the process, for one machine: `sebs up` and tests.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Defaults of [Config].
const (
	DefaultListen     = "127.0.0.1:0"
	DefaultQuotaBytes = 2 << 30
	memberName        = "sebs"
	startTimeout      = 30 * time.Second
)

// Config says where the member keeps its data and where it listens.
type Config struct {
	// Dir holds the data. It is created with mode 0700.
	Dir string
	// Listen is host:port for clients; port 0 takes a free one. Default 127.0.0.1:0.
	Listen string
	// TLS is needed to listen beyond loopback.
	TLS TLS
	// QuotaBytes limits the database; beyond it the member refuses writes. Default 2 GiB.
	QuotaBytes int64
	// CompactionRetention is how long old revisions stay readable. Default 10 min.
	CompactionRetention time.Duration
	// NoSync skips fsync. Only for tests: a crash of the machine then loses data.
	NoSync bool
	// Log receives warnings and errors. Default: none.
	Log *slog.Logger
}

// TLS names the files of the member's certificate and of the authority that signs its clients' certificates.
type TLS struct {
	CertFile     string
	KeyFile      string
	ClientCAFile string
}

func (t TLS) complete() bool {
	return t.CertFile != "" && t.KeyFile != "" && t.ClientCAFile != ""
}

// Server is a running member.
type Server struct {
	etcd     *embed.Etcd
	endpoint string
	closed   sync.Once
	closing  *atomic.Bool
}

// Start runs a member and returns when it answers clients.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start etcd: listen address %q: %w", cfg.Listen, err)
	}
	if !loopback(host) && !cfg.TLS.complete() {
		return nil, fmt.Errorf("start etcd: refuse to listen on %q, which is not loopback, without TLS; "+
			"set a certificate, its key and the authority of client certificates, or listen on 127.0.0.1", cfg.Listen)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	closing := &atomic.Bool{}
	member, err := embed.StartEtcd(memberConfig(cfg, closing))
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	s := &Server{etcd: member, closing: closing}
	ready, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		member.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	case <-ready.Done():
		member.Close()
		return nil, fmt.Errorf("start etcd in %s: not ready: %w", cfg.Dir, context.Cause(ready))
	}
	scheme := "http"
	if cfg.TLS.complete() {
		scheme = "https"
	}
	s.endpoint = scheme + "://" + member.Clients[0].Addr().String()
	return s, nil
}

func memberConfig(cfg Config, closing *atomic.Bool) *embed.Config {
	c := embed.NewConfig()
	c.Name = memberName
	c.Dir = cfg.Dir
	clients := url.URL{Scheme: "http", Host: cfg.Listen}
	if cfg.TLS.complete() {
		clients.Scheme = "https"
		c.ClientTLSInfo.CertFile = cfg.TLS.CertFile
		c.ClientTLSInfo.KeyFile = cfg.TLS.KeyFile
		c.ClientTLSInfo.TrustedCAFile = cfg.TLS.ClientCAFile
		c.ClientTLSInfo.ClientCertAuth = true
	}
	// The member has no peers: the port for them is free to choose and stays on loopback.
	peers := url.URL{Scheme: "http", Host: DefaultListen}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// Alone, there is nobody to wait for in an election.
	c.TickMs, c.ElectionMs = 50, 500
	// A short log in memory: there is no follower to catch up.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2000, 100
	c.MaxSnapFiles, c.MaxWalFiles = 2, 2
	c.QuotaBackendBytes = cfg.QuotaBytes
	if c.QuotaBackendBytes <= 0 {
		c.QuotaBackendBytes = DefaultQuotaBytes
	}
	retention := cfg.CompactionRetention
	if retention <= 0 {
		retention = 10 * time.Minute
	}
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = retention.String()
	c.UnsafeNoFsync = cfg.NoSync
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(bridge(cfg.Log, closing))
	return c
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Endpoint returns the URL for clients.
func (s *Server) Endpoint() string {
	return s.endpoint
}

// Close stops the member and waits until its data is on disk, or until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.closed.Do(s.etcd.Close)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("close etcd"), context.Cause(ctx))
	}
}
