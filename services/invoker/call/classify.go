package call

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// functionErrorHeaders are the headers in which platforms say that the function failed and how, such as `Unhandled`.
func functionErrorHeaders() []string {
	return []string{"X-Sebs-Function-Error", "X-Amz-Function-Error"}
}

// Headers in which the local platform tells of an invocation whether or not it failed.
const (
	requestIDHeader = "X-Sebs-Request-Id"
	coldHeader      = "X-Sebs-Cold-Start"
	droppedHeader   = "X-Sebs-Output-Dropped"
)

// lambdaIDHeader is where a function URL of AWS Lambda tells the request id.
const lambdaIDHeader = "X-Amzn-Requestid"

// outputNote tells that a function printed more than the platform keeps; empty if it did not.
func outputNote(header http.Header, target Target) string {
	dropped, err := strconv.ParseInt(header.Get(droppedHeader), 10, 64)
	if err != nil || dropped <= 0 {
		return ""
	}
	return fmt.Sprintf("function %s printed more than its log keeps: at least %d KB are lost; print less, printing is part of the measured time",
		target.FunctionID, (dropped+1023)/1024)
}

// cancelled tells why a call ended early: its own time, or its caller.
func cancelled(ctx context.Context, input Input, target Target) (typev1.ErrorClass, string) {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return typev1.ErrorClass_ERROR_CLASS_CANCELLED, fmt.Sprintf(
			"no answer from function %s within %s; give the call more time, or %s", target.FunctionID, input.Timeout, logHint(target))
	}
	return typev1.ErrorClass_ERROR_CLASS_CANCELLED, "the call was cancelled before its answer came"
}

// connectionFailure classifies an error of the HTTP client.
func connectionFailure(ctx context.Context, err error, target Target, input Input) (typev1.ErrorClass, string) {
	if ctx.Err() != nil {
		return cancelled(ctx, input, target)
	}
	var (
		where = target.Trigger.GetUrl()
		dns   *net.DNSError
		text  string
	)
	switch {
	case errors.Is(err, errLinkLocal):
		text = fmt.Sprintf("%s leads to a link-local address; %v", where, errLinkLocal)
	case errors.Is(err, syscall.ECONNREFUSED):
		text = fmt.Sprintf("cannot connect to %s: the connection was refused; look whether platform %s runs and whether the function still exists",
			where, target.Platform)
	case errors.As(err, &dns):
		text = fmt.Sprintf("cannot find the host of %s: %v; look whether the function still exists and the network works", where, dns)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		text = fmt.Sprintf("%s closed the connection before the answer was complete; %s", where, logHint(target))
	default:
		text = fmt.Sprintf("the connection to %s failed: %v", where, err)
	}
	return typev1.ErrorClass_ERROR_CLASS_CONNECTION, text
}

// errorDocument is the object that platforms answer for a failed function.
type errorDocument struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func readErrorDocument(answer []byte) (errorDocument, bool) {
	var document errorDocument
	if json.Unmarshal(answer, &document) != nil || document.Type == "" && document.Message == "" {
		return errorDocument{}, false
	}
	return document, true
}

func (d errorDocument) String() string {
	return strings.TrimPrefix(d.Type+": "+d.Message, ": ")
}

// functionFailure classifies a failure that the platform attributes to the function. kind is the platform's word for it,
// such as `Unhandled`, `Timeout`, `OutOfMemory` or `InitError`.
func functionFailure(kind string, answer []byte, target Target) (typev1.ErrorClass, string) {
	document, ok := readErrorDocument(answer)
	text := document.String()
	if !ok {
		text = excerpt(answer)
	}
	name := "function " + target.FunctionID
	switch failureClass(kind, document) {
	case typev1.ErrorClass_ERROR_CLASS_TIMEOUT:
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT,
			joinText(name+" ran past its time limit of "+target.Timeout.String(), text) + "; raise it with --timeout, or make the function faster"
	case typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY:
		return typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY, joinText(name+" ran out of memory", text) + "; raise it with --memory, or make the function use less"
	case typev1.ErrorClass_ERROR_CLASS_INITIALIZATION:
		return typev1.ErrorClass_ERROR_CLASS_INITIALIZATION,
			joinText("the sandbox of "+name+" could not start", text) + "; " + logHint(target)
	case typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE:
		return typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE,
			joinText(name+" answered what is not JSON", text) + "; return {\"result\": …} with values that JSON knows"
	default:
		return typev1.ErrorClass_ERROR_CLASS_FUNCTION, joinText(name+" failed", text) + "; " + logHint(target)
	}
}

// logHint is the command that shows more about a failure in a function's own code.
func logHint(target Target) string {
	return "look at its log: sebs function logs " + target.FunctionID
}

