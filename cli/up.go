package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/statedir"
	"github.com/sebs-suite/sebs/internal/version"
)

func (a *app) upCommand() *cobra.Command {
	var listen string
	var background, noEgress, verbose bool
	var benchmarksDirs, dataDirs []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole suite in one process until interrupted",
		Long: `Run every service in one process, with embedded etcd, NATS JetStream and object store.

All of it listens on this machine only and keeps its data in the state directory. Other commands on the same state
directory join it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.up(cmd.Context(), SuiteOptions{
				Listen: listen, ConfigFile: a.flags.configFile, BenchmarksDirs: benchmarksDirs, BenchmarksDataDirs: dataDirs,
				Sandbox: a.flags.sandbox, NoEgress: noEgress, Verbose: verbose, Settings: lines(a.Getenv(backgroundSettings)),
			}, background)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "", "address of the gateway (default: a free port of the loopback address)")
	flags.BoolVar(&background, "background", false, "log to the state directory and say nothing, as 'sebs local start' uses it")
	flags.BoolVar(&noEgress, "no-egress", false, "keep local functions from reaching beyond this machine")
	flags.BoolVar(&verbose, "verbose", false, "log more")
	flags.StringArrayVar(&benchmarksDirs, "benchmarks-dir", splitList(a.Getenv("SEBS_BENCHMARKS_DIR")), "directory with benchmark folders; may be repeated")
	flags.StringArrayVar(&dataDirs, "benchmarks-data-dir", splitList(a.Getenv("SEBS_BENCHMARKS_DATA_DIR")), "directory with benchmark input data; may be repeated")
	return cmd
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func (a *app) up(ctx context.Context, options SuiteOptions, background bool) (err error) {
	stateDir, err := filepath.Abs(a.flags.stateDir)
	if err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("--state-dir: %w", err))
	}
	owner, owned, err := statedir.Own(stateDir)
	if err != nil {
		return err
	}
	if !owned {
		info, readErr := statedir.Read(stateDir)
		if readErr != nil {
			return exitcode.With(exitcode.Precondition, fmt.Errorf("another process owns %s; use another --state-dir", stateDir))
		}
		return exitcode.With(exitcode.Precondition, fmt.Errorf("process %d runs a suite on %s already, at http://%s; stop it or use another --state-dir", info.PID, stateDir, info.Address))
	}
	defer func() { err = errors.Join(err, owner.Release()) }()
	options.StateDir = stateDir
	options.LogWriter = a.Stderr
	if background {
		logs, closeLogs, logErr := openLog(filepath.Join(stateDir, "logs"), "")
		if logErr != nil {
			return logErr
		}
		defer func() { err = errors.Join(err, closeLogs()) }()
		options.LogWriter = logs
	}
	suite, err := a.StartSuite(ctx, options)
	if err != nil {
		return fmt.Errorf("start the suite: %w", err)
	}
	publishErr := owner.Publish(statedir.Info{
		PID: os.Getpid(), Address: suite.Address(), Version: version.Get().Version, Background: background, StartTime: time.Now(),
	})
	if publishErr == nil && !background {
		fmt.Fprintf(a.Stdout, "sebs is up at http://%s (REST and gRPC), state in %s\nOther commands on this state directory use it. Interrupt to stop.\n", suite.Address(), stateDir)
	}
	if publishErr == nil {
		select {
		case <-ctx.Done():
		case <-suite.Failed():
			publishErr = fmt.Errorf("a service ended by itself: %w", suite.Err())
		}
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := errors.Join(publishErr, suite.Close(bounded)); err != nil {
		return exitcode.With(exitcode.Failed, err)
	}
	return nil
}
