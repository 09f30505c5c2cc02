package statistics

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// Method tells how an interval was computed.
type Method string

const (
	// MethodStudent is about the mean.
	MethodStudent Method = "student"
	// MethodLeBoudec is about the median.
	MethodLeBoudec Method = "le_boudec"
)

// Interval is a confidence interval.
type Interval struct {
	Method     Method
	Confidence float64
	Low, High  float64
	// WithinPercent is half the width in percent of the centre (mean or median); 0 when the centre is 0.
	WithinPercent float64
}

func newInterval(method Method, confidence, low, high, centre float64) Interval {
	i := Interval{Method: method, Confidence: confidence, Low: low, High: high}
	if centre != 0 {
		i.WithinPercent = math.Abs((high - low) / 2 / centre * 100)
	}
	return i
}

// Student returns Student's interval about the mean; false for fewer than two values or a confidence outside (0, 1).
func (s *Series) Student(confidence float64) (Interval, bool) {
	if s.count < 2 || confidence <= 0 || confidence >= 1 {
		return Interval{}, false
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(s.count - 1)}.Quantile((1 + confidence) / 2)
	half := t * s.SampleStd() / math.Sqrt(float64(s.count))
	return newInterval(MethodStudent, confidence, s.mean-half, s.mean+half, s.mean), true
}

// LeBoudec returns the interval about the median from order statistics; false where there are too few values for the confidence (six
// are needed for 0.95, eight for 0.99).
func (s *Series) LeBoudec(confidence float64) (Interval, bool) {
	j, k, ok := MedianRanks(s.count, confidence)
	if !ok {
		return Interval{}, false
	}
	return newInterval(MethodLeBoudec, confidence, s.orderStatistic(j), s.orderStatistic(k), s.Median()), true
}

// exactRanksUpTo is the count up to which ranks come from the binomial distribution; above it the normal approximation differs by
// less than a rank in a hundred.
const exactRanksUpTo = 10_000

// MedianRanks returns the one-based ranks j and k of the order statistics between which the median of the distribution lies with at
// least the given confidence, and false when n values are too few for it.
func MedianRanks(n int64, confidence float64) (j, k int64, ok bool) {
	if n < 2 || confidence <= 0 || confidence >= 1 {
		return 0, 0, false
	}
	if n > exactRanksUpTo {
		z := distuv.UnitNormal.Quantile((1 + confidence) / 2)
		spread := z * math.Sqrt(float64(n))
		j = int64(math.Floor((float64(n) - spread) / 2))
		k = int64(math.Ceil((float64(n)+spread)/2)) + 1
		return max(j, 1), min(k, n), true
	}
	// The interval [x(j), x(n+1−j)] covers with 1 − 2·B(j−1), which falls with j: search the first j that is too narrow.
	b := distuv.Binomial{N: float64(n), P: 0.5}
	tooNarrow := sort.Search(int(n/2), func(i int) bool {
		return 1-2*b.CDF(float64(i)) < confidence
	})
	if tooNarrow == 0 {
		return 0, 0, false
	}
	j = int64(tooNarrow)
	return j, n + 1 - j, true
}
