//go:build linux

// Package cgroup limits and measures the memory and processor time of process sandboxes through Linux control groups.
//
// Both hierarchies are known: version 1 (a tree per controller) and version 2 (one tree). Which controllers a process may
// use depends on the machine, so every ability is asked for with [Manager.Memory] and [Manager.CPU] before it is used.
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// period is the length of the CPU accounting window. Short windows keep the pauses of a throttled function short.
const period = 20 * time.Millisecond

// Manager creates groups below one parent.
type Manager struct {
	version int
	// dirs maps a controller ("memory", "cpu") to the directory below which groups are made; version 2 has one for both.
	dirs map[string]string
	// reasons says per controller why it cannot be used.
	reasons map[string]string
}

// Group is the set of control group directories of one sandbox. The zero Group limits and measures nothing.
type Group struct {
	version int
	memory  string
	cpu     string
}

// Open finds out what this process may do. mount is where the control group file systems are mounted (/sys/fs/cgroup),
// self is the membership file of this process (/proc/self/cgroup).
func Open(mount, self string) *Manager {
	m := &Manager{dirs: map[string]string{}, reasons: map[string]string{}}
	raw, err := os.ReadFile(self)
	if err != nil {
		return m.without("control groups cannot be read: " + err.Error())
	}
	paths, unified := parseSelf(raw)
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		m.version = 2
		m.openUnified(mount, unified)
		return m
	}
	m.version = 1
	for _, controller := range []string{"memory", "cpu"} {
		own, ok := paths[controller]
		if !ok {
			m.reasons[controller] = "the kernel offers no " + controller + " control group"
			continue
		}
		dir := filepath.Join(mount, controller, own)
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Join(mount, controller) // inside a container the path of the host is not visible
		}
		m.try(controller, dir, map[string]string{"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us"}[controller])
	}
	return m
}

func (m *Manager) without(reason string) *Manager {
	m.reasons["memory"], m.reasons["cpu"] = reason, reason
	return m
}

// openUnified looks for a directory whose children may have the controllers: the own group when it is the root of the
// tree, else its parent, because a group that holds processes may not hand controllers on to children.
func (m *Manager) openUnified(mount, own string) {
	own = filepath.Clean("/" + own)
	dir := filepath.Join(mount, filepath.Dir(own))
	if own == "/" {
		dir = mount
	}
	for _, controller := range []string{"memory", "cpu"} {
		// Writing fails where the controller is already on or may not be switched; what counts is what children get.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		m.try(controller, dir, map[string]string{"memory": "memory.max", "cpu": "cpu.max"}[controller])
	}
}

// try makes a group in dir and looks for the control file.
func (m *Manager) try(controller, dir, file string) {
	probe, err := os.MkdirTemp(dir, "sebs-probe-")
	if err != nil {
		m.reasons[controller] = "control group " + controller + " is not writable: " + err.Error()
		return
	}
	defer func() { _ = os.Remove(probe) }()
	f, err := os.OpenFile(filepath.Join(probe, file), os.O_RDWR, 0)
	if err != nil {
		m.reasons[controller] = "control group " + controller + " is not handed on to children: " + err.Error()
		return
	}
	_ = f.Close()
	m.dirs[controller] = dir
}

// Memory says why memory cannot be limited; empty when it can.
func (m *Manager) Memory() string { return m.reason("memory") }

// CPU says why processor time cannot be limited; empty when it can.
func (m *Manager) CPU() string { return m.reason("cpu") }

func (m *Manager) reason(controller string) string {
	if m == nil || m.dirs[controller] == "" {
		if m != nil && m.reasons[controller] != "" {
			return m.reasons[controller]
		}
		return "no control groups on this machine"
	}
	return ""
}

// Create makes the group of a sandbox with its memory limit. Controllers that cannot be used are left out.
func (m *Manager) Create(name string, memoryBytes int64) (Group, error) {
	g := Group{}
	if m == nil {
		return g, nil
	}
	g.version = m.version
	for controller, dir := range m.dirs {
		path := filepath.Join(dir, "sebs-"+name)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			_ = g.Remove()
			return Group{}, fmt.Errorf("create control group: %w", err)
		}
		if controller == "memory" {
			g.memory = path
		} else {
			g.cpu = path
		}
	}
	if g.memory != "" && memoryBytes > 0 {
		if err := g.limitMemory(memoryBytes); err != nil {
			_ = g.Remove()
			return Group{}, err
		}
	}
	return g, nil
}

// Of finds the control groups of another process from its membership file (/proc/<pid>/cgroup).
func Of(mount, membership string) (Group, error) {
	raw, err := os.ReadFile(membership)
	if err != nil {
		return Group{}, fmt.Errorf("read control group membership: %w", err)
	}
	paths, unified := parseSelf(raw)
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		dir := filepath.Join(mount, unified)
		return Group{version: 2, memory: dir, cpu: dir}, nil
	}
	own, ok := paths["memory"]
	if !ok {
		return Group{}, errors.New("no memory control group")
	}
	g := Group{version: 1, memory: filepath.Join(mount, "memory", own)}
	if own, ok := paths["cpu"]; ok {
		g.cpu = filepath.Join(mount, "cpu", own)
	}
	return g, nil
}

// At names the group of a sandbox whose directories are known, for cleaning up after a crash.
func At(version int, memory, cpu string) Group {
	return Group{version: version, memory: memory, cpu: cpu}
}

