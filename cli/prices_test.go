package cli

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
)

func testPrice(region string, estimated bool) *metricsv1.Price {
	return &metricsv1.Price{
		Platform: "aws", Region: region, Architecture: "x64", AsOf: "2025-08-01", UsdPerRequest: 0.0000002, UsdPerGbSecond: 0.0000166667, Estimated: estimated,
		Tiers: []*metricsv1.PriceTier{
			{UpToGbSeconds: 6e9, UsdPerGbSecond: 0.0000166667}, {UpToGbSeconds: 15e9, UsdPerGbSecond: 0.000015}, {UsdPerGbSecond: 0.0000133334},
		},
	}
}

func TestPriceLines(t *testing.T) {
	t.Parallel()
	statistics := &metricsv1.Statistics{Functions: []*metricsv1.FunctionStatistics{
		{Count: 1, BilledCount: 1, GbSeconds: proto.Float64(1), Price: testPrice("us-east-1", false)},
		{Count: 1, BilledCount: 1, GbSeconds: proto.Float64(2), Price: testPrice("us-east-1", false)},
		{Count: 1, BilledCount: 1, GbSeconds: proto.Float64(7e9), Price: testPrice("us-east-1", true)},
		{Count: 1, BilledCount: 1, GbSeconds: proto.Float64(1e12), Price: testPrice("", false)},
		{Count: 1},
	}}
	want := []string{
		"Cost at the list prices of aws us-east-1 for x64 as of 2025-08-01: $0.0000166667 per GB-second (tier 1), $0.2 per million requests",
		"Cost at the list prices of aws us-east-1 for x64 as of 2025-08-01: $0.000015 per GB-second (tier 2), $0.2 per million requests; an estimate, for want of prices of this platform and region",
		"Cost at the list prices of aws for x64 as of 2025-08-01: $0.0000133334 per GB-second (tier 3), $0.2 per million requests",
	}
	if got := priceLines(statistics); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPriceRows(t *testing.T) {
	t.Parallel()
	custom := testPrice("", false)
	custom.Custom = true
	rows := priceRows([]*metricsv1.Price{testPrice("us-east-1", false), testPrice("us-east-1", true), custom})
	for i, want := range map[int]string{
		0: "us-east-1 x64 1 6000000000 0.0000166667 0.2 2025-08-01 built in",
		5: "us-east-1 x64 3 - 0.0000133334 0.2 2025-08-01 estimate",
		7: "- x64 2 15000000000 0.000015 0.2 2025-08-01 prices_file",
	} {
		if got := strings.Join(rows.Lines[i], " "); got != want {
			t.Errorf("line %d is %q and has to be %q", i, got, want)
		}
	}
}

func TestCostOfSome(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]*metricsv1.FunctionStatistics{
		"-":                        {Count: 3},
		"0.5":                      {Count: 3, BilledCount: 3, CostUsd: proto.Float64(0.5)},
		"0.5 of 2":                 {Count: 3, BilledCount: 2, CostUsd: proto.Float64(0.5)},
		"1.23e-06 of 2 (estimate)": {Count: 3, BilledCount: 2, CostUsd: proto.Float64(0.00000123456), CostEstimated: true},
	} {
		if got := cost(f); got != want {
			t.Errorf("the cost is %q and has to be %q", got, want)
		}
	}
}
