package pytools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/confine"
)

// ReasonBuildFailed stands in the errors of installations that fail.
const ReasonBuildFailed = "BUILD_FAILED"

// maxLogBytes bounds what an error carries of an installer's output.
const maxLogBytes = 4 << 10

// Installer is a program that installs Python packages.
type Installer struct {
	// Name is uv or pip.
	Name string
	// Version is its version.
	Version string

	path string
}

// String returns name and version.
func (i Installer) String() string { return i.Name + " " + i.Version }

// Installers finds an installer and runs it.
type Installers struct {
	confiner *confine.Confiner
	finder   *Finder
	client   *http.Client
	stateDir string
	timeout  time.Duration
	log      *slog.Logger

	mu    sync.Mutex
	found *Installer
}

// NewInstallers returns the installers of this machine. A uv that has to be fetched goes below stateDir; the timeout
// bounds one installation.
func NewInstallers(confiner *confine.Confiner, finder *Finder, client *http.Client, stateDir string, timeout time.Duration, log *slog.Logger) *Installers {
	return &Installers{confiner: confiner, finder: finder, client: client, stateDir: stateDir, timeout: timeout, log: log}
}

// Find returns the installer that is used: uv on the search path, else a uv that is fetched from the Python index,
// else the pip of an interpreter.
func (t *Installers) Find(ctx context.Context) (Installer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found != nil {
		return *t.found, nil
	}
	installer, err := t.find(ctx)
	if err != nil {
		return Installer{}, err
	}
	t.log.InfoContext(ctx, "installer of Python packages chosen", "installer", installer.String())
	t.found = &installer
	return installer, nil
}

func (t *Installers) find(ctx context.Context) (Installer, error) {
	onPath := errors.New("it is not on PATH")
	if executable, ok := lookPath("uv"); ok {
		installer, err := t.uvAt(ctx, executable)
		if err == nil {
			return installer, nil
		}
		onPath = err
	}
	executable, fetched := fetchUV(ctx, t.client, indexURL(), filepath.Join(t.stateDir, "tools"))
	if fetched == nil {
		installer, err := t.uvAt(ctx, executable)
		if err == nil {
			return installer, nil
		}
		fetched = err
	}
	pip, err := t.pip(ctx)
	if err == nil {
		return pip, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return Installer{}, fmt.Errorf("look for an installer of Python packages: %w", cause)
	}
	return Installer{}, errs.FailedPrecondition(ReasonToolMissing,
		"nothing installs Python packages: uv (%v), uv %s from the Python index (%v), python3 -m pip (%v); install uv or pip on the builder's machine, or let it reach the index",
		onPath, uvVersion, fetched, err).With("tool", "uv")
}

func (t *Installers) pip(ctx context.Context) (Installer, error) {
	python, ok := t.finder.ForInstall(ctx, "")
	if !ok {
		return Installer{}, errors.New("there is no python3")
	}
	printed, err := t.confiner.Run(ctx, confine.Program{
		Args: []string{python.Path, "-m", "pip", "--version"}, Env: confine.InstallerEnvironment(), Timeout: probeTimeout, Privileged: true,
	})
	if err != nil {
		return Installer{}, err
	}
	fields := strings.Fields(printed)
	if len(fields) < 2 || fields[0] != "pip" {
		return Installer{}, errors.New("it does not say its version")
	}
	return Installer{Name: "pip", Version: fields[1], path: python.Path}, nil
}

// Target is what packages are installed for.
type Target struct {
	// Dir is the directory that takes the packages; it is made.
	Dir string
	// Version is the Python version, such as 3.11.
	Version string
	// Architecture is x64 or arm64; empty means this machine, of whatever kind.
	Architecture string
	// OldLibc asks for packages that run with glibc 2.26, the one of Amazon Linux 2.
	OldLibc bool
}

// libcs are the tags of C libraries, newest first, whose packages run where the target does. pip wants them all.
func (t Target) libcs() []string {
	if t.OldLibc {
		return []string{"manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014"}
	}
	return []string{"manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"}
}

// machines are the names that Linux wheels use for architectures.
var machines = map[string]string{"x64": "x86_64", "arm64": "aarch64"}

// hostArchitectures are SeBS's names for what Go calls GOARCH.
var hostArchitectures = map[string]string{"amd64": "x64", "arm64": "arm64"}

// HostArchitecture returns this machine's architecture in SeBS's words; empty if SeBS has none for it.
func HostArchitecture() string { return hostArchitectures[runtime.GOARCH] }

// foreign says whether packages for the target cannot be compiled here.
func (t Target) foreign() bool {
	return t.Architecture != "" && (runtime.GOOS != "linux" || t.Architecture != HostArchitecture())
}

// Install installs the packages of a requirements file and returns the end of the installer's log.
func (t *Installers) Install(ctx context.Context, requirements string, target Target) (log string, err error) {
	installer, err := t.Find(ctx)
	if err != nil {
		return "", err
	}
	python, hasPython := t.finder.ForInstall(ctx, target.Version)
	if err := os.MkdirAll(target.Dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory for packages: %w", err)
	}
	var arguments []string
	if installer.Name == "uv" {
		arguments = uvArguments(installer, requirements, target)
		if hasPython {
			arguments = append(arguments, "--python", python.Path)
		}
	} else {
		arguments = pipArguments(python, requirements, target)
	}
	log, err = t.confiner.Run(ctx, confine.Program{
		Args: arguments, Dir: filepath.Dir(requirements), Timeout: t.timeout, Privileged: true,
		Env: confine.InstallerEnvironment("UV_PYTHON_DOWNLOADS=never", "PYTHONDONTWRITEBYTECODE=1"),
	})
	return log, explainInstall(err, installer, log)
}

