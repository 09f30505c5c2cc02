package stand

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the programs of the suite, built from this checkout.
type Binaries struct{ dir string }

// Build builds all programs into a directory of the checkout's cache, where the next run finds what has not changed. A
// directory in the environment variable SEBS_E2E_BINARIES takes the place of programs built here.
func Build(checkout string) (*Binaries, error) {
	if built := os.Getenv("SEBS_E2E_BINARIES"); built != "" {
		return &Binaries{dir: built}, nil
	}
	dir := filepath.Join(checkout, ".cache", "e2e")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	for _, part := range []struct{ module, packages string }{{checkout, "./cmd/..."}, {filepath.Join(checkout, "test", "e2e"), "./cmd/..."}} {
		cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), part.packages)
		cmd.Dir = part.module
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the programs of %s: %w\n%s", part.module, err, out)
		}
	}
	return &Binaries{dir: dir}, nil
}

// Path is the file of a program such as sebs-invoker.
func (b *Binaries) Path(name string) string { return filepath.Join(b.dir, name) }
