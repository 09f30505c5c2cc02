package aws

import (
	"context"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Metrics implements driver.Driver. It reads the reports that Lambda writes into the function's log.
func (d *Driver) Metrics(ctx context.Context, query driver.MetricsQuery) (driver.MetricsPage, error) {
	if err := checkName(query.Function); err != nil {
		return driver.MetricsPage{}, err
	}
	page, err := d.reports.Metrics(ctx, query)
	if err != nil || len(page.Records) > 0 || query.PageToken != "" {
		return page, err
	}
	// A function whose reports are late has no records yet, and neither has one that does not exist.
	_, err = d.find(ctx, query.Function)
	return page, err
}
