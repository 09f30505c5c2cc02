package faas

import (
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ReasonPlatformError is the stable reason of a platform's error that brings none
// of its own.
const ReasonPlatformError = "PLATFORM_ERROR"

// wrap names the operation that failed and classifies the driver's error once.
func (p *Platform) wrap(err error, format string, args ...any) error {
	operation := fmt.Sprintf(format, args...) + " on platform " + p.name
	if errs.Reason(err) != "" {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return classified(p.driver.Classify(err), operation, err).With("platform", p.name)
}

// classified makes the error of the fault's category.
func classified(fault driver.Fault, operation string, err error) *errs.Error {
	reason := fault.Reason
	if reason == "" {
		reason = ReasonPlatformError
	}
	// The text goes through %v: the message has it once, and the cause stays
	// reachable for errors.Is.
	const format = "%s: %v"
	switch fault.Code {
	case codes.NotFound:
		return errs.NotFound(reason, format, operation, err)
	case codes.InvalidArgument, codes.OutOfRange:
		return errs.InvalidArgument(reason, format, operation, err)
	case codes.AlreadyExists:
		return errs.AlreadyExists(reason, format, operation, err)
	case codes.FailedPrecondition:
		return errs.FailedPrecondition(reason, format, operation, err)
	case codes.Aborted:
		return errs.Aborted(reason, format, operation, err)
	case codes.ResourceExhausted:
		return errs.ResourceExhausted(fault.RetryAfter, reason, format, operation, err)
	case codes.PermissionDenied:
		return errs.PermissionDenied(reason, format, operation, err)
	case codes.Unauthenticated:
		return errs.Unauthenticated(reason, format, operation, err)
	case codes.DeadlineExceeded:
		return errs.DeadlineExceeded(reason, format, operation, err)
	case codes.Canceled:
		return errs.Canceled(reason, format, operation, err)
	case codes.Unimplemented:
		return errs.Unimplemented(reason, format, operation, err)
	case codes.Unavailable:
		return errs.Unavailable(reason, format, operation, err)
	default:
		return errs.Internal(fmt.Errorf("%s: %w", operation, err))
	}
}

// removed turns the answer to a deletion into whether there was something to delete.
func (p *Platform) removed(err error, format string, args ...any) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case p.driver.Classify(err).Code == codes.NotFound:
		return false, nil
	}
	return false, p.wrap(err, format, args...)
}
