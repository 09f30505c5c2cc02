package app

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/app/apptest/testca"
)

// handshake returns the names that both sides saw.
func handshake(t *testing.T, server, client *tls.Config) (serverName, clientName string, err error) {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _ = a.Close() }()
	defer func() { _ = b.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	left := tls.Server(a, server)
	done := make(chan error, 1)
	go func() { done <- left.HandshakeContext(ctx) }()
	client = client.Clone()
	client.ServerName = "localhost"
	right := tls.Client(b, client)
	if err := right.HandshakeContext(ctx); err != nil {
		_ = b.Close()
		<-done
		return "", "", err
	}
	// A server that refuses the client's certificate says so after the client's handshake: somebody has to read it.
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = right.Read(make([]byte, 1)) })
	defer reading.Wait()
	defer func() { _ = b.Close() }()
	if err := <-done; err != nil {
		return "", "", err
	}
	if peers := left.ConnectionState().PeerCertificates; len(peers) > 0 {
		clientName = peers[0].Subject.CommonName
	}
	return right.ConnectionState().PeerCertificates[0].Subject.CommonName, clientName, nil
}

func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testca.New(t)
	cert, key := ca.Issue(t, dir, "first")
	c, err := newCertificates(TLSConfig{CertFile: cert, KeyFile: key, ClientCAFile: ca.File(t, dir), CAFile: ca.File(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	server, client, err := handshake(t, c.server(), c.client())
	if err != nil || server != "first" || client != "first" {
		t.Fatalf("handshake: %q, %q, %v", server, client, err)
	}
	newCert, newKey := ca.Issue(t, dir, "second")
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(cert, later, later); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.checked = time.Now().Add(-time.Hour)
	c.mu.Unlock()
	if server, _, err = handshake(t, c.server(), c.client()); err != nil || server != "second" {
		t.Fatalf("after the files changed: %q, %v", server, err)
	}
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.checked = time.Now().Add(-time.Hour)
	c.mu.Unlock()
	if server, _, err = handshake(t, c.server(), c.client()); err != nil || server != "second" {
		t.Errorf("while the files are broken: %q, %v", server, err)
	}
	stranger := testca.New(t)
	other, otherKey := stranger.Issue(t, t.TempDir(), "stranger")
	pair, err := tls.LoadX509KeyPair(other, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	foreign := c.client()
	foreign.GetClientCertificate = nil
	foreign.Certificates = []tls.Certificate{pair}
	if _, name, err := handshake(t, c.server(), foreign); err == nil {
		t.Errorf("a certificate of another authority is accepted as %q", name)
	}
}

func TestMissingFilesAreReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []TLSConfig{
		{CertFile: filepath.Join(dir, "none"), KeyFile: filepath.Join(dir, "none")},
		{CAFile: filepath.Join(dir, "none")}, {ClientCAFile: empty}, {CertFile: empty, KeyFile: empty},
	} {
		if _, err := newCertificates(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
