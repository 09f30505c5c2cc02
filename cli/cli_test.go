package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/cli/exitcode"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// result is what a command line left behind.
type result struct {
	code           int
	stdout, stderr string
}

// runLine runs a command line that must not need a suite: starting one fails the test.
func runLine(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), &State{
		Args: append(args, "--state-dir", t.TempDir()), Getenv: func(name string) string { return env[name] },
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		StartSuite: func(context.Context, SuiteOptions) (Suite, error) { return nil, errNoSuite },
	})
	return result{code, stdout.String(), stderr.String()}
}

var errNoSuite = errors.New("this test has no suite")

func TestBadCommandLinesAreRefusedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		want string
	}{
		"unknown size":          {[]string{"benchmark", "invoke", "110.dynamic-html", "huge"}, `SIZE: "huge" is unknown; use test, small or large`},
		"unknown trigger":       {[]string{"benchmark", "invoke", "x", "test", "--trigger", "mail"}, `--trigger: "mail" is unknown; use http, library or storage`},
		"no repetitions":        {[]string{"benchmark", "invoke", "x", "test", "--repetitions", "0"}, "--repetitions: 0 is not a number of invocations"},
		"missing argument":      {[]string{"benchmark", "invoke", "x"}, "accepts 2 arg(s), received 1"},
		"unknown flag":          {[]string{"benchmark", "invoke", "x", "test", "--wrong"}, "unknown flag: --wrong"},
		"unknown command":       {[]string{"benchmark", "invoek"}, `did you mean "invoke"?`},
		"both forms of a flag":  {[]string{"benchmark", "invoke", "x", "test", "--validate", "--no-validate"}, "--validate and --no-validate exclude each other"},
		"unknown form":          {[]string{"run", "list", "--output", "xml"}, `--output: "xml" is no form of output; use table, json or yaml`},
		"unknown progress":      {[]string{"run", "list", "--progress", "loud"}, `--progress: "loud" is no way to show progress`},
		"server without scheme": {[]string{"run", "list", "--server", "localhost"}, "want a URL such as http://127.0.0.1:8080"},
		"plain text to others":  {[]string{"run", "list", "--server", "http://192.0.2.1:80"}, "without TLS only this machine is reached; use https"},
		"missing configuration": {[]string{"benchmark", "invoke", "x", "test", "--config", "/does/not/exist.json"}, "--config: open /does/not/exist.json"},
		"type of image":         {[]string{"docker", "build", "--image-type", "manage"}, "--image-type: there are no images of type manage"},
		"image of no function":  {[]string{"docker", "build", "--image-type", "function"}, "--image-type function needs the BENCHMARK"},
		"docker's platform":     {[]string{"docker", "push", "--platform", "linux/riscv64"}, "--platform: \"linux/riscv64\" is unknown; use linux/amd64 or linux/arm64"},
		"two platforms":         {[]string{"docker", "build", "--platform", "linux/amd64", "--architecture", "x64"}, "--platform says the same as --architecture and excludes it"},
		"no images at once":     {[]string{"docker", "build", "--parallel", "0"}, "--parallel: 0 is not a number of images"},
		"nothing may be spent":  {[]string{"benchmark", "invoke", "x", "test", "--max-cost", "0"}, "--max-cost: 0 is no amount"},
		"too many sandboxes":    {[]string{"benchmark", "invoke", "x", "test", "--max-concurrency", "4294967296"}, "--max-concurrency: 4294967296 is not a number of sandboxes"},
		"no functions":          {[]string{"local", "start", "x", "test", "out.json", "--deployments", "0"}, "--deployments: 0 is not a number of functions"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runLine(t, nil, c.args...)
			if got.code != exitcode.Usage || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit code %d, stderr %q; want %d and %q", got.code, got.stderr, exitcode.Usage, c.want)
			}
			if got.stdout != "" {
				t.Errorf("stdout %q; errors belong on stderr", got.stdout)
			}
		})
	}
}

func TestMalformedConfigurationNamesTheKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"experiments": {"update_code": "yes"}, "deployment": {"name": "local"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runLine(t, nil, "benchmark", "invoke", "x", "test", "--config", file)
	if got.code != exitcode.Usage || !strings.Contains(got.stderr, "experiments.update_code") {
		t.Errorf("exit code %d, stderr %q; want the key path", got.code, got.stderr)
	}
}

func TestStatisticsOfASeBSFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "internal", "sebsformat", "testdata", "experiments-503-local.json")
	got := runLine(t, nil, "benchmark", "statistics", file, "--output", "json")
	if got.code != exitcode.OK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var groups []struct {
		Function string
		Series   map[string]struct {
			Count  int64
			Median float64
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &groups); err != nil {
		t.Fatal(err)
	}
	if len(groups) != 1 || groups[0].Function != "sebd-503.graph-bfs-python-3.11" {
		t.Fatalf("groups %+v; want one of sebd-503.graph-bfs-python-3.11", groups)
	}
	for _, name := range []string{"client_exec", "function_exec", "compute_time"} {
		if groups[0].Series[name].Count == 0 {
			t.Errorf("series %s is missing: %s", name, got.stdout)
		}
	}
}

func TestStatisticsOfWhatIsNoResultFile(t *testing.T) {
	t.Parallel()
	if got := runLine(t, nil, "benchmark", "statistics", filepath.Join(t.TempDir(), "none.json")); got.code != exitcode.NotFound {
		t.Errorf("a missing file: exit code %d, %q", got.code, got.stderr)
	}
	file := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(file, []byte(`{"_invocations": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runLine(t, nil, "benchmark", "statistics", file); got.code != exitcode.Usage {
		t.Errorf("half a file: exit code %d, %q", got.code, got.stderr)
	}
}

func TestSuiteThatDoesNotStart(t *testing.T) {
	t.Parallel()
	got := runLine(t, nil, "run", "list")
	if got.code != exitcode.Failed || !strings.Contains(got.stderr, errNoSuite.Error()) {
		t.Errorf("exit code %d, stderr %q; want the cause", got.code, got.stderr)
	}
}

func TestWipeKeepsWhatWouldHurt(t *testing.T) {
	t.Parallel()
	current, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/", current, filepath.Dir(current)} {
		if err := wipe(dir); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("wipe(%s) = %v; want a refusal", dir, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := wipe(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func TestEveryEnumNameIsUnique(t *testing.T) {
	t.Parallel()
	for name, value := range languageNames {
		if got := nameOf(value, languageNames); got != name {
			t.Errorf("nameOf(%s) = %q", name, got)
		}
	}
	if _, err := enumByName("--architecture", "X64", architectureNames); err != nil {
		t.Errorf("names are read in any case: %v", err)
	}
	if value, err := enumByName("--architecture", "", architectureNames); err != nil || value != typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		t.Errorf("an empty name is the default: %v, %v", value, err)
	}
}

// The commands and options of SeBS have to stay, each by the name that scripts use.
func TestEveryCommandOfSeBSThatIsHere(t *testing.T) {
	t.Parallel()
	common := []string{
		"config", "output-dir", "output-file", "cache", "verbose", "no-verbose", "preserve-out", "no-preserve-out", "language",
		"language-version", "language-variant", "update-code", "no-update-code", "update-storage", "no-update-storage", "deployment",
		"architecture", "system-variant", "resource-prefix",
	}
	cases := map[string][]string{
		"benchmark invoke": append([]string{
			"repetitions", "trigger", "memory", "timeout", "function-name", "image-tag-prefix", "storage-configuration", "validate", "no-validate",
		}, common...),
		"benchmark process":    common,
		"benchmark statistics": nil,
		"benchmark package":    append([]string{"function-name", "image-tag-prefix"}, common...),
		"benchmark regression": append([]string{
			"benchmark-name", "storage-configuration", "selected-architecture", "all-architectures", "filter-output", "no-filter-output",
		}, common...),
		"local start":       {"deployments", "storage-configuration", "measure-interval", "remove-containers", "no-remove-containers", "architecture", "config", "language"},
		"local stop":        nil,
		"resources list":    common,
		"resources remove":  append([]string{"wait", "no-wait", "dry-run", "no-dry-run"}, common...),
		"resources cleanup": append([]string{"dry-run", "resource-type"}, common...),
		// The names that only SeBS's documentation has.
		"resource clean":  {"dry-run"},
		"benchmark build": {"container-deployment"},
	}
	root := New(&State{Getenv: func(string) string { return "" }})
	for path, flags := range cases {
		cmd, rest, err := root.Find(strings.Fields(path))
		if err != nil || len(rest) > 0 {
			t.Errorf("command %q is missing: %v", path, err)
			continue
		}
		for _, flag := range flags {
			if cmd.Flags().Lookup(flag) == nil {
				t.Errorf("%s: option --%s is missing", path, flag)
			}
		}
	}
}
