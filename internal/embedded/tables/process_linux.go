package tables

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the command a process group of its own and lets it die with this process, however that ends.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
