package aws

import (
	"context"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var _ driver.DeploymentFinder = (*Driver)(nil)

// FindDeployments implements driver.DeploymentFinder: by the tags of functions, HTTP APIs and log groups, and by the names
// of what each deployment has one of.
func (d *Driver) FindDeployments(ctx context.Context) ([]string, error) {
	found := make(map[string]bool)
	for _, find := range []func(context.Context, map[string]bool) error{
		d.findByFunctions, d.findByAPIs, d.findByLogGroups, d.findByRoles, d.findByQueues, d.findByRepositories,
	} {
		if err := find(ctx, found); err != nil {
			return nil, err
		}
	}
	delete(found, "")
	return slices.Sorted(maps.Keys(found)), nil
}

func (d *Driver) findByFunctions(ctx context.Context, found map[string]bool) error {
	names, err := d.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		got, err := d.get(ctx, name)
		switch {
		case err == nil:
			found[unescape(got.Tags[TagDeployment])] = true
		case !missing(err):
			return err
		}
	}
	return nil
}

func (d *Driver) findByAPIs(ctx context.Context, found map[string]bool) error {
	apis, err := d.apis(ctx)
	for i := range apis {
		found[unescape(apis[i].Tags[TagDeployment])] = true
	}
	return err
}

func (d *Driver) findByLogGroups(ctx context.Context, found map[string]bool) error {
	pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(d.logs, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: sdk.String(logGroups)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, group := range page.LogGroups {
			answer, err := d.logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{
				ResourceArn: sdk.String(strings.TrimSuffix(sdk.ToString(group.Arn), ":*")),
			})
			switch {
			case err == nil:
				found[unescape(answer.Tags[TagDeployment])] = true
			case !missing(err):
				return err
			}
		}
	}
	return nil
}

// named notes the deployment in a name that only the suite gives.
func named(found map[string]bool, name, prefix string) {
	if deployment, ok := strings.CutPrefix(name, prefix); ok {
		found[deployment] = true
	}
}

func (d *Driver) findByRoles(ctx context.Context, found map[string]bool) error {
	pages := iam.NewListRolesPaginator(d.iam, &iam.ListRolesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for i := range page.Roles {
			named(found, sdk.ToString(page.Roles[i].RoleName), nameRole)
		}
	}
	return nil
}

func (d *Driver) findByQueues(ctx context.Context, found map[string]bool) error {
	pages := sqs.NewListQueuesPaginator(d.sqs, &sqs.ListQueuesInput{QueueNamePrefix: sdk.String(nameQueue)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, url := range page.QueueUrls {
			named(found, url[strings.LastIndexByte(url, '/')+1:], nameQueue)
		}
	}
	return nil
}

func (d *Driver) findByRepositories(ctx context.Context, found map[string]bool) error {
	pages := ecr.NewDescribeRepositoriesPaginator(d.ecr, &ecr.DescribeRepositoriesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for i := range page.Repositories {
			named(found, sdk.ToString(page.Repositories[i].RepositoryName), nameRepository)
		}
	}
	return nil
}
