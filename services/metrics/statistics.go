package metrics

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/statistics"
	"github.com/sebs-suite/sebs/services/metrics/prices"
)

// The series of a group, in the order they are answered.
const (
	seriesClient = iota
	seriesFunction
	seriesProvider
	seriesInit
	seriesMemory
	seriesCompute
	seriesUpload
	seriesDownload
	seriesCount
)

var seriesNames = [seriesCount]string{
	"client_exec", "function_exec", "provider_exec", "init", "memory", "compute_time", "upload_time", "download_time",
}

const (
	unitMicros = "us"
	unitMB     = "MB"
)

// phaseWarmUp is left out unless asked for: its calls only prepare the measurement.
const phaseWarmUp = "warm-up"

// unclassified is the class of failures that nobody has classified, such as those of SeBS files.
const unclassified = "unclassified"

// sample is what statistics need of one invocation. NaN stands for an unknown figure, which series leave out.
type sample struct {
	function   string
	cold       bool
	failed     bool
	errorClass string
	values     [seriesCount]float64
	// gbSeconds and costUSD are NaN when unknown.
	gbSeconds, costUSD float64
	estimated          bool
}

// collector gathers the statistics of a run or a file.
type collector struct {
	run       string
	functions map[string]*functionCollector
	// price is what invocations without a known cost are priced at.
	price prices.Price
}

type functionCollector struct {
	count, failures int64
	classes         map[string]int64
	// groups are warm and cold.
	groups    [2]*groupCollector
	gbSeconds float64
	// billed counts invocations with known GB-seconds or cost.
	billed int64
	// costUSD is the sum of known costs, estimated tells that some of them are estimates.
	costUSD   float64
	estimated bool
	// unpriced are invocations with known GB-seconds and unknown cost, which is computed at the end.
	unpriced          int64
	unpricedGBSeconds float64
}

type groupCollector struct {
	count  int64
	series [seriesCount]statistics.Series
}

func newCollector(run string, p prices.Price) *collector {
	return &collector{run: run, functions: make(map[string]*functionCollector), price: p}
}

func (c *collector) function(name string) *functionCollector {
	f := c.functions[name]
	if f == nil {
		f = &functionCollector{classes: make(map[string]int64)}
		c.functions[name] = f
	}
	return f
}

// merge adds what another collector gathered.
func (c *collector) merge(other *collector) {
	for name, from := range other.functions {
		f := c.function(name)
		f.count += from.count
		f.failures += from.failures
		for class, n := range from.classes {
			f.classes[class] += n
		}
		f.gbSeconds += from.gbSeconds
		f.billed += from.billed
		f.costUSD += from.costUSD
		f.estimated = f.estimated || from.estimated
		f.unpriced += from.unpriced
		f.unpricedGBSeconds += from.unpricedGBSeconds
		for i, g := range from.groups {
			if g == nil {
				continue
			}
			into := f.group(i == coldGroup)
			into.count += g.count
			for k := range g.series {
				into.series[k].Merge(&g.series[k])
			}
		}
	}
}

func (c *collector) add(s *sample) { c.addTo(c.function(s.function), s) }

func (c *collector) addTo(f *functionCollector, s *sample) {
	f.count++
	f.addCost(s)
	if s.failed {
		f.failures++
		class := s.errorClass
		if class == "" {
			class = unclassified
		}
		f.classes[class]++
		return
	}
	g := f.group(s.cold)
	g.count++
	for i, v := range s.values {
		g.series[i].Add(v)
	}
}

// warmGroup and coldGroup are the places of the groups.
const (
	warmGroup = iota
	coldGroup
)

func (f *functionCollector) group(cold bool) *groupCollector {
	i := warmGroup
	if cold {
		i = coldGroup
	}
	if f.groups[i] == nil {
		f.groups[i] = &groupCollector{}
	}
	return f.groups[i]
}

func (f *functionCollector) addCost(s *sample) {
	knownGBSeconds, knownCost := !math.IsNaN(s.gbSeconds), !math.IsNaN(s.costUSD)
	if !knownGBSeconds && !knownCost {
		return
	}
	f.billed++
	if knownGBSeconds {
		f.gbSeconds += s.gbSeconds
	}
	if knownCost {
		f.costUSD += s.costUSD
		f.estimated = f.estimated || s.estimated
		return
	}
	f.unpriced++
	f.unpricedGBSeconds += s.gbSeconds
}

// message builds the answer.
func (c *collector) message() *metricsv1.Statistics {
	out := &metricsv1.Statistics{Run: c.run}
	names := make([]string, 0, len(c.functions))
	for name := range c.functions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out.Functions = append(out.Functions, c.functions[name].message(name, &c.price))
	}
	return out
}

func (f *functionCollector) message(name string, p *prices.Price) *metricsv1.FunctionStatistics {
	out := &metricsv1.FunctionStatistics{Function: name, Count: f.count, FailureCount: f.failures}
	if len(f.classes) > 0 {
		out.Failures = f.classes
	}
	if f.billed > 0 {
		out.CostUsd = proto.Float64(f.costUSD + p.Cost(f.unpricedGBSeconds, f.unpriced))
		out.CostEstimated = f.estimated || (p.Estimated && f.unpriced > 0)
		out.GbSeconds = proto.Float64(f.gbSeconds)
		out.Price, out.BilledCount = priceMessage(p), f.billed
	}
	for _, i := range []int{coldGroup, warmGroup} {
		if g := f.groups[i]; g != nil {
			out.Groups = append(out.Groups, g.message(i == coldGroup))
		}
	}
	return out
}

func (g *groupCollector) message(cold bool) *metricsv1.GroupStatistics {
	out := &metricsv1.GroupStatistics{ColdStart: cold, Count: g.count}
	for i := range g.series {
		s := &g.series[i]
		if s.Count() == 0 {
			continue
		}
		unit := unitMicros
		if i == seriesMemory {
			unit = unitMB
		}
		out.Series = append(out.Series, seriesMessage(seriesNames[i], unit, s.Summarize()))
	}
	return out
}

func seriesMessage(name, unit string, s statistics.Summary) *metricsv1.Series {
	out := &metricsv1.Series{
		Name: name, Unit: unit, Count: s.Count, Mean: s.Mean, Median: s.Median, Std: s.PopulationStd, CvPercent: s.CVPercent,
		Min: s.Min, Max: s.Max, Percentiles: make(map[string]float64, len(s.Percentiles)),
	}
	for _, p := range s.Percentiles {
		out.Percentiles[p.Name] = p.Value
	}
	for _, i := range s.Intervals {
		out.Intervals = append(out.Intervals, &metricsv1.ConfidenceInterval{
			Method: string(i.Method), Confidence: i.Confidence, Low: i.Low, High: i.High, WithinPercent: i.WithinPercent,
		})
	}
	return out
}
