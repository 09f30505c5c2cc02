package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// binaries are the programs under test, built once.
var binaries *stand.Binaries

// testLimit bounds what one test waits for.
const testLimit = 55 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	checkout, err := filepath.Abs(filepath.Join("..", ".."))
	if err == nil {
		binaries, err = stand.Build(checkout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(cancel)
	return ctx
}
