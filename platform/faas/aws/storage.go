package aws

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// notificationID starts the ids of notifications that the suite makes.
const notificationID = "sebs-"

// createStorage has the bucket call the function for every new object under the prefix.
func (d *Driver) createStorage(ctx context.Context, got *lambda.GetFunctionOutput, spec driver.TriggerSpec) (driver.Trigger, error) {
	name := nameOf(got)
	if spec.Bucket == "" {
		return driver.Trigger{}, errs.Fields(errs.Field("bucket", "must not be empty: it is what a storage trigger watches"))
	}
	if spec.ResultsPrefix != "" && strings.HasPrefix(spec.ResultsPrefix, spec.Prefix) {
		return driver.Trigger{}, errs.Fields(errs.Field("results_prefix",
			"%q lies under the watched prefix %q, so that each answer would call the function again", spec.ResultsPrefix, spec.Prefix))
	}
	// A trigger that is there is answered, and one whose other half got lost is made whole.
	if present, err := d.storageTrigger(ctx, got); err == nil {
		return present, nil
	} else if !missing(err) {
		return driver.Trigger{}, err
	}
	who, err := d.identify(ctx)
	if err != nil {
		return driver.Trigger{}, err
	}
	// The tag comes first: a creation that broke off is found and removed by it.
	if err := d.tag(ctx, functionARN(got), map[string]string{
		tagBucket: escape(spec.Bucket), tagPrefix: escape(spec.Prefix), tagResults: escape(spec.ResultsPrefix),
	}, nil); err != nil {
		return driver.Trigger{}, err
	}
	if err := d.permit(ctx, &lambda.AddPermissionInput{
		FunctionName: &name, Qualifier: optional(got.Tags[tagAlias]), StatementId: sdk.String(statementBucket),
		Principal: sdk.String("s3.amazonaws.com"), Action: sdk.String("lambda:InvokeFunction"),
		SourceArn: sdk.String("arn:" + who.partition + ":s3:::" + spec.Bucket), SourceAccount: &who.id,
	}); err != nil {
		return driver.Trigger{}, err
	}
	entry := s3types.LambdaFunctionConfiguration{
		Id: sdk.String(notificationID + name), LambdaFunctionArn: sdk.String(targetARN(got)), Events: []s3types.Event{"s3:ObjectCreated:*"},
	}
	if spec.Prefix != "" {
		entry.Filter = &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{
			FilterRules: []s3types.FilterRule{{Name: s3types.FilterRuleNamePrefix, Value: &spec.Prefix}},
		}}
	}
	if err := d.changeNotifications(ctx, spec.Bucket, func(all []s3types.LambdaFunctionConfiguration) []s3types.LambdaFunctionConfiguration {
		return append(without(all, name), entry)
	}); err != nil {
		return driver.Trigger{}, err
	}
	return driver.Trigger{
		Type: driver.TriggerStorage, Bucket: spec.Bucket, Prefix: spec.Prefix, ResultsPrefix: spec.ResultsPrefix, Handle: sdk.ToString(entry.Id),
	}, nil
}

