package aws

import (
	"context"
	"slices"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// aliasName is the alias that leads to a function's last version.
const aliasName = "live"

// keptVersions is how many versions stay: the last one, and the one before it, where calls may still be running.
const keptVersions = 2

// publish makes a version of the function as it is now and moves the alias to it. A version has sandboxes of its own, so
// the next call starts cold. Then it has the wanted number of sandboxes kept initialised.
func (d *Driver) publish(ctx context.Context, name string, provisioned int) error {
	if err := d.settle(ctx, name, ""); err != nil {
		return err
	}
	var version *string
	if err := d.change(ctx, name, func(ctx context.Context) error {
		made, err := d.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &name})
		if err == nil {
			version = made.Version
		}
		return err
	}); err != nil {
		return err
	}
	if err := d.settle(ctx, name, sdk.ToString(version)); err != nil {
		return err
	}
	if err := d.moveAlias(ctx, name, version); err != nil {
		return err
	}
	if err := d.provision(ctx, name, provisioned); err != nil {
		return err
	}
	return d.dropVersions(ctx, name)
}

func (d *Driver) moveAlias(ctx context.Context, name string, version *string) error {
	return d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: &name, Name: sdk.String(aliasName), FunctionVersion: version})
		if missing(err) {
			_, err = d.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &name, Name: sdk.String(aliasName), FunctionVersion: version})
		}
		return err
	})
}

// provision sets how many sandboxes of the alias are kept initialised.
func (d *Driver) provision(ctx context.Context, name string, wanted int) error {
	alias := sdk.String(aliasName)
	if wanted > 0 {
		return d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
				FunctionName: &name, Qualifier: alias, ProvisionedConcurrentExecutions: sdk.Int32(int32(wanted)),
			})
			return err
		})
	}
	_, err := d.lambda.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: alias})
	if err != nil {
		return ignoreMissing(err)
	}
	return ignoreMissing(d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: alias})
		return err
	}))
}

// provisionedState completes a description with how far the initialised sandboxes are.
func (d *Driver) provisionedState(ctx context.Context, fn *driver.Function) error {
	got, err := d.lambda.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{
		FunctionName: &fn.Name, Qualifier: sdk.String(aliasName),
	})
	if missing(err) {
		// Somebody took it away; the difference to what is wanted is then seen.
		fn.Config.ProvisionedConcurrency = 0
		return nil
	}
	if err != nil {
		return err
	}
	fn.Config.ProvisionedConcurrency = int(sdk.ToInt32(got.RequestedProvisionedConcurrentExecutions))
	switch got.Status {
	case types.ProvisionedConcurrencyStatusEnumInProgress:
		fn.State = driver.StatePending
	case types.ProvisionedConcurrencyStatusEnumFailed:
		fn.State, fn.StateReason = driver.StateFailed, "provisioned concurrency: "+sdk.ToString(got.StatusReason)
	case types.ProvisionedConcurrencyStatusEnumReady:
	}
	return nil
}

// dropVersions removes old versions, which count towards the account's storage of code.
func (d *Driver) dropVersions(ctx context.Context, name string) error {
	var versions []int
	pages := lambda.NewListVersionsByFunctionPaginator(d.lambda, &lambda.ListVersionsByFunctionInput{FunctionName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for i := range page.Versions {
			// The unpublished version is called $LATEST.
			if number, err := strconv.Atoi(sdk.ToString(page.Versions[i].Version)); err == nil {
				versions = append(versions, number)
			}
		}
	}
	slices.Sort(versions)
	for _, number := range versions[:max(len(versions)-keptVersions, 0)] {
		_, err := d.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name, Qualifier: sdk.String(strconv.Itoa(number))})
		// One that is still in use goes with the next change.
		if err != nil && !missing(err) && !changing(err) {
			return err
		}
	}
	return nil
}

// qualifier is by which name a function is called, and to which deployment it belongs.
type qualifier struct {
	alias, deployment string
	seen              time.Time
}

// qualifierMemory is how long a qualifier counts as true.
const qualifierMemory = time.Minute

// remember keeps what a function's tags say about how it is called.
func (d *Driver) remember(name string, tags map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for other, q := range d.qualifiers {
		if len(d.qualifiers) > 10_000 && now.Sub(q.seen) > qualifierMemory {
			delete(d.qualifiers, other)
		}
	}
	d.qualifiers[name] = qualifier{alias: tags[tagAlias], deployment: unescape(tags[TagDeployment]), seen: now}
}

// forget drops what is known of a function that is gone.
func (d *Driver) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.qualifiers, name)
	delete(d.events, name)
}

// qualifierOf returns by which qualifier a function is called.
func (d *Driver) qualifierOf(ctx context.Context, name string) (qualifier, error) {
	d.mu.Lock()
	known, ok := d.qualifiers[name]
	d.mu.Unlock()
	if ok && time.Since(known.seen) < qualifierMemory {
		return known, nil
	}
	if _, err := d.find(ctx, name); err != nil {
		return qualifier{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.qualifiers[name], nil
}

// optional is a qualifier as the SDK takes it.
func optional(alias string) *string {
	if alias == "" {
		return nil
	}
	return &alias
}
