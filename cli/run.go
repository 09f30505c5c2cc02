package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

func (a *app) runCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "List, show, export and repeat runs"}
	cmd.AddCommand(a.runListCommand(), a.runShowCommand(), a.runExportCommand(), a.runRerunCommand())
	return cmd
}

func (a *app) runListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List runs, newest first",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			all := &experimentsv1.ListRunsResponse{}
			for token := ""; ; {
				page, err := experimentsv1.NewExperimentsServiceClient(c.conn).ListRuns(c.ctx, &experimentsv1.ListRunsRequest{PageToken: token})
				if err != nil {
					return err
				}
				all.Runs = append(all.Runs, page.GetRuns()...)
				if token = page.GetNextPageToken(); token == "" {
					break
				}
			}
			return output.Message(a.Stdout, c.format, all, func() output.Rows { return runRows(all.GetRuns()) })
		}),
	}
}

func runRows(runs []*experimentsv1.Run) output.Rows {
	rows := output.Rows{Header: []string{"RUN", "KIND", "STATE", "STARTED", "INVOCATIONS", "FAILED", "WHAT"}}
	for _, r := range runs {
		what := ""
		if spec := r.GetRequest().GetBenchmarkInvoke(); spec != nil {
			what = spec.GetSource().GetBenchmark() + " " + spec.GetSize()
		}
		rows.Lines = append(rows.Lines, []string{
			r.GetName(), r.GetKind(), strings.TrimPrefix(r.GetState().String(), "STATE_"),
			r.GetStartTime().AsTime().Local().Format(time.DateTime),
			strconv.FormatInt(r.GetInvocationCount(), 10), strconv.FormatInt(r.GetFailureCount(), 10), what,
		})
	}
	return rows
}

func (a *app) runShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show a run with its statistics",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			run, err := experimentsv1.NewExperimentsServiceClient(c.conn).GetRun(c.ctx, &experimentsv1.GetRunRequest{Name: resource("runs", c.args[0])})
			if err != nil {
				return err
			}
			if err := a.printRun(c.format, run); err != nil || c.format != output.Table {
				return err
			}
			for _, problem := range run.GetProblems() {
				if _, err := fmt.Fprintln(a.Stdout, problem); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// exportFormats are the words of `run export --format`.
var exportFormats = map[string]metricsv1.ExportRunRequest_Format{
	"sebs": metricsv1.ExportRunRequest_FORMAT_SEBS_JSON, "csv": metricsv1.ExportRunRequest_FORMAT_CSV,
	"parquet": metricsv1.ExportRunRequest_FORMAT_PARQUET, "jsonl": metricsv1.ExportRunRequest_FORMAT_JSON_LINES,
}

func (a *app) runExportCommand() *cobra.Command {
	var format, file string
	cmd := &cobra.Command{
		Use:     "export RUN",
		Short:   "Write the invocations of a run to a file",
		Example: "  sebs run export 3f2a --format parquet --file run.parquet",
		Args:    cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			kind, err := enumByName("--format", format, exportFormats)
			if err != nil {
				return err
			}
			write := func(w io.Writer) error { return export(c.ctx, c, w, kind) }
			if file == "" {
				return write(a.Stdout)
			}
			return writeFile(file, write)
		}),
	}
	cmd.Flags().StringVar(&format, "format", "sebs", "sebs, csv, parquet or jsonl")
	cmd.Flags().StringVar(&file, "file", "", "file to write; without one standard output is used")
	return cmd
}

func export(ctx context.Context, c *call, w io.Writer, kind metricsv1.ExportRunRequest_Format) error {
	stream, err := metricsv1.NewMetricsServiceClient(c.conn).ExportRun(ctx, &metricsv1.ExportRunRequest{Run: resource("runs", c.args[0]), Format: kind})
	if err != nil {
		return err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errs.FromStatus(err)
		}
		if _, err := w.Write(part.GetData()); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
	}
}

func (a *app) runRerunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rerun RUN",
		Short: "Make a run again with the same specification",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			op, err := experimentsv1.NewExperimentsServiceClient(c.conn).RerunRun(c.ctx, &experimentsv1.RerunRunRequest{
				Name: resource("runs", c.args[0]), RequestId: uuid.NewString(),
			})
			if err != nil {
				return err
			}
			run := &experimentsv1.Run{}
			if err := a.follow(c.ctx, c.s, c.show, op, run); err != nil {
				return err
			}
			if err := a.printRun(c.format, run); err != nil {
				return exitcode.With(exitcode.Failed, err)
			}
			return runError(run)
		}),
	}
}
