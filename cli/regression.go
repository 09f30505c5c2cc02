package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

type regressionFlags struct {
	commonFlags
	spendingFlags
	benchmarks           []string
	storage              []string
	selectedArchitecture bool
	filterOutput         bool
}

func (a *app) benchmarkRegressionCommand() *cobra.Command {
	f := &regressionFlags{}
	cmd := &cobra.Command{
		Use:   "regression SIZE",
		Short: "Invoke every benchmark of a language once per trigger and validate the answers",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.benchmarkRegression(cmd, f, args[0]) },
	}
	f.commonFlags.add(cmd, a)
	f.spendingFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.benchmarks, "benchmark-name", nil, "only this benchmark; may be repeated")
	flags.StringArrayVar(&f.storage, "storage-configuration", nil, "JSON file with the object and nosql blocks of a self-hosted storage; may be repeated")
	flags.BoolVar(&f.selectedArchitecture, "selected-architecture", false, "only the architecture given with --architecture")
	flags.Bool("all-architectures", true, "every architecture of the platform that can run here")
	boolFlag(cmd, &f.filterOutput, "filter-output", false, "accepted as in SeBS; logs never hold secrets")
	cmd.MarkFlagsMutuallyExclusive("selected-architecture", "all-architectures")
	return cmd
}

func (a *app) benchmarkRegression(cmd *cobra.Command, f *regressionFlags, size string) error {
	if err := checkSize(size); err != nil {
		return err
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
		spec := &experimentsv1.RegressionSpec{Size: size}
		if f.selectedArchitecture {
			spec.Architectures = []typev1.Architecture{set.target.GetArchitecture()}
		}
		for _, name := range f.benchmarks {
			source, err := f.source(ctx, s, name)
			if err != nil {
				return err
			}
			spec.Sources = append(spec.Sources, source)
		}
		if set.platform != "local" && set.target.GetResourcePrefix() == "" && set.target.GetResourcesId() == "" {
			// SeBS keeps what its regression makes apart.
			set.target.ResourcePrefix = "regr"
		}
		request := &experimentsv1.CreateRunRequest{
			Target: set.target, RequestId: uuid.NewString(),
			Spec: &experimentsv1.CreateRunRequest_Regression{Regression: spec},
		}
		f.apply(request)
		if f.plan {
			return a.printPlan(ctx, s, format, request)
		}
		run, err := a.createRun(ctx, s, show, request)
		if err != nil {
			return err
		}
		if err := writeRegressionFiles(f.outputDir, set.platform, run.GetRegressionResults()); err != nil {
			return err
		}
		if err := output.Message(a.Stdout, format, run, func() output.Rows { return regressionRows(run.GetRegressionResults()) }); err != nil {
			return err
		}
		for _, reason := range run.GetSkipped() {
			show.Note("left out: %s", reason)
		}
		for _, r := range run.GetRegressionResults() {
			if !r.GetValid() {
				// SeBS exits with 1 when a test failed; scripts depend on it.
				return exitcode.With(exitcode.Failed, fmt.Errorf("regression: not every answer is valid"))
			}
		}
		return runError(run)
	})(cmd, nil)
}

func regressionRows(results []*experimentsv1.RegressionResult) output.Rows {
	rows := output.Rows{Header: []string{"BENCHMARK", "ARCH", "VARIANT", "TRIGGER", "RESULT", "REASON"}}
	for _, r := range results {
		verdict := "valid"
		if !r.GetValid() {
			verdict = "FAILED"
		}
		rows.Lines = append(rows.Lines, []string{
			r.GetBenchmark(), nameOf(r.GetArchitecture(), architectureNames), nameOf(r.GetSystemVariant(), variantNames),
			nameOf(r.GetTrigger(), triggerNames), verdict, r.GetReason(),
		})
	}
	return rows
}

// writeRegressionFiles writes a file per test, as SeBS does: the answers by trigger, and a log beside it.
func writeRegressionFiles(dir, platform string, results []*experimentsv1.RegressionResult) error {
	answers := map[string]map[string]json.RawMessage{}
	logs := map[string][]string{}
	for _, r := range results {
		name := strings.Join([]string{
			"regression", platform, r.GetBenchmark(), nameOf(r.GetArchitecture(), architectureNames),
			firstOf(nameOf(r.GetSystemVariant(), variantNames), "package"),
		}, "_")
		if answers[name] == nil {
			answers[name] = map[string]json.RawMessage{}
		}
		trigger := strings.ToUpper(nameOf(r.GetTrigger(), triggerNames))
		if out := r.GetRecord().GetResult().GetOutputJson(); out != "" {
			answers[name][trigger] = json.RawMessage(out)
		}
		verdict := "valid"
		if !r.GetValid() {
			verdict = "failed: " + r.GetReason()
		}
		logs[name] = append(logs[name], trigger+" "+verdict)
	}
	for name, byTrigger := range answers {
		raw, err := json.MarshalIndent(byTrigger, "", "  ")
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		for suffix, content := range map[string]string{".json": string(raw), ".log": strings.Join(logs[name], "\n") + "\n"} {
			err := writeFile(filepath.Join(dir, name+suffix), func(w io.Writer) error {
				_, err := io.WriteString(w, content)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
