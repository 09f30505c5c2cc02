package aws

import (
	"context"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Types of resources beside driver.ResourceFunction. Function URLs, policies and notifications go with their function;
// buckets and tables are the storage service's.
const (
	ResourceAPI        = "http-api"
	ResourceLogGroup   = "log-group"
	ResourceRole       = "role"
	ResourceQueue      = "queue"
	ResourceRepository = "repository"
)

// Discover implements driver.Driver. It finds things by their tag, and by names that only the suite gives, so that what
// SeBS made, or what lost its tag, is found as well. The order is that in which they can be removed.
func (d *Driver) Discover(ctx context.Context, deployment string) ([]driver.Resource, error) {
	if deployment == "" {
		return nil, errs.Fields(errs.Field("deployment", "must not be empty"))
	}
	var all []driver.Resource
	for _, find := range []func(context.Context, string) ([]driver.Resource, error){
		d.discoverFunctions, d.discoverAPIs, d.discoverLogGroups, d.discoverRole, d.discoverQueue, d.discoverRepository,
	} {
		found, err := find(ctx, deployment)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (d *Driver) discoverFunctions(ctx context.Context, deployment string) ([]driver.Resource, error) {
	names, err := d.names(ctx)
	if err != nil {
		return nil, err
	}
	var all []driver.Resource
	for _, name := range names {
		got, err := d.get(ctx, name)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if belongs(deployment, got.Tags, name) {
			all = append(all, driver.Resource{Type: driver.ResourceFunction, ID: name})
		}
	}
	return all, nil
}

// belongs tells whether a thing is the deployment's: by its tag, or, where it has none, by its name.
func belongs(deployment string, tags map[string]string, name string) bool {
	if owner, ok := tags[TagDeployment]; ok {
		return unescape(owner) == deployment
	}
	return strings.HasPrefix(name, namePrefix(deployment))
}

func (d *Driver) discoverAPIs(ctx context.Context, deployment string) ([]driver.Resource, error) {
	apis, err := d.apis(ctx)
	if err != nil {
		return nil, err
	}
	var all []driver.Resource
	for i := range apis {
		function, ok := strings.CutSuffix(sdk.ToString(apis[i].Name), apiSuffix)
		if ok && belongs(deployment, apis[i].Tags, function) {
			all = append(all, driver.Resource{Type: ResourceAPI, ID: sdk.ToString(apis[i].ApiId)})
		}
	}
	return all, nil
}

func (d *Driver) discoverLogGroups(ctx context.Context, deployment string) ([]driver.Resource, error) {
	var all []driver.Resource
	pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(d.logs, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: sdk.String(logGroups)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, group := range page.LogGroups {
			name := sdk.ToString(group.LogGroupName)
			// The ARN of a group ends with :*, which the tags' interface does not take.
			answer, err := d.logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{
				ResourceArn: sdk.String(strings.TrimSuffix(sdk.ToString(group.Arn), ":*")),
			})
			if missing(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if belongs(deployment, answer.Tags, strings.TrimPrefix(name, logGroups)) {
				all = append(all, driver.Resource{Type: ResourceLogGroup, ID: name})
			}
		}
	}
	return all, nil
}

// present answers with one resource, or none where looking for it said that it is missing.
func present(kind, id string, err error) ([]driver.Resource, error) {
	if err != nil {
		return nil, ignoreMissing(err)
	}
	return []driver.Resource{{Type: kind, ID: id}}, nil
}

func (d *Driver) discoverRole(ctx context.Context, deployment string) ([]driver.Resource, error) {
	name := nameRole + deployment
	_, err := d.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	return present(ResourceRole, name, err)
}

func (d *Driver) discoverQueue(ctx context.Context, deployment string) ([]driver.Resource, error) {
	name := nameQueue + deployment
	_, err := d.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	return present(ResourceQueue, name, err)
}

func (d *Driver) discoverRepository(ctx context.Context, deployment string) ([]driver.Resource, error) {
	name := nameRepository + deployment
	_, err := d.ecr.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})
	return present(ResourceRepository, name, err)
}

// DeleteResource implements driver.Driver.
func (d *Driver) DeleteResource(ctx context.Context, resource driver.Resource) error {
	id := resource.ID
	switch resource.Type {
	case driver.ResourceFunction:
		return d.DeleteFunction(ctx, id)
	case ResourceAPI:
		_, err := d.api.DeleteApi(ctx, &apigatewayv2.DeleteApiInput{ApiId: &id})
		return err
	case ResourceLogGroup:
		return d.deleteLogGroup(ctx, id)
	case ResourceRole:
		return d.deleteRole(ctx, id)
	case ResourceQueue:
		queue, err := d.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &id})
		if err != nil {
			return err
		}
		_, err = d.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: queue.QueueUrl})
		return err
	case ResourceRepository:
		_, err := d.ecr.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: &id, Force: true})
		return err
	}
	return errs.NotFound("RESOURCE_NOT_FOUND", "AWS has no %s %q that the suite makes", resource.Type, id)
}