// changeNotifications replaces the functions that a bucket calls, and keeps its other notifications. S3 has no way to change
// one entry: of two processes that change one bucket in the same moment one can lose its entry. The function is then
// reported without the trigger, and the next deployment makes it anew.
//
// S3 tries all functions of a configuration. Where one is removed it is told not to: another one that is gone already would
// keep this one from being removed.
func (d *Driver) changeNotifications(ctx context.Context, bucket string, change func([]s3types.LambdaFunctionConfiguration) []s3types.LambdaFunctionConfiguration) error {
	d.buckets.Lock()
	defer d.buckets.Unlock()
	have, err := d.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	if err != nil {
		return err
	}
	functions := change(slices.Clone(have.LambdaFunctionConfigurations))
	changed := len(functions) != len(have.LambdaFunctionConfigurations) || !slices.EqualFunc(functions, have.LambdaFunctionConfigurations,
		func(a, b s3types.LambdaFunctionConfiguration) bool {
			return sdk.ToString(a.Id) == sdk.ToString(b.Id) && sdk.ToString(a.LambdaFunctionArn) == sdk.ToString(b.LambdaFunctionArn) && prefixOf(a) == prefixOf(b)
		})
	if !changed {
		return nil
	}
	// S3 tries the permission at once, and it is not known everywhere yet when it was made a moment ago.
	return d.until(ctx, "the permission of bucket "+bucket, func(ctx context.Context) (bool, error) {
		_, err := d.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket: &bucket, SkipDestinationValidation: sdk.Bool(len(functions) < len(have.LambdaFunctionConfigurations)),
			NotificationConfiguration: &s3types.NotificationConfiguration{
				EventBridgeConfiguration: have.EventBridgeConfiguration, QueueConfigurations: have.QueueConfigurations,
				TopicConfigurations: have.TopicConfigurations, LambdaFunctionConfigurations: functions,
			},
		})
		return err == nil, err
	})
}

// without leaves out the notification of a function.
func without(all []s3types.LambdaFunctionConfiguration, function string) []s3types.LambdaFunctionConfiguration {
	return slices.DeleteFunc(all, func(c s3types.LambdaFunctionConfiguration) bool { return sdk.ToString(c.Id) == notificationID+function })
}

func prefixOf(c s3types.LambdaFunctionConfiguration) string {
	if c.Filter == nil || c.Filter.Key == nil {
		return ""
	}
	for _, rule := range c.Filter.Key.FilterRules {
		if strings.EqualFold(string(rule.Name), string(s3types.FilterRuleNamePrefix)) {
			return sdk.ToString(rule.Value)
		}
	}
	return ""
}

// storageTrigger finds the notification in the bucket that the function's tag names.
func (d *Driver) storageTrigger(ctx context.Context, got *lambda.GetFunctionOutput) (driver.Trigger, error) {
	name, bucket := nameOf(got), unescape(got.Tags[tagBucket])
	absent := errs.NotFound(ReasonTriggerNotFound, "function %s has no storage trigger", name).With("function", name)
	if bucket == "" {
		return driver.Trigger{}, absent
	}
	have, err := d.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	if err != nil {
		return driver.Trigger{}, err
	}
	at := slices.IndexFunc(have.LambdaFunctionConfigurations, func(c s3types.LambdaFunctionConfiguration) bool {
		return sdk.ToString(c.Id) == notificationID+name && sdk.ToString(c.LambdaFunctionArn) == targetARN(got)
	})
	if at < 0 {
		return driver.Trigger{}, absent
	}
	return driver.Trigger{
		Type: driver.TriggerStorage, Bucket: bucket, Prefix: prefixOf(have.LambdaFunctionConfigurations[at]),
		ResultsPrefix: unescape(got.Tags[tagResults]), Handle: notificationID + name,
	}, nil
}

// deleteStorage removes the notification, the permission and the tags.
func (d *Driver) deleteStorage(ctx context.Context, got *lambda.GetFunctionOutput) error {
	name, bucket := nameOf(got), unescape(got.Tags[tagBucket])
	if bucket == "" {
		return errs.NotFound(ReasonTriggerNotFound, "function %s has no storage trigger", name).With("function", name)
	}
	// A bucket that is gone took the notification along.
	if err := d.changeNotifications(ctx, bucket, func(all []s3types.LambdaFunctionConfiguration) []s3types.LambdaFunctionConfiguration {
		return without(all, name)
	}); err != nil && !missing(err) {
		return err
	}
	if err := d.removeStatements(ctx, name, optional(got.Tags[tagAlias]), statementBucket); err != nil {
		return err
	}
	return d.tag(ctx, functionARN(got), nil, []string{tagBucket, tagPrefix, tagResults})
}
