package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/cgroup"
)

const (
	uidCount       = 10_000
	sampleInterval = 100 * time.Millisecond
)

// system holds what this machine allows.
type system struct {
	log        *slog.Logger
	groups     *cgroup.Manager
	namespaces bool
	firstUID   int

	mu      sync.Mutex
	nextUID int
	warned  bool
}

type launchSpec struct {
	cmd         *exec.Cmd
	id          string
	scratch     string
	roots       []string
	memoryBytes int64
	// environment renders the variables once the scratch directory's path inside the sandbox is known.
	environment func(tmp string) []string
}

// handle is one running process group.
type handle struct {
	system  *system
	id      string
	pid     int
	started string
	uid     int // 0 when the sandbox runs as the host's user
	claim   io.Closer
	group   cgroup.Group
	state   *os.ProcessState
	ended   chan struct{}

	// mu guards removed: once everything is given back, the ids may belong to others.
	mu      sync.Mutex
	removed bool
}

func newSystem(o Options) *system {
	s := &system{log: o.Log, groups: cgroup.Open("/sys/fs/cgroup", "/proc/self/cgroup")}
	if os.Geteuid() == 0 && o.FirstUID > 0 {
		s.firstUID = o.FirstUID
		s.namespaces = mountNamespacesWork()
	}
	return s
}

func (s *system) capabilities() sandbox.Capabilities {
	c := sandbox.Capabilities{
		CPULimit:         s.groups.CPU(),
		SecurityBoundary: "process sandboxes share the kernel, the network and the process table with the host",
		NoEgress:         "process sandboxes share the network of the host",
	}
	if s.groups.Memory() != "" {
		c.MemoryLimit = "watched every 100 ms instead of enforced by the kernel: " + s.groups.Memory()
	}
	switch {
	case s.firstUID == 0:
		c.UnprivilegedUser = "the host does not run as root, so sandboxes run as its user"
		c.PrivateFileSystem = "the host does not run as root"
	case !s.namespaces:
		c.PrivateFileSystem = "mount namespaces are not permitted"
	}
	return c
}

// mountNamespacesWork tries what start does, on a thread that is thrown away.
func mountNamespacesWork() bool {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		result <- privateMounts()
	}()
	return <-result == nil
}

func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// start runs the command on an operating system thread of its own. The thread lives as long as the process, because the
// kernel delivers the parent death signal when the thread that started a process ends; and it carries the view of the
// file system that the process is born with.
func (s *system) start(l launchSpec) (*handle, error) {
	h := &handle{system: s, id: l.id, ended: make(chan struct{})}
	group, err := s.groups.Create(l.id, l.memoryBytes)
	if err != nil {
		s.log.Debug("sandbox starts without control groups", "sandbox", l.id, "error", err)
	}
	h.group = group
	tmp := l.scratch
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if uid, claim := s.takeUID(l); uid != 0 {
		h.uid, h.claim = uid, claim
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		if err := os.Chown(l.scratch, uid, uid); err != nil {
			_ = h.remove()
			return nil, fmt.Errorf("hand over scratch directory: %w", err)
		}
		if s.namespaces {
			tmp = "/tmp"
		}
	}
	l.cmd.SysProcAttr = attr
	l.cmd.Env = l.environment(tmp)
	result := make(chan error)
	go h.run(l, result)
	if err := <-result; err != nil {
		_ = h.remove()
		return nil, err
	}
	return h, nil
}

