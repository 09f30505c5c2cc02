package aws

import (
	"context"
	"slices"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// roleMemory is how long a role counts as there after it was looked at: many functions of one deployment are made at
// once, and IAM takes few requests.
const roleMemory = time.Minute

// roleState is what this driver knows of a role that the suite made.
type roleState struct {
	// work lets one function at a time see to the role.
	work sync.Mutex
	arn  string
	seen time.Time
	has  map[string]bool
}

// roleOf returns the ARN of the role that a function runs as. A role that the deployment's settings name is used as it
// is; otherwise the deployment's own is made, and given what the function needs.
func (d *Driver) roleOf(ctx context.Context, spec driver.FunctionSpec) (string, error) {
	if given := spec.Settings[SettingRole]; given != "" {
		return given, nil
	}
	if spec.Deployment == "" {
		return "", errs.Fields(errs.Field("deployment", "must not be empty: the function's role is named after it; set lambda-role to use one of your own"))
	}
	who, err := d.identify(ctx)
	if err != nil {
		return "", err
	}
	return d.grant(ctx, spec.Deployment, d.policies(who, spec)...)
}

// grant makes the deployment's role where it is missing, puts the policies into it, and returns its ARN.
func (d *Driver) grant(ctx context.Context, deployment string, policies ...inline) (string, error) {
	name := nameRole + deployment
	d.mu.Lock()
	state := d.roles[name]
	if state == nil {
		state = &roleState{}
		d.roles[name] = state
	}
	d.mu.Unlock()
	state.work.Lock()
	defer state.work.Unlock()
	if time.Since(state.seen) > roleMemory {
		arn, err := d.ensureRole(ctx, name, deployment)
		if err != nil {
			return "", err
		}
		state.arn, state.seen, state.has = arn, time.Now(), make(map[string]bool)
	}
	slices.SortFunc(policies, byName)
	for _, p := range policies {
		if state.has[p.name] {
			continue
		}
		if _, err := d.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: &name, PolicyName: &p.name, PolicyDocument: sdk.String(p.policy.text()),
		}); err != nil {
			state.seen = time.Time{}
			return "", err
		}
		state.has[p.name] = true
	}
	return state.arn, nil
}

// ensureRole finds or makes a role.
func (d *Driver) ensureRole(ctx context.Context, name, deployment string) (string, error) {
	found, err := d.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err == nil {
		return sdk.ToString(found.Role.Arn), nil
	}
	if !missing(err) {
		return "", err
	}
	made, err := d.iam.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName:                 &name,
		AssumeRolePolicyDocument: sdk.String(trustPolicy().text()),
		Description:              sdk.String("Role of the functions of deployment " + deployment + " of sebs"),
		Tags:                     []types.Tag{{Key: sdk.String(TagDeployment), Value: sdk.String(escape(deployment))}},
	})
	if taken(err) {
		// Another process made it in between.
		if found, err = d.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name}); err != nil {
			return "", err
		}
		return sdk.ToString(found.Role.Arn), nil
	}
	if err != nil {
		return "", err
	}
	return sdk.ToString(made.Role.Arn), nil
}

// revoke takes the policy of a function's own log out of the deployment's role.
func (d *Driver) revoke(ctx context.Context, deployment, function string) error {
	policy := logPolicyName(deployment, function)
	if deployment == "" || policy == policyLogs {
		return nil
	}
	name := nameRole + deployment
	_, err := d.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy})
	d.forgetRole(name)
	return ignoreMissing(err)
}

// forgetRole has the next function look at the role again.
func (d *Driver) forgetRole(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.roles, name)
}

// deleteRole removes a role of the suite with its policies.
func (d *Driver) deleteRole(ctx context.Context, name string) error {
	d.forgetRole(name)
	pages := iam.NewListRolePoliciesPaginator(d.iam, &iam.ListRolePoliciesInput{RoleName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, policy := range page.PolicyNames {
			if _, err := d.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy}); err != nil && !missing(err) {
				return err
			}
		}
	}
	// Policies that somebody attached by hand would keep the role from being removed.
	attached := iam.NewListAttachedRolePoliciesPaginator(d.iam, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, policy := range page.AttachedPolicies {
			if _, err := d.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &name, PolicyArn: policy.PolicyArn}); err != nil && !missing(err) {
				return err
			}
		}
	}
	_, err := d.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
	return err
}

// ignoreMissing returns nil where the thing to remove is gone already.
func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
