package cli

import (
	"fmt"
	"path"
	"strconv"

	"github.com/sebs-suite/sebs/cli/output"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
)

// printRun prints a run: who it was, and a table of its latencies.
func (a *app) printRun(format output.Format, run *experimentsv1.Run) error {
	if format != output.Table {
		return output.Message(a.Stdout, format, run, nil)
	}
	for _, f := range run.GetFunctions() {
		config := f.GetFunction().GetConfig()
		runtime := config.GetRuntime()
		line := fmt.Sprintf("%s · %s · %s %s · %s · %d MB", f.GetFunction().GetBenchmark(),
			run.GetRequest().GetTarget().GetPlatform(), nameOf(runtime.GetLanguage(), languageNames), runtime.GetVersion(),
			nameOf(config.GetArchitecture(), architectureNames), config.GetMemoryMb())
		if sandbox := run.GetProvenance().GetSandbox(); sandbox != "" {
			line += " · " + sandbox + " sandboxes"
		}
		if _, err := fmt.Fprintln(a.Stdout, line); err != nil {
			return err
		}
	}
	return a.writeStatistics(run.GetStatistics())
}

// writeStatistics writes statistics as a table, and what their cost rests on.
func (a *app) writeStatistics(statistics *metricsv1.Statistics) error {
	if err := statisticsRows(statistics).Write(a.Stdout); err != nil {
		return err
	}
	for _, line := range priceLines(statistics) {
		if _, err := fmt.Fprintln(a.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// printStatistics prints statistics alone.
func (a *app) printStatistics(format output.Format, statistics *metricsv1.Statistics) error {
	if format == output.Table {
		return a.writeStatistics(statistics)
	}
	return output.Message(a.Stdout, format, statistics, nil)
}

// statisticsRows lays out statistics: a line per function and temperature.
func statisticsRows(statistics *metricsv1.Statistics) output.Rows {
	rows := output.Rows{Header: []string{
		"FUNCTION", "START", "N", "FAILED", "P50 MS", "P95 MS", "P99 MS", "FUNCTION P50 MS", "INIT P50 MS", "MEMORY MB", "COST USD",
	}}
	for _, f := range statistics.GetFunctions() {
		name := path.Base(f.GetFunction())
		for _, group := range f.GetGroups() {
			start := "warm"
			if group.GetColdStart() {
				start = "cold"
			}
			client, handler := seriesNamed(group, "client_exec"), seriesNamed(group, "function_exec")
			rows.Lines = append(rows.Lines, []string{
				name, start, strconv.FormatInt(group.GetCount(), 10), "-",
				millis(client, "p50"), millis(client, "p95"), millis(client, "p99"), millis(handler, "p50"),
				millis(seriesNamed(group, "init"), "p50"), maximum(seriesNamed(group, "memory")), "-",
			})
		}
		rows.Lines = append(rows.Lines, []string{
			name, "all", strconv.FormatInt(f.GetCount(), 10), strconv.FormatInt(f.GetFailureCount(), 10),
			"-", "-", "-", "-", "-", "-", cost(f),
		})
	}
	return rows
}

func seriesNamed(group *metricsv1.GroupStatistics, name string) *metricsv1.Series {
	for _, s := range group.GetSeries() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// millis prints a percentile of a series in milliseconds.
func millis(s *metricsv1.Series, percentile string) string {
	value, ok := s.GetPercentiles()[percentile]
	if s.GetCount() == 0 || !ok {
		return "-"
	}
	if s.GetUnit() == "us" {
		value /= 1000
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}

func maximum(s *metricsv1.Series) string {
	if s.GetCount() == 0 {
		return "-"
	}
	return strconv.FormatFloat(s.GetMax(), 'f', 0, 64)
}

func cost(f *metricsv1.FunctionStatistics) string {
	if f.CostUsd == nil {
		return "-"
	}
	text := strconv.FormatFloat(f.GetCostUsd(), 'g', 3, 64)
	if n := f.GetBilledCount(); n > 0 && n < f.GetCount() {
		text += fmt.Sprintf(" of %d", n)
	}
	if f.GetCostEstimated() {
		text += " (estimate)"
	}
	return text
}
