package metrics

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

func TestPhasesAndStoredCost(t *testing.T) {
	t.Parallel()
	store := folder{t.TempDir()}
	w := results.NewWriter(store, noLocks{})
	w.Reset(1)
	for i, phase := range []string{phaseWarmUp, "cold", "warm", "warm"} {
		r := testRecord(int64(i), time.Now())
		r.Phase = phase
		r.Function = fmt.Sprintf("%s-%d", testFunction, i%2)
		if i == 3 {
			// The cost that the platform charged stands as it is, the others are computed.
			r.Result.Billing = &typev1.ExecutionBilling{GbSeconds: proto.Float64(2), CostUsd: proto.Float64(0.5)}
		}
		if i == 1 {
			r.Result.Billing = &typev1.ExecutionBilling{GbSeconds: proto.Float64(1)}
		}
		// A segment each, so that several workers share them and their figures are merged.
		batch := &typev1.InvocationBatch{Run: testRun, Invoker: "invokers/i1", Batch: int64(i), Records: []*typev1.InvocationRecord{r}}
		if err := w.Add(uint64(i+1), batch, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := results.NewReader(store, filepath.Join(t.TempDir(), "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	count := func(phase string) (n int64, last *metricsv1.FunctionStatistics) {
		t.Helper()
		s, err := runStatistics(t.Context(), reader, testRun, phase, testBook(t).Find("local", "", "arm64"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.GetFunctions() {
			n += f.GetCount()
			last = f
		}
		return n, last
	}
	for phase, want := range map[string]int64{"": 3, phaseWarmUp: 1, "warm": 2, "cold": 1, "other": 0} {
		if n, _ := count(phase); n != want {
			t.Errorf("phase %q has %d invocations, want %d", phase, n, want)
		}
	}
	_, f := count("")
	want := 0.5 + 0.0000133334 + 0.0000002
	if f.GetGbSeconds() != 3 || math.Abs(f.GetCostUsd()-want) > 1e-12 || !f.GetCostEstimated() {
		t.Errorf("cost %v (estimated %v) for %v GB-seconds, want %v", f.GetCostUsd(), f.GetCostEstimated(), f.GetGbSeconds(), want)
	}
}

func TestFailuresAreCountedByClass(t *testing.T) {
	t.Parallel()
	c := newCollector("", testBook(t).Find("aws", "us-east-1", "x64"))
	for _, class := range []string{"", "timeout", "timeout", "out_of_memory"} {
		s := &sample{function: "f", failed: true, errorClass: class, gbSeconds: math.NaN(), costUSD: math.NaN()}
		c.add(s)
	}
	f := c.message().GetFunctions()[0]
	if f.GetCount() != 4 || f.GetFailureCount() != 4 || len(f.GetGroups()) != 0 || f.CostUsd != nil || f.GbSeconds != nil {
		t.Errorf("statistics = %v", f)
	}
	for class, want := range map[string]int64{"unclassified": 1, "timeout": 2, "out_of_memory": 1} {
		if f.GetFailures()[class] != want {
			t.Errorf("failures = %v", f.GetFailures())
		}
	}
}