// run is the life of the thread.
func (h *handle) run(l launchSpec, result chan<- error) {
	runtime.LockOSThread() // never unlocked: a changed thread must not be used for anything else
	if h.uid != 0 && h.system.namespaces {
		if err := isolate(l.scratch, l.roots); err != nil {
			result <- err
			return
		}
	}
	// Programs with set-user-id bits must not win anything back.
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err := l.cmd.Start(); err != nil {
		result <- err
		return
	}
	h.pid = l.cmd.Process.Pid
	h.started = startTime(h.pid)
	if err := h.group.Join(h.pid); err != nil {
		h.system.log.Warn("sandbox cannot join its control group; limits are not in force", "error", err)
		_ = h.group.Remove()
		h.group = cgroup.Group{}
	}
	limits := map[int]uint64{unix.RLIMIT_CORE: 0}
	if h.uid != 0 {
		limits[unix.RLIMIT_NPROC] = 1024
	}
	for resource, value := range limits {
		_ = unix.Prlimit(h.pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
	}
	result <- nil
	_ = l.cmd.Wait() // the state tells how it ended
	h.state = l.cmd.ProcessState
	close(h.ended)
}

// takeUID picks a user id that no other sandbox of this machine has, or 0 when the sandbox has to run as the host's user.
func (s *system) takeUID(l launchSpec) (int, io.Closer) {
	if s.firstUID == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.namespaces {
		for _, root := range append([]string{l.scratch}, l.roots...) {
			if b := blocker(root); b != "" {
				if !s.warned {
					s.log.Warn("sandboxes run as the host's user, because other users may not enter a directory that they need", "directory", b)
				}
				s.warned = true
				return 0, nil
			}
		}
	}
	for range uidCount {
		uid := s.firstUID + s.nextUID
		s.nextUID = (s.nextUID + 1) % uidCount
		if claim, err := claimUID(uid); err == nil {
			return uid, claim
		}
	}
	return 0, nil
}

// claimUID reserves a user id among all hosts on this machine. Two hosts know nothing of each other, so the claim is the name of a
// socket in the kernel's abstract name space: it can be taken once, and is free again when the host ends, however it ends.
func claimUID(uid int) (io.Closer, error) {
	return net.Listen("unix", "@sebs-sandbox-user-"+strconv.Itoa(uid))
}

// blocker is the topmost directory on the way to path that other users may not enter; empty when there is none.
func blocker(path string) string {
	found := ""
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			found = dir
		}
		if dir == filepath.Dir(dir) {
			return found
		}
	}
}

// isolate gives the calling thread a file system of its own: the scratch directory stands at /tmp, and directories that
// other users may not enter are replaced by empty ones that hold only the roots, read-only.
func isolate(scratch string, roots []string) error {
	if err := privateMounts(); err != nil {
		return err
	}
	covers := map[string][]string{"/tmp": nil}
	for _, root := range roots {
		if root == "/" || root == "/usr" {
			continue
		}
		cover := blocker(root)
		if within(root, "/tmp") {
			cover = "/tmp"
		}
		if cover != "" {
			covers[cover] = append(covers[cover], root)
		}
	}
	for cover, hidden := range covers {
		if err := replace(cover, scratch, hidden); err != nil {
			return err
		}
	}
	return nil
}

// replace covers a directory and makes the named directories below it visible again, read-only.
func replace(cover, scratch string, roots []string) error {
	sources := make([]int, len(roots))
	for n, root := range roots {
		fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", root, err)
		}
		defer func() { _ = unix.Close(fd) }()
		sources[n] = fd
	}
	var err error
	if cover == "/tmp" {
		err = unix.Mount(scratch, cover, "", unix.MS_BIND, "")
	} else {
		err = unix.Mount("tmpfs", cover, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m")
	}
	if err != nil {
		return fmt.Errorf("cover %s: %w", cover, err)
	}
	for n, root := range roots {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return fmt.Errorf("make %s visible: %w", root, err)
		}
		source := "/proc/self/fd/" + strconv.Itoa(sources[n])
		if err := unix.Mount(source, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make %s visible: %w", root, err)
		}
		if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", root, err)
		}
	}
	return nil
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func (h *handle) record() record {
	version, memory, cpu := h.group.Location()
	return record{ID: h.id, PID: h.pid, StartTime: h.started, UID: h.uid, Cgroup: version, Memory: memory, CPU: cpu}
}

func (h *handle) wait() *os.ProcessState {
	<-h.ended
	return h.state
}

