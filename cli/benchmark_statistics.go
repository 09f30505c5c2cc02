package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/internal/statistics"
)

// fileSeries are the series of `benchmark statistics` in the order of SeBS, and memory.
var fileSeries = []string{"init", "provider_exec", "function_exec", "client_exec", "compute_time", "upload_time", "download_time", "memory_mb"}

// fileGroup is a function's cold or warm invocations in a result file.
type fileGroup struct {
	function string
	cold     bool
	series   map[string]*statistics.Series
}

func (a *app) benchmarkStatisticsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "statistics RESULTS",
		Short:   "Print statistics of an experiments.json or results.json",
		Example: "  sebs benchmark statistics results.json --output json",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			format, err := a.format()
			if err != nil {
				return err
			}
			groups, failures, err := collectFile(args[0])
			if err != nil {
				if os.IsNotExist(err) {
					return exitcode.With(exitcode.NotFound, fmt.Errorf("RESULTS: %w", err))
				}
				return exitcode.With(exitcode.Usage, fmt.Errorf("RESULTS %s: %w", args[0], err))
			}
			if failures > 0 {
				fmt.Fprintf(a.Stderr, "sebs: %d failed invocation(s) left out\n", failures)
			}
			if format != output.Table {
				return output.Value(a.Stdout, format, groupsTree(groups))
			}
			return groupRows(groups).Write(a.Stdout)
		},
	}
}

// collectFile reads the series of a result file in bounded memory. Failed invocations are counted and left out.
func collectFile(name string) ([]*fileGroup, int, error) {
	var groups []*fileGroup
	index := map[string]*fileGroup{}
	failures := 0
	_, err := walkFile(name, func(function, _ string, inv *sebsformat.Invocation) error {
		if inv.Stats.Failure {
			failures++
			return nil
		}
		key := fmt.Sprintf("%s %t", function, inv.Stats.ColdStart)
		g := index[key]
		if g == nil {
			g = &fileGroup{function: function, cold: inv.Stats.ColdStart, series: map[string]*statistics.Series{}}
			index[key] = g
			groups = append(groups, g)
		}
		g.add(inv)
		return nil
	})
	return groups, failures, err
}

func (g *fileGroup) put(name string, value float64) {
	if g.series[name] == nil {
		g.series[name] = &statistics.Series{}
	}
	g.series[name].Add(value)
}

// add takes the figures of one invocation; those that it does not have are left out.
func (g *fileGroup) add(inv *sebsformat.Invocation) {
	g.put("client_exec", float64(inv.Times.ClientMicros))
	if v := inv.Times.BenchmarkMicros; v > 0 {
		g.put("function_exec", float64(v))
	}
	if v := inv.ProviderTimes.ExecutionMicros; v != nil {
		g.put("provider_exec", float64(*v))
	}
	if v := inv.ProviderTimes.InitializationMicros; v != nil {
		g.put("init", float64(*v))
	}
	if v := inv.Stats.MemoryUsedMB; v != nil {
		g.put("memory_mb", *v)
	}
	for name, value := range measurements(inv.Output) {
		g.put(name, value)
	}
}

// measurements takes the figures that a benchmark reports of itself out of its answer: `result.measurement`, or
// `result.output.measurement` in files of SeBS's local platform.
func measurements(answer json.RawMessage) map[string]float64 {
	var shape struct {
		Result struct {
			Measurement map[string]json.Number `json:"measurement"`
			Output      struct {
				Measurement map[string]json.Number `json:"measurement"`
			} `json:"output"`
		} `json:"result"`
	}
	// Answers of other shapes have no measurement; that is no error.
	if json.Unmarshal(answer, &shape) != nil {
		return nil
	}
	found := shape.Result.Measurement
	if found == nil {
		found = shape.Result.Output.Measurement
	}
	figures := map[string]float64{}
	for _, name := range []string{"compute_time", "upload_time", "download_time"} {
		if value, err := found[name].Float64(); err == nil {
			figures[name] = value
		}
	}
	return figures
}

func groupRows(groups []*fileGroup) output.Rows {
	rows := output.Rows{Header: []string{"FUNCTION", "START", "SERIES", "N", "MEAN", "MEDIAN", "STD", "CV %", "P95", "P99", "95 % OF MEAN"}}
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	for _, g := range groups {
		start := "warm"
		if g.cold {
			start = "cold"
		}
		for _, name := range fileSeries {
			s := g.series[name]
			if s == nil || s.Count() == 0 {
				continue
			}
			interval := "-"
			if i, ok := s.Student(0.95); ok {
				interval = number(i.Low) + " … " + number(i.High)
			}
			rows.Lines = append(rows.Lines, []string{
				g.function, start, name, strconv.FormatInt(s.Count(), 10), number(s.Mean()), number(s.Median()),
				number(s.PopulationStd()), number(s.CVPercent()), number(s.Percentile(95)), number(s.Percentile(99)), interval,
			})
		}
	}
	return rows
}

func groupsTree(groups []*fileGroup) []map[string]any {
	tree := make([]map[string]any, 0, len(groups))
	for _, g := range groups {
		series := map[string]any{}
		for name, s := range g.series {
			series[name] = s.Summarize()
		}
		tree = append(tree, map[string]any{"function": g.function, "cold_start": g.cold, "series": series})
	}
	return tree
}
