package host

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/sebs-suite/sebs/internal/errs"
)

// lockDirectory makes sure that one host uses the state directory. The lock ends with the process, however that ends.
func lockDirectory(dir string) (func() error, error) {
	path := filepath.Join(dir, "host.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY)
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{}); err != nil {
		_ = f.Close()
		return nil, errs.FailedPrecondition("STATE_DIRECTORY_IN_USE",
			"another local platform uses the state directory %s; stop it, join it with --server, or choose another --state-dir", dir)
	}
	return f.Close, nil
}
