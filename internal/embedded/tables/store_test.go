package tables_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/embedded/tables"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needsNPM(t *testing.T) {
	t.Helper()
	if err := tables.Available(); err != nil {
		t.Skipf("needs npm: %v", err)
	}
}

func TestInstallOnceAndRestart(t *testing.T) {
	needsNPM(t)
	dir := t.TempDir()
	if tables.Used(dir) {
		t.Error("an empty directory counts as used")
	}
	first, err := tables.Start(t.Context(), tables.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !first.Running() || !tables.Used(dir) {
		t.Errorf("running: %v, used: %v", first.Running(), tables.Used(dir))
	}
	if host, _, err := net.SplitHostPort(first.Endpoint()); err != nil || host != "127.0.0.1" {
		t.Errorf("listens on %s", first.Endpoint())
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if first.Running() {
		t.Error("runs after Close")
	}
	if c, err := net.DialTimeout("tcp", first.Endpoint(), time.Second); err == nil {
		t.Errorf("something still listens on %s: %v", first.Endpoint(), c.Close())
	}
	// The installation is used again: without npm on PATH only node is needed.
	installed, err := filepath.Glob(filepath.Join(dir, "dynalite-*"))
	if err != nil || len(installed) != 1 {
		t.Fatalf("installed %v, %v", installed, err)
	}
	before, err := os.Stat(installed[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := tables.Start(t.Context(), tables.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.Stat(installed[0]); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("installed again: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".install-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := tables.Start(t.Context(), tables.Options{Dir: t.TempDir()})
	if err == nil {
		t.Fatal("started without node and npm")
	}
	for _, word := range []string{"node", "npm", "storage.platforms.local.table.endpoint", "ScyllaDB"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
}

func TestCancelledInstall(t *testing.T) {
	needsNPM(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tables.Start(ctx, tables.Options{Dir: dir}); err == nil {
		t.Fatal("started with a cancelled context")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 || tables.Used(dir) {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
