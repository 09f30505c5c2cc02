// Command testsummary reads the output of `go test -json` and tells what a person wants to know: failures with their
// output, packages that did not build, what was skipped and why, and one closing line with the counts.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`: cmd/test2json and, for build output, cmd/go/internal/load.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type summary struct {
	out                     io.Writer
	output                  map[string][]string
	passed, failed, skipped int
	skips                   []string
	failedPackages          []string
}

func main() {
	s := &summary{out: os.Stdout, output: map[string][]string{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	s.close()
	if s.failed > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

func (s *summary) read(r io.Reader) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 1<<20), 64<<20)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, scanner.Text())
			continue
		}
		s.take(e)
	}
	return scanner.Err()
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		s.output[e.ImportPath] = append(s.output[e.ImportPath], e.Output)
	case "pass":
		if e.Test != "" {
			s.passed++
		} else {
			fmt.Fprintf(s.out, "ok    %6.1fs  %s\n", e.Elapsed, e.Package)
		}
		delete(s.output, key)
	case "skip":
		if e.Test != "" {
			s.skipped++
			s.skips = append(s.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(s.output[key])))
		}
		delete(s.output, key)
	case "fail":
		if e.Test == "" && e.FailedBuild == "" && hasFailedTest(s.failedPackages, e.Package) {
			return
		}
		s.failed++
		s.failedPackages = append(s.failedPackages, e.Package)
		name := key
		if e.FailedBuild != "" {
			name = e.FailedBuild
		}
		fmt.Fprintf(s.out, "FAIL  %6.1fs  %s\n%s", e.Elapsed, name, strings.Join(s.output[name], ""))
	}
}

func hasFailedTest(failed []string, pkg string) bool { return slices.Contains(failed, pkg) }

// reason takes the text of t.Skip out of a test's output: the line after the file and line number.
func reason(lines []string) string {
	for _, line := range lines {
		text := strings.TrimSpace(line)
		if strings.HasPrefix(text, "===") || strings.HasPrefix(text, "---") || text == "" {
			continue
		}
		if _, after, ok := strings.Cut(text, ".go:"); ok {
			if _, why, ok := strings.Cut(after, ": "); ok {
				return why
			}
		}
		return text
	}
	return "no reason given"
}

func (s *summary) close() {
	if len(s.skips) > 0 {
		slices.Sort(s.skips)
		fmt.Fprintln(s.out, "\nskipped:")
		for _, line := range s.skips {
			fmt.Fprintln(s.out, "  "+line)
		}
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}
