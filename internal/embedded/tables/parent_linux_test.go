package tables_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/embedded/tables"
)

// TestDiesWithItsParent kills a process that runs a store, which must not stay behind. The process is this test binary,
// told by a variable to be the parent.
func TestDiesWithItsParent(t *testing.T) {
	const variable = "SEBS_TEST_TABLE_PARENT"
	if dir := os.Getenv(variable); dir != "" {
		store, err := tables.Start(t.Context(), tables.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("ENDPOINT " + store.Endpoint() + "\n")
		<-t.Context().Done() // killed before
		return
	}
	needsNPM(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithItsParent$")
	cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	endpoint := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "ENDPOINT "); ok {
			endpoint = rest
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if endpoint == "" {
		t.Fatal("the parent did not start a store")
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", endpoint, time.Second)
		if err != nil {
			return
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store still listens on %s", endpoint)
		}
		<-time.After(20 * time.Millisecond)
	}
}