// Location tells what [At] needs to name the group again.
func (g Group) Location() (version int, memory, cpu string) { return g.version, g.memory, g.cpu }

// HasMemory and HasCPU tell which limits the group can enforce.
func (g Group) HasMemory() bool { return g.memory != "" }

// HasCPU tells whether the group can limit processor time.
func (g Group) HasCPU() bool { return g.cpu != "" }

func (g Group) limitMemory(limit int64) error {
	value := strconv.FormatInt(limit, 10)
	if g.version == 2 {
		if err := write(g.memory, "memory.max", value); err != nil {
			return err
		}
		// Swap would let a function grow past its memory; killing all of it leaves no half-dead sandbox. Both are
		// missing on some kernels.
		_ = write(g.memory, "memory.swap.max", "0")
		_ = write(g.memory, "memory.oom.group", "1")
		return nil
	}
	if err := write(g.memory, "memory.limit_in_bytes", value); err != nil {
		return err
	}
	_ = write(g.memory, "memory.memsw.limit_in_bytes", value) // exists only where swap is accounted
	return nil
}

// LimitCPU grants the share of processor time, in processors; 0 lifts the limit.
func (g Group) LimitCPU(cpus float64) error {
	if g.cpu == "" {
		return nil
	}
	quota := int64(cpus * float64(period.Microseconds()))
	if quota < 1000 && cpus > 0 {
		quota = 1000 // the kernel's minimum
	}
	if g.version == 2 {
		value := "max"
		if cpus > 0 {
			value = strconv.FormatInt(quota, 10)
		}
		if err := write(g.cpu, "cpu.max", value+" "+strconv.FormatInt(period.Microseconds(), 10)); err != nil {
			return err
		}
		g.allowBurst("cpu.max.burst", quota)
		return nil
	}
	if cpus <= 0 {
		return write(g.cpu, "cpu.cfs_quota_us", "-1")
	}
	if err := write(g.cpu, "cpu.cfs_period_us", strconv.FormatInt(period.Microseconds(), 10)); err != nil {
		return err
	}
	if err := write(g.cpu, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)); err != nil {
		return err
	}
	g.allowBurst("cpu.cfs_burst_us", quota)
	return nil
}

// allowBurst lets time that was left over in one period be used in the next, so that a short invocation after a pause is not cut
// in two. Kernels before 5.14 do not have it, which is no failure.
func (g Group) allowBurst(file string, quota int64) {
	if quota > 0 {
		_ = write(g.cpu, file, strconv.FormatInt(quota, 10))
	}
}

// Join moves a process into the group; its later children are born there.
func (g Group) Join(pid int) error {
	for _, dir := range g.directories() {
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

func (g Group) directories() []string {
	var out []string
	if g.memory != "" {
		out = append(out, g.memory)
	}
	if g.cpu != "" && g.cpu != g.memory {
		out = append(out, g.cpu)
	}
	return out
}

// MemoryUsed is the memory that processes of the group hold, in bytes, without reclaimable file cache.
func (g Group) MemoryUsed() (int64, error) {
	if g.memory == "" {
		return 0, errors.New("no memory control group")
	}
	raw, err := os.ReadFile(filepath.Join(g.memory, "memory.stat"))
	if err != nil {
		return 0, fmt.Errorf("read memory statistics: %w", err)
	}
	keys := []string{"anon", "shmem"}
	if g.version == 1 {
		keys = []string{"total_rss", "total_shmem"}
	}
	var sum int64
	for _, key := range keys {
		sum += statValue(raw, key)
	}
	return sum, nil
}

// OutOfMemory tells whether the kernel has killed a process of the group for its memory limit.
func (g Group) OutOfMemory() bool {
	if g.memory == "" {
		return false
	}
	file := "memory.events"
	if g.version == 1 {
		file = "memory.oom_control"
	}
	raw, err := os.ReadFile(filepath.Join(g.memory, file))
	return err == nil && statValue(raw, "oom_kill") > 0
}

// Processes lists the processes of the group.
func (g Group) Processes() []int {
	seen := map[int]bool{}
	var out []int
	for _, dir := range g.directories() {
		raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 && !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out
}

// Kill ends every process of the group.
func (g Group) Kill() {
	if g.version == 2 && g.memory != "" && write(g.memory, "cgroup.kill", "1") == nil {
		return
	}
	for _, pid := range g.Processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Remove deletes the group; its processes must have ended. The kernel needs a moment to let go of dead ones, so removal is
// tried for up to two seconds.
func (g Group) Remove() error {
	var errs []error
	for _, dir := range g.directories() {
		deadline := time.Now().Add(2 * time.Second)
		for {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("remove control group: %w", err))
				break
			}
			g.Kill()
			time.Sleep(2 * time.Millisecond)
		}
	}
	return errors.Join(errs...)
}

func write(dir, file, value string) error {
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", file, err)
	}
	return nil
}

// statValue finds "key value" in a file of such lines; 0 when it is not there.
func statValue(raw []byte, key string) int64 {
	s := bufio.NewScanner(bytes.NewReader(raw))
	for s.Scan() {
		if name, value, ok := strings.Cut(s.Text(), " "); ok && name == key {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// parseSelf reads /proc/self/cgroup: the path per version 1 controller, and the path in the unified tree.
func parseSelf(raw []byte) (paths map[string]string, unified string) {
	paths = map[string]string{}
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "" {
			unified = parts[2]
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			paths[controller] = parts[2]
		}
	}
	return paths, unified
}
