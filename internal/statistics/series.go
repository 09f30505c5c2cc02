package statistics

import (
	"math"
	"slices"
)

// DefaultExactLimit is how many values a Series keeps before it turns to a histogram: 2 MiB of memory.
const DefaultExactLimit = 1 << 18

// Series collects the values of one measurement. The zero value is ready to use. It is not safe for concurrent use; collect one per
// worker and Merge them.
type Series struct {
	// ExactLimit is how many values are kept; 0 means DefaultExactLimit. Set it before the first value.
	ExactLimit int

	count    int64
	mean, m2 float64
	min, max float64
	values   []float64
	sorted   bool
	spilled  *histogram
}

// Add takes one value. NaN and infinities are not measurements and are left out.
func (s *Series) Add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if s.count == 0 {
		s.min, s.max = v, v
	}
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.count++
	delta := v - s.mean
	s.mean += delta / float64(s.count)
	s.m2 += delta * (v - s.mean)
	s.keep(v)
}

func (s *Series) keep(v float64) {
	if s.spilled != nil {
		s.spilled.add(v, 1)
		return
	}
	if len(s.values) >= s.limit() {
		s.spill()
		s.spilled.add(v, 1)
		return
	}
	s.values = append(s.values, v)
	s.sorted = false
}

func (s *Series) limit() int {
	if s.ExactLimit > 0 {
		return s.ExactLimit
	}
	return DefaultExactLimit
}

func (s *Series) spill() {
	s.spilled = &histogram{}
	for _, v := range s.values {
		s.spilled.add(v, 1)
	}
	s.values = nil
}

// Merge adds the values of another series, which stays as it is.
func (s *Series) Merge(other *Series) {
	if other.count == 0 {
		return
	}
	if s.count == 0 {
		s.min, s.max = other.min, other.max
	}
	s.min, s.max = min(s.min, other.min), max(s.max, other.max)
	n, m := float64(s.count), float64(other.count)
	delta := other.mean - s.mean
	s.mean += delta * m / (n + m)
	s.m2 += other.m2 + delta*delta*n*m/(n+m)
	s.count += other.count

	if other.spilled != nil {
		if s.spilled == nil {
			s.spill()
		}
		s.spilled.merge(other.spilled)
		return
	}
	for _, v := range other.values {
		s.keep(v)
	}
}

// Count returns how many values there are.
func (s *Series) Count() int64 { return s.count }

// Exact reports whether order statistics (median, percentiles, the interval about the median) are exact; otherwise they are within
// 0.05 % of the true value.
func (s *Series) Exact() bool { return s.spilled == nil }

// Mean returns the arithmetic mean, 0 without values.
func (s *Series) Mean() float64 { return s.mean }

// Min returns the smallest value, 0 without values.
func (s *Series) Min() float64 { return s.min }

// Max returns the largest value, 0 without values.
func (s *Series) Max() float64 { return s.max }

// PopulationStd returns the standard deviation with divisor n.
func (s *Series) PopulationStd() float64 {
	if s.count == 0 {
		return 0
	}
	return math.Sqrt(max(s.m2, 0) / float64(s.count))
}

// SampleStd returns the standard deviation with divisor n−1, 0 for fewer than two values.
func (s *Series) SampleStd() float64 {
	if s.count < 2 {
		return 0
	}
	return math.Sqrt(max(s.m2, 0) / float64(s.count-1))
}

// CVPercent returns the coefficient of variation, population standard deviation by mean, in percent; 0 when the mean is 0.
func (s *Series) CVPercent() float64 {
	if s.mean == 0 {
		return 0
	}
	return s.PopulationStd() / s.mean * 100
}

// Median returns the 50th percentile.
func (s *Series) Median() float64 { return s.Percentile(50) }

// Percentile returns the value that p percent of the values do not exceed, by linear interpolation between the closest ranks; p is
// held within 0 and 100. It is 0 without values.
func (s *Series) Percentile(p float64) float64 {
	if s.count == 0 {
		return 0
	}
	rank := 1 + min(max(p, 0), 100)/100*float64(s.count-1)
	low := int64(math.Floor(rank))
	value := s.orderStatistic(low)
	fraction := rank - float64(low)
	if fraction > 0 && low < s.count {
		value += fraction * (s.orderStatistic(low+1) - value)
	}
	return value
}

// orderStatistic returns the value of the given one-based rank.
func (s *Series) orderStatistic(rank int64) float64 {
	rank = min(max(rank, 1), s.count)
	switch rank {
	case 1:
		return s.min
	case s.count:
		return s.max
	}
	if s.spilled != nil {
		return min(max(s.spilled.at(rank), s.min), s.max)
	}
	if !s.sorted {
		slices.Sort(s.values)
		s.sorted = true
	}
	return s.values[rank-1]
}

// Percentile is one point of a distribution.
type Percentile struct {
	// Name is p50, p90, p95, p99 or p99.9.
	Name string
	// P is the percentage.
	P     float64
	Value float64
}

// standardPercentiles are those that Summarize computes.
var standardPercentiles = [...]Percentile{
	{Name: "p50", P: 50}, {Name: "p90", P: 90}, {Name: "p95", P: 95}, {Name: "p99", P: 99}, {Name: "p99.9", P: 99.9},
}

// Confidences are the confidences that Summarize computes intervals for.
var Confidences = [...]float64{0.95, 0.99}

// Summary describes a series.
type Summary struct {
	Count        int64
	Mean, Median float64
	// PopulationStd has divisor n.
	PopulationStd float64
	CVPercent     float64
	Min, Max      float64
	// Exact tells whether median and percentiles are exact.
	Exact       bool
	Percentiles []Percentile
	// Intervals holds Student's and Le Boudec's interval for each of Confidences, where there are values enough.
	Intervals []Interval
}

// Summarize describes the series.
func (s *Series) Summarize() Summary {
	sum := Summary{
		Count: s.count, Mean: s.mean, Median: s.Median(), PopulationStd: s.PopulationStd(), CVPercent: s.CVPercent(),
		Min: s.min, Max: s.max, Exact: s.Exact(),
	}
	for _, p := range standardPercentiles {
		p.Value = s.Percentile(p.P)
		sum.Percentiles = append(sum.Percentiles, p)
	}
	for _, confidence := range Confidences {
		if i, ok := s.Student(confidence); ok {
			sum.Intervals = append(sum.Intervals, i)
		}
		if i, ok := s.LeBoudec(confidence); ok {
			sum.Intervals = append(sum.Intervals, i)
		}
	}
	return sum
}
