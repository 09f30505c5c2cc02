//go:build unix

package cli

import (
	"os"
	"syscall"
)

// detached gives the background suite a session of its own, so that an interrupt of the terminal does not reach it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func stop(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
