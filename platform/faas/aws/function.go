package aws

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// givenRolePatience is how long Lambda is asked again to take a role that was given: IAM makes known a new one in seconds.
const givenRolePatience = 30 * time.Second

// CreateFunction implements driver.Driver.
func (d *Driver) CreateFunction(ctx context.Context, spec driver.FunctionSpec) (driver.Function, error) {
	if err := checkName(spec.Name); err != nil {
		return driver.Function{}, err
	}
	// A refused creation must leave role and log group of the function that is there alone.
	switch _, err := d.get(ctx, spec.Name); {
	case err == nil:
		return driver.Function{}, errs.AlreadyExists("FUNCTION_ALREADY_EXISTS", "function %s exists in %s already", spec.Name, d.region).With("function", spec.Name)
	case !missing(err):
		return driver.Function{}, err
	}
	code, release, err := d.codeOf(ctx, spec.Name, spec.Code)
	if err != nil {
		return driver.Function{}, err
	}
	defer release()
	role, err := d.roleOf(ctx, spec)
	if err != nil {
		return driver.Function{}, err
	}
	if err := d.ensureLogGroup(ctx, spec.Name, spec.Deployment); err != nil {
		return driver.Function{}, err
	}
	tags := functionTags(spec)
	input := &lambda.CreateFunctionInput{
		FunctionName: &spec.Name, Role: &role, Code: code.create(), PackageType: code.kind(),
		Architectures: []types.Architecture{lambdaArchitecture(spec.Config.Architecture)},
		MemorySize:    sdk.Int32(int32(spec.Config.MemoryMB)), Timeout: seconds(spec.Config.Timeout),
		Environment: &types.Environment{Variables: nonNil(spec.Config.Environment)}, Tags: tags,
	}
	if code.image == "" {
		input.Runtime, input.Handler = lambdaRuntime(spec.Config.Runtime), handler(spec.Config)
	}
	// A role that was made a moment ago is not known to Lambda yet. One that was given may never let Lambda take it.
	began, given := time.Now(), spec.Settings[SettingRole] != ""
	if err := d.until(ctx, "the role of function "+spec.Name, func(ctx context.Context) (bool, error) {
		_, err := d.lambda.CreateFunction(ctx, input)
		if err != nil && given && pending(err) && time.Since(began) > givenRolePatience {
			return true, waited{err}
		}
		return err == nil, err
	}); err != nil {
		return driver.Function{}, err
	}
	release()
	// From here on a repetition of the whole creation would find the name taken, so that a refusal for want of capacity is
	// waited out. A function that was made a moment ago is not known everywhere yet.
	var (
		fn   driver.Function
		last error
	)
	err = d.until(ctx, "function "+spec.Name, func(ctx context.Context) (bool, error) {
		if fn, last = d.finish(ctx, spec.Name, tags, spec.Config); last != nil && (missing(last) || d.Classify(last).Retry) {
			return false, nil
		}
		return last == nil, last
	})
	if err != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w; AWS answered last: %w", err, last)
	}
	return fn, err
}

// finish puts in force what Lambda keeps beside a function's configuration, after a creation or a change, and returns the
// function. Only for that it waits until the change is done: callers wait for the rest.
func (d *Driver) finish(ctx context.Context, name string, tags map[string]string, config driver.Config) (driver.Function, error) {
	if config.MaxConcurrency > 0 {
		if err := d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{
				FunctionName: &name, ReservedConcurrentExecutions: sdk.Int32(int32(config.MaxConcurrency)),
			})
			return err
		}); err != nil {
			return driver.Function{}, err
		}
	}
	d.remember(name, tags)
	if tags[tagAlias] != "" {
		if err := d.publish(ctx, name, config.ProvisionedConcurrency); err != nil {
			return driver.Function{}, err
		}
	}
	return d.GetFunction(ctx, name)
}

// UpdateCode implements driver.Driver.
func (d *Driver) UpdateCode(ctx context.Context, name string, code driver.Code, config driver.Config) (driver.Function, error) {
	before, err := d.find(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	sent, release, err := d.codeOf(ctx, name, code)
	if err != nil {
		return driver.Function{}, err
	}
	defer release()
	if had := before.Configuration.PackageType; had != "" && had != sent.kind() {
		return driver.Function{}, errs.FailedPrecondition("PACKAGE_TYPE_FIXED",
			"function %s was made as %s and cannot become %s: Lambda does not change that; delete the function first, or deploy under another name",
			name, packageWord(had), packageWord(sent.kind())).With("function", name)
	}
	input := &lambda.UpdateFunctionCodeInput{
		FunctionName: &name, Architectures: []types.Architecture{lambdaArchitecture(config.Architecture)},
	}
	sent.update(input)
	if err := d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.UpdateFunctionCode(ctx, input)
		return err
	}); err != nil {
		return driver.Function{}, err
	}
	release()
	return d.configure(ctx, name, before, config, map[string]string{TagDigest: escape(code.Digest)})
}

