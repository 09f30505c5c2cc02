package metrics

import (
	"context"
	"math"
	"runtime"

	"github.com/parquet-go/parquet-go"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/services/metrics/prices"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// statisticsColumns are the columns that statistics read, in the order of the indexes below.
var statisticsColumns = []string{
	"function", "phase", "cold_start", "failure", "error_class", "gb_seconds", "cost_usd", "cost_estimated",
	"client_us", "benchmark_us", "provider_execution_us", "provider_initialization_us", "memory_used_mb",
	"compute_time_us", "upload_time_us", "download_time_us",
}

const (
	columnFunction = iota
	columnPhase
	columnCold
	columnFailure
	columnErrorClass
	columnGBSeconds
	columnCost
	columnCostEstimated
	// columnSeries is the first column of the series, which come in the series' order.
	columnSeries
)

// runStatistics reads the columns of a run. phase selects one phase; empty means all but warm-up.
func runStatistics(ctx context.Context, reader *results.Reader, run, phase string, p prices.Price) (*metricsv1.Statistics, error) {
	// Each worker has a collector of its own; they are merged in their order, so that the sums come out the same.
	collectors := make([]*collector, min(runtime.GOMAXPROCS(0), maxStatisticsWorkers))
	visitors := make([]func([][]parquet.Value) error, len(collectors))
	for i := range collectors {
		collectors[i] = newCollector(run, p)
		visitors[i] = collectors[i].visitor(phase)
	}
	if err := reader.Columns(ctx, run, statisticsColumns, visitors); err != nil {
		return nil, err
	}
	for _, other := range collectors[1:] {
		collectors[0].merge(other)
	}
	return collectors[0].message(), nil
}

// maxStatisticsWorkers leaves processors to those who measure.
const maxStatisticsWorkers = 4

// visitor returns a function that adds the invocations of columns.
func (c *collector) visitor(phase string) func(columns [][]parquet.Value) error {
	var s sample
	var current *functionCollector
	return func(columns [][]parquet.Value) error {
		for i := range columns[columnFunction] {
			if !phaseMatches(phase, columns[columnPhase][i].ByteArray()) {
				continue
			}
			function := columns[columnFunction][i].ByteArray()
			if current == nil || string(function) != s.function {
				s.function = string(function)
				current = c.function(s.function)
			}
			s.cold, s.failed = columns[columnCold][i].Boolean(), columns[columnFailure][i].Boolean()
			s.errorClass = ""
			if s.failed {
				s.errorClass = string(columns[columnErrorClass][i].ByteArray())
			}
			s.gbSeconds, s.costUSD = number(columns[columnGBSeconds][i]), number(columns[columnCost][i])
			s.estimated = columns[columnCostEstimated][i].Boolean()
			for k := range s.values {
				s.values[k] = number(columns[columnSeries+k][i])
			}
			c.addTo(current, &s)
		}
		return nil
	}
}

func phaseMatches(wanted string, phase []byte) bool {
	if wanted == "" {
		return string(phase) != phaseWarmUp
	}
	return string(phase) == wanted
}

func number(v parquet.Value) float64 {
	switch {
	case v.IsNull():
		return math.NaN()
	case v.Kind() == parquet.Int64:
		return float64(v.Int64())
	default:
		return v.Double()
	}
}
