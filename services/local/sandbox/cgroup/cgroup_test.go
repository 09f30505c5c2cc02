//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestParseSelf(t *testing.T) {
	t.Parallel()
	paths, unified := parseSelf([]byte("4:memory:/a/b\n2:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u/x.scope\nbroken\n"))
	if paths["memory"] != "/a/b" || paths["cpu"] != "/c" || paths["cpuacct"] != "/c" || unified != "/u/x.scope" {
		t.Errorf("paths %v, unified %q", paths, unified)
	}
}

// A plain directory behaves like version 1 as far as writing limits goes, and shows what is written where.
func TestLimitsInVersion2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{"memory.max": "", "cpu.max": "", "memory.stat": "anon 1000\nfile 9000\nshmem 24\nanon_thp 5\n", "memory.events": "low 0\noom 1\noom_kill 1\n", "cgroup.procs": ""})
	g := At(2, dir, dir)
	if err := g.limitMemory(64 << 20); err != nil || get(t, filepath.Join(dir, "memory.max")) != "67108864" || get(t, filepath.Join(dir, "memory.swap.max")) != "0" {
		t.Errorf("memory limit: error %v", err)
	}
	for cpus, want := range map[float64]string{0.5: "10000 20000", 0.01: "1000 20000", 0: "max 20000", 2: "40000 20000"} {
		if err := g.LimitCPU(cpus); err != nil || get(t, filepath.Join(dir, "cpu.max")) != want {
			t.Errorf("%v processors: %q, error %v", cpus, get(t, filepath.Join(dir, "cpu.max")), err)
		}
	}
	if used, err := g.MemoryUsed(); err != nil || used != 1024 {
		t.Errorf("memory used %d, error %v", used, err)
	}
	if !g.OutOfMemory() {
		t.Error("an out-of-memory kill was not seen")
	}
}

func TestLimitsInVersion1(t *testing.T) {
	t.Parallel()
	memory, cpu := t.TempDir(), t.TempDir()
	put(t, memory, map[string]string{"memory.stat": "rss 1\ntotal_rss 2000\ntotal_shmem 48\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"})
	g := At(1, memory, cpu)
	if err := g.limitMemory(1 << 20); err != nil || get(t, filepath.Join(memory, "memory.limit_in_bytes")) != "1048576" {
		t.Errorf("memory limit: error %v", err)
	}
	if err := g.LimitCPU(1); err != nil || get(t, filepath.Join(cpu, "cpu.cfs_quota_us")) != "20000" || get(t, filepath.Join(cpu, "cpu.cfs_period_us")) != "20000" {
		t.Errorf("CPU limit: error %v", err)
	}
	if err := g.LimitCPU(0); err != nil || get(t, filepath.Join(cpu, "cpu.cfs_quota_us")) != "-1" {
		t.Errorf("no CPU limit: error %v", err)
	}
	if used, err := g.MemoryUsed(); err != nil || used != 2048 {
		t.Errorf("memory used %d, error %v", used, err)
	}
	if g.OutOfMemory() {
		t.Error("an out-of-memory kill was seen")
	}
	if err := g.Join(7); err != nil || get(t, filepath.Join(memory, "cgroup.procs")) != "7" || get(t, filepath.Join(cpu, "cgroup.procs")) != "7" {
		t.Errorf("join: error %v", err)
	}
}

func TestReasonsWhereNothingWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{"self": "1:memory:/x\n", "mount/memory/x/tasks": ""})
	m := Open(filepath.Join(dir, "mount"), filepath.Join(dir, "self"))
	if !strings.Contains(m.Memory(), "not handed on") || !strings.Contains(m.CPU(), "offers no cpu") {
		t.Errorf("memory %q, cpu %q", m.Memory(), m.CPU())
	}
	missing := Open(dir, filepath.Join(dir, "nothing"))
	if missing.Memory() == "" || missing.CPU() == "" {
		t.Error("without a membership file nothing can be limited")
	}
	g, err := missing.Create("x", 1<<20)
	if err != nil || g.HasMemory() || g.HasCPU() || g.LimitCPU(1) != nil || g.Remove() != nil {
		t.Errorf("group %+v, error %v", g, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "mount", "memory", "x", "sebs-probe-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// TestUnified looks for the parent in a tree of version 2: a group with processes cannot have children with controllers.
func TestUnified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{
		"self": "0::/slice/own.scope\n", "mount/cgroup.controllers": "cpu memory\n", "mount/slice/cgroup.subtree_control": "", "mount/slice/own.scope/cgroup.procs": "",
	})
	m := Open(filepath.Join(dir, "mount"), filepath.Join(dir, "self"))
	if !strings.Contains(m.Memory(), "not handed on") { // plain directories have no control files
		t.Errorf("memory: %q", m.Memory())
	}
	if got := get(t, filepath.Join(dir, "mount/slice/cgroup.subtree_control")); got != "+cpu" {
		t.Errorf("controllers switched on: %q", got)
	}
}

// TestRealGroup runs where control groups may be made.
func TestRealGroup(t *testing.T) {
	t.Parallel()
	m := Open("/sys/fs/cgroup", "/proc/self/cgroup")
	if m.Memory() != "" {
		t.Skipf("needs a writable memory control group: %s", m.Memory())
	}
	g, err := m.Create("test-"+filepath.Base(t.TempDir())+"-"+filepath.Base(os.Args[0]), 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.MemoryUsed(); err != nil {
		t.Error(err)
	}
	if len(g.Processes()) != 0 || g.OutOfMemory() {
		t.Error("a new group is empty")
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}
