package aws

import (
	"context"
	"errors"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Metrics implements driver.Driver. It reads the reports that Lambda writes into the function's log.
func (d *Driver) Metrics(ctx context.Context, query driver.MetricsQuery) (driver.MetricsPage, error) {
	if err := checkName(query.Function); err != nil {
		return driver.MetricsPage{}, err
	}
	input := filter(driver.LogQuery{Function: query.Function, Start: query.Start, End: query.End})
	input.FilterPattern, input.NextToken = sdk.String(`"REPORT RequestId"`), optional(query.PageToken)
	if query.PageSize > 0 {
		input.Limit = sdk.Int32(int32(min(query.PageSize, 10_000)))
	}
	answer, err := d.logs.FilterLogEvents(ctx, input)
	if err != nil {
		_, err = d.withoutLog(ctx, query.Function, err)
		return driver.MetricsPage{}, err
	}
	page := driver.MetricsPage{NextPageToken: sdk.ToString(answer.NextToken)}
	for _, event := range answer.Events {
		report, err := lambdalog.ParseReport(sdk.ToString(event.Message))
		if errors.Is(err, lambdalog.ErrNoReport) {
			continue
		}
		if err != nil {
			return driver.MetricsPage{}, err
		}
		if len(query.RequestIDs) == 0 || slices.Contains(query.RequestIDs, report.RequestID) {
			page.Records = append(page.Records, report.Record(time.UnixMilli(sdk.ToInt64(event.Timestamp)).UTC()))
		}
	}
	slices.SortStableFunc(page.Records, func(a, b driver.InvocationRecord) int { return a.Time.Compare(b.Time) })
	return page, nil
}
