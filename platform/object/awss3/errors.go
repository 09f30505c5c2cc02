package awss3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/object/driver"
)

// keyError is what the API says of one key of a batch.
type keyError struct {
	key, code, message string
}

func (e *keyError) Error() string { return fmt.Sprintf("delete %s: %s: %s", e.key, e.code, e.message) }

// answer is what the store said of a failed request; zero when it said nothing.
type answer struct {
	code   string
	status int
}

func answerOf(err error) answer {
	var a answer
	var key *keyError
	var api smithy.APIError
	switch {
	case errors.As(err, &key):
		a.code = key.code
	case errors.As(err, &api):
		a.code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		a.status = response.HTTPStatusCode()
	}
	return a
}

// failed marks the errors of a full store. (S3 has no end, but what takes its place may.)
func failed(err error) error {
	if a := answerOf(err); a.status == http.StatusInsufficientStorage || a.code == "InsufficientStorage" || a.code == "QuotaExceeded" {
		return fmt.Errorf("%w: %w", driver.ErrFull, err)
	}
	return err
}

// codesOf classifies the names of S3's errors. HEAD requests have no body, so that theirs are made of the status.
var codesOf = map[string]codes.Code{
	"NoSuchBucket": codes.NotFound, "NoSuchKey": codes.NotFound, "NoSuchUpload": codes.NotFound, "NotFound": codes.NotFound,
	"BucketAlreadyExists": codes.AlreadyExists, "BucketAlreadyOwnedByYou": codes.AlreadyExists, "PreconditionFailed": codes.AlreadyExists,
	"BucketNotEmpty": codes.FailedPrecondition, "ObjectParentIsFile": codes.FailedPrecondition, "ExistingObjectIsDirectory": codes.FailedPrecondition,
	"InvalidBucketName": codes.InvalidArgument, "InvalidArgument": codes.InvalidArgument, "InvalidRequest": codes.InvalidArgument,
	"KeyTooLongError": codes.InvalidArgument, "EntityTooLarge": codes.InvalidArgument, "BadDigest": codes.InvalidArgument,
	"XAmzContentChecksumMismatch": codes.InvalidArgument, "IllegalLocationConstraintException": codes.InvalidArgument,
	"InvalidLocationConstraint": codes.InvalidArgument, "TooManyBuckets": codes.ResourceExhausted,
	"InvalidRange": codes.OutOfRange,
	"AccessDenied": codes.PermissionDenied, "AllAccessDisabled": codes.PermissionDenied, "MethodNotAllowed": codes.PermissionDenied,
	"Forbidden": codes.PermissionDenied, "AccountProblem": codes.PermissionDenied,
	"InvalidAccessKeyId": codes.Unauthenticated, "SignatureDoesNotMatch": codes.Unauthenticated, "ExpiredToken": codes.Unauthenticated,
	"InvalidToken": codes.Unauthenticated, "RequestTimeTooSkewed": codes.Unauthenticated, "TokenRefreshRequired": codes.Unauthenticated,
	"SlowDown": codes.ResourceExhausted, "TooManyRequests": codes.ResourceExhausted, "RequestLimitExceeded": codes.ResourceExhausted,
	"Throttling": codes.ResourceExhausted, "ThrottlingException": codes.ResourceExhausted,
	"OperationAborted": codes.Unavailable, "ConditionalRequestConflict": codes.Unavailable, "RequestTimeout": codes.Unavailable,
	"NotImplemented": codes.Unimplemented,
}

// codesOfStatus classifies answers without a known name.
var codesOfStatus = map[int]codes.Code{
	http.StatusNotFound: codes.NotFound, http.StatusForbidden: codes.PermissionDenied, http.StatusUnauthorized: codes.Unauthenticated,
	http.StatusPreconditionFailed: codes.AlreadyExists, http.StatusRequestedRangeNotSatisfiable: codes.OutOfRange,
	http.StatusTooManyRequests: codes.ResourceExhausted, http.StatusInternalServerError: codes.Unavailable,
	http.StatusBadGateway: codes.Unavailable, http.StatusServiceUnavailable: codes.Unavailable, http.StatusGatewayTimeout: codes.Unavailable,
}

// ErrorCode implements driver.Store.
func (s *Store) ErrorCode(err error) codes.Code {
	switch {
	case err == nil:
		return codes.OK
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, driver.ErrFull):
		return codes.ResourceExhausted
	}
	a := answerOf(err)
	if code, ok := codesOf[a.code]; ok {
		return code
	}
	if code, ok := codesOfStatus[a.status]; ok {
		return code
	}
	var network net.Error
	var request *url.Error
	if errors.As(err, &network) || errors.As(err, &request) || errors.Is(err, io.ErrUnexpectedEOF) {
		return codes.Unavailable
	}
	return codes.Unknown
}

// rangeHeader writes a range as HTTP does; nil is all of the object.
func rangeHeader(r driver.Range) *string {
	var header string
	switch {
	case r.LengthBytes > 0:
		header = fmt.Sprintf("bytes=%d-%d", r.OffsetBytes, r.OffsetBytes+r.LengthBytes-1)
	case r.OffsetBytes > 0:
		header = fmt.Sprintf("bytes=%d-", r.OffsetBytes)
	default:
		return nil
	}
	return &header
}

// wholeSize reads the size behind the slash of "bytes 0-9/1234".
func wholeSize(contentRange string) (int64, bool) {
	_, total, ok := strings.Cut(contentRange, "/")
	if !ok {
		return 0, false
	}
	var n int64
	if _, err := fmt.Sscanf(total, "%d", &n); err != nil {
		return 0, false
	}
	return n, true
}
