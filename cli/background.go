package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/statedir"
)

// backgroundSettings is the environment variable that hands settings to a background suite, one a line.
const backgroundSettings = "SEBS_BACKGROUND_SETTINGS"

// ensureBackground makes a suite run on the state directory that outlives this command. A suite that runs there
// already is used as it is.
func (a *app) ensureBackground(ctx context.Context, options connectOptions) error {
	if a.flags.server != "" {
		return nil
	}
	dir, err := a.stateDirPath()
	if err != nil {
		return err
	}
	owner, owned, err := statedir.Own(dir)
	if err != nil || !owned {
		return err
	}
	if err := owner.Release(); err != nil {
		return err
	}
	args := []string{"up", "--background", "--state-dir", dir, "--sandbox", a.flags.sandbox}
	if a.flags.configFile != "" {
		args = append(args, "--suite-config", a.flags.configFile)
	}
	for _, d := range options.benchmarksDirs {
		args = append(args, "--benchmarks-dir", d)
	}
	for _, d := range options.dataDirs {
		args = append(args, "--benchmarks-data-dir", d)
	}
	if options.noEgress {
		args = append(args, "--no-egress")
	}
	environ := os.Environ()
	if len(options.settings) > 0 {
		// Settings may hold keys, so they go by the environment: arguments are readable by every user of the machine.
		environ = append(environ, backgroundSettings+"="+strings.Join(options.settings, "\n"))
	}
	// The suite shall outlive this command, so its end is not tied to the command's context.
	child := exec.Command(a.Executable, args...)
	child.Env = environ
	child.SysProcAttr = detached()
	if err := child.Start(); err != nil {
		return fmt.Errorf("start a suite in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	bounded, cancel := context.WithTimeout(ctx, backgroundStart)
	defer cancel()
	for {
		if info, err := statedir.Read(dir); err == nil && info.PID == child.Process.Pid {
			return nil
		}
		select {
		case err := <-ended:
			return exitcode.With(exitcode.Unavailable, fmt.Errorf("the background suite ended at once (%w); see %s/logs/suite.log", errors.Join(err), dir))
		case <-bounded.Done():
			return exitcode.With(exitcode.Unavailable, fmt.Errorf("the background suite did not come up: %w; see %s/logs/suite.log", errors.Join(bounded.Err(), child.Process.Kill()), dir))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stopBackground ends the suite that `local start` left on the state directory, and waits for its end. A suite that
// somebody runs in the foreground is left alone.
func (a *app) stopBackground(ctx context.Context) error {
	if a.flags.server != "" {
		return nil
	}
	dir, err := a.stateDirPath()
	if err != nil {
		return err
	}
	info, err := statedir.Read(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && !info.Background) {
		return nil
	}
	if err != nil {
		return err
	}
	process, err := os.FindProcess(info.PID)
	if err != nil {
		return fmt.Errorf("find the background suite: %w", err)
	}
	if err := stop(process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the background suite (process %d): %w", info.PID, err)
	}
	bounded, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	for {
		owner, owned, err := statedir.Own(dir)
		if err != nil {
			return err
		}
		if owned {
			return owner.Release()
		}
		select {
		case <-bounded.Done():
			return exitcode.With(exitcode.Unavailable, fmt.Errorf("the background suite (process %d) does not end: %w", info.PID, bounded.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
