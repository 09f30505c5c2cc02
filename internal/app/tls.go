package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// recheck is how long a certificate is used before its files are looked at again.
const recheck = 2 * time.Second

// certificates are the process's certificate and the authorities it trusts, read again when their files change.
type certificates struct {
	cfg TLSConfig

	mu      sync.Mutex
	checked time.Time
	stamp   [4]time.Time
	pair    *tls.Certificate
	clients *x509.CertPool
	servers *x509.CertPool
}

func newCertificates(cfg TLSConfig) (*certificates, error) {
	c := &certificates{cfg: cfg}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// serves reports whether the process serves TLS.
func (c *certificates) serves() bool {
	return c.cfg.CertFile != ""
}

func (c *certificates) load() error {
	var stamp [4]time.Time
	for i, file := range []string{c.cfg.CertFile, c.cfg.KeyFile, c.cfg.ClientCAFile, c.cfg.CAFile} {
		if file == "" {
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		stamp[i] = info.ModTime()
	}
	if stamp == c.stamp && !c.checked.IsZero() {
		c.checked = time.Now()
		return nil
	}
	var pair *tls.Certificate
	if c.cfg.CertFile != "" {
		read, err := tls.LoadX509KeyPair(c.cfg.CertFile, c.cfg.KeyFile)
		if err != nil {
			return fmt.Errorf("read certificate %s: %w", c.cfg.CertFile, err)
		}
		pair = &read
	}
	clients, err := readPool(c.cfg.ClientCAFile)
	if err != nil {
		return err
	}
	servers, err := readPool(c.cfg.CAFile)
	if err != nil {
		return err
	}
	c.pair, c.clients, c.servers, c.stamp, c.checked = pair, clients, servers, stamp, time.Now()
	return nil
}

// current looks at the files from time to time. What was read last stays in use while the files are broken, as they are
// while somebody replaces them.
func (c *certificates) current() (pair *tls.Certificate, clients, servers *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > recheck {
		if err := c.load(); err != nil {
			c.checked = time.Now()
		}
	}
	return c.pair, c.clients, c.servers
}

// server returns the configuration for listeners.
func (c *certificates) server() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pair, clients, _ := c.current()
		if pair == nil {
			return nil, errors.New("no certificate")
		}
		cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}, NextProtos: []string{"h2", "http/1.1"}}
		if clients != nil {
			cfg.ClientCAs, cfg.ClientAuth = clients, tls.VerifyClientCertIfGiven
		}
		return cfg, nil
	}
	return base
}

// client returns the configuration for calls to other services, nil for none.
func (c *certificates) client() *tls.Config {
	if c.cfg.CAFile == "" {
		return nil
	}
	_, _, servers := c.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    servers,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, _, _ := c.current()
			if pair == nil {
				return &tls.Certificate{}, nil
			}
			return pair, nil
		},
	}
}

func (c *certificates) serverCredentials() credentials.TransportCredentials {
	if !c.serves() {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(c.server())
}

func readPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// clientTLS returns the configuration to reach etcd or NATS; nil where no file is named.
func clientTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	if caFile == "" && certFile == "" {
		return nil, nil
	}
	c, err := newCertificates(TLSConfig{CAFile: caFile, CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		return nil, err
	}
	if cfg := c.client(); cfg != nil {
		return cfg, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*c.pair}}, nil
}
