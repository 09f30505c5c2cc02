package statistics

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func seriesOf(limit int, values ...float64) *Series {
	s := &Series{ExactLimit: limit}
	for _, v := range values {
		s.Add(v)
	}
	return s
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if math.Abs(got-want) > relative*math.Max(1, math.Abs(want)) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestBasicFigures(t *testing.T) {
	t.Parallel()
	s := seriesOf(0, 2, 4, 4, 4, 5, 5, 7, 9, math.NaN(), math.Inf(1))
	sum := s.Summarize()
	if sum.Count != 8 || sum.Min != 2 || sum.Max != 9 || !sum.Exact {
		t.Errorf("summary = %+v", sum)
	}
	near(t, "mean", sum.Mean, 5, 1e-12)
	near(t, "median", sum.Median, 4.5, 1e-12)
	near(t, "population std", sum.PopulationStd, 2, 1e-12)
	near(t, "sample std", s.SampleStd(), math.Sqrt(32.0/7), 1e-12)
	near(t, "cv", sum.CVPercent, 40, 1e-12)
	// Linear interpolation between closest ranks: 1 + 0.9*7 = rank 7.3, between 7 and 9.
	near(t, "p90", s.Percentile(90), 7.6, 1e-12)
	var empty Series
	if got := empty.Summarize(); got.Count != 0 || got.Mean != 0 || len(got.Intervals) != 0 {
		t.Errorf("empty series gives %+v", got)
	}
}

func TestStudentInterval(t *testing.T) {
	t.Parallel()
	// Tabulated quantiles: t(0.975; 4) = 2.776445, t(0.995; 4) = 4.604095.
	s := seriesOf(0, 1, 2, 3, 4, 5)
	half := 2.776445 * math.Sqrt(2.5) / math.Sqrt(5)
	i, ok := s.Student(0.95)
	if !ok {
		t.Fatal("no interval")
	}
	near(t, "low", i.Low, 3-half, 1e-6)
	near(t, "high", i.High, 3+half, 1e-6)
	near(t, "within", i.WithinPercent, half/3*100, 1e-6)
	i, _ = s.Student(0.99)
	near(t, "high 0.99", i.High, 3+4.604095*math.Sqrt(2.5)/math.Sqrt(5), 1e-6)
	if _, ok := seriesOf(0, 1).Student(0.95); ok {
		t.Error("one value has an interval")
	}
}

func TestMedianRanks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n          int64
		confidence float64
		j, k       int64
		ok         bool
	}{
		{5, 0.95, 0, 0, false},
		{6, 0.95, 1, 6, true},
		{7, 0.99, 0, 0, false},
		{8, 0.99, 1, 8, true},
		{9, 0.95, 2, 8, true},
		{10, 0.95, 2, 9, true},
		{20, 0.95, 6, 15, true},
		{30, 0.95, 10, 21, true},
		{100, 0.95, 40, 61, true},
	} {
		j, k, ok := MedianRanks(c.n, c.confidence)
		if j != c.j || k != c.k || ok != c.ok {
			t.Errorf("MedianRanks(%d, %v) = %d, %d, %v; want %d, %d, %v", c.n, c.confidence, j, k, ok, c.j, c.k, c.ok)
		}
	}
	// The approximation takes over without a step.
	j1, k1, _ := MedianRanks(exactRanksUpTo, 0.95)
	j2, k2, _ := MedianRanks(exactRanksUpTo+1, 0.95)
	if j2-j1 < -2 || j2-j1 > 2 || k2-k1 < -2 || k2-k1 > 3 {
		t.Errorf("ranks jump from %d, %d to %d, %d", j1, k1, j2, k2)
	}
}

func TestLeBoudecIsNotShifted(t *testing.T) {
	t.Parallel()
	// Values equal to their ranks: the interval is its ranks, symmetric about the median.
	s := &Series{}
	for v := 30; v >= 1; v-- {
		s.Add(float64(v))
	}
	i, ok := s.LeBoudec(0.95)
	if !ok || i.Low != 10 || i.High != 21 {
		t.Errorf("interval = %+v, %v; want 10 to 21", i, ok)
	}
	near(t, "within", i.WithinPercent, 5.5/15.5*100, 1e-12)
}

