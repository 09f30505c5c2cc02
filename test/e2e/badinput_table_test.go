package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// update writes docs/faults.md anew instead of comparing it.
var update = flag.Bool("update", false, "write docs/faults.md from what the commands say")

// outcome is what came of one fault on one kind of sandbox.
type outcome struct {
	item, kind string
	exit       int
	message    string
}

// faultTable collects what the two kinds of sandbox say at the same time.
type faultTable struct {
	mu   sync.Mutex
	rows map[string]outcome
}

func newFaultTable() *faultTable { return &faultTable{rows: map[string]outcome{}} }

func (f *faultTable) add(o outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[o.item+"/"+o.kind] = o
}

const faultsHead = `# Bad input and faults

What a command says, and how it ends, for everything that is known to go wrong in what users give it. [The exit
codes](cli.md#exit-codes) are the same everywhere. After each of these no operation, busy sandbox, process, container or
directory is left; a run keeps the results of its other invocations. In the messages, F stands for the name of the function.

This page is written by ` + "`go test -run TestBadInput . -update`" + ` in test/e2e, and compared by the same test.

| fault | sandbox | exit code | message |
|---|---|---|---|
`

// markdown is the page. Kinds that say the same share a row.
func (f *faultTable) markdown() []byte {
	var page bytes.Buffer
	page.WriteString(faultsHead)
	for _, item := range append(faults(), fault{name: ownSuite}) {
		process, onProcess := f.rows[item.name+"/process"]
		docker, onDocker := f.rows[item.name+"/docker"]
		switch {
		case onProcess && onDocker && process.exit == docker.exit && process.message == docker.message:
			row(&page, process, "both")
			continue
		case onProcess:
			row(&page, process, "process")
		}
		if onDocker {
			row(&page, docker, "docker")
		}
	}
	return page.Bytes()
}

func row(page *bytes.Buffer, o outcome, kind string) {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", "<br>").Replace(o.message)
	fmt.Fprintf(page, "| %s | %s | %d | %s |\n", o.item, kind, o.exit, cell)
}

// compare looks whether the page tells of the same faults and exit codes. Messages differ with what a machine has.
func (f *faultTable) compare(t *testing.T) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "faults.md")
	if *update {
		if err := os.WriteFile(path, f.markdown(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.SplitN(line, " | ", 4)
		if len(cells) < 4 {
			continue
		}
		kinds := []string{cells[1]}
		if cells[1] == "both" {
			kinds = []string{"process", "docker"}
		}
		for _, kind := range kinds {
			told[strings.TrimPrefix(cells[0], "| ")+"/"+kind+"/"+cells[2]] = true
		}
	}
	for _, o := range f.rows {
		if !told[fmt.Sprintf("%s/%s/%d", o.item, o.kind, o.exit)] {
			t.Errorf("docs/faults.md does not tell that %q ends with %d on %s sandboxes; write it anew with -update", o.item, o.exit, o.kind)
		}
	}
}

// tidying turns what differs from run to run into what stays.
var tidying = []struct {
	pattern *regexp.Regexp
	to      string
}{
	{regexp.MustCompile(`sebs-local-[0-9a-f]{8}-\d{3}\.[a-z-]+?-(?:python|nodejs)-[\d.]+-(?:x64|arm64)`), "F"},
	{regexp.MustCompile(`operations/[A-Za-z0-9-]+`), "operations/…"},
	{regexp.MustCompile(`runs/[A-Za-z0-9-]+`), "runs/…"},
	{regexp.MustCompile(`at least \d+ KB`), "at least … KB"},
	{regexp.MustCompile(`/[^ ]*/config-\d+\.json`), "config.json"},
	{regexp.MustCompile(`it can run: [^;]*;`), "it can run: …;"},
	{regexp.MustCompile(`(?m)^(?:[^\n]* · local · |FUNCTION |F  )[^\n]*\n?`), ""},
	{regexp.MustCompile(`(?m)^ *[a-z]+  +[^\n]*\n?`), ""},
	{regexp.MustCompile(`(?m)^sebs: (?:joined|no running suite;) .*\n`), ""},
	{regexp.MustCompile(`(?m)^sebs: `), ""},
}

// tidy is the message of a command as it stands in the table.
func (b *bench) tidy(said string) string {
	said = strings.ReplaceAll(said, b.benchmarks, "DIR")
	for _, step := range tidying {
		said = step.pattern.ReplaceAllString(said, step.to)
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
