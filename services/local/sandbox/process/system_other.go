//go:build !linux

package process

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

const sampleInterval = time.Second

// system is what can be done without Linux: process groups, and looking at memory now and then.
type system struct {
	log *slog.Logger
}

type launchSpec struct {
	cmd         *exec.Cmd
	id          string
	scratch     string
	roots       []string
	memoryBytes int64
	environment func(tmp string) []string
}

type handle struct {
	cmd     *exec.Cmd
	id      string
	pid     int
	started string
	ended   chan struct{}
}

func newSystem(o Options) *system { return &system{log: o.Log} }

func (s *system) capabilities() sandbox.Capabilities {
	c := sandbox.Capabilities{
		MemoryLimit:       "watched every second instead of enforced by the kernel",
		CPULimit:          runtime.GOOS + " has no control groups",
		PrivateFileSystem: runtime.GOOS + " has no mount namespaces",
		UnprivilegedUser:  "sandboxes run as the host's user",
		SecurityBoundary:  "process sandboxes share everything with the host's user",
		NoEgress:          "process sandboxes share the network of the host",
	}
	if runtime.GOOS == "windows" {
		c.MemoryLimit = "the memory of processes is not read on windows"
	}
	return c
}

func (s *system) start(l launchSpec) (*handle, error) {
	l.cmd.Env = l.environment(l.scratch)
	ownGroup(l.cmd)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	h := &handle{cmd: l.cmd, id: l.id, pid: l.cmd.Process.Pid, ended: make(chan struct{})}
	h.started = startTime(h.pid)
	go func() {
		defer close(h.ended)
		_ = l.cmd.Wait() // the state tells how it ended
	}()
	return h, nil
}

func (h *handle) record() record { return record{ID: h.id, PID: h.pid, StartTime: h.started} }

func (h *handle) wait() *os.ProcessState {
	<-h.ended
	return h.cmd.ProcessState
}

// connects tells whether a connection to the Runtime API comes from this machine.
func (h *handle) connects(c net.Conn) bool { return fromLoopback(c) }

func (h *handle) kill()                  { killGroup(h.pid) }
func (h *handle) remove() error          { return nil }
func (h *handle) outOfMemory() bool      { return false }
func (h *handle) limitsMemory() bool     { return false }
func (h *handle) throttle(float64) error { return nil }
func (h *handle) peak() int64            { return 0 }

// ps runs the system's process list with the given columns and answers its lines without the heading.
func ps(args ...string) []string {
	if runtime.GOOS == "windows" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	raw, err := exec.CommandContext(ctx, "ps", args...).Output()
	if err != nil {
		return nil
	}
	var lines []string
	s := bufio.NewScanner(bytes.NewReader(raw))
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	return lines
}

// memory sums the resident memory of each process group.
func (s *system) memory(handles []*handle) []int64 {
	out := make([]int64, len(handles))
	byGroup := map[string]int{}
	for n, h := range handles {
		byGroup[strconv.Itoa(h.pid)] = n
	}
	for _, line := range ps("-axo", "pgid=,rss=") {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, ok := byGroup[fields[0]]; ok {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err == nil {
				out[n] += kb << 10
			}
		}
	}
	return out
}

func startTime(pid int) string {
	lines := ps("-o", "lstart=", "-p", strconv.Itoa(pid))
	if len(lines) == 0 {
		return ""
	}
	return strings.TrimSpace(lines[0])
}

// sweep ends a sandbox of an earlier host, unless its process id belongs to another program by now.
func (s *system) sweep(r record) {
	if r.PID > 1 && r.StartTime != "" && startTime(r.PID) == r.StartTime {
		killGroup(r.PID)
	}
}
