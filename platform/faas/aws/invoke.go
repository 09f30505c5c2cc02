package aws

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ReasonPayloadTooLarge is the reason of a payload that Lambda would refuse.
const ReasonPayloadTooLarge = "PAYLOAD_TOO_LARGE"

// Prepare implements driver.Preparer: it finds out how the function is called, and has the outcomes of events kept.
func (d *Driver) Prepare(ctx context.Context, call driver.Call) error {
	if err := checkPayload(call); err != nil {
		return err
	}
	q, err := d.qualifierOf(ctx, call.Function)
	if err != nil || !call.Async {
		return err
	}
	return d.ensureEvents(ctx, call.Function, q)
}

func checkPayload(call driver.Call) error {
	limit := maxPayloadBytes
	if call.Async {
		limit = maxEventBytes
	}
	if len(call.Payload) <= limit {
		return nil
	}
	return errs.InvalidArgument(ReasonPayloadTooLarge,
		"the payload for function %s has %d bytes, Lambda takes at most %d in such a call; pass large data through a bucket", call.Function, len(call.Payload), limit).
		With("function", call.Function)
}

// Invoke implements driver.Driver. It sends the call once.
func (d *Driver) Invoke(ctx context.Context, call driver.Call) (driver.CallResult, error) {
	if err := d.Prepare(ctx, call); err != nil {
		return driver.CallResult{}, err
	}
	q, err := d.qualifierOf(ctx, call.Function)
	if err != nil {
		return driver.CallResult{}, err
	}
	input := &lambda.InvokeInput{
		FunctionName: &call.Function, Qualifier: optional(q.alias), Payload: call.Payload, InvocationType: types.InvocationTypeRequestResponse,
	}
	if call.Async {
		input.InvocationType = types.InvocationTypeEvent
	} else {
		// The end of the log holds what Lambda measured, so that it is asked for in any case.
		input.LogType = types.LogTypeTail
	}
	began := time.Now()
	answer, err := d.invoker.Invoke(ctx, input)
	if err != nil {
		if missing(err) {
			d.forget(call.Function)
		}
		return driver.CallResult{}, err
	}
	result := driver.CallResult{FunctionError: sdk.ToString(answer.FunctionError)}
	result.RequestID, _ = awsmiddleware.GetRequestIDMetadata(answer.ResultMetadata)
	if call.Async {
		d.outcomes.await(result.RequestID)
		return result, nil
	}
	result.Payload = answer.Payload
	if err := addTail(&result, sdk.ToString(answer.LogResult), began); err != nil {
		return driver.CallResult{}, err
	}
	if !call.LogTail {
		result.LogTail = ""
	}
	return result, nil
}

// addTail completes a result with the end of the log, and with what Lambda measured by its report.
func addTail(result *driver.CallResult, encoded string, began time.Time) error {
	if encoded == "" {
		return nil
	}
	tail, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("read the log tail of request %s: %w", result.RequestID, err)
	}
	result.LogTail = string(tail)
	// The tail has 4 KB; what a function writes can displace nothing behind it, but the report may come too late. One that
	// cannot be read is no failure of the call: who asks for metrics hears of it.
	if report, err := lambdalog.FindReport(result.LogTail, result.RequestID); err == nil {
		record := report.Record(time.Time{})
		record.Time = began
		result.Record = &record
	}
	return nil
}
