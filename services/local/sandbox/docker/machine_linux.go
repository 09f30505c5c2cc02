package docker

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sebs-suite/sebs/services/local/sandbox/cgroup"
)

// machine is what this machine lets the host do with a container beside the Engine.
type machine struct{ group cgroup.Group }

// find looks for the container's process on this machine; nil where it cannot be seen from here.
func find(pid int, id string) *machine {
	membership := "/proc/" + strconv.Itoa(pid) + "/cgroup"
	raw, err := os.ReadFile(membership)
	if err != nil || !strings.Contains(string(raw), id) {
		return nil // another machine's process with the same number
	}
	group, err := cgroup.Of("/sys/fs/cgroup", membership)
	if err != nil {
		return nil
	}
	return &machine{group: group}
}

// memory reads the container's memory from its control group, which is much cheaper than asking the Engine.
func (m *machine) memory() (int64, error) { return m.group.MemoryUsed() }

// throttle sets the CPU share with what the Engine cannot set: unused time carries over to the next period.
func (m *machine) throttle(cpus float64) error { return m.group.LimitCPU(cpus) }

// highWater is the most resident memory that the first process of the container has had.
func highWater(pid int) int64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
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

func signalName(n int) string { return syscall.Signal(n).String() }

// writePipe writes to a stream of a process, beside it, without waiting. Only the root user may do that with containers.
func writePipe(pid, fd int, text []byte) error {
	path := "/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return os.ErrInvalid
	}
	pipe, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(pipe) }()
	if len(text) == 0 {
		return nil
	}
	_, err = syscall.Write(pipe, text) // whole or not at all, because it is short
	return err
}

func isFull(err error) bool { return errors.Is(err, syscall.EAGAIN) }
