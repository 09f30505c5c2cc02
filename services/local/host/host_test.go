package host_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zipOf builds a code package.
func zipOf(t testing.TB, files map[string]string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// stateDir is a directory below t.TempDir that other users may enter, as sandboxes of a host that runs as root need it.
func stateDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeRuntimes(t testing.TB, dir string) string {
	t.Helper()
	catalog, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"python", "nodejs"} {
		b, err := catalog.Bootstrap(language)
		if err != nil {
			t.Fatal(err)
		}
		if err := catalog.Write(b.Files, filepath.Join(dir, language)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newProcessKind(t testing.TB, dir string) *process.Kind {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := process.New(process.Options{
		Directory: filepath.Join(dir, "sandboxes"), Finder: process.NewFinder(os.Getenv, home),
		Log: logger(t), FirstUID: 400_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return k
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newHost(t testing.TB, change func(*host.Options)) *host.Host {
	t.Helper()
	dir := stateDir(t)
	o := host.Options{StateDir: dir, RuntimeRoot: writeRuntimes(t, filepath.Join(dir, "runtimes")), Log: logger(t)}
	o.Kinds = []host.Kind{newProcessKind(t, dir)}
	if change != nil {
		change(&o)
	}
	h, err := host.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

func deploy(t testing.TB, h *host.Host, name, code string, change func(*host.Config)) {
	t.Helper()
	c := host.Config{Runtime: sandbox.Runtime{Language: "python"}, MemoryMB: 512, Timeout: 20 * time.Second}
	if change != nil {
		change(&c)
	}
	if _, err := h.Deploy(t.Context(), host.Spec{Name: name, Config: c, Replace: true}, zipOf(t, map[string]string{"handler.py": code})); err != nil {
		t.Fatal(err)
	}
}

const echo = `
import os
def handler(event, context):
    print("working on", event)
    return {"event": event, "pid": os.getpid(), "uid": os.getuid() if hasattr(os, "getuid") else -1, "id": context.aws_request_id}
`

func TestInvoke(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	deploy(t, h, "echo", echo, nil)
	for n := range 3 {
		out, err := h.Invoke(t.Context(), host.Call{Function: "echo", Payload: []byte(`{"n":1}`), Tail: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %+v\n%s", out.Body, out.Record, out.Tail)
		if out.Record.Failure != "" || out.Record.Cold != (n == 0) {
			t.Errorf("invocation %d: failure %q, cold %v", n, out.Record.Failure, out.Record.Cold)
		}
	}
}
