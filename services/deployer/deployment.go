package deployer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// localPrefix starts the ids of local deployments when no other prefix is asked for.
const localPrefix = "local"

// CreateDeployment makes a deployment or reuses one: a given id, else an existing id
// that contains the prefix, else a new one. Without a prefix the deployment that was
// recorded last is reused.
func (d *Deployer) CreateDeployment(ctx context.Context, req *deployerv1.CreateDeploymentRequest) (*typev1.Deployment, error) {
	name, platform, identity, err := d.asked(ctx, req)
	if err != nil {
		return nil, err
	}
	// Two callers with the same prefix must not make two deployments.
	ctx, unlock, err := d.records.LockContext(ctx, "deployments/"+name)
	if err != nil {
		return nil, fmt.Errorf("create deployment: %w", err)
	}
	defer unlock()
	id, err := d.chooseID(ctx, name, identity.Account, req)
	if err != nil {
		return nil, err
	}
	target := deploymentName{name, id}
	var expires *timestamppb.Timestamp
	if req.GetTtl() != nil {
		expires = timestamppb.New(time.Now().Add(req.GetTtl().AsDuration()))
	}
	record, err := d.getDeployment(ctx, target)
	created := errs.Is(err, codes.NotFound)
	switch {
	case created:
		record = newDeployment(target, identity, req)
		record.CreateTime, record.ExpireTime = timestamppb.Now(), expires
		merge(record, req.GetSettings(), req.GetBuckets())
		if _, err := d.records.Create(ctx, target.key(), record); err != nil {
			return nil, fmt.Errorf("record deployment %s: %w", id, err)
		}
	case err != nil:
		return nil, err
	default:
		if err := checkReuse(ctx, platform, record, req.GetRegion()); err != nil {
			return nil, err
		}
		_, err = d.adjust(ctx, target, record, func(record *typev1.Deployment) bool {
			changed := merge(record, req.GetSettings(), req.GetBuckets())
			if expires != nil {
				record.ExpireTime, changed = expires, true
			}
			return changed
		})
		if err != nil {
			return nil, err
		}
	}
	record, err = d.withBucket(ctx, target, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	if err != nil {
		if created {
			// Nothing exists that the record could stand for.
			err = errors.Join(err, d.records.Delete(context.WithoutCancel(ctx), target.key()))
		}
		return nil, fmt.Errorf("create deployment %s: %w", id, err)
	}
	if created {
		d.tell(ctx, "deployment_created", target.String(), &eventv1.DeploymentChanged{Deployment: target.String()})
	}
	return record, nil
}

// checkReuse refuses a deployment of another account or region.
func checkReuse(ctx context.Context, platform *opened, record *typev1.Deployment, region string) error {
	if err := platform.checkAccount(ctx, record.GetResourcesId(), record.GetAccount()); err != nil {
		return err
	}
	if region != "" && record.GetRegion() != "" && region != record.GetRegion() {
		return errs.FailedPrecondition("REGION_MISMATCH",
			"deployment %s lies in region %s, not in %s; ask for that region, or make a new deployment",
			record.GetResourcesId(), record.GetRegion(), region).With("deployment", record.GetResourcesId())
	}
	return nil
}

// asked checks a request for a deployment, and opens its platform with the credential that it names.
func (d *Deployer) asked(ctx context.Context, req *deployerv1.CreateDeploymentRequest) (name string, platform *opened, identity driver.Identity, err error) {
	if name, err = parsePlatform(req.GetParent(), false); err != nil {
		return "", nil, identity, err
	}
	if err := d.platforms.table.Check(name); err != nil {
		return "", nil, identity, err
	}
	if err := checkDeployment(name, req); err != nil {
		return "", nil, identity, err
	}
	if platform, err = d.platforms.get(ctx, name, driver.Scope{Credential: req.GetCredential(), Region: req.GetRegion()}); err != nil {
		return "", nil, identity, err
	}
	identity, err = platform.whose(ctx)
	return name, platform, identity, err
}

// newDeployment returns the record of a deployment that does not exist yet.
func newDeployment(name deploymentName, identity driver.Identity, req *deployerv1.CreateDeploymentRequest) *typev1.Deployment {
	return &typev1.Deployment{
		Name: name.String(), Platform: name.Platform, ResourcesId: name.ID, Account: identity.Account,
		Region: cmp.Or(req.GetRegion(), identity.Region), Credential: req.GetCredential(),
	}
}

// chooseID returns the id of the deployment to reuse or to make.
func (d *Deployer) chooseID(ctx context.Context, platform, account string, req *deployerv1.CreateDeploymentRequest) (string, error) {
	if id := req.GetResourcesId(); id != "" {
		return id, nil
	}
	prefix := req.GetResourcePrefix()
	if prefix == "" && platform == "local" {
		prefix = localPrefix
	}
	if !req.GetAlwaysNew() {
		id, err := d.existingID(ctx, platform, account, prefix, req)
		if err != nil || id != "" {
			return id, err
		}
	}
	id := newID(req.GetRequestId())
	if prefix != "" {
		id = prefix + "-" + id
	}
	return id, nil
}

// newID returns eight hexadecimal digits, the same ones for the same request.
func newID(requestID string) string {
	digits := make([]byte, 4)
	if requestID != "" {
		sum := sha256.Sum256([]byte(requestID))
		copy(digits, sum[:])
	} else {
		// Read never fails.
		_, _ = rand.Read(digits)
	}
	return hex.EncodeToString(digits)
}

// existingID returns the id to reuse: the one recorded last that fits, else the first
// one on the platform that contains the prefix. A deployment that is not recorded
// may be somebody else's, so without a prefix none is taken.
func (d *Deployer) existingID(ctx context.Context, platform, account, prefix string, req *deployerv1.CreateDeploymentRequest) (string, error) {
	region := req.GetRegion()
	var best *typev1.Deployment
	err := d.eachDeployment(ctx, platform, func(record *typev1.Deployment) error {
		fits := strings.Contains(record.GetResourcesId(), prefix) &&
			(record.GetAccount() == "" || record.GetAccount() == account) &&
			(region == "" || record.GetRegion() == "" || record.GetRegion() == region)
		if fits && (best == nil || record.GetCreateTime().AsTime().After(best.GetCreateTime().AsTime())) {
			best = record
		}
		return nil
	})
	if err != nil || best != nil {
		return best.GetResourcesId(), err
	}
	if prefix == "" {
		return "", nil
	}
	found, err := d.foundIDs(ctx, platform, req.GetCredential())
	if err != nil {
		return "", err
	}
	for _, id := range found {
		if strings.Contains(id, prefix) {
			return id, nil
		}
	}
	return "", nil
}

// foundIDs lists the resource ids that buckets of a credential's account name.
func (d *Deployer) foundIDs(ctx context.Context, platform, credential string) ([]string, error) {
	found, err := d.storage.FindDeployments(ctx, &storagev1.FindDeploymentsRequest{Parent: "platforms/" + platform, Credential: credential})
	if err != nil {
		return nil, fmt.Errorf("find deployments by their buckets: %w", err)
	}
	ids := slices.Clone(found.GetResourcesIds())
	slices.Sort(ids)
	return slices.DeleteFunc(ids, func(id string) bool { return !idPattern.MatchString(id) }), nil
}

// withBucket makes sure that the bucket of the role exists and is recorded, and
// returns the record as it is then.
func (d *Deployer) withBucket(ctx context.Context, name deploymentName, role typev1.BucketRole) (*typev1.Deployment, error) {
	bucket, err := d.storage.EnsureBucket(ctx, &storagev1.EnsureBucketRequest{Parent: name.String(), Role: role})
	if err != nil {
		return nil, fmt.Errorf("make the bucket of deployment %s: %w", name.ID, err)
	}
	record, err := d.getDeployment(ctx, name)
	if err != nil || bucketOf(record, role) == bucket.GetBucketId() {
		return record, err
	}
	return d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		bind(record, role, bucket.GetBucketId())
		return nil
	})
}