func uvArguments(installer Installer, requirements string, target Target) []string {
	arguments := []string{
		installer.path, "pip", "install", "--target", target.Dir, "--python-version", target.Version, "--requirement", requirements,
		"--no-progress", "--color", "never", "--link-mode", "copy", "--no-compile-bytecode",
	}
	if machine := machines[target.Architecture]; machine != "" {
		libc := "manylinux_2_28"
		if target.OldLibc {
			libc = "manylinux2014" // uv knows no newer one that is old enough
		}
		arguments = append(arguments, "--python-platform", machine+"-"+libc)
	}
	if target.foreign() {
		arguments = append(arguments, "--only-binary", ":all:")
	}
	return arguments
}

func pipArguments(python Python, requirements string, target Target) []string {
	arguments := []string{
		python.Path, "-m", "pip", "install", "--target", target.Dir, "--requirement", requirements,
		"--no-input", "--no-color", "--disable-pip-version-check", "--no-compile", "--progress-bar", "off", "--no-warn-script-location",
	}
	if python.Version() == target.Version && !target.foreign() && !target.OldLibc {
		return arguments
	}
	arguments = append(arguments, "--python-version", target.Version, "--implementation", "cp", "--only-binary", ":all:")
	if machine := machines[target.Architecture]; machine != "" {
		for _, libc := range target.libcs() {
			arguments = append(arguments, "--platform", libc+"_"+machine)
		}
	}
	return arguments
}

// missing recognises the message of an installer about a requirement that does not exist.
var missing = []*regexp.Regexp{
	regexp.MustCompile(`Because ([A-Za-z0-9._-]+) was not found in the package registry`),
	regexp.MustCompile(`No matching distribution found for ([^\s]+)`),
	regexp.MustCompile(`there is no version of ([A-Za-z0-9._-]+[=<>~!0-9.a-z]*)`),
}

// interpreterLine is what uv says of its choice before it begins; it is not what went wrong.
var interpreterLine = regexp.MustCompile(`(?m)^Using (?:CPython|PyPy|Python) .*\n`)

// explainInstall turns the failure of an installer into an error that names the requirement at fault, if there is one.
func explainInstall(err error, installer Installer, log string) error {
	var failure *confine.FailureError
	if err == nil || !errors.As(err, &failure) {
		return err
	}
	tail := LogTail(interpreterLine.ReplaceAllString(log, ""))
	if failure.TimedOut {
		return errs.DeadlineExceeded(ReasonBuildFailed, "%s did not install the requirements within %s; raise install_timeout in the builder's configuration", installer, failure.Timeout).With("log", tail)
	}
	for _, pattern := range missing {
		if match := pattern.FindStringSubmatch(log); match != nil {
			return errs.InvalidArgument(ReasonBuildFailed, "requirement %q does not exist in the package index; correct the benchmark's requirements file\n%s", match[1], tail).
				With("requirement", match[1]).With("log", tail)
		}
	}
	return errs.InvalidArgument(ReasonBuildFailed, "%s could not install the requirements; correct the benchmark's requirements file or see the log\n%s", installer, tail).With("log", tail)
}

// LogTail returns the end of a log, short enough for an error.
func LogTail(log string) string {
	log = strings.TrimSpace(log)
	if len(log) <= maxLogBytes {
		return log
	}
	log = log[len(log)-maxLogBytes:]
	if _, rest, ok := strings.Cut(log, "\n"); ok {
		log = rest
	}
	return "…\n" + strings.ToValidUTF8(log, "")
}

// Sites provides directories with single packages for interpreters of this machine, installed once and kept.
type Sites struct {
	installers *Installers
	dir        string
	mu         sync.Mutex
}

// NewSites returns sites that are kept below dir.
func NewSites(installers *Installers, dir string) *Sites {
	return &Sites{installers: installers, dir: dir}
}

// Directory returns a directory that holds the package of a requirement such as `pillow==12.0.0`.
func (s *Sites) Directory(ctx context.Context, python Python, requirement string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256([]byte(python.Version() + " " + requirement))
	dir := filepath.Join(s.dir, hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory for packages: %w", err)
	}
	temporary, err := os.MkdirTemp(s.dir, ".new-*")
	if err != nil {
		return "", fmt.Errorf("make directory for packages: %w", err)
	}
	list := filepath.Join(temporary, "requirements.txt")
	err = os.WriteFile(list, []byte(requirement+"\n"), 0o644)
	if err == nil {
		_, err = s.installers.Install(ctx, list, Target{Dir: filepath.Join(temporary, "site"), Version: python.Version()})
	}
	if err == nil {
		err = os.Rename(filepath.Join(temporary, "site"), dir)
	}
	return dir, errors.Join(err, os.RemoveAll(temporary))
}
