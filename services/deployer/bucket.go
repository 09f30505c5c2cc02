package deployer

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// SetStorageBucket records the bucket of a role.
func (d *Deployer) SetStorageBucket(ctx context.Context, req *deployerv1.SetStorageBucketRequest) (*typev1.Deployment, error) {
	name, err := parseDeployment("deployment", req.GetDeployment(), false)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(roles(), req.GetRole()) {
		return nil, errs.Fields(errs.Field("role", "must be deployment, benchmarks or experiments"))
	}
	if !idPattern.MatchString(req.GetBucket()) {
		return nil, errs.Fields(errs.Field("bucket", "%q is no bucket's name", req.GetBucket()))
	}
	if _, _, err := d.workOn(ctx, name); err != nil {
		return nil, err
	}
	return d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		bind(record, req.GetRole(), req.GetBucket())
		return nil
	})
}

// GetStorageBucket returns the bucket of a role, absent where the role is unset, and
// the name that it would get.
func (d *Deployer) GetStorageBucket(ctx context.Context, req *deployerv1.GetStorageBucketRequest) (*deployerv1.GetStorageBucketResponse, error) {
	name, err := parseDeployment("deployment", req.GetDeployment(), false)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(roles(), req.GetRole()) {
		return nil, errs.Fields(errs.Field("role", "must be deployment, benchmarks or experiments"))
	}
	record, err := d.getDeployment(ctx, name)
	if err != nil {
		return nil, err
	}
	answer := &deployerv1.GetStorageBucketResponse{StandardName: standardBucket(req.GetRole(), name.ID)}
	if bucket := bucketOf(record, req.GetRole()); bucket != "" {
		answer.Bucket = &bucket
	}
	return answer, nil
}

// ListStorageBuckets lists the buckets of a deployment by role.
func (d *Deployer) ListStorageBuckets(ctx context.Context, req *deployerv1.ListStorageBucketsRequest) (*deployerv1.ListStorageBucketsResponse, error) {
	name, err := parseDeployment("deployment", req.GetDeployment(), false)
	if err != nil {
		return nil, err
	}
	record, err := d.getDeployment(ctx, name)
	if err != nil {
		return nil, err
	}
	return &deployerv1.ListStorageBucketsResponse{Buckets: record.GetBuckets()}, nil
}

// ReconcileBuckets drops the records of buckets that are gone. It deletes nothing
// else, and drops nothing when the store does not answer.
func (d *Deployer) ReconcileBuckets(ctx context.Context, req *deployerv1.ReconcileBucketsRequest) (*deployerv1.ReconcileBucketsResponse, error) {
	name, err := parseDeployment("deployment", req.GetDeployment(), false)
	if err != nil {
		return nil, err
	}
	record, err := d.getDeployment(ctx, name)
	if err != nil {
		return nil, err
	}
	answer := &deployerv1.ReconcileBucketsResponse{}
	for _, binding := range record.GetBuckets() {
		_, err := d.storage.GetBucket(ctx, &storagev1.GetBucketRequest{Name: name.String() + "/buckets/" + binding.GetBucket()})
		switch {
		case errs.Is(err, codes.NotFound):
			answer.Dropped = append(answer.Dropped, binding)
		case err != nil:
			return nil, fmt.Errorf("look for bucket %s: %w", binding.GetBucket(), err)
		}
	}
	if len(answer.GetDropped()) == 0 {
		return answer, nil
	}
	_, err = d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		record.Buckets = slices.DeleteFunc(record.Buckets, func(b *typev1.BucketBinding) bool {
			return slices.ContainsFunc(answer.GetDropped(), func(gone *typev1.BucketBinding) bool {
				return gone.GetRole() == b.GetRole() && gone.GetBucket() == b.GetBucket()
			})
		})
		return nil
	})
	return answer, err
}
