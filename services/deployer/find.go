package deployer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// FindDeployments looks on the platform itself: deployments by their buckets and by the
// labels of what belongs to them, functions by their labels, tables by their names. What is not recorded yet is.
func (d *Deployer) FindDeployments(ctx context.Context, req *deployerv1.FindDeploymentsRequest) (*deployerv1.FindDeploymentsResponse, error) {
	name, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	scope := driver.Scope{Credential: req.GetCredential(), Region: req.GetRegion()}
	platform, err := d.platforms.get(ctx, name, scope)
	if err != nil {
		return nil, err
	}
	ids, err := d.foundIDs(ctx, name, scope.Credential)
	if err != nil {
		return nil, err
	}
	// A deployment whose bucket is gone may still have functions, or a role.
	labelled, err := platform.FindDeployments(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range labelled {
		if idPattern.MatchString(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	answer := &deployerv1.FindDeploymentsResponse{}
	for _, id := range ids {
		target := deploymentName{name, id}
		record, err := d.getDeployment(ctx, target)
		if errs.Is(err, codes.NotFound) {
			answer.Recorded = append(answer.Recorded, id)
			record, _, err = d.recordFound(ctx, platform, target, scope)
		}
		if err != nil {
			return nil, err
		}
		// What is recorded may lie in another region, or belong to another credential.
		of, err := d.platforms.get(ctx, name, scopeOf(record))
		if err != nil {
			return nil, err
		}
		functions, err := d.recordFunctions(ctx, of, target)
		if err != nil {
			return nil, err
		}
		answer.RecordedFunctions += int32(functions)
		answer.Deployments = append(answer.Deployments, record)
	}
	return answer, nil
}

// recordFound writes the record of a deployment that was found on the platform, with
// its buckets and tables. Where another call was faster, it returns that record, which
// is then not fresh.
func (d *Deployer) recordFound(ctx context.Context, platform *opened, name deploymentName, scope driver.Scope) (record *typev1.Deployment, fresh bool, err error) {
	identity, err := platform.whose(ctx)
	if err != nil {
		return nil, false, err
	}
	record = &typev1.Deployment{
		Name: name.String(), Platform: name.Platform, ResourcesId: name.ID,
		Account: identity.Account, Region: cmp.Or(scope.Region, identity.Region), Credential: scope.Credential, CreateTime: timestamppb.Now(),
	}
	if record.ExpireTime, err = labelledExpiry(ctx, platform, name); err != nil {
		return nil, false, err
	}
	// The record comes first: the storage service reads in it where the stores lie.
	_, err = d.records.Create(ctx, name.key(), record)
	if errs.Is(err, codes.AlreadyExists) {
		record, err = d.getDeployment(ctx, name)
		return record, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("record deployment %s: %w", name.ID, err)
	}
	record, err = d.recordStores(ctx, name)
	if err != nil {
		// A record without what the deployment has would hide it.
		return nil, false, errors.Join(err, d.records.Delete(context.WithoutCancel(ctx), name.key()))
	}
	return record, true, nil
}

// recordStores notes the buckets and tables of a deployment that was found.
func (d *Deployer) recordStores(ctx context.Context, name deploymentName) (*typev1.Deployment, error) {
	buckets, err := d.listBuckets(ctx, name)
	if err != nil {
		return nil, err
	}
	tables, err := d.listTables(ctx, name)
	if err != nil {
		return nil, err
	}
	return d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		for _, role := range roles() {
			if standard := standardBucket(role, name.ID); slices.Contains(buckets, standard) {
				bind(record, role, standard)
			}
		}
		record.Tables = tables
		return nil
	})
}

// labelledExpiry returns the latest time with which a function of the deployment is
// labelled; nil where none is.
func labelledExpiry(ctx context.Context, platform *opened, name deploymentName) (*timestamppb.Timestamp, error) {
	var latest time.Time
	for fn, err := range platform.Functions(ctx, name.ID) {
		if err != nil {
			return nil, err
		}
		expires, err := time.Parse(time.RFC3339, fn.Labels[labelExpires])
		if err == nil && expires.After(latest) {
			latest = expires
		}
	}
	if latest.IsZero() {
		return nil, nil
	}
	return timestamppb.New(latest), nil
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
