package errs

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ToStatus returns err as a gRPC status with its details. The text of wrapping errors goes in front of the message; causes
// and unclassified errors stay out of it.
func ToStatus(err error) *status.Status {
	if err == nil {
		return nil
	}
	if e, ok := find(err); ok {
		return statusOf(e, publicMessage(err, e))
	}
	if s, ok := foreignStatus(err); ok {
		return s
	}
	switch {
	case errors.Is(err, context.Canceled):
		return statusOf(Canceled("CANCELED", "the request was cancelled"), "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		e := DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline of the request passed; give it more time")
		return statusOf(e, e.message)
	}
	e := Internal(err)
	return statusOf(e, e.message)
}

// publicMessage returns the text of the whole chain with the classified error's cause cut out.
func publicMessage(err error, e *Error) string {
	full, inner := err.Error(), e.Error()
	if inner == e.message {
		return full
	}
	if i := strings.LastIndex(full, inner); i >= 0 {
		return full[:i] + e.message + full[i+len(inner):]
	}
	return e.message
}

func statusOf(e *Error, message string) *status.Status {
	st := status.New(e.code, strings.ToValidUTF8(message, "�"))
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{
		Reason:   e.reason,
		Domain:   Domain,
		Metadata: e.metadata,
	})}
	if len(e.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		details = append(details, protoadapt.MessageV1Of(bad))
	}
	if e.retryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)}))
	}
	if e.resource[1] != "" {
		details = append(details, protoadapt.MessageV1Of(&errdetails.ResourceInfo{
			ResourceType: e.resource[0],
			ResourceName: e.resource[1],
		}))
	}
	for _, d := range e.details {
		details = append(details, protoadapt.MessageV1Of(d))
	}
	with, err := st.WithDetails(details...)
	if err != nil {
		// Details that cannot be encoded must not hide the error itself.
		return st
	}
	return with
}

// FromStatus turns an error of a gRPC call back into an [Error]. Errors without a status are returned as they are.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := find(err); ok {
		return err
	}
	s, ok := foreignStatus(err)
	if !ok {
		return err
	}
	if s.Code() == codes.OK {
		return nil
	}
	return fromStatus(s)
}

// FromProto turns the error of a long-running operation into an [Error]; nil for nil.
func FromProto(s *spb.Status) error {
	if s == nil || s.GetCode() == int32(codes.OK) {
		return nil
	}
	return fromStatus(status.FromProto(s))
}

func fromStatus(s *status.Status) *Error {
	e := &Error{code: s.Code(), message: s.Message()}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			e.reason = d.GetReason()
			e.metadata = d.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.violations = append(e.violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.retryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.ResourceInfo:
			e.resource = [2]string{d.GetResourceType(), d.GetResourceName()}
		case proto.Message:
			e.details = append(e.details, d)
		}
	}
	// errors.Is(err, context.Canceled) holds on both sides of the wire.
	if e.code == codes.Canceled {
		e.cause, e.quiet = context.Canceled, true
	}
	if e.code == codes.DeadlineExceeded {
		e.cause, e.quiet = context.DeadlineExceeded, true
	}
	return e
}
