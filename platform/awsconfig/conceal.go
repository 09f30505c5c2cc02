package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// concealSignatures changes the SDK's stack so that answers which say that a signature is wrong lose their text: AWS
// repeats in it the request that it would have signed, with the session token.
func concealSignatures(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("SuiteConcealSignatures", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		var answer smithy.APIError
		if errors.As(err, &answer) && slices.Contains([]string{"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"}, answer.ErrorCode()) {
			err = fmt.Errorf("%w", &smithy.GenericAPIError{
				Code: answer.ErrorCode(), Fault: smithy.FaultClient,
				Message: "the signature is wrong; look whether the secret key belongs to the access key and this machine's clock is right",
			})
		}
		return out, metadata, err
	}), middleware.Before)
}
