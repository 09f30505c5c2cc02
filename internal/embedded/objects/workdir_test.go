package objects

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestWorkingDirectoryStays(t *testing.T) {
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for range 50 { // on whichever threads
		if err := keepWorkingDirectory(func() error { return os.Chdir(elsewhere) }); err != nil {
			t.Fatal(err)
		}
	}
	for name, keep := range map[string]func(func() error) error{"keep": keepWorkingDirectory, "restore": restoreWorkingDirectory} {
		inside := ""
		err := keep(func() error {
			if err := os.Chdir(elsewhere); err != nil {
				return err
			}
			if name == "keep" && runtime.GOOS == "linux" {
				// Other threads are where they were.
				if seen, err := readElsewhere(); err == nil && seen != before {
					t.Errorf("%s: another thread is in %s", name, seen)
				}
			}
			if err := os.WriteFile("relative", nil, 0o600); err != nil {
				return err
			}
			inside = elsewhere
			return nil
		})
		if err != nil || inside == "" {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(elsewhere, "relative")); err != nil {
			t.Errorf("%s: the call did not work where it went: %v", name, err)
		}
		if now, err := os.Readlink("/proc/self/cwd"); err == nil && now != before {
			t.Errorf("%s: the process is in %s, was in %s", name, now, before)
		}
	}
}

// readElsewhere asks from another goroutine, which runs on another thread as this one's is locked.
func readElsewhere() (string, error) {
	type answer struct {
		dir string
		err error
	}
	c := make(chan answer)
	go func() {
		dir, err := os.Readlink("/proc/thread-self/cwd")
		c <- answer{dir, err}
	}()
	a := <-c
	return a.dir, a.err
}
