package local

import (
	"context"
	"slices"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Invoke implements driver.Driver.
func (d *Driver) Invoke(ctx context.Context, call driver.Call) (driver.CallResult, error) {
	request := &localv1.InvokeFunctionRequest{
		FunctionId:     call.Function,
		Payload:        call.Payload,
		InvocationType: localv1.InvokeFunctionRequest_INVOCATION_TYPE_REQUEST_RESPONSE,
		LogTail:        call.LogTail,
	}
	if call.Async {
		request.InvocationType = localv1.InvokeFunctionRequest_INVOCATION_TYPE_EVENT
	}
	answer, err := d.client.InvokeFunction(ctx, request)
	if err != nil {
		return driver.CallResult{}, err
	}
	result := driver.CallResult{
		RequestID:     answer.GetRequestId(),
		Payload:       answer.GetPayload(),
		FunctionError: answer.GetFunctionError(),
		LogTail:       answer.GetLogTail(),
	}
	if answer.GetInvocation() != nil {
		r := record(answer.GetInvocation())
		result.Record = &r
	}
	return result, nil
}

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, query driver.LogQuery) (driver.LogPage, error) {
	request := &localv1.ListLocalLogsRequest{
		FunctionId: query.Function, StartTime: stamp(query.Start), EndTime: stamp(query.End),
		PageSize: int32(query.PageSize), PageToken: query.PageToken,
	}
	// The service filters by one request; of several the lines are picked here.
	if len(query.RequestIDs) == 1 {
		request.RequestId = query.RequestIDs[0]
	}
	answer, err := d.client.ListLocalLogs(ctx, request)
	if err != nil {
		return driver.LogPage{}, err
	}
	page := driver.LogPage{NextPageToken: answer.GetNextPageToken()}
	for _, line := range answer.GetLines() {
		if len(query.RequestIDs) == 0 || slices.Contains(query.RequestIDs, line.GetRequestId()) {
			page.Lines = append(page.Lines, driver.LogLine{Time: timeOf(line.GetTime()), RequestID: line.GetRequestId(), Text: line.GetText()})
		}
	}
	return page, nil
}

// Metrics implements driver.Driver.
func (d *Driver) Metrics(ctx context.Context, query driver.MetricsQuery) (driver.MetricsPage, error) {
	answer, err := d.client.ListLocalInvocations(ctx, &localv1.ListLocalInvocationsRequest{
		FunctionId: query.Function, StartTime: stamp(query.Start), EndTime: stamp(query.End),
		RequestIds: query.RequestIDs, PageSize: int32(query.PageSize), PageToken: query.PageToken,
	})
	if err != nil {
		return driver.MetricsPage{}, err
	}
	page := driver.MetricsPage{NextPageToken: answer.GetNextPageToken()}
	for _, in := range answer.GetInvocations() {
		page.Records = append(page.Records, record(in))
	}
	return page, nil
}

// Discover implements driver.Driver. Sandboxes and triggers go with their function,
// so functions are all there is.
func (d *Driver) Discover(ctx context.Context, deployment string) ([]driver.Resource, error) {
	var found []driver.Resource
	query := driver.ListQuery{Deployment: deployment}
	for {
		page, err := d.ListFunctions(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, fn := range page.Functions {
			found = append(found, driver.Resource{Type: driver.ResourceFunction, ID: fn.Name})
		}
		if page.NextPageToken == "" {
			return found, nil
		}
		query.PageToken = page.NextPageToken
	}
}

// DeleteResource implements driver.Driver.
func (d *Driver) DeleteResource(ctx context.Context, resource driver.Resource) error {
	if resource.Type != driver.ResourceFunction {
		return errs.NotFound("RESOURCE_NOT_FOUND", "the local platform has no %s %q", resource.Type, resource.ID)
	}
	return d.DeleteFunction(ctx, resource.ID)
}
