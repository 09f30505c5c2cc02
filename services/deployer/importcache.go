package deployer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ImportCache takes over deployment, buckets and functions of a SeBS cache. What is
// recorded already stays as it is, so a second import changes nothing.
func (d *Deployer) ImportCache(ctx context.Context, req *deployerv1.ImportCacheRequest) (*deployerv1.ImportCacheResponse, error) {
	name, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	if !idPattern.MatchString(req.GetResourcesId()) {
		return nil, errs.Fields(errs.Field("resources_id", "%q is no resource id", req.GetResourcesId()))
	}
	functions, err := cachedFunctions(req)
	if err != nil {
		return nil, err
	}
	platform, err := d.platforms.get(ctx, name, driver.Scope{Region: req.GetRegion()})
	if err != nil {
		return nil, err
	}
	identity, err := platform.whose(ctx)
	if err != nil {
		return nil, err
	}
	target := deploymentName{name, req.GetResourcesId()}
	record := &typev1.Deployment{
		Name: target.String(), Platform: name, ResourcesId: target.ID, Region: req.GetRegion(),
		Account: identity.Account, CreateTime: timestamppb.Now(),
	}
	for _, binding := range req.GetBuckets() {
		bind(record, binding.GetRole(), binding.GetBucket())
	}
	_, err = d.records.Create(ctx, target.key(), record)
	if errs.Is(err, codes.AlreadyExists) {
		record, err = d.mergeBuckets(ctx, platform, target, req.GetBuckets())
	}
	if err != nil {
		return nil, fmt.Errorf("import deployment %s: %w", target.ID, err)
	}
	answer := &deployerv1.ImportCacheResponse{Deployment: record}
	for _, fn := range functions {
		target := target.function(fn.GetFunctionId())
		_, err := d.records.Create(ctx, target.key(), importedFunction(target, fn))
		switch {
		case err == nil:
			answer.Imported = append(answer.Imported, target.String())
		case errs.Is(err, codes.AlreadyExists):
			answer.Known = append(answer.Known, target.String())
		default:
			return nil, fmt.Errorf("import function %s: %w", target.ID, err)
		}
	}
	return answer, nil
}

// cachedFunctions refuses names that could not be names here.
func cachedFunctions(req *deployerv1.ImportCacheRequest) ([]*deployerv1.CachedFunction, error) {
	var problems []error
	for i, fn := range req.GetFunctions() {
		if !idPattern.MatchString(fn.GetFunctionId()) {
			problems = append(problems, errs.Field(fmt.Sprintf("functions[%d].function_id", i), "%q is no function's name", fn.GetFunctionId()))
		}
	}
	return req.GetFunctions(), errs.Fields(problems...)
}

// mergeBuckets adds the roles that the record does not have.
func (d *Deployer) mergeBuckets(ctx context.Context, platform *opened, name deploymentName, buckets []*typev1.BucketBinding) (*typev1.Deployment, error) {
	record, err := d.getDeployment(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := platform.checkAccount(ctx, name.ID, record.GetAccount()); err != nil {
		return nil, err
	}
	missing := false
	for _, binding := range buckets {
		missing = missing || bucketOf(record, binding.GetRole()) == ""
	}
	if !missing {
		return record, nil
	}
	return d.changeDeployment(ctx, name, func(record *typev1.Deployment) error {
		for _, binding := range buckets {
			if bucketOf(record, binding.GetRole()) == "" {
				bind(record, binding.GetRole(), binding.GetBucket())
			}
		}
		return nil
	})
}

// importedFunction is the record of a function that SeBS made. Its hash is opaque, so
// the first get-function call updates the code.
func importedFunction(name functionName, fn *deployerv1.CachedFunction) *typev1.Function {
	record := &typev1.Function{
		Name: name.String(), Benchmark: fn.GetBenchmark(), CodeHash: fn.GetCodeHash(), Adopted: true,
		State: typev1.Function_STATE_ACTIVE, PlatformAttributes: publicAttributes(fn.GetPlatformAttributes()), CreateTime: timestamppb.Now(),
		UpdateTime: timestamppb.Now(), Config: fn.GetConfig(),
	}
	for _, trigger := range fn.GetTriggers() {
		kind := driver.TriggerTypeFromProto(trigger.GetType())
		if kind == "" || recordedTrigger(record, kind) != nil {
			continue
		}
		taken := proto.CloneOf(trigger)
		taken.Name = name.trigger(kind)
		record.Triggers = append(record.Triggers, taken)
	}
	return record
}

// publicAttributes leaves out what SeBS keeps beside a function and may be secret,
// such as the connection string of a storage account.
func publicAttributes(attributes map[string]string) map[string]string {
	kept := make(map[string]string, len(attributes))
	for name, value := range attributes {
		lower := strings.ToLower(name)
		if !slices.ContainsFunc([]string{"secret", "key", "password", "token", "connection", "credential"}, func(word string) bool {
			return strings.Contains(lower, word)
		}) {
			kept[name] = value
		}
	}
	return kept
}
