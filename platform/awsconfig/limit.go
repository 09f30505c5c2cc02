package awsconfig

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
)

// unlimited are operations that a measurement makes: to hold them back would falsify it.
var unlimited = map[string]bool{"Invoke": true}

// limit returns a change of the SDK's stack that has every try of a request wait for the limiter.
func limit(limiter Limiter, provider aws.CredentialsProvider) func(*middleware.Stack) error {
	wait := middleware.FinalizeMiddlewareFunc("SuiteRateLimit", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if !unlimited[awsmiddleware.GetOperationName(ctx)] {
			identity, err := provider.Retrieve(ctx)
			if err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, fmt.Errorf("read the AWS credential: %w", err)
			}
			api := apiOf(awsmiddleware.GetServiceID(ctx), awsmiddleware.GetOperationName(ctx))
			if err := limiter.Wait(ctx, identity.AccessKeyID, api); err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
		}
		return next.HandleFinalize(ctx, in)
	})
	// Behind the retry step, so that repeated requests wait as well.
	return func(stack *middleware.Stack) error { return stack.Finalize.Insert(wait, "Retry", middleware.After) }
}
