package process

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/jdk"
)

// Interpreter is a language runtime found on this machine.
type Interpreter struct {
	// Family is "python", "node" or "java".
	Family string
	// Path is the executable itself, never a shim or a link to one.
	Path string
	// Version is complete, for example 3.12.1.
	Version string
	// Roots are the directories that the interpreter reads its own files from.
	Roots []string
}

// oldest are the first versions that the suite's bootstraps run on.
var oldest = map[string]string{"python": "3.9", "node": "18", "java": "11"}

// Finder looks for interpreters and remembers what it found, also in a file: asking an interpreter for its version takes as
// long as starting it.
type Finder struct {
	environ func(string) string
	home    string
	memory  string // path of the file; empty for none

	mu      sync.Mutex
	probed  map[string]probed // by candidate path
	changed bool
}

// probed is what is known of a file as long as it does not change.
type probed struct {
	Size        int64        `json:"size"`
	Modified    time.Time    `json:"modified"`
	Interpreter *Interpreter `json:"interpreter,omitempty"` // nil for what is no interpreter
}

// NewFinder looks in the directories of the environment's PATH, in the usual system directories and where pyenv, uv, nvm
// and fnm keep their versions below home. memory is a file that keeps the answers; empty for none.
func NewFinder(environ func(string) string, home, memory string) *Finder {
	f := &Finder{environ: environ, home: home, memory: memory, probed: map[string]probed{}}
	if raw, err := os.ReadFile(memory); err == nil && json.Unmarshal(raw, &f.probed) != nil {
		f.probed = map[string]probed{} // damaged: everything is asked again
	}
	return f
}

// Find returns the interpreter of the family ("python", "node", "java") for a version such as 3.12 or 20: the first one in the
// search order whose version begins with it. An empty version takes the newest.
func (f *Finder) Find(ctx context.Context, family, version string) (Interpreter, error) {
	if version == "" {
		all := f.List(ctx, family)
		if len(all) > 0 {
			return all[0], nil
		}
	}
	defer f.remember()
	for _, i := range f.installations(family) {
		if matches(i.Version, version) {
			return *i, nil
		}
	}
	for _, path := range f.candidates(family, version) {
		if i := f.probe(ctx, family, path); i != nil && matches(i.Version, version) {
			return *i, nil
		}
	}
	found := []string{}
	for _, i := range f.List(ctx, family) {
		found = append(found, i.Version+" ("+i.Path+")")
	}
	have := "none was found"
	if len(found) > 0 {
		have = "found are " + strings.Join(found, ", ")
	}
	return Interpreter{}, errs.FailedPrecondition("INTERPRETER_NOT_FOUND",
		"no %s %s on this machine for a process sandbox; %s; install it, choose another version, or use docker sandboxes", family, version, have).
		With("family", family).With("version", version)
}

// List finds all interpreters of a family, newest first, one per version.
func (f *Finder) List(ctx context.Context, family string) []Interpreter {
	defer f.remember()
	candidates := f.candidates(family, "")
	found := make([]*Interpreter, len(candidates))
	var group errgroup.Group
	group.SetLimit(4)
	for n, path := range candidates {
		group.Go(func() error {
			found[n] = f.probe(ctx, family, path)
			return nil
		})
	}
	_ = group.Wait() // probes do not fail: what does not answer is no interpreter
	var out []Interpreter
	for _, i := range append(found, f.installations(family)...) {
		if i == nil || slices.ContainsFunc(out, func(o Interpreter) bool { return o.Version == i.Version }) {
			continue
		}
		out = append(out, *i)
	}
	sort.SliceStable(out, func(a, b int) bool { return compareVersions(out[a].Version, out[b].Version) > 0 })
	return out
}

// installations lists those of a family that tell of themselves in a file, so that none has to be asked.
func (f *Finder) installations(family string) []*Interpreter {
	if family != "java" {
		return nil
	}
	var out []*Interpreter
	for _, i := range jdk.Find(f.environ, f.home) {
		if compareVersions(i.Version, oldest[family]) >= 0 {
			out = append(out, &Interpreter{Family: family, Path: i.Java(), Version: i.Version, Roots: []string{i.Home}})
		}
	}
	return out
}

