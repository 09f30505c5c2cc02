package deployer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// ExpireDeployments deletes the deployments of a platform whose time is over, or lists
// them. One that cannot be deleted as a whole does not keep the others; it stays
// recorded, with the reason in the answer.
func (d *Deployer) ExpireDeployments(ctx context.Context, req *deployerv1.ExpireDeploymentsRequest, progress Progress) (*deployerv1.ExpireDeploymentsResponse, error) {
	platform, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	// Deployments whose records were lost carry their time in the labels of their functions.
	progress("list", "looking for deployments on platform "+platform)
	_, err = d.FindDeployments(ctx, &deployerv1.FindDeploymentsRequest{Parent: req.GetParent(), Credential: req.GetCredential(), Region: req.GetRegion()})
	if err != nil {
		return nil, err
	}
	var names []deploymentName
	err = d.eachDeployment(ctx, platform, func(record *typev1.Deployment) error {
		if expired(record) {
			names = append(names, deploymentName{platform, record.GetResourcesId()})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the deployments of platform %s: %w", platform, err)
	}
	slices.SortFunc(names, func(a, b deploymentName) int { return strings.Compare(a.ID, b.ID) })
	answer := &deployerv1.ExpireDeploymentsResponse{}
	for _, name := range names {
		// Somebody may have used it again in the meantime.
		record, err := d.getDeployment(ctx, name)
		if errs.Is(err, codes.NotFound) || err == nil && !expired(record) {
			continue
		}
		if err != nil {
			return nil, err
		}
		one := &deployerv1.ExpiredDeployment{Deployment: name.String(), ExpireTime: record.GetExpireTime()}
		deleted, err := d.DeleteDeployment(ctx, &deployerv1.DeleteDeploymentRequest{Name: name.String(), DryRun: req.GetDryRun()}, progress)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("delete deployment %s: %w", name.ID, ctx.Err())
		case err != nil:
			d.log.WarnContext(ctx, "delete a deployment whose time is over", "deployment", name.String(), "error", err)
			one.Problem = errs.ToStatus(err).Message()
		default:
			one.Deleted = deleted.GetDeleted()
		}
		answer.Deployments = append(answer.Deployments, one)
	}
	return answer, nil
}

// expired tells that a deployment's time is over.
func expired(record *typev1.Deployment) bool {
	return record.GetExpireTime() != nil && !record.GetExpireTime().AsTime().After(time.Now())
}
