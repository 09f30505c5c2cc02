package aws

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Reasons of faults that have more than one code at AWS.
const (
	ReasonCredentialsExpired = "CREDENTIALS_EXPIRED"
	ReasonCredentialsRefused = "CREDENTIALS_REFUSED"
	ReasonThrottled          = "THROTTLED"
	ReasonUpdateInProgress   = "UPDATE_IN_PROGRESS"
)

// codeIn tells whether err is an answer of AWS with one of the codes.
func codeIn(err error, wanted ...string) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && slices.Contains(wanted, answer.ErrorCode())
}

// says tells whether err is an answer of AWS whose text contains one of the parts.
func says(err error, parts ...string) bool {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return false
	}
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(answer.ErrorMessage(), part) })
}

// missing tells whether err says that a thing does not exist.
func missing(err error) bool {
	return errs.Is(err, codes.NotFound) || codeIn(err, "ResourceNotFoundException", "NotFoundException", "NoSuchEntity", "NoSuchBucket",
		"RepositoryNotFoundException", "ProvisionedConcurrencyConfigNotFoundException",
		"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
}

// taken tells whether err says that the thing to create is there.
func taken(err error) bool {
	switch {
	case codeIn(err, "EntityAlreadyExists", "ResourceAlreadyExistsException", "QueueAlreadyExists"):
		return true
	case codeIn(err, "ResourceConflictException", "ConflictException"):
		return says(err, "already exist", "FunctionUrlConfig exists", "Alias already exists")
	}
	return false
}

// changing tells whether err says that another change of the function is going on.
func changing(err error) bool {
	return codeIn(err, "ResourceConflictException") && !taken(err)
}

// pending tells whether repeating soon helps: another change is going on, or a role, a policy or a permission is not
// known everywhere yet.
func pending(err error) bool {
	return changing(err) ||
		codeIn(err, "InvalidParameterValueException") && says(err, "cannot be assumed by Lambda",
			"role does not have permissions to call", "KMS key is invalid for CreateGrant",
			// So Lambda names a queue, for outcomes of events, that it does not see yet.
			"destination ARN") ||
		codeIn(err, "InvalidArgument") && says(err, "Unable to validate the following destination configurations") ||
		codeIn(err, "OperationAborted", "ConcurrentModification", "ConcurrentModificationException", "OperationAbortedException",
			"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently", "DeleteConflict")
}

// Classify implements driver.Driver.
func (d *Driver) Classify(err error) driver.Fault {
	if err == nil {
		return driver.Fault{Code: codes.OK}
	}
	// The suite's own errors, and ends of the context, are clear already. The SDK's errors for a cancelled request hold
	// the context's.
	if reason := errs.Reason(err); reason != "" {
		fault := driver.Fault{Code: errs.Code(err), Reason: reason}
		fault.RetryAfter, _ = errs.RetryDelay(err)
		return fault
	}
	switch {
	case errors.Is(err, context.Canceled):
		return driver.Fault{Code: codes.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return driver.Fault{Code: codes.DeadlineExceeded}
	}
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return connectionFault(err)
	}
	fault := answered(err, answer.ErrorCode())
	if fault.Reason == "" {
		fault.Reason = answer.ErrorCode()
	}
	fault.RetryAfter = retryAfter(err)
	var over waited
	if errors.As(err, &over) {
		if fault.Retry = false; fault.Code == codes.Unavailable {
			fault.Code = codes.FailedPrecondition
		}
	}
	return fault
}

// connectionFault classifies an error without an answer.
func connectionFault(err error) driver.Fault {
	var (
		network net.Error
		send    *smithyhttp.RequestSendError
		many    *sdk.RequestCanceledError
	)
	switch {
	case errors.As(err, &many):
		return driver.Fault{Code: codes.Canceled}
	case errors.As(err, &send), errors.As(err, &network):
		return driver.Fault{Code: codes.Unavailable}
	}
	return driver.Fault{Code: codes.Internal}
}

// answered classifies an answer of AWS by its code, and by its HTTP status where the code says nothing.
func answered(err error, code string) driver.Fault {
	switch code {
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException",
		"RequestLimitExceeded", "SlowDown", "BandwidthLimitExceeded", "EC2ThrottledException", "PriorRequestNotComplete", "RequestThrottledByService":
		return driver.Fault{Code: codes.ResourceExhausted, Reason: ReasonThrottled, Retry: true}
	case "CodeStorageExceededException", "LimitExceeded", "LimitExceededException", "ServiceQuotaExceededException", "PolicyLengthExceededException":
		// A quota that is used up does not come back by waiting, so there is no code that makes callers repeat.
		return driver.Fault{Code: codes.FailedPrecondition}
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired":
		return driver.Fault{Code: codes.Unauthenticated, Reason: ReasonCredentialsExpired}
	case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException",
		"AuthFailure", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature", "IncompleteSignatureException", "InvalidToken", "NotSignedUp":
		return driver.Fault{Code: codes.Unauthenticated, Reason: ReasonCredentialsRefused}
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "OptInRequired", "KMSAccessDeniedException":
		return driver.Fault{Code: codes.PermissionDenied}
	case "RequestTooLargeException", "RequestEntityTooLargeException", "InvalidParameterValueException", "InvalidParameterValue", "ValidationException",
		"ValidationError", "InvalidParameterException", "InvalidRequestContentException", "BadRequestException", "MalformedPolicyDocument",
		"InvalidInput", "InvalidArgument", "UnsupportedMediaTypeException", "InvalidZipFileException":
		if pending(err) {
			return driver.Fault{Code: codes.Unavailable, Retry: true}
		}
		return driver.Fault{Code: codes.InvalidArgument}
	case "InternalError", "InternalFailure", "InternalServerException", "ServiceException", "ServiceUnavailable", "ServiceUnavailableException",
		"ServiceFailure", "ServiceFailureException", "EC2UnexpectedException", "RequestTimeout", "RequestTimeoutException":
		return driver.Fault{Code: codes.Unavailable, Retry: true}
	}
	switch {
	case missing(err):
		return driver.Fault{Code: codes.NotFound}
	case taken(err):
		return driver.Fault{Code: codes.AlreadyExists}
	case changing(err):
		return driver.Fault{Code: codes.Aborted, Reason: ReasonUpdateInProgress, Retry: true}
	case pending(err):
		return driver.Fault{Code: codes.Aborted, Retry: true}
	}
	return byStatus(err)
}

// byStatus classifies an answer whose code is not known.
func byStatus(err error) driver.Fault {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return driver.Fault{Code: codes.Internal}
	}
	switch status := response.HTTPStatusCode(); {
	case status == http.StatusTooManyRequests:
		return driver.Fault{Code: codes.ResourceExhausted, Reason: ReasonThrottled, Retry: true}
	case status == http.StatusUnauthorized:
		return driver.Fault{Code: codes.Unauthenticated, Reason: ReasonCredentialsRefused}
	case status == http.StatusForbidden:
		return driver.Fault{Code: codes.PermissionDenied}
	case status == http.StatusNotFound:
		return driver.Fault{Code: codes.NotFound}
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return driver.Fault{Code: codes.FailedPrecondition}
	case status >= http.StatusInternalServerError:
		return driver.Fault{Code: codes.Unavailable, Retry: true}
	case status >= http.StatusBadRequest:
		return driver.Fault{Code: codes.InvalidArgument}
	}
	return driver.Fault{Code: codes.Internal}
}

// retryAfter reads how long AWS asked to wait.
func retryAfter(err error) time.Duration {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil {
		return 0
	}
	seconds, parseErr := strconv.ParseFloat(response.Response.Header.Get("Retry-After"), 64)
	if parseErr != nil || seconds <= 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