// UpdateConfiguration implements driver.Driver.
func (d *Driver) UpdateConfiguration(ctx context.Context, name string, config driver.Config) (driver.Function, error) {
	before, err := d.find(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	return d.configure(ctx, name, before, config, nil)
}

// configure replaces the configuration of a function whose tags are those of before, and sets more tags.
func (d *Driver) configure(ctx context.Context, name string, before *lambda.GetFunctionOutput, config driver.Config, more map[string]string) (driver.Function, error) {
	input := &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &name, MemorySize: sdk.Int32(int32(config.MemoryMB)), Timeout: seconds(config.Timeout),
		Environment: &types.Environment{Variables: nonNil(config.Environment)},
	}
	if before.Configuration.PackageType != types.PackageTypeImage {
		input.Runtime, input.Handler = lambdaRuntime(config.Runtime), handler(config)
	}
	if err := d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.UpdateFunctionConfiguration(ctx, input)
		return err
	}); err != nil {
		return driver.Function{}, err
	}
	if config.MaxConcurrency == 0 && before.Concurrency != nil && before.Concurrency.ReservedConcurrentExecutions != nil {
		if err := d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: &name})
			return err
		}); err != nil {
			return driver.Function{}, err
		}
	}
	if before.Tags[tagAlias] == "" && wantsAlias(before.Tags, config) {
		if err := d.dropTriggers(ctx, before); err != nil {
			return driver.Function{}, err
		}
	}
	tags, err := d.retag(ctx, before, config, more)
	if err != nil {
		return driver.Function{}, err
	}
	return d.finish(ctx, name, tags, config)
}

// retag brings the tags that follow from a configuration up to date, and returns all of them.
func (d *Driver) retag(ctx context.Context, before *lambda.GetFunctionOutput, config driver.Config, more map[string]string) (map[string]string, error) {
	tags := maps.Clone(before.Tags)
	if tags == nil {
		tags = make(map[string]string)
	}
	wanted := configTags(config)
	maps.Copy(wanted, more)
	// A function that once had an alias keeps it: its triggers lead there.
	if wantsAlias(tags, config) {
		wanted[tagAlias] = aliasName
	}
	set, drop := make(map[string]string), []string(nil)
	for key, value := range wanted {
		if have, ok := tags[key]; !ok || have != value {
			set[key], tags[key] = value, value
		}
	}
	for _, key := range []string{tagSecrets, tagProvisioned} {
		if _, ok := tags[key]; ok && wanted[key] == "" {
			drop = append(drop, key)
			delete(tags, key)
		}
	}
	return tags, d.tag(ctx, sdk.ToString(before.Configuration.FunctionArn), set, drop)
}

// tag sets and removes tags of a function.
func (d *Driver) tag(ctx context.Context, arn string, set map[string]string, drop []string) error {
	if len(set) > 0 {
		if _, err := d.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: set}); err != nil {
			return err
		}
	}
	if len(drop) > 0 {
		if _, err := d.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: &arn, TagKeys: drop}); err != nil {
			return err
		}
	}
	return nil
}

// change makes one change, after the one before is done: Lambda refuses two at once.
func (d *Driver) change(ctx context.Context, name string, do func(context.Context) error) error {
	return d.until(ctx, "the last change of function "+name, func(ctx context.Context) (bool, error) {
		err := do(ctx)
		return err == nil, err
	})
}

// settle waits until the last change of a function is done, and fails where the change did.
func (d *Driver) settle(ctx context.Context, name, qualifier string) error {
	input := &lambda.GetFunctionConfigurationInput{FunctionName: &name}
	if qualifier != "" {
		input.Qualifier = &qualifier
	}
	return d.until(ctx, "function "+name+" to become active", func(ctx context.Context) (bool, error) {
		got, err := d.lambda.GetFunctionConfiguration(ctx, input)
		if err != nil {
			return false, err
		}
		state, reason := stateOf(&types.FunctionConfiguration{
			State: got.State, StateReason: got.StateReason, StateReasonCode: got.StateReasonCode,
			LastUpdateStatus: got.LastUpdateStatus, LastUpdateStatusReason: got.LastUpdateStatusReason, LastUpdateStatusReasonCode: got.LastUpdateStatusReasonCode,
		})
		if state == driver.StateFailed {
			return false, errs.FailedPrecondition("FUNCTION_FAILED", "function %s did not become ready: %s", name, reason).With("function", name)
		}
		return state == driver.StateActive, nil
	})
}

