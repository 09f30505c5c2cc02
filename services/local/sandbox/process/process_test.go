package process

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script makes an executable file; it stands for an interpreter.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func fakePython(path, version string) string {
	root := filepath.Dir(filepath.Dir(path))
	return `echo '{"version": "` + version + `", "path": "` + path + `", "roots": ["` + root + `"]}'` + "\n"
}

func TestFinder(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs /bin/sh")
	}
	home := t.TempDir()
	path := func(parts ...string) string { return filepath.Join(append([]string{home}, parts...)...) }
	for file, version := range map[string]string{
		path("bin", "python3.22"):                                 "3.22.5",
		path(".pyenv", "versions", "3.21.4", "bin", "python3"):    "3.21.4",
		path(".pyenv", "versions", "3.21.10", "bin", "python3"):   "3.21.10",
		path(".local/share/uv/python/cpython-3.20.7/bin/python3"): "3.20.7",
		path(".pyenv", "shims", "python3.23"):                     "3.23.0",
		path(".pyenv", "versions", "3.12-lie", "bin", "python3"):  "2.9.9",
	} {
		script(t, file, fakePython(file, version))
	}
	script(t, path("bin", "python"), "exit 1\n")
	script(t, path("bin", "python3"), "echo this is no interpreter\n")
	f := NewFinder(func(name string) string {
		return map[string]string{"PATH": path(".pyenv", "shims") + string(os.PathListSeparator) + path("bin")}[name]
	}, home, path("memory", "interpreters.json"))
	for want, found := range map[string]string{"3.22": "3.22.5", "3.21": "3.21.10", "3.21.4": "3.21.4", "3.20": "3.20.7"} {
		i, err := f.Find(t.Context(), "python", want)
		if err != nil || i.Version != found || !slices.Contains(i.Roots, filepath.Dir(filepath.Dir(i.Path))) {
			t.Errorf("python %s: %+v, error %v", want, i, err)
		}
	}
	// A version whose name is the beginning of another one's is another version; shims are not used.
	for _, want := range []string{"3.2", "3.23", "2.9", "1"} {
		_, err := f.Find(t.Context(), "python", want)
		if errs.Reason(err) != "INTERPRETER_NOT_FOUND" || !strings.Contains(err.Error(), "3.21.10") {
			t.Errorf("python %s: %v", want, err)
		}
	}
	if _, err := f.Find(t.Context(), "perl", ""); err == nil {
		t.Error("an unknown family was found")
	}
	// What is remembered needs no asking, unless the file has changed.
	for _, version := range []string{"3.22.5", "3.22.6"} {
		file := path("bin", "python3.22")
		if version == "3.22.6" {
			script(t, file, "# changed\n"+fakePython(file, version))
		}
		again := NewFinder(func(string) string { return path("bin") }, home, path("memory", "interpreters.json"))
		if i, err := again.Find(t.Context(), "python", "3.22"); err != nil || i.Version != version {
			t.Errorf("remembered: %+v, error %v", i, err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	ordered := []string{"", "3.9", "3.9.18", "3.10", "3.10.1", "20", "20.2.0"}
	if !slices.IsSortedFunc(ordered, compareVersions) {
		t.Errorf("%v is not in order", ordered)
	}
}

// sink collects output and cuts.
type sink struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sink) Cut() { _, _ = s.Write([]byte("<cut>")) }

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// native starts a shell script as a package that brings its own bootstrap.
func native(t *testing.T, text string, change func(*sandbox.Spec)) (*Kind, sandbox.Instance, *sink) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	task := filepath.Join(dir, "task")
	script(t, filepath.Join(task, "bootstrap"), text)
	k, err := New(Options{
		Directory: filepath.Join(dir, "sandboxes"), Finder: NewFinder(os.Getenv, dir, ""), FirstUID: 440_000, SampleInterval: 5 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
		left, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, error %v", left, err)
		}
	})
	out := &sink{}
	spec := sandbox.Spec{
		ID: "box-1", Function: "f", Runtime: sandbox.Runtime{Language: "provided"}, TaskRoot: task, RuntimeRoot: task,
		Env: map[string]string{"GREETING": "hello"}, RuntimeAPI: "127.0.0.1:1", MemoryMB: 256, Output: out,
	}
	if change != nil {
		change(&spec)
	}
	i, err := k.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return k, i, out
}

