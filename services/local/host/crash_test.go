//go:build linux

package host_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sebs-suite/sebs/services/local/host"
)

// crashDir and crashKind tell the test binary to be the host that is going to be killed.
const (
	crashDir  = "SEBS_TEST_CRASH_DIR"
	crashKind = "SEBS_TEST_CRASH_KIND"
)

// stubborn leaves a child that has a session of its own, so that ending the process group does not reach it.
const stubborn = `
import os, subprocess, time
def handler(event, context):
    child = subprocess.Popen(["sleep", "4321"], start_new_session=True)
    return [os.getpid(), child.pid]
`

// crash is the process that TestKilledHostLeavesNothing kills: it runs a function, says so, and waits for its end.
func crash(t *testing.T, dir string) {
	h := hostIn(t, dir, kinds[os.Getenv(crashKind)], nil)
	deploy(t, h, "stubborn", stubborn, nil)
	out, err := h.Invoke(t.Context(), host.Call{Function: "stubborn"})
	if err != nil || out.Record.Failure != "" {
		t.Fatalf("outcome %+v, error %v", out, err)
	}
	fmt.Printf("READY %s %s\n", out.Body, out.Record.Sandbox)
	select {} // until killed
}

func TestKilledHostLeavesNothing(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		crash(t, dir)
		return
	}
	t.Parallel()
	for name, open := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open(t, stateDir(t)) // skips where the kind does not work
			dir := stateDir(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledHostLeavesNothing$", "-test.v")
			cmd.Env = append(os.Environ(), crashDir+"="+dir, crashKind+"="+name)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pids, sandboxID := ready(t, bufio.NewScanner(out))
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()

			if name == "process" {
				eventually(t, "the end of the orphaned runtime", func() bool { return !running(pids[0]) })
			}
			h := hostIn(t, dir, open, nil)
			if name == "process" {
				eventually(t, "the end of the runtime's child", func() bool { return !running(pids[1]) })
				left, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*"))
				if err != nil || len(left) > 0 {
					t.Errorf("folders left: %v, error %v", left, err)
				}
				groups, err := filepath.Glob("/sys/fs/cgroup/*/sebs-" + sandboxID)
				if err != nil || len(groups) > 0 {
					t.Errorf("control groups left: %v, error %v", groups, err)
				}
			}
			// The function is still there and works.
			result := invoke(t, h, "stubborn", "{}")
			if result.Record.Failure != "" || !result.Record.Cold {
				t.Errorf("outcome after the crash: %+v", result.Record)
			}
			if left, err := h.Orphans(t.Context(), true); err != nil || len(left) > 0 {
				t.Errorf("orphans: %v, error %v", left, err)
			}
		})
	}
}

// ready waits for the line that tells the processes of the sandbox.
func ready(t *testing.T, s *bufio.Scanner) (pids []int, sandboxID string) {
	t.Helper()
	var said []string
	for s.Scan() {
		rest, ok := strings.CutPrefix(s.Text(), "READY ")
		if !ok {
			said = append(said, s.Text())
			continue
		}
		end := strings.LastIndexByte(rest, ' ')
		if err := json.Unmarshal([]byte(rest[:end]), &pids); err != nil {
			t.Fatal(err)
		}
		return pids, rest[end+1:]
	}
	t.Fatalf("the host did not start: %v\n%s", s.Err(), strings.Join(said, "\n"))
	return nil, ""
}

// running tells whether a process is there and no zombie.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(raw), ") Z ")
}
