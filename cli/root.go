package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	"github.com/sebs-suite/sebs/internal/version"
)

// globals are the flags that every command has.
type globals struct {
	server     string
	token      string
	caFile     string
	stateDir   string
	output     string
	progress   string
	noProgress bool
	sandbox    string
	configFile string
}

// app is what the commands share: the outside world and the flags.
type app struct {
	*State
	flags globals
}

// Run runs one command line and returns its exit code.
//
// The first interrupt ends the context, so that the command cancels what it started and says so; the second leaves
// at once.
func Run(ctx context.Context, state *State) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(state.Stderr, "sebs: interrupted twice; leaving at once")
			os.Exit(exitcode.Interrupted)
		case <-done:
		}
	}()
	return execute(ctx, state)
}

func execute(ctx context.Context, state *State) int {
	root := New(state)
	root.SetArgs(state.Args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitcode.OK
	}
	code := exitcode.Of(err)
	if ctx.Err() != nil && code != exitcode.OK {
		code = exitcode.Interrupted
	}
	var coded *exitcode.Error
	if !errors.As(err, &coded) || coded.Err != nil {
		printError(state.Stderr, err)
	}
	return code
}

// New returns the root command.
func New(state *State) *cobra.Command {
	a := &app{State: state}
	root := &cobra.Command{
		Use:   "sebs",
		Short: "Benchmark serverless functions: build, deploy, invoke and measure",
		Long: `sebs tells how a function behaves on a serverless platform.

It builds the function's package, deploys it, invokes it, collects the platform's own metrics and gives
statistics. Without a running suite a command starts one for its own duration; 'sebs up' keeps one running.`,
		Example: `  sebs benchmark invoke 110.dynamic-html test
  sebs benchmark invoke 210.thumbnailer small --language nodejs --repetitions 50
  sebs benchmark process && sebs benchmark statistics results.json
  sebs up`,
		Version:       version.Get().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(state.Stdin)
	root.SetOut(state.Stdout)
	root.SetErr(state.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exitcode.With(exitcode.Usage, fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath()))
	})
	a.addGlobals(root)
	root.AddCommand(
		a.benchmarkCommand(),
		a.localCommand(),
		a.dockerCommand(),
		a.resourcesCommand(),
		a.functionCommand(),
		a.operationCommand(),
		a.runCommand(),
		a.pricesCommand(),
		a.tokenCommand(),
		a.eventsCommand(),
		a.upCommand(),
		a.doctorCommand(),
	)
	usageErrors(root)
	return root
}

func (a *app) addGlobals(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.server, "server", a.Getenv("SEBS_SERVER"),
		"address of a running suite, such as http://127.0.0.1:8080 or https://sebs.example.org (env SEBS_SERVER)")
	flags.StringVar(&a.flags.token, "token", "", "bearer token for the server (better: env SEBS_TOKEN)")
	flags.StringVar(&a.flags.caFile, "ca-file", a.Getenv("SEBS_CA_FILE"), "PEM file of the authority that signed the server's certificate")
	flags.StringVar(&a.flags.stateDir, "state-dir", a.defaultStateDir(), "directory of an embedded suite's data (env SEBS_STATE_DIR)")
	flags.StringVar(&a.flags.output, "output", string(output.Table), "form of output: table, json or yaml")
	flags.StringVar(&a.flags.progress, "progress", string(display.Auto), "how progress is shown: auto, tty, plain, json or quiet")
	flags.BoolVar(&a.flags.noProgress, "no-progress", false, "the same as --progress quiet")
	flags.StringVar(&a.flags.sandbox, "sandbox", "auto", "sandboxes of an embedded suite's local platform: auto, docker or process")
	flags.StringVar(&a.flags.configFile, "suite-config", a.Getenv("SEBS_SUITE_CONFIG"), "YAML configuration of an embedded suite's services")
}

// format returns the form of output asked for.
func (a *app) format() (output.Format, error) {
	f, err := output.Parse(a.flags.output)
	if err != nil {
		return "", exitcode.With(exitcode.Usage, err)
	}
	return f, nil
}

// newDisplay returns the progress display asked for.
func (a *app) newDisplay() (*display.Display, error) {
	mode, err := display.Parse(a.flags.progress)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	if a.flags.noProgress {
		mode = display.Quiet
	}
	return display.New(mode, a.Stderr, a.Terminal), nil
}

// usageErrors gives errors about arguments the exit code for usage, and groups without a command of their own a
// refusal of unknown ones.
func usageErrors(cmd *cobra.Command) {
	check := cmd.Args
	cmd.Args = func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(c, args); err != nil {
			return exitcode.With(exitcode.Usage, fmt.Errorf("%w\nUsage: %s", err, c.UseLine()))
		}
		return nil
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			message := fmt.Sprintf("unknown command %q of '%s'", args[0], c.CommandPath())
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				message += fmt.Sprintf("; did you mean %q?", near[0])
			}
			return exitcode.With(exitcode.Usage, errors.New(message+fmt.Sprintf("\nSee '%s --help'", c.CommandPath())))
		}
		cmd.SuggestionsMinimumDistance = 2
	}
	for _, child := range cmd.Commands() {
		usageErrors(child)
	}
}
