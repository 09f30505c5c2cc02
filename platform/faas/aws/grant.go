package aws

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var _ driver.Granter = (*Driver)(nil)

// Grant implements driver.Granter. A function whose calls go through the alias gets a new role with its next version.
func (d *Driver) Grant(ctx context.Context, spec driver.FunctionSpec) error {
	got, err := d.find(ctx, spec.Name)
	if err != nil {
		return err
	}
	role, err := d.roleOf(ctx, spec)
	if err != nil || sdk.ToString(got.Configuration.Role) == role {
		return err
	}
	// A role that was made a moment ago is not known to Lambda yet.
	return d.change(ctx, spec.Name, func(ctx context.Context) error {
		_, err := d.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &spec.Name, Role: &role})
		return err
	})
}
