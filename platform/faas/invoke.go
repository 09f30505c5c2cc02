package faas

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Prepare does what the platform needs before it can make a call, so that a call that
// follows soon is measured without it. It checks the payload's size too.
func (p *Platform) Prepare(ctx context.Context, call driver.Call) error {
	preparer, ok := p.driver.(driver.Preparer)
	if !ok {
		return nil
	}
	_, err := retry(ctx, p, "Prepare", func(ctx context.Context) (struct{}, error) { return struct{}{}, preparer.Prepare(ctx, call) })
	if err != nil {
		return p.wrap(err, "prepare the call of function %s", call.Function)
	}
	return nil
}

// RequireAsync refuses a platform that does not queue calls by itself, or does not tell
// how they ended.
func (p *Platform) RequireAsync(ctx context.Context) error {
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return err
	}
	if err := p.Require("queueing calls by itself", caps.AsyncInvoke); err != nil {
		return err
	}
	return p.Require("telling the results of calls that it queued", caps.AsyncResults)
}

// AsyncResult waits for the outcome of a call that the platform queued, as long as ctx
// allows.
func (p *Platform) AsyncResult(ctx context.Context, function, requestID string) (driver.CallResult, error) {
	if err := p.RequireAsync(ctx); err != nil {
		return driver.CallResult{}, err
	}
	resulter, ok := p.driver.(driver.AsyncResulter)
	if !ok {
		return driver.CallResult{}, p.Require("telling the results of calls that it queued", driver.No("its driver does not fetch them"))
	}
	for pause := p.poll; ; pause = min(2*pause, 2*time.Second) {
		result, err := retry(ctx, p, "AsyncResult", func(ctx context.Context) (driver.CallResult, error) {
			return resulter.AsyncResult(ctx, function, requestID)
		})
		if err == nil {
			return result, nil
		}
		if p.driver.Classify(err).Code != codes.NotFound {
			return driver.CallResult{}, p.wrap(err, "fetch the result of request %s of function %s", requestID, function)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return driver.CallResult{}, fmt.Errorf("wait for the result of request %s of function %s on platform %s: %w", requestID, function, p.name, context.Cause(ctx))
		case <-timer.C:
		}
	}
}
