package aws

import (
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	apitypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ReasonTriggerNotFound is the reason where a function lacks the trigger.
const ReasonTriggerNotFound = "TRIGGER_NOT_FOUND"

// Statements of a function's resource policy. The first has the name that SeBS gives it.
const (
	statementURL       = "FunctionURLAllowPublicAccess"
	statementURLInvoke = "FunctionURLInvokeAllowPublicAccess"
	statementAPI       = "sebs-http-api"
	statementBucket    = "sebs-storage"
)

// apiSuffix ends the names of HTTP APIs.
const apiSuffix = "-http-api"

// CreateTrigger implements driver.Driver. Every function has the library trigger, so making it changes nothing.
func (d *Driver) CreateTrigger(ctx context.Context, function string, spec driver.TriggerSpec) (driver.Trigger, error) {
	got, err := d.find(ctx, function)
	if err != nil {
		return driver.Trigger{}, err
	}
	switch spec.Type {
	case driver.TriggerLibrary:
		return libraryTrigger(got), nil
	case driver.TriggerHTTP:
		return d.createHTTP(ctx, got, spec)
	case driver.TriggerStorage:
		return d.createStorage(ctx, got, spec)
	}
	return driver.Trigger{}, errs.InvalidArgument("TRIGGER_TYPE_UNKNOWN", "trigger type %q is not known; the types are http, library and storage", spec.Type)
}

func libraryTrigger(got *lambda.GetFunctionOutput) driver.Trigger {
	return driver.Trigger{Type: driver.TriggerLibrary, Handle: targetARN(got)}
}

// targetARN is what a trigger calls: the function, or its alias where calls go through it.
func targetARN(got *lambda.GetFunctionOutput) string {
	arn := functionARN(got)
	if alias := got.Tags[tagAlias]; alias != "" {
		return arn + ":" + alias
	}
	return arn
}

func nameOf(got *lambda.GetFunctionOutput) string {
	return sdk.ToString(got.Configuration.FunctionName)
}

// triggers lists the triggers that a function has.
func (d *Driver) triggers(ctx context.Context, got *lambda.GetFunctionOutput) ([]driver.Trigger, error) {
	all := []driver.Trigger{libraryTrigger(got)}
	for _, find := range []func(context.Context, *lambda.GetFunctionOutput) (driver.Trigger, error){d.urlTrigger, d.apiTrigger, d.storageTrigger} {
		trigger, err := find(ctx, got)
		switch {
		case err == nil:
			all = append(all, trigger)
		case !missing(err):
			return nil, err
		}
	}
	return all, nil
}

// createHTTP makes a function URL, or an HTTP API where the deployment asks for one.
func (d *Driver) createHTTP(ctx context.Context, got *lambda.GetFunctionOutput, spec driver.TriggerSpec) (driver.Trigger, error) {
	switch use := spec.Settings[SettingFunctionURL]; use {
	case "", "true":
	case "false":
		return d.createAPI(ctx, got)
	default:
		return driver.Trigger{}, errs.Fields(errs.Field("settings."+SettingFunctionURL, "%q is neither true nor false", use))
	}
	switch auth := spec.Settings[SettingURLAuth]; auth {
	case "", AuthNone:
		return d.createURL(ctx, got, types.FunctionUrlAuthTypeNone)
	case AuthIAM:
		return d.createURL(ctx, got, types.FunctionUrlAuthTypeAwsIam)
	default:
		return driver.Trigger{}, errs.Fields(errs.Field("settings."+SettingURLAuth, "%q is neither NONE nor AWS_IAM", auth))
	}
}

// createURL makes the function's URL, or adopts the one that is there.
func (d *Driver) createURL(ctx context.Context, got *lambda.GetFunctionOutput, auth types.FunctionUrlAuthType) (driver.Trigger, error) {
	name, alias := nameOf(got), optional(got.Tags[tagAlias])
	// A URL that is there counts as made, so what lets callers in comes first: a creation that broke off is made whole.
	if auth == types.FunctionUrlAuthTypeNone {
		if err := d.openURL(ctx, name, alias); err != nil {
			return driver.Trigger{}, err
		}
	}
	err := d.change(ctx, name, func(ctx context.Context) error {
		_, err := d.lambda.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, Qualifier: alias, AuthType: auth})
		return err
	})
	if taken(err) {
		err = d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: &name, Qualifier: alias, AuthType: auth})
			return err
		})
	}
	if err != nil {
		return driver.Trigger{}, err
	}
	if auth != types.FunctionUrlAuthTypeNone {
		// An adopted URL may have been public.
		if err := d.removeStatements(ctx, name, alias, statementURL, statementURLInvoke); err != nil {
			return driver.Trigger{}, err
		}
	}
	// A function has one HTTP trigger: the API of an earlier setting goes.
	if _, err := d.deleteAPI(ctx, got); err != nil {
		return driver.Trigger{}, err
	}
	return d.urlTrigger(ctx, got)
}