// get asks for a function.
func (d *Driver) get(ctx context.Context, name string) (*lambda.GetFunctionOutput, error) {
	got, err := d.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &name})
	if err != nil {
		return nil, err
	}
	if got.Configuration == nil {
		return nil, errs.NotFound("FUNCTION_NOT_FOUND", "function %s does not exist in %s", name, d.region).With("function", name)
	}
	// Lambda answers without the tags when it cannot read them, as where lambda:ListTags is not allowed. The function must
	// not look like one of nobody then.
	if failed := got.TagsError; failed != nil {
		return nil, fmt.Errorf("read the tags of function %s: %w", name,
			&smithy.GenericAPIError{Code: sdk.ToString(failed.ErrorCode), Message: sdk.ToString(failed.Message)})
	}
	d.remember(name, got.Tags)
	return got, nil
}

// find is get behind a check of the name, which would lead elsewhere if it were an ARN or a part of a path.
func (d *Driver) find(ctx context.Context, name string) (*lambda.GetFunctionOutput, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return d.get(ctx, name)
}

// GetFunction implements driver.Driver. While a change is going on the triggers are left out: nobody needs them then, and
// callers look often.
func (d *Driver) GetFunction(ctx context.Context, name string) (driver.Function, error) {
	got, err := d.find(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	fn, err := d.describe(ctx, got)
	if err != nil || fn.State == driver.StatePending {
		return fn, err
	}
	fn.Triggers, err = d.triggers(ctx, got)
	return fn, err
}

// describe makes the description of a function, without its triggers.
func (d *Driver) describe(ctx context.Context, got *lambda.GetFunctionOutput) (driver.Function, error) {
	var live *types.FunctionConfiguration
	name := sdk.ToString(got.Configuration.FunctionName)
	if alias := got.Tags[tagAlias]; alias != "" {
		qualified, err := d.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &name, Qualifier: &alias})
		switch {
		case err == nil:
			live = qualified.Configuration
		case !missing(err):
			return driver.Function{}, err
		}
	}
	fn := functionOf(got, live)
	if fn.Config.ProvisionedConcurrency > 0 && fn.State == driver.StateActive {
		if err := d.provisionedState(ctx, &fn); err != nil {
			return driver.Function{}, err
		}
	}
	return fn, nil
}

// ListFunctions implements driver.Driver. Lambda's own order is not that of the names, and it cannot select by tag, so
// that the names are gathered first, and then only the functions of the page are looked at.
func (d *Driver) ListFunctions(ctx context.Context, query driver.ListQuery) (driver.FunctionPage, error) {
	names, err := d.names(ctx)
	if err != nil {
		return driver.FunctionPage{}, err
	}
	size := cmp.Or(query.PageSize, 50)
	var page driver.FunctionPage
	for _, name := range names {
		if name <= query.PageToken {
			continue
		}
		got, err := d.get(ctx, name)
		if missing(err) {
			continue
		}
		if err != nil {
			return driver.FunctionPage{}, err
		}
		if query.Deployment != "" && unescape(got.Tags[TagDeployment]) != query.Deployment {
			continue
		}
		if len(page.Functions) == size {
			page.NextPageToken = page.Functions[size-1].Name
			return page, nil
		}
		fn, err := d.describe(ctx, got)
		if err != nil {
			return driver.FunctionPage{}, err
		}
		page.Functions = append(page.Functions, fn)
	}
	return page, nil
}

// names lists all functions of the region in the order of their names.
func (d *Driver) names(ctx context.Context) ([]string, error) {
	var names []string
	pages := lambda.NewListFunctionsPaginator(d.lambda, &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for i := range page.Functions {
			names = append(names, sdk.ToString(page.Functions[i].FunctionName))
		}
	}
	slices.Sort(names)
	return names, nil
}

// DeleteFunction implements driver.Driver. What stands beside the function goes first, so that a removal that broke off
// finds it again; the log group goes last, since the function could still write to it.
func (d *Driver) DeleteFunction(ctx context.Context, name string) error {
	got, err := d.find(ctx, name)
	if err != nil {
		return err
	}
	if err := d.dropTriggers(ctx, got); err != nil {
		return err
	}
	if err := d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
		return err
	}); err != nil {
		return err
	}
	d.forget(name)
	// The destination of its events went with the function. A role that was given holds nothing of the suite, and who gives
	// one may not be allowed to look at roles.
	deployment := unescape(got.Tags[TagDeployment])
	if strings.HasSuffix(sdk.ToString(got.Configuration.Role), ":role/"+nameRole+deployment) {
		if err := d.revoke(ctx, deployment, name); err != nil {
			return err
		}
	}
	return ignoreMissing(d.deleteLogGroup(ctx, logGroups+name))
}

