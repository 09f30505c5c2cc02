package etcd_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sebs-suite/sebs/internal/embedded/etcd"
)

func TestKeepsDataOverRestart(t *testing.T) {
	t.Parallel()
	cfg := etcd.Config{Dir: t.TempDir(), NoSync: true}
	first := start(t, cfg)
	client := dial(t, first)
	if _, err := client.Put(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg)
	got, err := dial(t, second).Get(t.Context(), "a")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "b" {
		t.Errorf("after a restart: %v, %v", got, err)
	}
}

func TestRefusesToListenBeyondLoopbackWithoutTLS(t *testing.T) {
	t.Parallel()
	_, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("listening on 0.0.0.0 without TLS: %v", err)
	}
}

func TestFirstStartAndCloseAreQuiet(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: filepath.Join(t.TempDir(), "etcd"), NoSync: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", log.String())
	}
}

func start(t *testing.T, cfg etcd.Config) *etcd.Server {
	t.Helper()
	server, err := etcd.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

func dial(t *testing.T, server *etcd.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
