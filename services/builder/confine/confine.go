// Package confine runs programs that belong to users: input.py, init.sh, package.sh, install scripts of packages.
//
// A program gets an environment of its own without the service's credentials, a process group that ends with it, a
// time limit, a bounded record of what it prints and, where the service runs as root, an unprivileged user. This keeps
// accidents and casual curiosity out; it is no boundary against a determined attacker.
package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// graceAfterKill is how long a killed program's pipes are waited for.
const graceAfterKill = 2 * time.Second

// tailBytes is how much of the end of a program's output is kept.
const tailBytes = 64 << 10

// User is the account that confined programs run as.
type User struct {
	// UID and GID are numeric ids.
	UID, GID uint32
}

// Confiner starts programs.
type Confiner struct {
	user *User
	base string
}

// New returns a confiner that makes its working directories below base, or below the system's directory for
// temporary files if base is empty. A nil user means that programs run as the service itself.
func New(base string, user *User) *Confiner {
	if base == "" {
		base = os.TempDir()
	}
	return &Confiner{user: user, base: base}
}

// Unprivileged says whether programs run as another user than the service.
func (c *Confiner) Unprivileged() bool { return c.user != nil }

// WorkDir makes a new directory that confined programs may write to, and only they and the service may enter. Call
// remove when it is no longer needed; it also removes what programs left with odd permissions.
func (c *Confiner) WorkDir(purpose string) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(c.base, fmt.Sprintf("%s%s-%d-*", workDirPrefix, purpose, os.Getpid()))
	if err != nil {
		return "", nil, fmt.Errorf("make working directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", nil, fmt.Errorf("make working directory: %w", err)
	}
	for _, sub := range []string{"", "home", "tmp"} {
		sub = filepath.Join(dir, sub)
		if err := errors.Join(os.MkdirAll(sub, 0o700), c.Give(sub)); err != nil {
			return "", nil, errors.Join(fmt.Errorf("make working directory: %w", err), os.RemoveAll(dir))
		}
	}
	return dir, func() error { return removeAll(dir) }, nil
}

// Names of working directories begin with workDirPrefix, purpose and the id of the process.
const workDirPrefix = "sebs-work-"

// staleAfter is how old a working directory must be before somebody else than its maker removes it.
const staleAfter = time.Hour

// Sweep removes working directories that processes left which were killed.
func (c *Confiner) Sweep() error {
	entries, err := os.ReadDir(c.base)
	if err != nil {
		return fmt.Errorf("look for old working directories: %w", err)
	}
	var problems []error
	for _, entry := range entries {
		parts := strings.Split(strings.TrimPrefix(entry.Name(), workDirPrefix), "-")
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), workDirPrefix) || len(parts) != 3 {
			continue
		}
		info, err := entry.Info()
		pid, pidErr := strconv.Atoi(parts[1])
		if err != nil || pidErr != nil || pid <= 0 || alive(pid) || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := removeAll(filepath.Join(c.base, entry.Name())); err != nil {
			problems = append(problems, fmt.Errorf("remove old working directory: %w", err))
		}
	}
	return errors.Join(problems...)
}

// removeAll removes a tree even if directories in it are not writable.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	walkErr := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			return errors.Join(os.Chmod(name, 0o700), ignoreRead(err))
		}
		return nil
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}

// ignoreRead lets a walk go on into a directory that has just been made readable.
func ignoreRead(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

// Give makes the confined user the owner of a file or directory.
func (c *Confiner) Give(name string) error {
	if c.user == nil {
		return nil
	}
	return os.Lchown(name, int(c.user.UID), int(c.user.GID))
}

// GiveTree makes the confined user the owner of a directory and everything in it.
func (c *Confiner) GiveTree(dir string) error {
	if c.user == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return c.Give(name)
	})
}

// Program is what Run starts.
type Program struct {
	// Args are the executable and its arguments; no shell reads them.
	Args []string
	// Dir is the working directory.
	Dir string
	// Env is the whole environment; see Environment.
	Env []string
	// Timeout is the longest run; 0 leaves it to the context.
	Timeout time.Duration
	// Privileged runs the program as the service's own user. It is for installers, not for users' code.
	Privileged bool
	// Converse is called with the program's standard input and output while it runs. When it returns, the input is
	// closed. Without it the input is empty and both outputs are recorded.
	Converse func(ctx context.Context, in io.Writer, out io.Reader) error
}

// FailureError says that a program ran and did not succeed.
type FailureError struct {
	// Program is the name of the executable.
	Program string
	// ExitCode is the exit code, -1 if the program was ended by a signal.
	ExitCode int
	// TimedOut says whether the time limit ended the program.
	TimedOut bool
	// Timeout is that limit.
	Timeout time.Duration
	// Tail is the end of what it printed.
	Tail string
	// Cause is what the operating system reported.
	Cause error
}

// Error names the program and how it ended, without its output.
func (f *FailureError) Error() string {
	if f.TimedOut {
		return fmt.Sprintf("%s did not end within %s and was stopped", f.Program, f.Timeout)
	}
	return fmt.Sprintf("%s failed: %v", f.Program, f.Cause)
}

