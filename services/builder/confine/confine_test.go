//go:build unix

package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newConfiner(t *testing.T) (*Confiner, string) {
	t.Helper()
	user, err := UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	c := New("", user)
	dir, remove, err := c.WorkDir("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return c, dir
}

func shell(dir, script string) Program {
	return Program{Args: []string{"/bin/sh", "-c", script}, Dir: dir, Env: Environment(dir), Timeout: time.Minute}
}

func TestRunGivesOutput(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	tail, err := c.Run(t.Context(), shell(dir, "echo out; echo err >&2; echo x > tmp/file; id -u"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tail, "out\n") || !strings.Contains(tail, "err\n") {
		t.Errorf("output = %q", tail)
	}
	if c.Unprivileged() && strings.Contains(tail, "\n0\n") {
		t.Error("the program ran as root")
	}
}

func TestFailureTellsExitCode(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	_, err := c.Run(t.Context(), shell(dir, "echo why; exit 42"))
	var failure *FailureError
	if !errors.As(err, &failure) || failure.ExitCode != 42 || failure.TimedOut || failure.Tail != "why\n" {
		t.Errorf("Run = %#v", err)
	}
	if _, err := c.Run(t.Context(), Program{Args: []string{"/nonexistent/program"}, Dir: dir}); err == nil || errors.As(err, &failure) && failure.Program == "program" {
		t.Errorf("Run of a program that is not there = %v, want a plain error", err)
	}
}

func TestTimeLimitKillsTheGroup(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	p := shell(dir, "sleep 600 & echo $! > tmp/child; wait")
	p.Timeout = 300 * time.Millisecond
	_, err := c.Run(t.Context(), p)
	var failure *FailureError
	if !errors.As(err, &failure) || !failure.TimedOut {
		t.Fatalf("Run = %v, want that the time was up", err)
	}
	expectGone(t, filepath.Join(dir, "tmp", "child"))
}

func TestLeftoversAreKilled(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	if _, err := c.Run(t.Context(), shell(dir, "sleep 600 > /dev/null 2>&1 & echo $! > tmp/child")); err != nil {
		t.Fatal(err)
	}
	expectGone(t, filepath.Join(dir, "tmp", "child"))
}

// expectGone waits until the process whose id stands in a file has ended.
func expectGone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !gone(pid) {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d is still there", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// gone says whether a process has ended, if only as a zombie that nobody has waited for.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(status), ") Z ")
}

func TestCancellation(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the user pressed Ctrl-C")
	p := shell(dir, "sleep 600")
	p.Converse = func(context.Context, io.Writer, io.Reader) error {
		cancel(reason)
		return nil
	}
	if _, err := c.Run(ctx, p); !errors.Is(err, reason) {
		t.Errorf("Run = %v, want the reason of the cancellation", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	c, dir := newConfiner(t)
	tail, err := c.Run(t.Context(), shell(dir, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end"))
	if err != nil {
		t.Fatal(err)
	}
	if len(tail) > tailBytes+100 || !strings.HasSuffix(tail, "the end\n") || !strings.HasPrefix(tail, "[") {
		t.Errorf("kept %d bytes, from %q to %q", len(tail), tail[:20], tail[len(tail)-20:])
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden")
	t.Setenv("GITHUB_TOKEN", "hidden")
	t.Setenv("HTTPS_PROXY", "http://user:hidden@proxy.test")
	t.Setenv("HTTP_PROXY", "http://proxy.test")
	t.Setenv("PIP_INDEX_URL", "https://index.test")
	env := Environment("/scratch", "EXTRA=1")
	for _, variable := range env {
		if strings.Contains(variable, "hidden") || strings.HasPrefix(variable, "PIP_") {
			t.Errorf("the environment of users' code has %s", variable)
		}
	}
	for _, want := range []string{"HOME=/scratch/home", "TMPDIR=/scratch/tmp", "EXTRA=1", "HTTP_PROXY=http://proxy.test"} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment has no %s", want)
		}
	}
	installer := InstallerEnvironment()
	if !slices.Contains(installer, "PIP_INDEX_URL=https://index.test") || slices.Contains(installer, "AWS_SECRET_ACCESS_KEY=hidden") {
		t.Errorf("environment of installers = %v", installer)
	}
}

func TestRemoveCopesWithPermissions(t *testing.T) {
	t.Parallel()
	user, err := UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	c := New(t.TempDir(), user)
	dir, remove, err := c.WorkDir("odd")
	if err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := errors.Join(os.Mkdir(locked, 0o700), os.WriteFile(filepath.Join(locked, "file"), nil, 0o400), os.Chmod(locked, 0)); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	old := time.Now().Add(-2 * staleAfter)
	// No system gives out process ids as high as this one.
	for name, age := range map[string]time.Time{
		"sebs-work-input-2000000000-1": old, "sebs-work-input-2000000000-2": time.Now(), fmt.Sprintf("sebs-work-input-%d-3", os.Getpid()): old, "sebs-other-2000000000-4": old,
	} {
		dir := filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chtimes(dir, age, age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := New(base, nil).Sweep(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(base)
	if err != nil || len(entries) != 3 {
		t.Fatalf("left %v, %v; want three directories", entries, err)
	}
	if _, err := os.Stat(filepath.Join(base, "sebs-work-input-2000000000-1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale directory is still there: %v", err)
	}
}
