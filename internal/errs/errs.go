// Package errs is the suite's error: a gRPC category, a stable reason, a message for the reader, details.
//
// Services and drivers make errors with the constructors named after the categories ([NotFound], [InvalidArgument], …) and
// wrap them with fmt.Errorf("operation: %w", err) on the way up. The server's interceptor turns what arrives into a gRPC
// status ([ToStatus]), clients turn it back ([FromStatus]), so [Code], [Reason] and the rest answer the same on both sides.
//
// The message of a classified error reaches clients; its cause (see [Error.Wrap]) is for the log only. An error that nobody
// classified reaches clients as INTERNAL without its text.
package errs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Domain is the domain of every ErrorInfo that the suite writes.
const Domain = "sebs"

// ReasonInternal is the reason of an error that nobody classified.
const ReasonInternal = "INTERNAL"

// ReasonInvalidFields is the reason of the errors that [Fields] joins.
const ReasonInvalidFields = "INVALID_FIELDS"

// Violation says what is wrong with one field of a request or a configuration.
type Violation struct {
	// Field is the path of the field, such as "config.memory_mb".
	Field string
	// Description says what was wrong and what to do.
	Description string
}

// Error is a classified error. Make it with a constructor of this package.
type Error struct {
	code       codes.Code
	reason     string
	message    string
	metadata   map[string]string
	violations []Violation
	retryAfter time.Duration
	resource   [2]string
	details    []proto.Message
	cause      error
	// quiet: the message already has the text of the cause.
	quiet bool
}

func newError(code codes.Code, reason, format string, args []any) *Error {
	e := &Error{code: code, reason: reason, message: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			// The cause is kept for errors.Is; its text is part of the message.
			e.cause, e.quiet = cause, true
		}
	}
	return e
}

// NotFound says that a named thing does not exist.
func NotFound(reason, format string, args ...any) *Error {
	return newError(codes.NotFound, reason, format, args)
}

// InvalidArgument says that the request is wrong whatever the state of the system.
func InvalidArgument(reason, format string, args ...any) *Error {
	return newError(codes.InvalidArgument, reason, format, args)
}

// FailedPrecondition says that the system is not in the state that the request needs.
func FailedPrecondition(reason, format string, args ...any) *Error {
	return newError(codes.FailedPrecondition, reason, format, args)
}

// AlreadyExists says that the thing to create is there.
func AlreadyExists(reason, format string, args ...any) *Error {
	return newError(codes.AlreadyExists, reason, format, args)
}

// Aborted says that another request came in between; reading again and repeating helps.
func Aborted(reason, format string, args ...any) *Error {
	return newError(codes.Aborted, reason, format, args)
}

// OutOfRange says that a position lies outside of what exists.
func OutOfRange(reason, format string, args ...any) *Error {
	return newError(codes.OutOfRange, reason, format, args)
}

// Unimplemented says that a method or a platform does not do this.
func Unimplemented(reason, format string, args ...any) *Error {
	return newError(codes.Unimplemented, reason, format, args)
}

// ResourceExhausted says that a quota, a limit or a disk is used up. A retryAfter above zero says when to try again.
func ResourceExhausted(retryAfter time.Duration, reason, format string, args ...any) *Error {
	e := newError(codes.ResourceExhausted, reason, format, args)
	e.retryAfter = retryAfter
	return e
}

// Unavailable says that something needed cannot be reached now; trying again later helps.
func Unavailable(reason, format string, args ...any) *Error {
	return newError(codes.Unavailable, reason, format, args)
}

// PermissionDenied says that the caller is known and may not do this.
func PermissionDenied(reason, format string, args ...any) *Error {
	return newError(codes.PermissionDenied, reason, format, args)
}

// Unauthenticated says that the caller is not known.
func Unauthenticated(reason, format string, args ...any) *Error {
	return newError(codes.Unauthenticated, reason, format, args)
}

// DeadlineExceeded says that the time given did not suffice.
func DeadlineExceeded(reason, format string, args ...any) *Error {
	return newError(codes.DeadlineExceeded, reason, format, args)
}

// Canceled says that the caller asked to stop.
func Canceled(reason, format string, args ...any) *Error {
	return newError(codes.Canceled, reason, format, args)
}

