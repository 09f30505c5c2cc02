// Package pytools finds the Python tools of the machine: an interpreter for input.py and an installer for requirements.
package pytools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/confine"
)

// ReasonToolMissing stands in the errors of tools that are not on the machine.
const ReasonToolMissing = "TOOL_MISSING"

// probeTimeout is how long an interpreter may take to say its version.
const probeTimeout = 20 * time.Second

// leastMinor is the oldest version of Python 3 that reads input.py files (`str | None` in annotations).
const leastMinor = 10

// Python is an interpreter.
type Python struct {
	// Path is the executable itself, not a shim.
	Path string
	// Major and Minor are its version.
	Major, Minor int
	// Confined says whether the confined user can run it.
	Confined bool
}

// Version returns the version as in `3.11`.
func (p Python) Version() string { return fmt.Sprintf("%d.%d", p.Major, p.Minor) }

// Finder finds interpreters and remembers what it learnt about them.
type Finder struct {
	confiner *confine.Confiner
	explicit string

	mu     sync.Mutex
	probed map[string]*Python
}

// NewFinder returns a finder. An explicit path is the only interpreter that is considered; empty means to search.
func NewFinder(confiner *confine.Confiner, explicit string) *Finder {
	return &Finder{confiner: confiner, explicit: explicit, probed: map[string]*Python{}}
}

// ForInput returns an interpreter that can run input.py: Python 3.10 or newer, one that the confined user can run
// before others, then in the order of the search path.
func (f *Finder) ForInput(ctx context.Context) (Python, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var (
		fallback *Python
		seen     []string
	)
	for _, candidate := range f.candidates() {
		python, err := f.look(ctx, candidate)
		if err != nil {
			return Python{}, err
		}
		if python == nil {
			continue
		}
		seen = append(seen, python.Path+" ("+python.Version()+")")
		if python.Major != 3 || python.Minor < leastMinor {
			continue
		}
		if python.Confined {
			return *python, nil
		}
		if fallback == nil {
			fallback = python
		}
	}
	if fallback != nil {
		return *fallback, nil
	}
	if seen == nil {
		seen = []string{"none"}
	}
	return Python{}, errs.FailedPrecondition(ReasonToolMissing,
		"input.py needs Python 3.%d or newer on the builder's machine; found: %s; install one (for example `uv python install`), put it on PATH, or set python in the builder's configuration",
		leastMinor, strings.Join(seen, ", ")).With("tool", "python")
}

// ForInstall returns the interpreter that an installer should use: one of the wanted version (such as 3.11) before
// others. The second result is false when there is no interpreter at all.
func (f *Finder) ForInstall(ctx context.Context, version string) (Python, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	candidates := f.candidates()
	// Asking every interpreter takes long, so those are asked that say the version in their path.
	for _, candidate := range candidates {
		if !strings.Contains(candidate, "python"+version) && !strings.Contains(candidate, version+".") {
			continue
		}
		if python, err := f.look(ctx, candidate); err == nil && python != nil && python.Version() == version {
			return *python, true
		}
	}
	for _, candidate := range candidates {
		if python, err := f.look(ctx, candidate); err == nil && python != nil && python.Major == 3 && python.Minor >= 9 {
			return *python, true
		}
	}
	return Python{}, false
}

// look returns what an executable is; nil if it is no interpreter.
func (f *Finder) look(ctx context.Context, candidate string) (*Python, error) {
	if python, ok := f.probed[candidate]; ok {
		return python, nil
	}
	python, err := f.probe(ctx, candidate)
	if cause := context.Cause(ctx); cause != nil {
		return nil, fmt.Errorf("look for Python: %w", cause)
	}
	if err != nil {
		f.probed[candidate] = nil
		return nil, nil
	}
	f.probed[candidate] = &python
	return &python, nil
}

// candidates are executables that may be interpreters, in order of preference.
func (f *Finder) candidates() []string {
	if f.explicit != "" {
		return []string{f.explicit}
	}
	names := []string{"python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.14", "python3.9"}
	if runtime.GOOS == "windows" {
		names = []string{"python.exe", "python3.exe"}
	}
	var candidates []string
	for _, name := range names {
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			if filepath.Base(dir) != "shims" {
				candidates = append(candidates, filepath.Join(dir, name))
			}
		}
	}
	return slices.DeleteFunc(append(candidates, installed()...), func(candidate string) bool {
		info, err := os.Stat(candidate)
		return err != nil || info.IsDir()
	})
}

// installed lists interpreters that version managers keep outside of the search path.
func installed() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	pyenv := os.Getenv("PYENV_ROOT")
	if pyenv == "" {
		pyenv = filepath.Join(home, ".pyenv")
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		data = filepath.Join(home, ".local", "share")
	}
	var found []string
	for _, pattern := range []string{
		filepath.Join(pyenv, "versions", "*", "bin", "python3"),
		filepath.Join(data, "uv", "python", "*", "bin", "python3"),
	} {
		matches, err := filepath.Glob(pattern)
		if err == nil {
			slices.Reverse(matches)
			found = append(found, matches...)
		}
	}
	return found
}

// probe asks an interpreter for its version, as the confined user if that works.
func (f *Finder) probe(ctx context.Context, candidate string) (python Python, err error) {
	dir, remove, err := f.confiner.WorkDir("python")
	if err != nil {
		return Python{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	const program = "import json,sys; print(json.dumps([sys.executable, sys.version_info[0], sys.version_info[1]]))"
	for _, privileged := range []bool{false, true} {
		if privileged && !f.confiner.Unprivileged() {
			break
		}
		var printed string
		printed, err = f.confiner.Run(ctx, confine.Program{
			Args: []string{candidate, "-I", "-c", program}, Dir: dir, Env: confine.Environment(dir), Timeout: probeTimeout, Privileged: privileged,
		})
		if err != nil {
			continue
		}
		var answer [3]any
		lines := strings.Split(strings.TrimSpace(printed), "\n")
		if err = json.Unmarshal([]byte(lines[len(lines)-1]), &answer); err != nil {
			return Python{}, fmt.Errorf("read version of %s: %w", candidate, err)
		}
		executable, pathOK := answer[0].(string)
		major, majorOK := answer[1].(float64)
		minor, minorOK := answer[2].(float64)
		if !pathOK || !majorOK || !minorOK {
			return Python{}, fmt.Errorf("%s answers no version", candidate)
		}
		return Python{Path: executable, Major: int(major), Minor: int(minor), Confined: !privileged}, nil
	}
	return Python{}, err
}

// lookPath is exec.LookPath without results relative to the working directory.
func lookPath(name string) (string, bool) {
	found, err := exec.LookPath(name)
	return found, err == nil && filepath.IsAbs(found)
}
