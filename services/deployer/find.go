package deployer

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// FindDeployments looks on the platform itself: deployments by their buckets,
// functions by their labels, tables by their names. What is not recorded yet is.
func (d *Deployer) FindDeployments(ctx context.Context, req *deployerv1.FindDeploymentsRequest) (*deployerv1.FindDeploymentsResponse, error) {
	name, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	platform, err := d.platforms.get(ctx, name, driver.Scope{Credential: req.GetCredential()})
	if err != nil {
		return nil, err
	}
	ids, err := d.foundIDs(ctx, name)
	if err != nil {
		return nil, err
	}
	// A deployment whose bucket is gone may still have functions.
	for fn, err := range platform.Functions(ctx, "") {
		if err != nil {
			return nil, err
		}
		if idPattern.MatchString(fn.Deployment) && !slices.Contains(ids, fn.Deployment) {
			ids = append(ids, fn.Deployment)
		}
	}
	slices.Sort(ids)
	answer := &deployerv1.FindDeploymentsResponse{}
	for _, id := range ids {
		target := deploymentName{name, id}
		record, err := d.getDeployment(ctx, target)
		if errs.Is(err, codes.NotFound) {
			answer.Recorded = append(answer.Recorded, id)
			record, err = d.recordFound(ctx, platform, target, req.GetCredential())
		}
		if err != nil {
			return nil, err
		}
		functions, err := d.recordFunctions(ctx, platform, target)
		if err != nil {
			return nil, err
		}
		answer.RecordedFunctions += int32(functions)
		answer.Deployments = append(answer.Deployments, record)
	}
	return answer, nil
}

// recordFound writes the record of a deployment that was found on the platform,
// with its buckets and tables. Where another call was faster, it returns that record.
func (d *Deployer) recordFound(ctx context.Context, platform *opened, name deploymentName, credential string) (*typev1.Deployment, error) {
	identity, err := platform.whose(ctx)
	if err != nil {
		return nil, err
	}
	record := &typev1.Deployment{
		Name: name.String(), Platform: name.Platform, ResourcesId: name.ID,
		Account: identity.Account, Region: identity.Region, Credential: credential, CreateTime: timestamppb.Now(),
	}
	buckets, err := d.listBuckets(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, role := range roles() {
		if standard := standardBucket(role, name.ID); slices.Contains(buckets, standard) {
			bind(record, role, standard)
		}
	}
	if record.Tables, err = d.listTables(ctx, name); err != nil {
		return nil, err
	}
	_, err = d.records.Create(ctx, name.key(), record)
	if errs.Is(err, codes.AlreadyExists) {
		return d.getDeployment(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("record deployment %s: %w", name.ID, err)
	}
	return record, nil
}

// listBuckets returns the real names of the buckets in the deployment's store that
// the suite made.
func (d *Deployer) listBuckets(ctx context.Context, name deploymentName) ([]string, error) {
	var names []string
	req := &storagev1.ListBucketsRequest{Parent: name.String(), Prefix: "sebs-"}
	for {
		page, err := d.storage.ListBuckets(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("list the buckets of deployment %s: %w", name.ID, err)
		}
		for _, bucket := range page.GetBuckets() {
			names = append(names, bucket.GetBucketId())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return names, nil
		}
	}
}

// listTables returns the tables that the storage service knows of the deployment. A
// store without tables has none.
func (d *Deployer) listTables(ctx context.Context, name deploymentName) ([]*typev1.TableBinding, error) {
	var tables []*typev1.TableBinding
	req := &storagev1.ListTablesRequest{Parent: name.String()}
	for {
		page, err := d.storage.ListTables(ctx, req)
		if errs.Is(err, codes.Unimplemented) {
			return tables, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the tables of deployment %s: %w", name.ID, err)
		}
		for _, table := range page.GetTables() {
			tables = append(tables, &typev1.TableBinding{
				Benchmark: table.GetBenchmark(), LogicalName: table.GetSpec().GetLogicalName(), Table: table.GetTableId(),
				PrimaryKey: table.GetSpec().GetPrimaryKey(), SecondaryKey: table.GetSpec().GetSecondaryKey(),
			})
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return tables, nil
		}
	}
}

// recordFunctions records the deployment's functions that have no record yet, and
// returns how many there were.
func (d *Deployer) recordFunctions(ctx context.Context, platform *opened, name deploymentName) (int, error) {
	count := 0
	for actual, err := range platform.Functions(ctx, name.ID) {
		if err != nil {
			return count, err
		}
		if !idPattern.MatchString(actual.Name) {
			continue
		}
		target := name.function(actual.Name)
		_, err := d.records.Create(ctx, target.key(), recordOf(target, actual, nil))
		switch {
		case err == nil:
			count++
		case !errs.Is(err, codes.AlreadyExists):
			return count, fmt.Errorf("record function %s: %w", actual.Name, err)
		}
	}
	return count, nil
}
