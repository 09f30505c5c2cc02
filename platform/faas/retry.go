package faas

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// RetryPolicy bounds how often a control call is repeated when a platform
// throttles or is away for a moment. Invocations are never repeated: a measurement
// counts each attempt.
type RetryPolicy struct {
	// Attempts is the number of tries in all, 5 if 0.
	Attempts int
	// Base is the upper bound of the first pause, 100 ms if 0. It doubles with
	// each try; the pause itself is drawn between half of the bound and the bound.
	Base time.Duration
	// Max bounds a pause, 10 s if 0. A pause that the platform asked for is kept
	// as long as it is not longer than Max.
	Max time.Duration
	// Throttled is how long a call that the platform throttles is repeated, whatever
	// the number of tries, 5 min if 0. Many calls at once get their turn late, and
	// each needs many tries for it.
	Throttled time.Duration
}

func (r RetryPolicy) withDefaults() RetryPolicy {
	if r.Attempts <= 0 {
		r.Attempts = 5
	}
	if r.Base <= 0 {
		r.Base = 100 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 10 * time.Second
	}
	if r.Throttled <= 0 {
		r.Throttled = 5 * time.Minute
	}
	return r
}

// pause returns how long to wait after the failed try with the given number,
// counted from 1.
func (r RetryPolicy) pause(try int, fault driver.Fault) time.Duration {
	if fault.RetryAfter > 0 {
		return min(fault.RetryAfter, r.Max)
	}
	bound := r.Base
	for range try - 1 {
		if bound *= 2; bound >= r.Max {
			bound = r.Max
			break
		}
	}
	return bound/2 + rand.N(bound/2+1)
}

// retryable tells whether the call that ended with the fault may be repeated.
func retryable(fault driver.Fault) bool {
	return fault.Retry || fault.Code == codes.Unavailable || fault.Code == codes.ResourceExhausted
}

// used tells whether the policy is used up after a try that ended with the fault. Tries
// that were throttled count by time only.
func (r RetryPolicy) used(tries int, since time.Time, fault driver.Fault) bool {
	if fault.Code == codes.ResourceExhausted {
		return time.Since(since) >= r.Throttled
	}
	return tries >= r.Attempts
}

// retry runs f until it succeeds, fails for good, or the policy is used up.
func retry[T any](ctx context.Context, p *Platform, operation string, f func(context.Context) (T, error)) (T, error) {
	first, tries := time.Now(), 0
	for try := 1; ; try++ {
		began := time.Now()
		result, err := f(ctx)
		p.measure(operation, began, err)
		if err == nil {
			return result, nil
		}
		fault := p.driver.Classify(err)
		if fault.Code != codes.ResourceExhausted {
			tries++
		}
		if ctx.Err() != nil || !retryable(fault) || p.retry.used(tries, first, fault) {
			return result, err
		}
		timer := time.NewTimer(p.retry.pause(try, fault))
		select {
		case <-ctx.Done():
			timer.Stop()
			return result, err
		case <-timer.C:
		}
	}
}
