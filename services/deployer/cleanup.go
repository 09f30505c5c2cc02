package deployer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Types of resources in the answers of a clean-up.
const (
	typeFunctions = "functions"
	typeTriggers  = "triggers"
	typeBuckets   = "buckets"
	typeTables    = "tables"
)

// inventory is what a deployment consists of. A dry run answers it; a real run
// deletes just this.
type inventory struct {
	functions []string
	triggers  []string
	buckets   []string
	tables    []string
	others    []driver.Resource
}

// CleanupFunctions deletes the functions of a deployment, or lists them.
func (d *Deployer) CleanupFunctions(ctx context.Context, req *deployerv1.CleanupFunctionsRequest) (*deployerv1.CleanupFunctionsResponse, error) {
	name, err := parseDeployment("parent", req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	_, platform, err := d.workIn(ctx, name, driver.Scope{Credential: req.GetCredential(), Region: req.GetRegion()})
	if err != nil {
		return nil, err
	}
	stock, err := d.takeFunctions(ctx, platform, name)
	if err != nil || req.GetDryRun() {
		return &deployerv1.CleanupFunctionsResponse{Functions: stock.functions}, err
	}
	if err := d.deleteFunctions(ctx, platform, name, stock.functions); err != nil {
		return nil, err
	}
	return &deployerv1.CleanupFunctionsResponse{Functions: stock.functions}, nil
}

// takeFunctions lists functions, triggers and other resources, from the platform as
// well as from the records.
func (d *Deployer) takeFunctions(ctx context.Context, platform *opened, name deploymentName) (inventory, error) {
	var stock inventory
	functions, triggers := make(map[string]bool), make(map[string]bool)
	found, err := platform.Discover(ctx, name.ID)
	if err != nil {
		return stock, err
	}
	for _, resource := range found {
		if resource.Type == driver.ResourceFunction {
			functions[resource.ID] = true
		} else {
			stock.others = append(stock.others, resource)
		}
	}
	err = d.eachFunction(ctx, name, func(record *typev1.Function) error {
		fn, err := parseFunction("name", record.GetName())
		if err != nil {
			return err
		}
		functions[fn.ID] = true
		for _, trigger := range record.GetTriggers() {
			triggers[trigger.GetName()] = true
		}
		return nil
	})
	if err != nil {
		return stock, fmt.Errorf("list functions: %w", err)
	}
	stock.functions = slices.Sorted(maps.Keys(functions))
	stock.triggers = slices.Sorted(maps.Keys(triggers))
	return stock, nil
}

// parallelDeletions bounds the functions that one call deletes at a time.
const parallelDeletions = 16

// deleteFunctions deletes all it can and reports everything that it could not, in the
// order of the functions.
func (d *Deployer) deleteFunctions(ctx context.Context, platform *opened, name deploymentName, ids []string) error {
	failures := make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(parallelDeletions)
	for i, id := range ids {
		group.Go(func() error {
			_, failures[i] = d.deleteFunction(ctx, platform, name.function(id))
			return nil
		})
	}
	// No member of the group fails.
	_ = group.Wait()
	return joined(slices.DeleteFunc(failures, func(err error) bool { return err == nil }))
}

// joined returns the first problem with the texts of the others, so that its
// category and reason stay.
func joined(problems []error) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	return fmt.Errorf("%w (and %d more: %w)", problems[0], len(problems)-1, errors.Join(problems[1:]...))
}

