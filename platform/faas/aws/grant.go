package aws

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var _ driver.Granter = (*Driver)(nil)

// Grant implements driver.Granter. A function whose calls go through the alias gets a new role with its next version.
func (d *Driver) Grant(ctx context.Context, spec driver.FunctionSpec) error {
	got, err := d.find(ctx, spec.Name)
	if err != nil {
		return err
	}
	if got.Tags[TagDeployment] == "" && spec.Deployment != "" {
		if err := d.adopt(ctx, got, spec); err != nil {
			return err
		}
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

// adopt makes a function the deployment's own that another tool has made: it gets the deployment's tags, by which it is
// found and cleaned up, and a public URL of it the second statement, without which AWS refuses its callers.
func (d *Driver) adopt(ctx context.Context, got *lambda.GetFunctionOutput, spec driver.FunctionSpec) error {
	tags := map[string]string{TagDeployment: escape(spec.Deployment), TagBenchmark: escape(spec.Benchmark)}
	if err := d.tag(ctx, sdk.ToString(got.Configuration.FunctionArn), tags, nil); err != nil {
		return err
	}
	url, err := d.urlTrigger(ctx, got)
	switch {
	case missing(err):
		return nil
	case err != nil:
		return err
	case url.Attributes[AttributeAuth] != string(types.FunctionUrlAuthTypeNone):
		return nil
	}
	return d.openURL(ctx, nameOf(got), optional(got.Tags[tagAlias]))
}