// openURL lets everybody call the URL. Since October 2025 that takes two statements: one for the URL, one for the
// function, restricted to calls that came through the URL.
func (d *Driver) openURL(ctx context.Context, name string, alias *string) error {
	if err := d.permit(ctx, &lambda.AddPermissionInput{
		FunctionName: &name, Qualifier: alias, StatementId: sdk.String(statementURL), Principal: sdk.String("*"),
		Action: sdk.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone,
	}); err != nil {
		return err
	}
	return d.permit(ctx, &lambda.AddPermissionInput{
		FunctionName: &name, Qualifier: alias, StatementId: sdk.String(statementURLInvoke), Principal: sdk.String("*"),
		Action: sdk.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: sdk.Bool(true),
	})
}

// permit adds a statement to a function's resource policy; one of that name counts as done.
func (d *Driver) permit(ctx context.Context, input *lambda.AddPermissionInput) error {
	err := d.change(ctx, sdk.ToString(input.FunctionName), func(ctx context.Context) error {
		_, err := d.lambda.AddPermission(ctx, input)
		return err
	})
	if taken(err) {
		return nil
	}
	return err
}

// removeStatements takes statements out of a function's resource policy.
func (d *Driver) removeStatements(ctx context.Context, name string, alias *string, statements ...string) error {
	for _, id := range statements {
		err := d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: &name, Qualifier: alias, StatementId: &id})
			return err
		})
		if err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// urlTrigger finds the function's URL.
func (d *Driver) urlTrigger(ctx context.Context, got *lambda.GetFunctionOutput) (driver.Trigger, error) {
	name := nameOf(got)
	url, err := d.lambda.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: &name, Qualifier: optional(got.Tags[tagAlias])})
	if err != nil {
		return driver.Trigger{}, err
	}
	return driver.Trigger{
		Type: driver.TriggerHTTP, URL: sdk.ToString(url.FunctionUrl), Handle: sdk.ToString(url.FunctionArn),
		Attributes: map[string]string{AttributeImplementation: ImplementationURL, AttributeAuth: string(url.AuthType)},
	}, nil
}

// createAPI makes an HTTP API in front of the function, or adopts the one of its name.
func (d *Driver) createAPI(ctx context.Context, got *lambda.GetFunctionOutput) (driver.Trigger, error) {
	name := nameOf(got)
	id, err := d.findAPI(ctx, got)
	if missing(err) {
		var made *apigatewayv2.CreateApiOutput
		made, err = d.api.CreateApi(ctx, &apigatewayv2.CreateApiInput{
			Name: sdk.String(name + apiSuffix), ProtocolType: apitypes.ProtocolTypeHttp, Target: sdk.String(targetARN(got)),
			Tags: map[string]string{TagDeployment: got.Tags[TagDeployment]},
		})
		if err == nil {
			id = sdk.ToString(made.ApiId)
		}
	}
	if err != nil {
		return driver.Trigger{}, err
	}
	who, err := d.identify(ctx)
	if err != nil {
		return driver.Trigger{}, err
	}
	if err := d.permit(ctx, &lambda.AddPermissionInput{
		FunctionName: &name, Qualifier: optional(got.Tags[tagAlias]), StatementId: sdk.String(statementAPI + "-" + id),
		Principal: sdk.String("apigateway.amazonaws.com"), Action: sdk.String("lambda:InvokeFunction"),
		SourceArn: sdk.String(d.arn(who, "execute-api", id+"/*/*")),
	}); err != nil {
		return driver.Trigger{}, err
	}
	// With the tag the API counts as the trigger, so it comes after what lets calls in; without it the API is found by name.
	if got.Tags[tagAPI] != id {
		if err := d.tag(ctx, functionARN(got), map[string]string{tagAPI: id}, nil); err != nil {
			return driver.Trigger{}, err
		}
		if got.Tags == nil {
			got.Tags = make(map[string]string, 1)
		}
		got.Tags[tagAPI] = id
	}
	// A function has one HTTP trigger: the URL of an earlier setting goes.
	if _, err := d.deleteURL(ctx, got); err != nil {
		return driver.Trigger{}, err
	}
	return d.apiTrigger(ctx, got)
}