func TestScrubbedEnvironmentAndExit(t *testing.T) {
	t.Setenv("SEBS_TEST_SECRET_OF_THE_HOST", "do not leak")
	_, i, out := native(t, "env; pwd; echo to stderr >&2; touch $TMPDIR/file && echo scratch works; touch here 2>/dev/null && echo package is writable; exit 7\n", nil)
	<-i.Done()
	text := out.String()
	if e := i.Exit(); e.Code != 7 || e.Signal != "" || e.String() != "exit status 7" {
		t.Errorf("exit %+v", e)
	}
	for _, want := range []string{"GREETING=hello", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", "LAMBDA_TASK_ROOT=", "to stderr", "scratch works"} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "do not leak") {
		t.Error("the environment of the host leaked")
	}
	if os.Geteuid() == 0 && strings.Contains(text, "package is writable") {
		t.Error("the sandbox can change its package")
	}
}

func TestKillReachesGrandchildren(t *testing.T) {
	_, i, out := native(t, "sleep 4322 & (sleep 4323 & echo $! ; wait) & echo started; wait\n", nil)
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(out.String(), "started") && time.Now().Before(deadline) {
		time.Sleep(2 * time.Millisecond)
	}
	for range 2 {
		if err := i.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if e := i.Exit(); e.Signal != "killed" || e.String() != "signal: killed" || e.OutOfMemory {
		t.Errorf("exit %+v", e)
	}
	if _, err := i.MemoryUsed(t.Context()); err == nil {
		t.Error("a dead sandbox has memory")
	}
}

func TestEndOutputDeliversAndCuts(t *testing.T) {
	_, i, out := native(t, "echo one; sleep 4324\n", nil)
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(out.String(), "one") && time.Now().Before(deadline) {
		time.Sleep(2 * time.Millisecond)
	}
	if i.EndOutput() != nil {
		t.Error("output of a process is delivered at once")
	}
	if out.String() != "one\n<cut>" {
		t.Errorf("output %q", out.String())
	}
	if used, err := i.MemoryUsed(t.Context()); err != nil || used <= 0 || i.MemoryPeak() <= 0 {
		t.Errorf("memory %d, peak %d, error %v", used, i.MemoryPeak(), err)
	}
}

// TestMemoryIsWatchedWithoutControlGroups takes away the control group, so that the watch has to end the sandbox.
func TestMemoryIsWatchedWithoutControlGroups(t *testing.T) {
	k, i, _ := native(t, "sleep 4325\n", func(s *sandbox.Spec) { s.MemoryMB = 1 })
	k.mu.Lock()
	box := k.instances["box-1"]
	k.mu.Unlock()
	if box == nil {
		<-i.Done() // the kernel was faster
	} else if !box.handle.limitsMemory() {
		<-i.Done()
	} else {
		box.observe(2 << 20) // the kernel enforces the limit; the watch must keep out of it
		if box.overrun.Load() {
			t.Error("the watch ended a sandbox whose limit the kernel enforces")
		}
		return
	}
	if !i.Exit().OutOfMemory {
		t.Errorf("exit %+v", i.Exit())
	}
}

func TestStartRefusals(t *testing.T) {
	k, i, _ := native(t, "sleep 4326\n", nil)
	defer func() { _ = i.Kill(context.Background()) }()
	for name, change := range map[string]func(*sandbox.Spec){
		"image":        func(s *sandbox.Spec) { s.Image = "x" },
		"language":     func(s *sandbox.Spec) { s.Runtime.Language = "cobol" },
		"no bootstrap": func(s *sandbox.Spec) { s.TaskRoot = t.TempDir() },
		"same id":      func(s *sandbox.Spec) {},
	} {
		spec := sandbox.Spec{ID: "box-1", Runtime: sandbox.Runtime{Language: "provided"}, TaskRoot: filepath.Join(filepath.Dir(k.directory), "task"), Output: &sink{}}
		change(&spec)
		if started, err := k.Start(t.Context(), spec); err == nil {
			t.Errorf("%s: started", name)
			_ = started.Kill(context.Background())
		}
	}
}