// changeDeployment edits a record that exists, again where somebody came in between.
func (d *Deployer) changeDeployment(ctx context.Context, name deploymentName, change func(*typev1.Deployment) error) (*typev1.Deployment, error) {
	record := &typev1.Deployment{}
	if _, err := d.records.Update(ctx, name.key(), record, false, func() error { return change(record) }); err != nil {
		return nil, fmt.Errorf("record deployment %s: %w", name.ID, err)
	}
	return record, nil
}

// bucketOf returns the bucket of a role, empty where the role is unset.
func bucketOf(record *typev1.Deployment, role typev1.BucketRole) string {
	for _, binding := range record.GetBuckets() {
		if binding.GetRole() == role {
			return binding.GetBucket()
		}
	}
	return ""
}

func bind(record *typev1.Deployment, role typev1.BucketRole, bucket string) {
	for _, binding := range record.GetBuckets() {
		if binding.GetRole() == role {
			binding.Bucket = bucket
			return
		}
	}
	record.Buckets = append(record.Buckets, &typev1.BucketBinding{Role: role, Bucket: bucket})
	slices.SortFunc(record.Buckets, func(a, b *typev1.BucketBinding) int { return cmp.Compare(a.GetRole(), b.GetRole()) })
}

// GetDeployment returns a deployment's record.
func (d *Deployer) GetDeployment(ctx context.Context, req *deployerv1.GetDeploymentRequest) (*typev1.Deployment, error) {
	name, err := parseDeployment("name", req.GetName(), false)
	if err != nil {
		return nil, err
	}
	return d.getDeployment(ctx, name)
}

// UpdateDeployment changes region, expire time and credential.
func (d *Deployer) UpdateDeployment(ctx context.Context, req *deployerv1.UpdateDeploymentRequest) (*typev1.Deployment, error) {
	name, err := parseDeployment("deployment.name", req.GetDeployment().GetName(), false)
	if err != nil {
		return nil, err
	}
	record, err := d.getDeployment(ctx, name)
	if err != nil {
		return nil, err
	}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 || slices.Contains(paths, "*") {
		paths = []string{"region", "expire_time", "credential"}
	}
	credential := record.GetCredential()
	for _, path := range paths {
		switch path {
		case "credential":
			credential = req.GetDeployment().GetCredential()
		case "region", "expire_time":
		default:
			return nil, errs.Fields(errs.Field("update_mask", "field %q cannot be changed; region, expire_time and credential can", path))
		}
	}
	platform, err := d.platforms.get(ctx, name.Platform, driver.Scope{Credential: credential, Region: record.GetRegion()})
	if err != nil {
		return nil, err
	}
	if err := platform.checkAccount(ctx, name.ID, record.GetAccount()); err != nil {
		return nil, err
	}
	return d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		for _, path := range paths {
			switch path {
			case "region":
				record.Region = req.GetDeployment().GetRegion()
			case "expire_time":
				record.ExpireTime = req.GetDeployment().GetExpireTime()
			case "credential":
				record.Credential = credential
			}
		}
		return nil
	})
}
