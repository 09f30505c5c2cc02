package packaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// NPM installs Node.js packages with the machine's npm.
type NPM struct {
	confiner *confine.Confiner
	timeout  time.Duration

	mu      sync.Mutex
	path    string
	version string
}

// NewNPM returns the machine's npm; the timeout bounds one installation.
func NewNPM(confiner *confine.Confiner, timeout time.Duration) *NPM {
	return &NPM{confiner: confiner, timeout: timeout}
}

// Version finds npm and returns its name and version, as in `npm 11.0.0`.
func (n *NPM) Version(ctx context.Context) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.version != "" {
		return n.version, nil
	}
	found, err := exec.LookPath("npm")
	if err != nil || !filepath.IsAbs(found) {
		return "", errs.FailedPrecondition(pytools.ReasonToolMissing, "npm is not on PATH; Node.js benchmarks with dependencies need it: install Node.js on the builder's machine").With("tool", "npm")
	}
	printed, err := n.confiner.Run(ctx, confine.Program{Args: []string{found, "--version"}, Env: confine.InstallerEnvironment(), Timeout: 30 * time.Second, Privileged: true})
	if err != nil {
		return "", fmt.Errorf("ask npm for its version: %w", err)
	}
	n.path, n.version = found, "npm "+strings.TrimSpace(printed)
	return n.version, nil
}

// Install installs the dependencies of a package.json into root/node_modules. Install scripts of packages do not run
// with the service's rights: they run confined afterwards, and only for this machine's own architecture.
func (n *NPM) Install(ctx context.Context, dir, root string, deps dependencies, architecture string) error {
	if err := os.WriteFile(filepath.Join(root, "package.json"), deps.Manifest, 0o644); err != nil {
		return fmt.Errorf("write package.json: %w", err)
	}
	arguments := []string{
		n.path, "install", "--no-package-lock", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress",
		"--no-update-notifier", "--color=false", "--loglevel=warn", "--os=linux", "--libc=glibc", "--cpu=" + architecture,
	}
	if deps.Lock != nil {
		if err := os.WriteFile(filepath.Join(root, "package-lock.json"), deps.Lock, 0o644); err != nil {
			return fmt.Errorf("write package-lock.json: %w", err)
		}
		arguments[1], arguments[2] = "ci", "--package-lock"
	}
	log, err := n.confiner.Run(ctx, confine.Program{Args: arguments, Dir: root, Env: confine.InstallerEnvironment(), Timeout: n.timeout, Privileged: true})
	if err != nil {
		return explainNPM(err, log)
	}
	return n.runInstallScripts(ctx, dir, root, architecture)
}

// runInstallScripts runs the install scripts of packages that have some.
func (n *NPM) runInstallScripts(ctx context.Context, dir, root, architecture string) error {
	raw, err := os.ReadFile(filepath.Join(root, "node_modules", ".package-lock.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what npm installed: %w", err)
	}
	var installed struct {
		Packages map[string]struct {
			HasInstallScript bool `json:"hasInstallScript"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(raw, &installed); err != nil {
		return fmt.Errorf("read what npm installed: %w", err)
	}
	scripts := false
	for _, p := range installed.Packages {
		scripts = scripts || p.HasInstallScript
	}
	if !scripts || runtime.GOOS != "linux" || architecture != pytools.HostArchitecture() {
		return nil
	}
	if err := n.confiner.GiveTree(root); err != nil {
		return fmt.Errorf("prepare install scripts: %w", err)
	}
	log, err := n.confiner.Run(ctx, confine.Program{
		Args: []string{n.path, "rebuild", "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier", "--color=false", "--loglevel=warn"},
		Dir:  root, Env: confine.Environment(dir), Timeout: n.timeout,
	})
	return explainNPM(err, log)
}

// missingNode recognises npm's messages about a package or version that does not exist.
var missingNode = []*regexp.Regexp{
	regexp.MustCompile(`404\s+'([^']+)' is not in this registry`),
	regexp.MustCompile(`The requested resource '([^']+)' could not be found`),
	regexp.MustCompile(`No matching version found for ([^\s]+?)\.?(?:\s|$)`),
	regexp.MustCompile(`404 Not Found - GET \S*/((?:@|%40)?[A-Za-z0-9._%-]+)(?:\s|$)`),
}

func explainNPM(err error, log string) error {
	var failure *confine.FailureError
	if err == nil || !errors.As(err, &failure) {
		return err
	}
	tail := pytools.LogTail(log)
	if failure.TimedOut {
		return errs.DeadlineExceeded(ReasonFailed, "npm did not install the dependencies within %s; raise install_timeout in the builder's configuration", failure.Timeout).With("log", tail)
	}
	for _, pattern := range missingNode {
		if match := pattern.FindStringSubmatch(log); match != nil {
			return errs.InvalidArgument(ReasonFailed, "requirement %q does not exist in the package registry; correct the benchmark's package.json\n%s", match[1], tail).
				With("requirement", match[1]).With("log", tail)
		}
	}
	return errs.InvalidArgument(ReasonFailed, "npm could not install the dependencies; correct the benchmark's package.json or see the log\n%s", tail).With("log", tail)
}