// findAPI returns the id of the function's HTTP API: the one that the tag names, or else the one of the right name.
func (d *Driver) findAPI(ctx context.Context, got *lambda.GetFunctionOutput) (string, error) {
	if id := got.Tags[tagAPI]; id != "" {
		if _, err := d.api.GetApi(ctx, &apigatewayv2.GetApiInput{ApiId: &id}); !missing(err) {
			return id, err
		}
	}
	wanted := nameOf(got) + apiSuffix
	apis, err := d.apis(ctx)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(apis, func(api apitypes.Api) bool { return sdk.ToString(api.Name) == wanted })
	if at < 0 {
		return "", errs.NotFound(ReasonTriggerNotFound, "function %s has no HTTP API", nameOf(got)).With("function", nameOf(got))
	}
	return sdk.ToString(apis[at].ApiId), nil
}

// apis lists all APIs of the region.
func (d *Driver) apis(ctx context.Context) ([]apitypes.Api, error) {
	var all []apitypes.Api
	for input := (&apigatewayv2.GetApisInput{}); ; {
		page, err := d.api.GetApis(ctx, input)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if sdk.ToString(page.NextToken) == "" {
			return all, nil
		}
		input.NextToken = page.NextToken
	}
}

// apiTrigger finds the HTTP API that the function's tag names.
func (d *Driver) apiTrigger(ctx context.Context, got *lambda.GetFunctionOutput) (driver.Trigger, error) {
	id := got.Tags[tagAPI]
	if id == "" {
		return driver.Trigger{}, errs.NotFound(ReasonTriggerNotFound, "function %s has no HTTP API", nameOf(got))
	}
	api, err := d.api.GetApi(ctx, &apigatewayv2.GetApiInput{ApiId: &id})
	if err != nil {
		return driver.Trigger{}, err
	}
	return driver.Trigger{
		Type: driver.TriggerHTTP, URL: strings.TrimSuffix(sdk.ToString(api.ApiEndpoint), "/") + "/", Handle: id,
		Attributes: map[string]string{AttributeImplementation: ImplementationAPI, AttributeAuth: AuthNone, AttributeAPI: id},
	}, nil
}

// DeleteTrigger implements driver.Driver. The library trigger stays: Lambda's API calls every function.
func (d *Driver) DeleteTrigger(ctx context.Context, function string, kind driver.TriggerType) error {
	got, err := d.find(ctx, function)
	if err != nil {
		return err
	}
	return d.deleteTrigger(ctx, got, kind)
}

func (d *Driver) deleteTrigger(ctx context.Context, got *lambda.GetFunctionOutput, kind driver.TriggerType) error {
	switch kind {
	case driver.TriggerLibrary:
		return nil
	case driver.TriggerHTTP:
		return d.deleteHTTP(ctx, got)
	case driver.TriggerStorage:
		return d.deleteStorage(ctx, got)
	}
	return errs.InvalidArgument("TRIGGER_TYPE_UNKNOWN", "trigger type %q is not known; the types are http, library and storage", kind)
}

// deleteHTTP removes URL and HTTP API, of which one may be left over from another setting.
func (d *Driver) deleteHTTP(ctx context.Context, got *lambda.GetFunctionOutput) error {
	url, err := d.deleteURL(ctx, got)
	if err != nil {
		return err
	}
	api, err := d.deleteAPI(ctx, got)
	if err != nil {
		return err
	}
	if !url && !api {
		return errs.NotFound(ReasonTriggerNotFound, "function %s has no http trigger", nameOf(got)).With("function", nameOf(got))
	}
	return nil
}

// deleteURL removes the function's URL with its statements, and tells whether there was one.
func (d *Driver) deleteURL(ctx context.Context, got *lambda.GetFunctionOutput) (found bool, err error) {
	name, alias := nameOf(got), optional(got.Tags[tagAlias])
	// A function that got its alias later may have a URL without it.
	for _, q := range slices.Compact([]*string{nil, alias}) {
		err := d.change(ctx, name, func(ctx context.Context) error {
			_, err := d.lambda.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: &name, Qualifier: q})
			return err
		})
		if err != nil && !missing(err) {
			return found, err
		}
		if err == nil {
			found = true
			if err := d.removeStatements(ctx, name, q, statementURL, statementURLInvoke); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// deleteAPI removes the HTTP API that the function's tag names with its statement, and tells whether there was one.
func (d *Driver) deleteAPI(ctx context.Context, got *lambda.GetFunctionOutput) (found bool, err error) {
	id := got.Tags[tagAPI]
	if id == "" {
		return false, nil
	}
	_, err = d.api.DeleteApi(ctx, &apigatewayv2.DeleteApiInput{ApiId: &id})
	if found = err == nil; !found && !missing(err) {
		return false, err
	}
	if err := d.removeStatements(ctx, nameOf(got), optional(got.Tags[tagAlias]), statementAPI+"-"+id); err != nil {
		return found, err
	}
	return found, d.tag(ctx, functionARN(got), nil, []string{tagAPI})
}
