package cli

import (
	"os"
	"syscall"
)

// detached gives the background suite a process group of its own, so that an interrupt of the terminal does not reach it.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// stop ends the process; Windows has no signal that asks for it.
func stop(p *os.Process) error { return p.Kill() }
