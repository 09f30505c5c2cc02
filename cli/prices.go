package cli

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/output"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
)

func (a *app) pricesCommand() *cobra.Command {
	var platform, region string
	cmd := &cobra.Command{
		Use:   "prices",
		Short: "Show the prices that costs are computed with, and their dates",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			prices, err := metricsv1.NewMetricsServiceClient(c.conn).ListPrices(c.ctx, &metricsv1.ListPricesRequest{
				Parent: "platforms/" + platform, Region: region,
			})
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, prices, func() output.Rows { return priceRows(prices.GetPrices()) })
		}),
	}
	cmd.Flags().StringVar(&platform, "deployment", "aws", "platform whose prices are shown")
	cmd.Flags().StringVar(&region, "region", "", "only this region, at an estimate where its prices are not known (default: all that are known)")
	return cmd
}

// priceRows lays prices out: a line per tier.
func priceRows(prices []*metricsv1.Price) output.Rows {
	rows := output.Rows{Header: []string{"REGION", "ARCHITECTURE", "TIER", "UP TO GB-S A MONTH", "USD PER GB-S", "USD PER MILLION REQUESTS", "AS OF", "FROM"}}
	for _, p := range prices {
		from := "built in"
		switch {
		case p.GetEstimated():
			from = "estimate"
		case p.GetCustom():
			from = "prices_file"
		}
		for i, tier := range p.GetTiers() {
			upTo := "-"
			if tier.GetUpToGbSeconds() > 0 {
				upTo = strconv.FormatFloat(tier.GetUpToGbSeconds(), 'f', -1, 64)
			}
			rows.Lines = append(rows.Lines, []string{
				orDash(p.GetRegion()), p.GetArchitecture(), strconv.Itoa(i + 1), upTo, decimal(tier.GetUsdPerGbSecond()),
				decimal(p.GetUsdPerRequest() * 1e6), p.GetAsOf(), from,
			})
		}
	}
	return rows
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// decimal writes a small number without an exponent and without the dust of floating point.
func decimal(v float64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 11, 64), 64)
	if err != nil {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// priceLines tells which prices the cost of statistics rests on, each once.
func priceLines(statistics *metricsv1.Statistics) []string {
	var lines []string
	for _, f := range statistics.GetFunctions() {
		p := f.GetPrice()
		if p == nil {
			continue
		}
		place := p.GetPlatform()
		if p.GetRegion() != "" {
			place += " " + p.GetRegion()
		}
		tier := tierOf(p, f.GetGbSeconds())
		line := fmt.Sprintf("Cost at the list prices of %s for %s as of %s: $%s per GB-second (tier %d), $%s per million requests",
			place, p.GetArchitecture(), p.GetAsOf(), decimal(p.GetTiers()[tier].GetUsdPerGbSecond()), tier+1, decimal(p.GetUsdPerRequest()*1e6))
		if p.GetEstimated() {
			line += "; an estimate, for want of prices of this platform and region"
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// tierOf returns the place of the tier that so many GB-seconds reach.
func tierOf(p *metricsv1.Price, gbSeconds float64) int {
	for i, tier := range p.GetTiers() {
		if tier.GetUpToGbSeconds() == 0 || gbSeconds <= tier.GetUpToGbSeconds() {
			return i
		}
	}
	return len(p.GetTiers()) - 1
}
