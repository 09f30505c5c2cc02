package process

import (
	"os"
	"os/exec"
	"syscall"
)

func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killGroup ends the process itself; Windows has no groups that can be ended as a whole.
func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

// addSystemVariables adds what programs need to start on Windows.
func addSystemVariables(vars map[string]string) {
	for _, name := range []string{"SystemRoot", "windir", "ComSpec", "PATHEXT"} {
		if value := os.Getenv(name); value != "" {
			vars[name] = value
		}
	}
	vars["TEMP"], vars["TMP"] = vars["TMPDIR"], vars["TMPDIR"]
}