// DataLoss says that stored data cannot be read back as it was written.
func DataLoss(reason, format string, args ...any) *Error {
	return newError(codes.DataLoss, reason, format, args)
}

// Internal says that the suite itself is at fault. Clients see a fixed message; the cause is for the log.
func Internal(cause error) *Error {
	return &Error{code: codes.Internal, reason: ReasonInternal, message: "internal error", cause: cause}
}

// Error returns the message and, behind a colon, the text of the cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	if e.quiet {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	return e.cause
}

// GRPCStatus lets the grpc packages read the error as a status.
func (e *Error) GRPCStatus() *status.Status {
	return statusOf(e, e.message)
}

// Message returns what clients see.
func (e *Error) Message() string { return e.message }

// With returns the error with one more entry of metadata. Never pass a secret.
func (e *Error) With(key, value string) *Error {
	c := e.clone()
	if c.metadata == nil {
		c.metadata = make(map[string]string)
	}
	c.metadata[key] = value
	return c
}

// Wrap returns the error with a cause, which is logged and seen by errors.Is, but not shown to clients.
func (e *Error) Wrap(cause error) *Error {
	c := e.clone()
	c.cause, c.quiet = cause, false
	return c
}

// RetryAfter returns the error with the time after which trying again makes sense.
func (e *Error) RetryAfter(d time.Duration) *Error {
	c := e.clone()
	c.retryAfter = d
	return c
}

// Resource returns the error with the type and the name of the thing that it is about, such as "sebs.Function".
func (e *Error) Resource(kind, name string) *Error {
	c := e.clone()
	c.resource = [2]string{kind, name}
	return c
}

// Detail returns the error with one more detail message, such as the log of a failed installation. At most one of a type
// is kept: a later one replaces an earlier one.
func (e *Error) Detail(m proto.Message) *Error {
	c := e.clone()
	name := m.ProtoReflect().Descriptor().FullName()
	kept := make([]proto.Message, 0, len(c.details)+1)
	for _, d := range c.details {
		if d.ProtoReflect().Descriptor().FullName() != name {
			kept = append(kept, d)
		}
	}
	c.details = append(kept, m)
	return c
}

func (e *Error) clone() *Error {
	c := *e
	c.metadata = maps.Clone(e.metadata)
	return &c
}

// Code returns the category of err: OK for nil, INTERNAL where nobody classified it.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if e, ok := find(err); ok {
		return e.code
	}
	if s, ok := foreignStatus(err); ok {
		return s.Code()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

// Is reports whether err is of the category.
func Is(err error, code codes.Code) bool {
	return err != nil && Code(err) == code
}

// Reason returns the stable reason of err, or "" where it has none.
func Reason(err error) string {
	if e, ok := resolve(err); ok {
		return e.reason
	}
	return ""
}

// Metadata returns one entry of the metadata of err, or "".
func Metadata(err error, key string) string {
	if e, ok := resolve(err); ok {
		return e.metadata[key]
	}
	return ""
}

// RetryDelay returns the time after which trying again makes sense, and whether err names one.
func RetryDelay(err error) (time.Duration, bool) {
	e, ok := resolve(err)
	if !ok || e.retryAfter <= 0 {
		return 0, false
	}
	return e.retryAfter, true
}

// Violations returns the field violations of err.
func Violations(err error) []Violation {
	if e, ok := resolve(err); ok {
		return e.violations
	}
	return nil
}

// Details returns the detail messages that [Error.Detail] added.
func Details(err error) []proto.Message {
	if e, ok := resolve(err); ok {
		return e.details
	}
	return nil
}

// find returns the outermost classified error in the chain of err.
func find(err error) (*Error, bool) {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e, true
	}
	return nil, false
}

// resolve finds the classified error, also one that still is a gRPC status.
func resolve(err error) (*Error, bool) {
	if err == nil {
		return nil, false
	}
	if e, ok := find(err); ok {
		return e, true
	}
	if s, ok := foreignStatus(err); ok {
		return fromStatus(s), true
	}
	return nil, false
}

// foreignStatus returns the gRPC status in the chain of err.
func foreignStatus(err error) (*status.Status, bool) {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		if st := s.GRPCStatus(); st != nil {
			return st, true
		}
	}
	return nil, false
}
