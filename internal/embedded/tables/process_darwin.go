package tables

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the command a process group of its own. The system cannot tie its life to this process.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
