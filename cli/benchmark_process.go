package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

func (a *app) benchmarkProcessCommand() *cobra.Command {
	f := &commonFlags{}
	cmd := &cobra.Command{
		Use:   "process",
		Short: "Add the platform's metrics to experiments.json and write results.json",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.prepareOutputDir(); err != nil {
				return err
			}
			input := filepath.Join(f.outputDir, "experiments.json")
			if _, err := os.Stat(input); err != nil {
				return exitcode.With(exitcode.NotFound, fmt.Errorf("%w; 'sebs benchmark invoke' writes it into --output-dir", err))
			}
			options, err := f.connectOptions()
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), options, func(s *session, show *display.Display) error {
				output := filepath.Join(f.outputDir, "results.json")
				summary, err := processFile(cmd.Context(), s, show, input, output)
				if err != nil {
					return err
				}
				show.Note("%d invocations got metrics, %d have none yet; results: %s", summary.GetFoundCount(), summary.GetMissingCount(), output)
				if ids := summary.GetMissingRequestIds(); len(ids) > 0 {
					show.Note("without metrics: %s; platforms write their logs minutes late, so run 'sebs benchmark process' again later", some(ids))
				}
				format, err := a.format()
				if err != nil {
					return err
				}
				return a.printStatistics(format, summary.GetStatistics())
			})
		},
	}
	f.add(cmd, a)
	return cmd
}

// some names the first of many request ids.
func some(ids []string) string {
	const shown = 3
	if len(ids) <= shown {
		return strings.Join(ids, ", ")
	}
	return strings.Join(ids[:shown], ", ") + ", …"
}

// metricsMessage tells which function's metrics are fetched, and what is waited for.
func metricsMessage(p *metricsv1.DownloadMetricsMetadata) string {
	if p.GetMessage() == "" {
		return p.GetFunction()
	}
	return p.GetFunction() + ": " + p.GetMessage()
}

// processFile streams a result file to the service and what comes back into another file, so that neither side ever
// holds it as a whole.
func processFile(ctx context.Context, s *session, show *display.Display, input, output string) (summary *metricsv1.ProcessResultsSummary, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := metricsv1.NewMetricsServiceClient(s.conn).ProcessResults(ctx)
	if err != nil {
		return nil, err
	}
	var sending errgroup.Group
	sending.Go(func() error {
		err := sendResults(stream, input)
		if err != nil {
			cancel()
		}
		return err
	})
	err = writeFile(output, func(w io.Writer) error {
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				show.Finish()
				return nil
			}
			if err != nil {
				return errs.FromStatus(err)
			}
			if p := part.GetProgress(); p != nil {
				show.Update(display.Step{Phase: "metrics", Message: metricsMessage(p), Current: p.GetFoundCount(), Total: p.GetTotalCount()})
			}
			if part.GetSummary() != nil {
				summary = part.GetSummary()
			}
			if _, err := w.Write(part.GetChunk()); err != nil {
				return err
			}
		}
	})
	if sendErr := sending.Wait(); sendErr != nil {
		return nil, sendErr
	}
	if err == nil && summary == nil {
		err = errors.New("the service ended without a summary")
	}
	return summary, err
}

// sendResults sends a result file. A service that has answered before the end makes the rest void; its answer tells why.
func sendResults(stream metricsv1.MetricsService_ProcessResultsClient, name string) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	options := &metricsv1.ProcessResultsRequest_Options{Options: &metricsv1.ProcessResultsOptions{}}
	if err := stream.Send(&metricsv1.ProcessResultsRequest{Part: options}); err != nil {
		return ignoreEnd(err)
	}
	_, err = io.Copy(chunkWriter(func(chunk []byte) error {
		return stream.Send(&metricsv1.ProcessResultsRequest{Part: &metricsv1.ProcessResultsRequest_Chunk{Chunk: chunk}})
	}), file)
	if err != nil {
		return ignoreEnd(err)
	}
	return stream.CloseSend()
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func walkFile(name string, each func(function, key string, inv *sebsformat.Invocation) error) (_ *sebsformat.Header, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return sebsformat.Walk(file, sebsformat.ReadOptions{}, each)
}