// kill ends the group, what left the group but stayed in the control group, and what runs under the sandbox's user.
func (h *handle) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.removed || h.pid <= 1 {
		return
	}
	_ = syscall.Kill(-h.pid, syscall.SIGKILL)
	h.group.Kill()
	switch {
	case h.uid != 0:
		killUser(h.uid)
	case !h.group.HasMemory() && !h.group.HasCPU():
		killMarked(h.id)
	}
}

func (h *handle) remove() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removed = true
	err := h.group.Remove()
	if h.uid != 0 {
		_ = h.claim.Close()
	}
	return err
}

func (h *handle) outOfMemory() bool           { return h.group.OutOfMemory() }
func (h *handle) limitsMemory() bool          { return h.group.HasMemory() }
func (h *handle) throttle(cpus float64) error { return h.group.LimitCPU(cpus) }

// peak is the high-water mark of the runtime's resident memory; its children are known from sampling only.
func (h *handle) peak() int64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(h.pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(raw, []byte("VmHWM:"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	kb, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}

// memory reads the memory that each group holds: from its control group, else as the sum over its processes.
func (s *system) memory(handles []*handle) []int64 {
	out := make([]int64, len(handles))
	bySession := map[int]int{}
	for n, h := range handles {
		// The kernel updates the figure of a group in batches: right after the start it may still be 0.
		if used, err := h.group.MemoryUsed(); err == nil && used > 0 {
			out[n] = used
			continue
		}
		bySession[h.pid] = n
	}
	if len(bySession) == 0 {
		return out
	}
	eachProcess(func(_ int, fields []string) {
		session, err := strconv.Atoi(fields[3])
		if err != nil {
			return
		}
		if n, ok := bySession[session]; ok {
			pages, err := strconv.ParseInt(fields[21], 10, 64)
			if err == nil {
				out[n] += pages * int64(os.Getpagesize())
			}
		}
	})
	return out
}

// eachProcess calls f for every process with the fields of its stat file from "state" on: 3 is the session, 19 the start
// time, 21 the resident pages.
func eachProcess(f func(pid int, fields []string)) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := statFields(pid); fields != nil {
			f(pid, fields)
		}
	}
}

func statFields(pid int) []string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	// The second field is the program's name in brackets and may hold anything.
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return nil
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 22 {
		return nil
	}
	return fields
}

func startTime(pid int) string {
	if fields := statFields(pid); fields != nil {
		return fields[19]
	}
	return ""
}

// killUser ends every process of a sandbox's user. User ids of sandboxes belong to nobody else.
func killUser(uid int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		info, err := os.Stat(filepath.Join("/proc", e.Name()))
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// killMarked ends processes whose environment names the sandbox. They may have left the process group, but hardly their
// environment.
func killMarked(id string) {
	if id == "" {
		return
	}
	want := []byte(marker + "=" + id)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue
		}
		for variable := range bytes.SplitSeq(raw, []byte{0}) {
			if bytes.Equal(variable, want) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// sweep ends a sandbox of an earlier host. The leader is dead by its parent death signal as a rule; its children may live.
func (s *system) sweep(r record) {
	group := cgroup.At(r.Cgroup, r.Memory, r.CPU)
	group.Kill()
	leader := startTime(r.PID)
	if r.PID > 1 && (leader == "" || leader == r.StartTime) {
		// Without a leader the group id cannot have been given to others while members of the group are alive.
		if err := syscall.Kill(-r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.log.Warn("process group of an old sandbox cannot be ended", "pid", r.PID, "error", err)
		}
	}
	if r.UID == 0 {
		killMarked(r.ID)
	}
	if r.UID >= 10_000 {
		// When the claim cannot be had, another host has given the user id to a sandbox of its own since.
		if claim, err := claimUID(r.UID); err == nil {
			killUser(r.UID)
			_ = claim.Close()
		}
	}
	if err := group.Remove(); err != nil {
		s.log.Warn("control group of an old sandbox cannot be removed", "error", err)
	}
}

// addSystemVariables adds what programs need to start on this system.
func addSystemVariables(map[string]string) {}
