package deployer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// GetFunction returns a function's record.
func (d *Deployer) GetFunction(ctx context.Context, req *deployerv1.GetFunctionRequest) (*typev1.Function, error) {
	name, err := parseFunction("name", req.GetName())
	if err != nil {
		return nil, err
	}
	record, _, err := d.getFunction(ctx, name)
	return record, err
}

// ListFunctions lists the records of a deployment's functions, or of all deployments.
func (d *Deployer) ListFunctions(ctx context.Context, req *deployerv1.ListFunctionsRequest) (*deployerv1.ListFunctionsResponse, error) {
	name, err := parseDeployment("parent", req.GetParent(), true)
	if err != nil {
		return nil, err
	}
	if name.Platform == wildcard && name.ID != wildcard {
		return nil, errs.Fields(errs.Field("parent", "a deployment belongs to a platform; name it, or ask for platforms/-/deployments/-"))
	}
	if name.Platform != wildcard {
		if err := d.platforms.table.Check(name.Platform); err != nil {
			return nil, err
		}
	}
	var functions []*typev1.Function
	err = d.eachFunction(ctx, name, func(record *typev1.Function) error {
		if req.GetBenchmark() == "" || req.GetBenchmark() == record.GetBenchmark() {
			functions = append(functions, record)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	filter := req.GetParent() + "?" + req.GetBenchmark()
	page, next, err := paginate(functions, (*typev1.Function).GetName, filter, req.GetPageSize(), req.GetPageToken())
	return &deployerv1.ListFunctionsResponse{Functions: page, NextPageToken: next}, err
}

// GetDefaultFunctionName returns the name that a benchmark's function gets.
func (d *Deployer) GetDefaultFunctionName(ctx context.Context, req *deployerv1.GetDefaultFunctionNameRequest) (*deployerv1.GetDefaultFunctionNameResponse, error) {
	parent, err := parseDeployment("parent", req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	// The name does not depend on the deployment's record, which may not be there yet.
	deployment, err := d.getDeployment(ctx, parent)
	if err != nil && !errs.Is(err, codes.NotFound) {
		return nil, err
	}
	platform, err := d.platforms.get(ctx, parent.Platform, scopeOf(deployment))
	if err != nil {
		return nil, err
	}
	in := nameInput(parent, req.GetBenchmark(), &typev1.FunctionConfig{
		Runtime: req.GetRuntime(), Architecture: req.GetArchitecture(), SystemVariant: req.GetSystemVariant(),
	})
	var problems []error
	if in.Runtime.Language == "" || in.Runtime.Version == "" {
		problems = append(problems, errs.Field("runtime", "needs language and version, which are part of the name"))
	}
	if in.Architecture == "" {
		problems = append(problems, errs.Field("architecture", "must be x64 or arm64, which is part of the name"))
	}
	if err := errs.Fields(problems...); err != nil {
		return nil, err
	}
	id, err := platform.FunctionName("", in)
	if err != nil {
		return nil, err
	}
	return &deployerv1.GetDefaultFunctionNameResponse{FunctionId: id, LegacyFunctionIds: platform.Naming().Legacy(in)}, nil
}

// updatable are the fields that UpdateFunction changes.
func updatable() []string {
	return []string{"config.timeout_seconds", "config.memory_mb", "config.environment", "config.max_concurrency", "config.provisioned_concurrency", "package"}
}

// UpdateFunction changes configuration or code of a function.
func (d *Deployer) UpdateFunction(ctx context.Context, req *deployerv1.UpdateFunctionRequest, progress Progress) (*typev1.Function, error) {
	name, paths, err := checkUpdate(req)
	if err != nil {
		return nil, err
	}
	_, platform, err := d.workOn(ctx, name.Deployment)
	if err != nil {
		return nil, err
	}
	progress("lock", "waiting for the turn to change function "+name.ID)
	ctx, unlock, err := d.lockFunction(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	seen, err := d.present(ctx, platform, name)
	if err != nil {
		return nil, err
	}
	record := recordOf(name, *seen.actual, seen.record)
	if etag := req.GetFunction().GetEtag(); etag != "" && etag != fmt.Sprint(seen.revision) {
		return nil, errs.Aborted("FUNCTION_CHANGED", "function %s was changed since it was read; read it again", name.ID).With("function", name.ID)
	}
	want, code, variant, err := d.updated(ctx, platform, name, record, req, paths)
	if err != nil {
		return nil, err
	}
	var actual driver.Function
	if code != nil {
		progress("update-code", "updating the code of function "+name.ID)
		actual, err = platform.UpdateCode(ctx, name.ID, *code, want)
	} else {
		progress("update-configuration", "updating the configuration of function "+name.ID)
		actual, err = platform.UpdateConfiguration(ctx, name.ID, want)
	}
	if err != nil {
		return nil, d.failed(ctx, name, seen, err)
	}
	record = recordOf(name, actual, record)
	record.Config = configProto(want, variant)
	record.SecretEnvironment, record.UpdatedCode = want.Secrets, code != nil
	if err := d.save(ctx, name, seen, record); err != nil {
		return nil, err
	}
	d.tellFunction(ctx, "function_updated", record)
	return record, nil
}

// updated works out what the function is to be: its configuration, and its code where
// the package changes. It notes the package in the record.
func (d *Deployer) updated(ctx context.Context, platform *opened, name functionName, record *typev1.Function, req *deployerv1.UpdateFunctionRequest, paths []string) (driver.Config, *driver.Code, typev1.SystemVariant, error) {
	w := wish{
		deployment: name.Deployment, benchmark: record.GetBenchmark(), config: proto.CloneOf(record.GetConfig()),
		recorded: environmentOf(record), handler: record.GetPlatformAttributes()[attributeHandler],
		stores: storesOf(record.GetPlatformAttributes()), coldStart: coldStartOf(record.GetConfig().GetEnvironment()),
	}
	if slices.Contains(paths, "config.environment") {
		w.recorded = nil
	}
	change(w.config, req.GetFunction().GetConfig(), paths)
	var code *driver.Code
	if slices.Contains(paths, "package") {
		pkg, err := d.getPackage(ctx, "function.package", req.GetFunction().GetPackage(), name.Deployment.Platform)
		if err != nil {
			return driver.Config{}, nil, 0, err
		}
		if pkg.GetBenchmark() != record.GetBenchmark() {
			return driver.Config{}, nil, 0, errs.Fields(errs.Field("function.package", "is of benchmark %s, the function of %s; use a function of its own",
				pkg.GetBenchmark(), record.GetBenchmark()))
		}
		// What is recorded holds variables that a caller may not set.
		environment := w.config.GetEnvironment()
		w.config.Environment = nil
		if w.config, err = complete(w.config, pkg); err != nil {
			return driver.Config{}, nil, 0, err
		}
		w.config.Environment, w.handler = environment, pkg.GetHandler()
		archive := d.codeOf(name.Deployment, pkg)
		code = &archive
		record.Package = pkg.GetName()
	}
	want, err := d.desire(ctx, platform, w)
	return want, code, w.config.GetSystemVariant(), err
}

// checkUpdate takes the request apart and refuses fields that cannot be changed.
func checkUpdate(req *deployerv1.UpdateFunctionRequest) (functionName, []string, error) {
	name, err := parseFunction("function.name", req.GetFunction().GetName())
	if err != nil {
		return name, nil, err
	}
	var paths []string
	asked := req.GetUpdateMask().GetPaths()
	if len(asked) == 0 {
		return name, nil, errs.Fields(errs.Field("update_mask", "must name what changes: %s", strings.Join(updatable(), ", ")))
	}
	for _, path := range asked {
		switch {
		case path == "config":
			paths = append(paths, updatable()[:len(updatable())-1]...)
		case slices.Contains(updatable(), path):
			paths = append(paths, path)
		default:
			return name, nil, errs.Fields(errs.Field("update_mask", "field %q cannot be changed; these can: %s", path, strings.Join(updatable(), ", ")))
		}
	}
	return name, paths, checkEnvironment(req.GetFunction().GetConfig().GetEnvironment())
}

// change copies the fields of the mask. A zero limit leaves what is there.
func change(config, asked *typev1.FunctionConfig, paths []string) {
	for _, path := range paths {
		switch path {
		case "config.timeout_seconds":
			if asked.GetTimeoutSeconds() > 0 {
				config.TimeoutSeconds = asked.GetTimeoutSeconds()
			}
		case "config.memory_mb":
			if asked.GetMemoryMb() > 0 {
				config.MemoryMb = asked.GetMemoryMb()
			}
		case "config.environment":
			config.Environment = asked.GetEnvironment()
		case "config.max_concurrency":
			config.MaxConcurrency = asked.GetMaxConcurrency()
		case "config.provisioned_concurrency":
			config.ProvisionedConcurrency = asked.GetProvisionedConcurrency()
		}
	}
}

// environmentOf returns the recorded variables; never nil.
func environmentOf(record *typev1.Function) map[string]string {
	if environment := record.GetConfig().GetEnvironment(); environment != nil {
		return environment
	}
	return map[string]string{}
}

// DeleteFunction deletes a function with its triggers from platform and records. A
// function that only one of them knows is deleted all the same.
func (d *Deployer) DeleteFunction(ctx context.Context, req *deployerv1.DeleteFunctionRequest) error {
	name, err := parseFunction("name", req.GetName())
	if err != nil {
		return err
	}
	_, platform, err := d.workOn(ctx, name.Deployment)
	if req.GetAllowMissing() && errs.Is(err, codes.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	deleted, err := d.deleteFunction(ctx, platform, name)
	if err == nil && !deleted && !req.GetAllowMissing() {
		_, _, err = d.getFunction(ctx, name)
	}
	return err
}

// deleteFunction answers whether there was anything to delete.
func (d *Deployer) deleteFunction(ctx context.Context, platform *opened, name functionName) (bool, error) {
	ctx, unlock, err := d.lockFunction(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	seen, err := d.observe(ctx, platform, name)
	if err != nil {
		return false, err
	}
	foreign := seen.actual != nil && seen.record == nil && seen.actual.Deployment != name.Deployment.ID
	if seen.actual == nil && seen.record == nil || foreign {
		return false, nil
	}
	if _, err := platform.DeleteFunction(ctx, name.ID); err != nil {
		return false, err
	}
	if err := d.records.Delete(ctx, name.key()); err != nil {
		return true, fmt.Errorf("delete the record of function %s: %w", name.ID, err)
	}
	d.tellFunction(ctx, "function_deleted", &typev1.Function{Name: name.String()})
	return true, nil
}

// Sizes of a page of log lines.
const (
	defaultLogLines = 1000
	maxLogLines     = 10000
)

// GetFunctionLogs reads a function's log from its platform.
func (d *Deployer) GetFunctionLogs(ctx context.Context, req *deployerv1.GetFunctionLogsRequest) (*deployerv1.GetFunctionLogsResponse, error) {
	name, err := parseFunction("name", req.GetName())
	if err != nil {
		return nil, err
	}
	record, _, err := d.getFunction(ctx, name)
	if err != nil {
		return nil, err
	}
	deployment, err := d.getDeployment(ctx, name.Deployment)
	if err != nil {
		return nil, err
	}
	platform, err := d.platforms.get(ctx, name.Deployment.Platform, scopeOf(deployment))
	if err != nil {
		return nil, err
	}
	if req.GetPageSize() < 0 {
		return nil, errs.Fields(errs.Field("page_size", "must not be negative, is %d", req.GetPageSize()))
	}
	query := driver.LogQuery{Function: name.ID, Start: timeOf(req.GetStartTime()), End: timeOf(req.GetEndTime()), PageToken: req.GetPageToken(), PageSize: defaultLogLines}
	if req.GetPageSize() > 0 {
		query.PageSize = min(int(req.GetPageSize()), maxLogLines)
	}
	if id := req.GetInvocationRequestId(); id != "" {
		query.RequestIDs = []string{id}
	}
	page, err := platform.LogPage(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w", record.GetName(), err)
	}
	answer := &deployerv1.GetFunctionLogsResponse{NextPageToken: page.NextPageToken}
	for _, line := range page.Lines {
		answer.Lines = append(answer.Lines, &deployerv1.LogLine{Time: timestamppb.New(line.Time), RequestId: line.RequestID, Text: line.Text})
	}
	return answer, nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
