//go:build unix

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sebs-suite/sebs/internal/errs"
)

// lockDirectory makes sure that one host uses the state directory. The lock ends with the process, however that ends.
func lockDirectory(dir string) (func() error, error) {
	path := filepath.Join(dir, "host.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errs.FailedPrecondition("STATE_DIRECTORY_IN_USE",
			"another local platform uses the state directory %s; stop it, join it with --server, or choose another --state-dir", dir)
	}
	return f.Close, nil
}