// failureClass goes by the platform's word for the failure, and by the error document where the word says nothing.
func failureClass(kind string, document errorDocument) typev1.ErrorClass {
	switch strings.ToLower(kind) {
	case "timeout":
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT
	case "outofmemory":
		return typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY
	case "initerror":
		return typev1.ErrorClass_ERROR_CLASS_INITIALIZATION
	case "badresponse":
		return typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE
	}
	switch document.Type {
	case "Sandbox.Timedout":
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT
	case "Runtime.OutOfMemory":
		return typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY
	case "Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.UserCodeSyntaxError", "Runtime.InitError", "Extension.InitError":
		return typev1.ErrorClass_ERROR_CLASS_INITIALIZATION
	case "Runtime.InvalidResponse", "Runtime.MarshalError":
		return typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE
	}
	if strings.Contains(strings.ToLower(document.Message), "task timed out") {
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT
	}
	return typev1.ErrorClass_ERROR_CLASS_FUNCTION
}

func joinText(head, tail string) string {
	if tail == "" {
		return head
	}
	return head + ": " + tail
}

// statusFailure classifies an HTTP answer that is not 200.
func statusFailure(response *http.Response, answer []byte, target Target) (typev1.ErrorClass, string) {
	status := response.StatusCode
	said := joinText(fmt.Sprintf("%s answered HTTP %d", target.Trigger.GetUrl(), status), statusText(answer))
	kind := ""
	for _, header := range functionErrorHeaders() {
		kind = cmp.Or(kind, response.Header.Get(header))
	}
	_, document := readErrorDocument(answer)
	// The local platform names every failure of a function in a header: an error without it is its own.
	blamed := kind != "" || document && target.Platform != "local" && status != http.StatusServiceUnavailable
	switch {
	case status == http.StatusTooManyRequests:
		if after := response.Header.Get("Retry-After"); after != "" {
			said += " (retry after " + after + " s)"
		}
		return typev1.ErrorClass_ERROR_CLASS_THROTTLED, said + "; call less at once or raise the function's concurrency limit"
	case status >= 500 && blamed:
		return functionFailure(kind, answer, target)
	case status == http.StatusGatewayTimeout, status == http.StatusRequestTimeout:
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT, said + "; raise the function's timeout"
	case status == http.StatusInternalServerError && target.Platform != "local",
		// A function URL of AWS Lambda answers so when the function failed, whatever it failed with.
		status == http.StatusBadGateway && target.Platform == "aws":
		return typev1.ErrorClass_ERROR_CLASS_FUNCTION, said + "; " + logHint(target)
	case status == http.StatusNotFound, status == http.StatusGone:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, said + "; the function is gone, deploy it again"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, said + "; the trigger does not allow this caller, create it again"
	case status == http.StatusRequestEntityTooLarge:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, said + "; the payload is larger than the platform takes"
	case status >= 300 && status < 400:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, said + "; redirects are not followed, create the trigger again"
	}
	return typev1.ErrorClass_ERROR_CLASS_PLATFORM, said
}

// statusText shows what an error answer says, in one line.
func statusText(answer []byte) string {
	if document, ok := readErrorDocument(answer); ok {
		return document.String()
	}
	var message struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &message) == nil && message.Message != "" {
		return message.Message
	}
	return excerpt(answer)
}

const excerptRunes = 300

// excerpt returns the beginning of an answer as one line of valid text.
func excerpt(answer []byte) string {
	const enough = 4 * excerptRunes
	if len(answer) > enough {
		answer = answer[:enough]
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(answer), "�")), " ")
	if runes := []rune(text); len(runes) > excerptRunes {
		return string(runes[:excerptRunes]) + "…"
	}
	return text
}

// apiFailure classifies an error of a call through a platform's API or another service.
func apiFailure(ctx context.Context, err error, target Target, input Input) (typev1.ErrorClass, string) {
	if ctx.Err() != nil {
		return cancelled(ctx, input, target)
	}
	switch errs.Code(err) {
	case codes.ResourceExhausted:
		return typev1.ErrorClass_ERROR_CLASS_THROTTLED, err.Error()
	case codes.Unavailable:
		return typev1.ErrorClass_ERROR_CLASS_CONNECTION, err.Error()
	case codes.DeadlineExceeded:
		return typev1.ErrorClass_ERROR_CLASS_TIMEOUT, err.Error()
	case codes.Canceled:
		return typev1.ErrorClass_ERROR_CLASS_CANCELLED, err.Error()
	case codes.NotFound:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, err.Error() + "; deploy the function again"
	default:
		return typev1.ErrorClass_ERROR_CLASS_PLATFORM, err.Error()
	}
}
