// Command sebs is the suite's command line; it also runs the whole suite in one process.
package main

import (
	"context"
	"os"

	"golang.org/x/term"

	"github.com/sebs-suite/sebs/cli"
	"github.com/sebs-suite/sebs/internal/suite"
)

func main() {
	executable, err := os.Executable()
	if err != nil {
		executable = os.Args[0]
	}
	os.Exit(cli.Run(context.Background(), &cli.State{
		Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: term.IsTerminal(int(os.Stderr.Fd())), StartSuite: start, Executable: executable,
	}))
}

// start runs a suite for the command line.
func start(ctx context.Context, o cli.SuiteOptions) (cli.Suite, error) {
	return suite.Start(ctx, suite.Options{
		StateDir: o.StateDir, Listen: o.Listen, ConfigFile: o.ConfigFile, BenchmarksDirs: o.BenchmarksDirs,
		BenchmarksDataDirs: o.BenchmarksDataDirs, Sandbox: o.Sandbox, NoEgress: o.NoEgress, LogWriter: o.LogWriter,
		Verbose: o.Verbose, Settings: o.Settings, Environ: os.Environ(),
	})
}