// DeleteDeployment deletes a deployment with everything of it, or lists that. It
// works from the platform, so also where the record was lost.
func (d *Deployer) DeleteDeployment(ctx context.Context, req *deployerv1.DeleteDeploymentRequest, progress Progress) (*deployerv1.DeleteDeploymentResponse, error) {
	name, err := parseDeployment("name", req.GetName(), false)
	if err != nil {
		return nil, err
	}
	_, platform, err := d.workIn(ctx, name, driver.Scope{Credential: req.GetCredential(), Region: req.GetRegion()})
	if err != nil {
		return nil, err
	}
	progress("list", "looking for the resources of deployment "+name.ID)
	stock, err := d.takeFunctions(ctx, platform, name)
	if err != nil {
		return nil, err
	}
	if stock.buckets, err = d.cleanBuckets(ctx, name, true); err != nil {
		return nil, err
	}
	if stock.tables, err = d.cleanTables(ctx, name, true); err != nil {
		return nil, err
	}
	if !req.GetDryRun() {
		if err := d.deleteStock(ctx, platform, name, stock, progress); err != nil {
			return nil, err
		}
	}
	return stock.answer(), nil
}

// deleteStock deletes functions first, for they use the rest, and the record last:
// as long as something is left, it can be found.
func (d *Deployer) deleteStock(ctx context.Context, platform *opened, name deploymentName, stock inventory, progress Progress) error {
	var problems []error
	progress("delete", fmt.Sprintf("deleting %d functions of deployment %s", len(stock.functions), name.ID))
	if err := d.deleteFunctions(ctx, platform, name, stock.functions); err != nil {
		problems = append(problems, err)
	}
	for _, resource := range stock.others {
		if _, err := platform.DeleteResource(ctx, resource); err != nil {
			problems = append(problems, err)
		}
	}
	progress("delete", fmt.Sprintf("deleting %d tables and %d buckets of deployment %s", len(stock.tables), len(stock.buckets), name.ID))
	if len(stock.tables) > 0 {
		if _, err := d.cleanTables(ctx, name, false); err != nil {
			problems = append(problems, err)
		}
	}
	if len(stock.buckets) > 0 {
		if _, err := d.cleanBuckets(ctx, name, false); err != nil {
			problems = append(problems, err)
		}
	}
	if err := joined(problems); err != nil {
		return err
	}
	if err := d.records.Delete(ctx, name.key()); err != nil {
		return fmt.Errorf("delete the record of deployment %s: %w", name.ID, err)
	}
	d.tell(ctx, "deployment_deleted", name.String(), &eventv1.DeploymentChanged{Deployment: name.String()})
	return nil
}

func (d *Deployer) cleanBuckets(ctx context.Context, name deploymentName, dryRun bool) ([]string, error) {
	answer, err := d.storage.CleanupBuckets(ctx, &storagev1.CleanupBucketsRequest{Parent: name.String(), DryRun: dryRun})
	if err != nil {
		return nil, fmt.Errorf("clean up the buckets of deployment %s: %w", name.ID, err)
	}
	return slices.Sorted(slices.Values(answer.GetBuckets())), nil
}

// cleanTables takes a store without tables as one that has none.
func (d *Deployer) cleanTables(ctx context.Context, name deploymentName, dryRun bool) ([]string, error) {
	answer, err := d.storage.CleanupTables(ctx, &storagev1.CleanupTablesRequest{Parent: name.String(), DryRun: dryRun})
	switch {
	case errs.Is(err, codes.Unimplemented):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("clean up the tables of deployment %s: %w", name.ID, err)
	}
	return slices.Sorted(slices.Values(answer.GetTables())), nil
}

// answer lists the resources by type, empty types included.
func (i inventory) answer() *deployerv1.DeleteDeploymentResponse {
	deleted := map[string]*deployerv1.ResourceList{
		typeFunctions: {Resources: i.functions},
		typeTriggers:  {Resources: i.triggers},
		typeBuckets:   {Resources: i.buckets},
		typeTables:    {Resources: i.tables},
	}
	for _, resource := range i.others {
		list := deleted[resource.Type]
		if list == nil {
			list = &deployerv1.ResourceList{}
			deleted[resource.Type] = list
		}
		list.Resources = append(list.Resources, resource.ID)
	}
	return &deployerv1.DeleteDeploymentResponse{Deleted: deleted}
}
