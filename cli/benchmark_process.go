package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// processChunk is how many invocations one request for metrics names; without their answers they take a few MB.
const processChunk = 10_000

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
				p := &processor{app: a, s: s, show: show, filled: map[string]map[string]*sebsformat.Invocation{}, metrics: map[string]json.RawMessage{}}
				if err := p.download(cmd.Context(), input); err != nil {
					return err
				}
				output := filepath.Join(f.outputDir, "results.json")
				if err := p.write(input, output); err != nil {
					return err
				}
				show.Note("%d invocations got metrics, %d have none yet; results: %s", p.found, p.missing, output)
				return nil
			})
		},
	}
	f.add(cmd, a)
	return cmd
}

// processor adds metrics to a result file in two passes, so that the answers in it are never all in memory.
type processor struct {
	*app
	s              *session
	show           *display.Display
	filled         map[string]map[string]*sebsformat.Invocation
	metrics        map[string]json.RawMessage
	found, missing int64
}

// download asks for the metrics of every invocation of the file.
func (p *processor) download(ctx context.Context, input string) error {
	chunk := newChunk()
	header, err := walkFile(input, func(function, _ string, inv *sebsformat.Invocation) error {
		bare := *inv
		bare.Output = json.RawMessage("{}")
		chunk.Add(function, &bare)
		return nil
	})
	if err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("read %s: %w", input, err))
	}
	for _, part := range split(chunk, processChunk) {
		part.Header = *header
		if err := p.ask(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func newChunk() *sebsformat.Experiment {
	return &sebsformat.Experiment{Invocations: map[string]map[string]*sebsformat.Invocation{}}
}

// split cuts an experiment into parts of at most n invocations.
func split(e *sebsformat.Experiment, n int) []*sebsformat.Experiment {
	var parts []*sebsformat.Experiment
	part, count := newChunk(), 0
	for _, function := range sortedKeys(e.Invocations) {
		for _, key := range sortedKeys(e.Invocations[function]) {
			if count == n {
				parts = append(parts, part)
				part, count = newChunk(), 0
			}
			if part.Invocations[function] == nil {
				part.Invocations[function] = map[string]*sebsformat.Invocation{}
			}
			part.Invocations[function][key] = e.Invocations[function][key]
			count++
		}
	}
	return append(parts, part)
}

// ask downloads the metrics of one part and remembers what came back.
func (p *processor) ask(ctx context.Context, part *sebsformat.Experiment) error {
	var raw bytes.Buffer
	if err := sebsformat.Write(&raw, part); err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	op, err := metricsv1.NewMetricsServiceClient(p.s.conn).DownloadMetrics(ctx, &metricsv1.DownloadMetricsRequest{ResultsJson: raw.Bytes()})
	if err != nil {
		return err
	}
	response := &metricsv1.DownloadMetricsResponse{}
	if err := p.follow(ctx, p.s, p.show, op, response); err != nil {
		return err
	}
	content := response.GetResultsJson()
	if ref := response.GetResultsRef(); ref != "" {
		if content, err = readReference(ctx, p.s, ref); err != nil {
			return err
		}
	}
	filled, err := sebsformat.Read(bytes.NewReader(content), sebsformat.ReadOptions{})
	if err != nil {
		return fmt.Errorf("read the processed results: %w", err)
	}
	p.found += response.GetFoundCount()
	p.missing += response.GetMissingCount()
	for function, invocations := range filled.Invocations {
		if p.filled[function] == nil {
			p.filled[function] = map[string]*sebsformat.Invocation{}
		}
		for key, inv := range invocations {
			p.filled[function][key] = inv
		}
	}
	for function, values := range filled.Metrics {
		p.metrics[function] = values
	}
	return nil
}

// write copies the file with what was downloaded put in.
func (p *processor) write(input, output string) error {
	merged := newChunk()
	return writeFile(output, func(w io.Writer) error {
		header, err := walkFile(input, func(function, key string, inv *sebsformat.Invocation) error {
			if filled := p.filled[function][key]; filled != nil {
				inv.ProviderTimes, inv.Billing = filled.ProviderTimes, filled.Billing
				inv.Stats.MemoryUsedMB = filled.Stats.MemoryUsedMB
			}
			if merged.Invocations[function] == nil {
				merged.Invocations[function] = map[string]*sebsformat.Invocation{}
			}
			merged.Invocations[function][key] = inv
			return nil
		})
		if err != nil {
			return err
		}
		merged.Header = *header
		merged.Metrics = p.metrics
		return sebsformat.Write(w, merged)
	})
}

func walkFile(name string, each func(function, key string, inv *sebsformat.Invocation) error) (_ *sebsformat.Header, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return sebsformat.Walk(file, sebsformat.ReadOptions{}, each)
}
