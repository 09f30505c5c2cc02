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

	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/docker"
	"github.com/sebs-suite/sebs/services/local/sandbox/process"
)

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
	for _, language := range []string{"python", "nodejs", "java"} {
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

// kinds are the kinds of sandbox that the same tests run on.
var kinds = map[string]func(t testing.TB, dir string) host.Kind{
	"process": func(t testing.TB, dir string) host.Kind { return newProcessKind(t, dir) },
	"docker":  newDockerKind,
}

// eachKind runs a test on every kind of sandbox.
func eachKind(t *testing.T, test func(t *testing.T, newHost func(change func(*host.Options)) *host.Host)) {
	t.Parallel()
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(change func(*host.Options)) *host.Host { return newHost(t, open, change) })
		})
	}
}

func newProcessKind(t testing.TB, dir string) *process.Kind {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := process.New(process.Options{
		Directory: filepath.Join(dir, "sandboxes"), Finder: process.NewFinder(os.Getenv, home, ""),
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
	if err := k.Available(t.Context(), python, ""); err != nil {
		t.Skipf("needs Python 3: %v", err)
	}
	return k
}

var python = sandbox.Runtime{Language: "python"}

func newDockerKind(t testing.TB, dir string) host.Kind { return openDocker(t, dir, false) }

func openDocker(t testing.TB, dir string, noEgress bool) host.Kind {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	k, err := docker.Open(ctx, docker.Options{Owner: dir, NoEgress: noEgress, Log: logger(t)})
	if err != nil {
		t.Skipf("needs docker: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		left, err := k.Orphans(ctx, true)
		if err != nil || len(left) > 0 {
			t.Errorf("containers left behind: %v, %v", left, err)
		}
		if err := k.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := k.Available(t.Context(), python, ""); err != nil {
		t.Skipf("needs docker with an image for python: %v", err)
	}
	return k
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newHost(t testing.TB, open func(testing.TB, string) host.Kind, change func(*host.Options)) *host.Host {
	t.Helper()
	return hostIn(t, stateDir(t), open, change)
}

func hostIn(t testing.TB, dir string, open func(testing.TB, string) host.Kind, change func(*host.Options)) *host.Host {
	t.Helper()
	o := host.Options{StateDir: dir, RuntimeRoot: writeRuntimes(t, filepath.Join(dir, "runtimes")), Log: logger(t)}
	o.Kinds = []host.Kind{open(t, dir)}
	if change != nil {
		change(&o)
	}
	h, err := host.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeHost(t, h) })
	return h
}

func closeHost(t testing.TB, h *host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
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

// invoke runs a function and returns the outcome; the call itself must be accepted.
func invoke(t testing.TB, h *host.Host, name, payload string) *host.Outcome {
	t.Helper()
	out, err := h.Invoke(t.Context(), host.Call{Function: name, Payload: []byte(payload), Tail: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
