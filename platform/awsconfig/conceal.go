package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// measured starts what Lambda repeats of a function's environment when it is too large.
const measured = " String measured:"

// conceal changes the SDK's stack so that answers lose the part of their text that repeats secrets of the request: where a
// signature is wrong AWS tells the request that it would have signed, with the session token, and where the environment of
// a function is too large it tells all variables with their values.
func conceal(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("SuiteConceal", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		var answer smithy.APIError
		if !errors.As(err, &answer) {
			return out, metadata, err
		}
		text, _, found := strings.Cut(answer.ErrorMessage(), measured)
		if slices.Contains([]string{"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"}, answer.ErrorCode()) {
			text, found = "the signature is wrong; look whether the secret key belongs to the access key and this machine's clock is right", true
		}
		if found {
			err = fmt.Errorf("%w", &smithy.GenericAPIError{Code: answer.ErrorCode(), Fault: smithy.FaultClient, Message: text})
		}
		return out, metadata, err
	}), middleware.Before)
}
