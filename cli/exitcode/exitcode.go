// Package exitcode lists the exit codes of the command line and finds the right one for an error.
package exitcode

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
)

// The exit codes. They are part of the command line's contract: docs/cli.md.
const (
	// OK says that everything asked for was done.
	OK = 0
	// Failed says that something went wrong that no other code tells.
	Failed = 1
	// Usage says that the command line or a file it names is wrong.
	Usage = 2
	// NotFound says that something named does not exist.
	NotFound = 3
	// Precondition says that the state of things does not allow what was asked.
	Precondition = 4
	// Unavailable says that a service or platform did not answer in time.
	Unavailable = 5
	// RunInvalid says that the figures of a run cannot be trusted.
	RunInvalid = 6
	// Partial says that results are there and some invocations failed or were invalid.
	Partial = 7
	// Interrupted says that the user broke off.
	Interrupted = 130
)

// Error is an error that brings its exit code along.
type Error struct {
	// Code is the exit code.
	Code int
	// Err is what went wrong; nil when it has been told already.
	Err error
}

// Error tells what went wrong.
func (e *Error) Error() string {
	if e.Err == nil {
		return "failed"
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// With attaches an exit code to an error.
func With(code int, err error) error { return &Error{Code: code, Err: err} }

// Of returns the exit code of an error.
func Of(err error) int {
	if err == nil {
		return OK
	}
	var coded *Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	switch errs.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange:
		return Usage
	case codes.NotFound:
		return NotFound
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted, codes.PermissionDenied,
		codes.Unauthenticated, codes.Unimplemented:
		return Precondition
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return Unavailable
	case codes.Canceled:
		return Interrupted
	default:
		return Failed
	}
}
