//go:build unix

package confine

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// separate gives the command a process group and a user of its own, and lets it end with this process.
func separate(cmd *exec.Cmd, as *User) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: as.UID, Gid: as.GID}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// endGroup kills what is left of the command's process group. The group's id stays reserved as long as a member of it
// lives, so that no other process is met.
func endGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		// The usual answer is that the group is gone already.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// alive says whether there is a process of that id.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// UnprivilegedUser returns the account for confined programs: nil unless the service runs as root, else the account
// with the given name, else the one called nobody, else the number that nobody has by convention.
func UnprivilegedUser(name string) (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if name == "" {
		name = "nobody"
		if _, err := user.Lookup(name); err != nil {
			return &User{UID: 65534, GID: 65534}, nil
		}
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &User{UID: uint32(uid), GID: uint32(gid)}, nil
}