// TestIntervalsCover draws many samples of a skewed distribution and counts how often the true median lies within.
func TestIntervalsCover(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const trials = 2000
	covered, covered99 := 0, 0
	for range trials {
		s := &Series{}
		for range 41 {
			s.Add(random.ExpFloat64())
		}
		if i, _ := s.LeBoudec(0.95); i.Low <= math.Ln2 && math.Ln2 <= i.High {
			covered++
		}
		if i, _ := s.LeBoudec(0.99); i.Low <= math.Ln2 && math.Ln2 <= i.High {
			covered99++
		}
	}
	if share := float64(covered) / trials; share < 0.94 || share > 0.985 {
		t.Errorf("the 0.95 interval covers in %.3f of the samples", share)
	}
	if share := float64(covered99) / trials; share < 0.98 {
		t.Errorf("the 0.99 interval covers in %.3f of the samples", share)
	}
}

func TestMergeEqualsOnePass(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for _, limit := range []int{0, 50} {
		for round := range 50 {
			var all Series
			all.ExactLimit = limit
			parts := make([]Series, 1+random.IntN(5))
			for i := range parts {
				parts[i].ExactLimit = limit
			}
			for range random.IntN(400) {
				v := random.NormFloat64()*1000 + 500
				all.Add(v)
				parts[random.IntN(len(parts))].Add(v)
			}
			merged := Series{ExactLimit: limit}
			for i := range parts {
				merged.Merge(&parts[i])
			}
			if merged.Count() != all.Count() || merged.Min() != all.Min() || merged.Max() != all.Max() {
				t.Fatalf("limit %d, round %d: count, min or max differ", limit, round)
			}
			near(t, "mean", merged.Mean(), all.Mean(), 1e-9)
			near(t, "std", merged.PopulationStd(), all.PopulationStd(), 1e-9)
			if all.Exact() == merged.Exact() {
				near(t, "median", merged.Median(), all.Median(), 1e-12)
				near(t, "p99", merged.Percentile(99), all.Percentile(99), 1e-12)
			}
		}
	}
}

func TestPercentilesAreMonotoneAndWithinBounds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for _, limit := range []int{0, 10} {
		for range 50 {
			s := &Series{ExactLimit: limit}
			for range 1 + random.IntN(300) {
				s.Add(math.Round(random.NormFloat64()*10) * random.ExpFloat64())
			}
			last := s.Min()
			for p := 0.0; p <= 100; p += 0.7 {
				v := s.Percentile(p)
				if v < last || v > s.Max() {
					t.Fatalf("limit %d: p%.1f = %v after %v, max %v", limit, p, v, last, s.Max())
				}
				last = v
			}
		}
	}
}

func TestHistogramIsWithinItsError(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	s := &Series{ExactLimit: 1}
	var values []float64
	for range 20_000 {
		v := math.Exp(random.NormFloat64()*3 + 8)
		if random.IntN(10) == 0 {
			v = -v
		}
		values = append(values, v)
		s.Add(v)
	}
	slices.Sort(values)
	if s.Exact() {
		t.Fatal("the series did not spill")
	}
	for _, rank := range []int64{2, 100, 2000, 5000, 10_000, 15_000, 19_000, 19_990} {
		got, want := s.orderStatistic(rank), values[rank-1]
		if math.Abs(got-want) > math.Abs(want)/2048 {
			t.Errorf("rank %d: %v, true value %v", rank, got, want)
		}
	}
}

func BenchmarkSeriesAdd(b *testing.B) {
	random := rand.New(rand.NewPCG(9, 10))
	values := make([]float64, 1<<16)
	for i := range values {
		values[i] = random.ExpFloat64() * 1e4
	}
	s := &Series{}
	b.ResetTimer()
	for i := range b.N {
		s.Add(values[i&(1<<16-1)])
	}
}

func BenchmarkSummarize10Million(b *testing.B) {
	random := rand.New(rand.NewPCG(11, 12))
	values := make([]float64, 1<<20)
	for i := range values {
		values[i] = random.ExpFloat64() * 1e4
	}
	b.ReportAllocs()
	for b.Loop() {
		s := &Series{}
		for i := range 10_000_000 {
			s.Add(values[i&(1<<20-1)])
		}
		s.Summarize()
	}
}
