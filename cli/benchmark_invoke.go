package cli

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
)

// sizes are the input sizes of benchmarks.
var sizes = []string{"test", "small", "large"}

type invokeFlags struct {
	commonFlags
	spendingFlags
	repetitions    int
	trigger        string
	memoryMB       int
	timeoutSeconds int
	functionName   string
	imageTagPrefix string
	storage        []string
	validate       bool
	concurrency    int
	coldFirst      bool

	maxConcurrency, provisionedConcurrency int
}

func (a *app) benchmarkInvokeCommand() *cobra.Command {
	f := &invokeFlags{}
	cmd := &cobra.Command{
		Use:   "invoke BENCHMARK SIZE",
		Short: "Build, deploy and invoke a benchmark, and show its cold and warm latencies",
		Long: `Build the benchmark's package, deploy it, invoke it and write experiments.json.

SIZE is test, small or large. A failed invocation is recorded and does not end the run; the exit code is then 7.`,
		Example: `  sebs benchmark invoke 110.dynamic-html test
  sebs benchmark invoke 311.compression test --language nodejs --repetitions 20 --validate
  sebs benchmark invoke my-benchmark small --benchmarks-dir ~/my-benchmarks --config config.json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.benchmarkInvoke(cmd, f, args[0], args[1]) },
	}
	f.commonFlags.add(cmd, a)
	f.spendingFlags.add(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.maxConcurrency, "max-concurrency", 0, "the most sandboxes that may run at once (default: the platform's)")
	flags.IntVar(&f.provisionedConcurrency, "provisioned-concurrency", 0, "sandboxes that the platform keeps initialised, which cost money (default: none)")
	flags.IntVar(&f.repetitions, "repetitions", 5, "number of invocations")
	flags.StringVar(&f.trigger, "trigger", "http", "http, library or storage")
	flags.IntVar(&f.memoryMB, "memory", 0, "memory in MB (default: the benchmark's)")
	flags.IntVar(&f.timeoutSeconds, "timeout", 0, "time limit in seconds (default: the benchmark's)")
	flags.StringVar(&f.functionName, "function-name", "", "name of the function (default: made of resource id, benchmark and runtime)")
	flags.StringVar(&f.imageTagPrefix, "image-tag-prefix", "", "prefix of the tag of container images")
	flags.StringArrayVar(&f.storage, "storage-configuration", nil, "JSON file with the object and nosql blocks of a self-hosted storage; may be repeated")
	flags.IntVar(&f.concurrency, "concurrency", 1, "invocations at once")
	boolFlag(cmd, &f.validate, "validate", false, "check every answer with the benchmark's validate_output")
	boolFlag(cmd, &f.coldFirst, "cold-first", true, "enforce a cold start before the first invocation")
	return cmd
}

func (a *app) benchmarkInvoke(cmd *cobra.Command, f *invokeFlags, benchmark, size string) error {
	if err := checkSize(size); err != nil {
		return err
	}
	trigger, err := enumByName("--trigger", f.trigger, triggerNames)
	if err != nil {
		return err
	}
	for name, value := range map[string]int{"--repetitions": f.repetitions, "--concurrency": f.concurrency} {
		if value < 1 {
			return exitcode.With(exitcode.Usage, fmt.Errorf("%s: %d is not a number of invocations; give 1 or more", name, value))
		}
	}
	for name, value := range map[string]int{"--max-concurrency": f.maxConcurrency, "--provisioned-concurrency": f.provisionedConcurrency} {
		if value < 0 || value > math.MaxInt32 {
			return exitcode.With(exitcode.Usage, fmt.Errorf("%s: %d is not a number of sandboxes; give 0 or more", name, value))
		}
	}
	if err := f.check(cmd); err != nil {
		return err
	}
	if !f.plan {
		if err := f.prepareOutputDir(); err != nil {
			return err
		}
	}
	return a.commonCall(&f.commonFlags, f.storage, func(c *call, set *settings) error {
		ctx, s, show, format := c.ctx, c.s, c.show, c.format
		if err := a.importCache(ctx, s, show, &f.commonFlags, set); err != nil {
			return err
		}
		source, err := f.source(ctx, s, benchmark)
		if err != nil {
			return err
		}
		request := &experimentsv1.CreateRunRequest{
			Target:    set.target,
			RequestId: uuid.NewString(),
			Spec: &experimentsv1.CreateRunRequest_BenchmarkInvoke{BenchmarkInvoke: &experimentsv1.BenchmarkInvokeSpec{
				Source: source, Size: size, Repetitions: int32(f.repetitions), Trigger: trigger,
				MemoryMb: int32(f.memoryMB), TimeoutSeconds: int32(f.timeoutSeconds), FunctionId: f.functionName,
				Validate: f.validate, ColdFirst: f.coldFirst, Concurrency: int32(f.concurrency),
				MaxConcurrency: int32(f.maxConcurrency), ProvisionedConcurrency: int32(f.provisionedConcurrency),
				ImageTagPrefix: f.imageTagPrefix,
			}},
		}
		f.apply(request)
		if f.plan {
			return f.searched(s, a.printPlan(ctx, s, format, request))
		}
		run, err := a.createRun(ctx, s, show, request)
		if err != nil {
			return f.searched(s, err)
		}
		path := filepath.Join(f.outputDir, "experiments.json")
		if err := a.writeExperiment(ctx, s, run, set, path); err != nil {
			return err
		}
		if err := a.printRun(format, run); err != nil {
			return err
		}
		if cost := run.GetCost(); cost != nil && cost.Usd != nil {
			show.Note("cost by estimate, before the platform has told its figures: %s", dollars(cost.GetUsd()))
		}
		show.Note("results: %s (run %s)", path, run.GetName())
		return runError(run)
	})(cmd, nil)
}

// createRun starts a run and follows it to its end.
func (a *app) createRun(ctx context.Context, s *session, show *display.Display, request *experimentsv1.CreateRunRequest) (*experimentsv1.Run, error) {
	op, err := experimentsv1.NewExperimentsServiceClient(s.conn).CreateRun(ctx, request)
	if err != nil {
		return nil, err
	}
	run := &experimentsv1.Run{}
	if err := a.follow(ctx, s, show, op, run); err != nil {
		return nil, err
	}
	return run, nil
}

// runError turns the state of a run into the command's error.
func runError(run *experimentsv1.Run) error {
	switch run.GetState() {
	case experimentsv1.Run_STATE_SUCCEEDED:
		return nil
	case experimentsv1.Run_STATE_PARTIAL:
		text := fmt.Sprintf("%d of %d invocations failed", run.GetFailureCount(), run.GetInvocationCount())
		if run.GetFailureCount() == 0 {
			text = fmt.Sprintf("%d invocations succeeded, but not without problems", run.GetInvocationCount())
		}
		if run.GetInvalidCount() > 0 {
			text += fmt.Sprintf(", %d answers are invalid", run.GetInvalidCount())
		}
		problems := summarize(run.GetProblems())
		for i, problem := range problems {
			if i == 5 {
				text += fmt.Sprintf("\n  … and %d more: sebs run show %s", len(problems)-i, run.GetName())
				break
			}
			text += "\n  " + problem
		}
		return exitcode.With(exitcode.Partial, fmt.Errorf("%s", text))
	case experimentsv1.Run_STATE_CANCELLED:
		return exitcode.With(exitcode.Interrupted, fmt.Errorf("%s was cancelled", run.GetName()))
	default:
		text := fmt.Sprintf("%s ended as %s", run.GetName(), run.GetState())
		for _, problem := range run.GetProblems() {
			text += "\n  " + problem
		}
		return exitcode.With(exitcode.Failed, fmt.Errorf("%s", text))
	}
}

// ofInvocation begins a problem of one invocation.
var ofInvocation = regexp.MustCompile(`^invocation (\d+)(?: \([^)]*\))?: `)

// summarize tells once what went wrong in the same way in several invocations.
func summarize(problems []string) []string {
	var texts []string
	numbers := make(map[string][]string)
	for _, problem := range problems {
		text, number := problem, ""
		if match := ofInvocation.FindStringSubmatch(problem); match != nil {
			text, number = problem[len(match[0]):], match[1]
		}
		if _, known := numbers[text]; !known {
			texts = append(texts, text)
		}
		numbers[text] = append(numbers[text], number)
	}
	for i, text := range texts {
		of := numbers[text]
		switch {
		case of[0] == "":
		case len(of) == 1:
			texts[i] = "invocation " + of[0] + ": " + text
		case len(of) > 6:
			texts[i] = fmt.Sprintf("invocations %s and %d more: %s", strings.Join(of[:5], ", "), len(of)-5, text)
		default:
			texts[i] = "invocations " + strings.Join(of, ", ") + ": " + text
		}
	}
	return texts
}

func checkSize(size string) error {
	for _, s := range sizes {
		if s == size {
			return nil
		}
	}
	return exitcode.With(exitcode.Usage, fmt.Errorf("SIZE: %q is unknown; use %s", size, oneOf(sizes)))
}
