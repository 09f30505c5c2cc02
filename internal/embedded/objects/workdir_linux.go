package objects

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// keepWorkingDirectory calls a function that changes the working directory, and the process keeps its own: the call
// runs on a thread that has a working directory to itself and ends afterwards. Where the system does not allow that,
// the process's directory changes for the time of the call.
func keepWorkingDirectory(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and its directory is what others see of the process. While it is locked and
			// waits here, another goroutine runs on another thread.
			err := keepWorkingDirectory(f)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			runtime.UnlockOSThread()
			done <- restoreWorkingDirectory(f)
			return
		}
		// Not unlocked: the thread ends with the goroutine, and nothing else runs in its directory.
		done <- f()
	}()
	return <-done
}