// candidates lists files that may be the interpreter, best first.
func (f *Finder) candidates(family, version string) []string {
	suffix := ""
	if runtime.GOOS == "windows" {
		suffix = ".exe"
	}
	var names, globs []string
	switch family {
	case "python":
		if version != "" {
			names = append(names, "python"+version)
		}
		names = append(names, "python3", "python")
		if version == "" {
			names = append(names, "python3.[0-9]", "python3.[0-9][0-9]")
		}
		pyenv := f.environ("PYENV_ROOT")
		if pyenv == "" {
			pyenv = filepath.Join(f.home, ".pyenv")
		}
		uv := f.environ("UV_PYTHON_INSTALL_DIR")
		if uv == "" {
			uv = filepath.Join(f.home, ".local", "share", "uv", "python")
		}
		globs = []string{
			filepath.Join(pyenv, "versions", globVersion(version), "bin", "python3"),
			filepath.Join(uv, "cpython-"+globVersion(version)+"*", "bin", "python3"),
			filepath.Join("/opt/homebrew/opt", "python@"+globVersion(version), "bin", "python3*"),
			filepath.Join("/usr/local/opt", "python@"+globVersion(version), "bin", "python3*"),
		}
	case "node":
		names = []string{"node"}
		nvm := f.environ("NVM_DIR")
		if nvm == "" {
			nvm = filepath.Join(f.home, ".nvm")
		}
		globs = []string{
			filepath.Join(nvm, "versions", "node", "v"+globVersion(version), "bin", "node"),
			filepath.Join(f.home, ".local", "share", "fnm", "node-versions", "v"+globVersion(version), "installation", "bin", "node"),
			filepath.Join("/usr/local/n/versions/node", globVersion(version), "bin", "node"),
		}
	default:
		return nil
	}
	var out []string
	var seen []os.FileInfo
	add := func(path string) {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() || slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, info) }) {
			return
		}
		seen = append(seen, info)
		out = append(out, path)
	}
	dirs := append(filepath.SplitList(f.environ("PATH")), "/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
	for _, name := range names {
		for _, dir := range dirs {
			// Shims are shell scripts that choose a version by the current directory: slow and not what was asked for.
			if dir == "" || filepath.Base(dir) == "shims" {
				continue
			}
			for _, path := range expand(filepath.Join(dir, name+suffix)) {
				add(path)
			}
		}
	}
	for _, pattern := range globs {
		found := expand(pattern)
		sort.Slice(found, func(a, b int) bool { return compareVersions(found[a], found[b]) > 0 })
		for _, path := range found {
			add(path)
		}
	}
	return out
}

func expand(pattern string) []string {
	if !strings.ContainsAny(pattern, "*[") {
		return []string{pattern}
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	return found
}

func globVersion(version string) string { return version + "*" }

const (
	// A virtual environment would lend its packages to functions, so the interpreter that it was made from is taken.
	pythonProbe = `import sys, json; print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "path": getattr(sys, "_base_executable", None) or sys.executable, "roots": [sys.prefix, sys.base_prefix]}))`
	nodeProbe   = `JSON.stringify({version: process.versions.node, path: process.execPath, roots: []})`
)

// probe asks a candidate what it is; nil when it is no interpreter of the family that the suite can use.
func (f *Finder) probe(ctx context.Context, family, path string) *Interpreter {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	f.mu.Lock()
	known, ok := f.probed[path]
	f.mu.Unlock()
	if !ok || known.Size != info.Size() || !known.Modified.Equal(info.ModTime()) {
		i, err := ask(ctx, family, path)
		if err != nil && ctx.Err() != nil {
			return nil // not the candidate's fault
		}
		known = probed{Size: info.Size(), Modified: info.ModTime(), Interpreter: i}
		f.mu.Lock()
		f.probed[path] = known
		f.changed = true
		f.mu.Unlock()
	}
	i := known.Interpreter
	if i == nil || i.Family != family || compareVersions(i.Version, oldest[family]) < 0 {
		return nil
	}
	if _, err := os.Stat(i.Path); err != nil {
		return nil
	}
	return i
}

// remember writes down new answers. Losing them costs a moment at the next start, nothing else.
func (f *Finder) remember() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.changed || f.memory == "" {
		return
	}
	f.changed = false
	raw, err := json.MarshalIndent(f.probed, "", "  ")
	if err != nil || os.MkdirAll(filepath.Dir(f.memory), 0o700) != nil {
		return
	}
	temporary := f.memory + ".new"
	if os.WriteFile(temporary, raw, 0o600) == nil {
		_ = os.Rename(temporary, f.memory)
	}
}

func ask(ctx context.Context, family, path string) (*Interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	args := []string{"-I", "-c", pythonProbe}
	if family == "node" {
		args = []string{"-p", nodeProbe}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = time.Second
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	var answer struct {
		Version string   `json:"version"`
		Path    string   `json:"path"`
		Roots   []string `json:"roots"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Version == "" || answer.Path == "" {
		return nil, fmt.Errorf("ask %s for its version: unexpected answer", path)
	}
	target, err := filepath.EvalSymlinks(answer.Path)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", answer.Path, err)
	}
	i := &Interpreter{Family: family, Path: answer.Path, Version: answer.Version}
	for _, root := range append(answer.Roots, filepath.Dir(filepath.Dir(answer.Path)), filepath.Dir(filepath.Dir(target))) {
		if !slices.Contains(i.Roots, root) {
			i.Roots = append(i.Roots, root)
		}
	}
	return i, nil
}

// matches tells whether a complete version such as 3.12.1 is one of the wanted version 3.12 (not of 3.1).
func matches(version, want string) bool {
	return want == "" || version == want || strings.HasPrefix(version, want+".")
}

// compareVersions orders by the numbers in both texts.
func compareVersions(a, b string) int {
	return slices.Compare(numbers(a), numbers(b))
}

func numbers(s string) []int {
	var out []int
	n, in := 0, false
	for _, c := range s + " " {
		if c >= '0' && c <= '9' && n < 1<<30 {
			n, in = n*10+int(c-'0'), true
		} else if in {
			out = append(out, n)
			n, in = 0, false
		}
	}
	return out
}
