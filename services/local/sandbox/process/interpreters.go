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

	"github.com/sebs-suite/sebs/internal/errs"
)

// Interpreter is a language runtime found on this machine.
type Interpreter struct {
	// Family is "python" or "node".
	Family string
	// Path is the executable itself, never a shim or a link to one.
	Path string
	// Version is complete, for example 3.12.1.
	Version string
	// Roots are the directories that the interpreter reads its own files from.
	Roots []string
}

// Finder looks for interpreters and remembers what it found.
type Finder struct {
	environ func(string) string
	home    string
	mu      sync.Mutex
	probed  map[string]*Interpreter // by candidate path; nil for what is no interpreter
}

// NewFinder looks in the directories of the environment's PATH, in the usual system directories and where pyenv, uv, nvm
// and fnm keep their versions below home.
func NewFinder(environ func(string) string, home string) *Finder {
	return &Finder{environ: environ, home: home, probed: map[string]*Interpreter{}}
}

// Find returns the interpreter of the family ("python", "node") for a version such as 3.12 or 20: the first one in the
// search order whose version begins with it. An empty version takes the newest.
func (f *Finder) Find(ctx context.Context, family, version string) (Interpreter, error) {
	candidates := f.candidates(family, version)
	if version == "" {
		all := f.List(ctx, family)
		if len(all) > 0 {
			return all[0], nil
		}
	}
	for _, path := range candidates {
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
	var out []Interpreter
	for _, path := range f.candidates(family, "") {
		i := f.probe(ctx, family, path)
		if i == nil || slices.ContainsFunc(out, func(o Interpreter) bool { return o.Version == i.Version }) {
			continue
		}
		out = append(out, *i)
	}
	sort.SliceStable(out, func(a, b int) bool { return compareVersions(out[a].Version, out[b].Version) > 0 })
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
	add := func(path string) {
		if info, err := os.Stat(path); err == nil && !info.IsDir() && !slices.Contains(out, path) {
			out = append(out, path)
		}
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
	pythonProbe = `import sys, json; print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "path": sys.executable, "roots": [sys.prefix, sys.base_prefix]}))`
	nodeProbe   = `JSON.stringify({version: process.versions.node, path: process.execPath, roots: []})`
)

// probe asks a candidate what it is; nil when it is no interpreter of the family.
func (f *Finder) probe(ctx context.Context, family, path string) *Interpreter {
	f.mu.Lock()
	known, ok := f.probed[path]
	f.mu.Unlock()
	if ok {
		if known == nil {
			return nil
		}
		if _, err := os.Stat(known.Path); err == nil {
			return known
		}
	}
	i, err := ask(ctx, family, path)
	if err != nil && ctx.Err() != nil {
		return nil // not the candidate's fault
	}
	f.mu.Lock()
	f.probed[path] = i
	f.mu.Unlock()
	return i
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