// Unwrap returns the cause.
func (f *FailureError) Unwrap() error { return f.Cause }

// Run starts a program, waits until it has ended and returns the end of what it printed. A program that does not
// succeed gives a *FailureError. Everything in its process group is killed when it ends, times out or ctx is done.
func (c *Confiner) Run(ctx context.Context, p Program) (tail string, err error) {
	runContext := ctx
	if p.Timeout > 0 {
		var cancel context.CancelFunc
		runContext, cancel = context.WithTimeout(ctx, p.Timeout)
		defer cancel()
	}
	cmd := exec.CommandContext(runContext, p.Args[0], p.Args[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = p.Dir, p.Env, graceAfterKill
	var user *User
	if !p.Privileged {
		user = c.user
	}
	separate(cmd, user)
	printed := &tailWriter{limit: tailBytes}
	cmd.Stderr = printed
	// The kernel ends the process with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	talkErr, runErr := converse(runContext, cmd, p, printed)
	endGroup(cmd)
	tail = printed.String()
	if cause := context.Cause(ctx); cause != nil {
		return tail, fmt.Errorf("run %s: %w", filepath.Base(p.Args[0]), cause)
	}
	if runErr == nil {
		return tail, talkErr
	}
	var startErr *exec.Error
	if errors.As(runErr, &startErr) || cmd.Process == nil {
		return tail, fmt.Errorf("start %s: %w", filepath.Base(p.Args[0]), runErr)
	}
	failure := &FailureError{
		Program: filepath.Base(p.Args[0]), ExitCode: cmd.ProcessState.ExitCode(), Timeout: p.Timeout,
		TimedOut: errors.Is(runContext.Err(), context.DeadlineExceeded), Tail: tail, Cause: runErr,
	}
	// A conversation that failed for a reason of its own ended the program, not the other way round.
	if talkErr != nil && !failure.TimedOut && !errors.Is(talkErr, io.EOF) && !errors.Is(talkErr, syscall.EPIPE) {
		return tail, talkErr
	}
	return tail, failure
}

// converse runs the command and the conversation with it, and returns how each of them went.
func converse(ctx context.Context, cmd *exec.Cmd, p Program, printed io.Writer) (talkErr, runErr error) {
	if p.Converse == nil {
		cmd.Stdout = printed
		return nil, cmd.Run()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	talkErr = p.Converse(ctx, in, out)
	if err := in.Close(); err != nil && talkErr == nil && !errors.Is(err, os.ErrClosed) {
		talkErr = err
	}
	if talkErr != nil {
		endGroup(cmd)
	}
	return talkErr, cmd.Wait()
}

// Environment returns an environment for a user's program that works in dir: search path, locale, directories inside
// dir, certificates and proxies of the machine, and the given settings (`NAME=value`). Nothing else of the service's
// environment is passed on; proxies with a password are left out.
func Environment(dir string, settings ...string) []string {
	env := []string{
		"PATH=" + searchPath(),
		"LANG=C.UTF-8",
		"HOME=" + filepath.Join(dir, "home"),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
	}
	env = append(env, inherit(publicVariables)...)
	return append(env, settings...)
}

// InstallerEnvironment returns an environment for a package installer: as Environment, with the home directory and
// the installer's own settings (index, certificates, caches) of the service's user.
func InstallerEnvironment(settings ...string) []string {
	env := []string{"PATH=" + searchPath(), "LANG=C.UTF-8", "CI=1"}
	env = append(env, inherit(publicVariables)...)
	env = append(env, inherit([]string{"HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYENV_ROOT"})...)
	for _, variable := range os.Environ() {
		for _, prefix := range []string{"UV_", "PIP_", "NPM_CONFIG_", "npm_config_"} {
			if strings.HasPrefix(variable, prefix) {
				env = append(env, variable)
			}
		}
	}
	return append(env, settings...)
}

// publicVariables tell a program how to reach the network; they hold no secrets.
var publicVariables = []string{
	"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SYSTEMROOT", "SystemRoot", "TZ",
}

func inherit(names []string) []string {
	var env []string
	for _, name := range names {
		value, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		if strings.HasSuffix(strings.ToLower(name), "s_proxy") || strings.HasSuffix(strings.ToLower(name), "p_proxy") {
			if proxy, err := url.Parse(value); err != nil || proxy.User != nil {
				continue
			}
		}
		env = append(env, name+"="+value)
	}
	return env
}

func searchPath() string {
	if value := os.Getenv("PATH"); value != "" {
		return value
	}
	return "/usr/local/bin:/usr/bin:/bin"
}

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu      sync.Mutex
	limit   int
	buffer  []byte
	dropped int64
}

// Write never fails, so that a program that prints without end is not disturbed.
func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffer = append(w.buffer, p...)
	if over := len(w.buffer) - w.limit; over > 0 {
		w.dropped += int64(over)
		w.buffer = append(w.buffer[:0], w.buffer[over:]...)
	}
	return len(p), nil
}

// String returns what was kept, and says so if it is not everything.
func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.ToValidUTF8(string(w.buffer), "")
	if w.dropped > 0 {
		return fmt.Sprintf("[%d bytes before this are left out]\n%s", w.dropped, text)
	}
	return text
}