// dropTriggers removes the triggers of a function that goes, or whose calls go through an alias from now on: they would
// still lead to the unpublished version.
func (d *Driver) dropTriggers(ctx context.Context, got *lambda.GetFunctionOutput) error {
	for _, kind := range []driver.TriggerType{driver.TriggerHTTP, driver.TriggerStorage} {
		if err := d.deleteTrigger(ctx, got, kind); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// ensureLogGroup makes the function's log group, which Lambda would make without tags at the first call.
func (d *Driver) ensureLogGroup(ctx context.Context, name, deployment string) error {
	_, err := d.logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{
		LogGroupName: sdk.String(logGroups + name), Tags: map[string]string{TagDeployment: escape(deployment)},
	})
	if taken(err) {
		return nil
	}
	return err
}

func (d *Driver) deleteLogGroup(ctx context.Context, name string) error {
	_, err := d.logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &name})
	return err
}

// code is a function's code as Lambda takes it: an archive, an object in a bucket, or an image.
type code struct {
	archive     []byte
	bucket, key string
	image       string
}

// codeOf reads an archive that fits into a request, and has a larger one staged. While many functions are made at once,
// only some archives are held; release lets the next one in, and may be called twice.
func (d *Driver) codeOf(ctx context.Context, name string, from driver.Code) (_ code, release func(), err error) {
	release = func() {}
	if from.ImageURI != "" {
		return code{image: from.ImageURI}, release, nil
	}
	if from.Open == nil {
		return code{}, nil, errs.InvalidArgument("CODE_MISSING", "function %s has neither a code archive nor an image; build a package for platform aws", name)
	}
	if from.SizeBytes < maxDirectBytes {
		// An archive of unknown size may have as much as is read of it.
		held := cmp.Or(from.SizeBytes, maxDirectBytes)
		if err := d.archives.Acquire(ctx, held); err != nil {
			return code{}, nil, fmt.Errorf("wait for room for the code of function %s: %w", name, err)
		}
		release = sync.OnceFunc(func() { d.archives.Release(held) })
		content, err := readArchive(ctx, name, from)
		if err != nil {
			release()
			return code{}, nil, err
		}
		if len(content) < maxDirectBytes {
			return code{archive: content}, release, nil
		}
		release()
	}
	if from.Stage == nil {
		return code{}, nil, errs.FailedPrecondition("CODE_TOO_LARGE",
			"the code of function %s has %d bytes; Lambda takes up to %d with the request, and the deployment has no bucket from which it could read more: deploy through a deployment with storage, leave out dependencies, or deploy a container image",
			name, from.SizeBytes, maxDirectBytes).With("function", name)
	}
	bucket, key, err := from.Stage(ctx)
	if err != nil {
		return code{}, nil, fmt.Errorf("copy the code of function %s into a bucket: %w", name, err)
	}
	return code{bucket: bucket, key: key}, release, nil
}

func readArchive(ctx context.Context, name string, from driver.Code) ([]byte, error) {
	source, err := from.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the code of function %s: %w", name, err)
	}
	var content bytes.Buffer
	_, err = io.Copy(&content, io.LimitReader(source, maxDirectBytes))
	if err = errors.Join(err, source.Close()); err != nil {
		return nil, fmt.Errorf("read the code of function %s: %w", name, err)
	}
	return content.Bytes(), nil
}

func (c code) kind() types.PackageType {
	if c.image != "" {
		return types.PackageTypeImage
	}
	return types.PackageTypeZip
}

func packageWord(kind types.PackageType) string {
	if kind == types.PackageTypeImage {
		return "a container image"
	}
	return "a zip archive"
}

func (c code) create() *types.FunctionCode {
	switch {
	case c.image != "":
		return &types.FunctionCode{ImageUri: &c.image}
	case c.bucket != "":
		return &types.FunctionCode{S3Bucket: &c.bucket, S3Key: &c.key}
	}
	return &types.FunctionCode{ZipFile: c.archive}
}

func (c code) update(input *lambda.UpdateFunctionCodeInput) {
	switch {
	case c.image != "":
		input.ImageUri = &c.image
		// The architecture is that of the image.
	case c.bucket != "":
		input.S3Bucket, input.S3Key = &c.bucket, &c.key
	default:
		input.ZipFile = c.archive
	}
}

// nonNil is an environment that replaces the one before also where it is empty.
func nonNil(environment map[string]string) map[string]string {
	if environment == nil {
		return map[string]string{}
	}
	return environment
}

// functionARN is the function's ARN without a qualifier.
func functionARN(got *lambda.GetFunctionOutput) string {
	arn := sdk.ToString(got.Configuration.FunctionArn)
	// arn:partition:lambda:region:account:function:name[:qualifier]
	if parts := strings.Split(arn, ":"); len(parts) > 7 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}
