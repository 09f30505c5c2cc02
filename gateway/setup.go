package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/authn/authserver"
	"github.com/sebs-suite/sebs/internal/events/eventserver"
)

// Config is the section `gateway` of the configuration.
type Config struct {
	// Listen is host:port; port 0 takes a free one. Any address but a loopback one needs TLS and auth.required.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are the certificate that clients see; both or none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// MaxBodyBytes bounds the body of a REST call; raw object bodies are not bounded.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// ReadHeaderTimeout bounds how long a client may take to send its headers.
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout"`
}

// Validate reports every problem, each with its key.
func (c *Config) Validate() error {
	var problems []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		problems = append(problems, fmt.Errorf("listen: %q is no host:port", c.Listen))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		problems = append(problems, errors.New("cert_file and key_file have to be set together"))
	}
	if c.MaxBodyBytes < 1<<10 {
		problems = append(problems, fmt.Errorf("max_body_bytes is %d and has to be at least 1024", c.MaxBodyBytes))
	}
	if c.ReadHeaderTimeout <= 0 {
		problems = append(problems, fmt.Errorf("read_header_timeout is %s and has to be more than 0", c.ReadHeaderTimeout))
	}
	return errors.Join(problems...)
}

// DefaultConfig returns the configuration of a gateway that was told nothing.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:0", MaxBodyBytes: 16 << 20, ReadHeaderTimeout: 10 * time.Second}
}

// Setup serves the gateway in a process.
func Setup(ctx context.Context, p *app.Process) error {
	_, err := Open(ctx, p)
	return err
}

// Open serves the gateway in a process and returns the address it listens on.
func Open(ctx context.Context, p *app.Process) (net.Addr, error) {
	config := DefaultConfig()
	if err := p.Section("gateway", &config); err != nil {
		return nil, err
	}
	tlsConfig, err := config.tls()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(config.Listen)
	if err != nil {
		return nil, fmt.Errorf("gateway.listen: %w", err)
	}
	loopback := authn.IsLoopback(host)
	if !loopback && (tlsConfig == nil || !p.Config.Auth.Required) {
		return nil, fmt.Errorf("gateway.listen: %s is reached by other machines; set gateway.cert_file, gateway.key_file and auth.required, or listen on 127.0.0.1", config.Listen)
	}
	if err := errors.Join(authserver.Setup(ctx, p), eventserver.Setup(ctx, p)); err != nil {
		return nil, err
	}
	g, err := newGateway(p, config)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("gateway.listen: %w; choose another port, or 0 for a free one", err)
	}
	address := listener.Addr()
	var handler http.Handler = g
	if loopback {
		handler = authn.GuardLoopback(handler)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(tlsConfig == nil)
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: config.ReadHeaderTimeout, IdleTimeout: 2 * time.Minute,
		Protocols: protocols, TLSConfig: tlsConfig, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	p.OnClose("gateway listener", func(context.Context) error {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	p.OnDrain("gateway", server.Shutdown)
	p.Go("gateway", func(context.Context) error {
		serve := server.Serve
		if tlsConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve gateway: %w", err)
		}
		return nil
	})
	p.Log.Info("gateway", "address", address.String(), "tls", tlsConfig != nil)
	return address, nil
}

func (c *Config) tls() (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return nil, fmt.Errorf("gateway.cert_file: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Read at each handshake: a renewed certificate needs no restart, and handshakes are rare.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &pair, err
		},
	}, nil
}
