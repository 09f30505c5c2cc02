// Package aws drives AWS Lambda.
//
// A function stands beside things that it needs: a role, a log group, and by its triggers a function URL or an HTTP API
// of API Gateway, statements of its resource policy, a notification of a bucket. The driver makes them, tags them with
// the deployment, and finds them again by tag and name, so that nothing depends on records of the suite.
//
// What is not a fact of Lambda's API itself is kept in the function's tags (see tags.go).
package aws

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/sync/semaphore"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Settings of a deployment, by the names of SeBS's configuration.
const (
	SettingRole        = "lambda-role"
	SettingFunctionURL = "use-function-url"
	SettingURLAuth     = "function-url-auth-type"
	SettingColdStart   = "cold-start-method"
)

// Attributes of triggers, and their values.
const (
	AttributeImplementation = "implementation"
	AttributeAuth           = "auth_type"
	AttributeAPI            = "api-id"

	ImplementationURL = "function_url"
	ImplementationAPI = "api_gateway"
	AuthNone          = "NONE"
	AuthIAM           = "AWS_IAM"
)

// Ways to enforce a cold start.
const (
	// ColdStartEnvironment changes the environment of the unpublished version.
	ColdStartEnvironment = "environment"
	// ColdStartVersion publishes a version for each change, to which an alias is moved.
	ColdStartVersion = "version"
)

// Limits of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const (
	minMemoryMB = 128
	maxMemoryMB = 10240
	maxTimeout  = 900 * time.Second
	// maxPayloadBytes bounds the input of a synchronous call, maxEventBytes that of an asynchronous one (1 MB since
	// October 2025).
	maxPayloadBytes = 6 << 20
	maxEventBytes   = 1 << 20
	// maxDirectBytes bounds an archive that is sent with the request; larger ones come from a bucket.
	maxDirectBytes = 50 << 20
	// maxHeldBytes bounds the archives on their way in requests, which take several times of that as JSON.
	maxHeldBytes = 4 * maxDirectBytes
	// maxCodeBytes bounds an archive unpacked, hence packed as well.
	maxCodeBytes = 250 << 20
)

// Options adjust a Driver. The zero value is good.
type Options struct {
	// Poll is the first pause between two looks at a change that is going on, 200 ms if 0. It doubles up to two seconds.
	Poll time.Duration
	// Patience bounds the wait for one change, and for a new role to be known to Lambda; five minutes if 0.
	Patience time.Duration
	// Log takes note of what is passed over, such as reports that cannot be read; nil keeps silent.
	Log *slog.Logger
}

// Driver implements driver.Driver for one credential in one region.
type Driver struct {
	region   string
	source   string
	poll     time.Duration
	patience time.Duration
	client   *awshttp.BuildableClient

	sts    *sts.Client
	lambda *lambda.Client
	// invoker is a client of Lambda that never repeats a call: a measurement counts each attempt.
	invoker *lambda.Client
	iam     *iam.Client
	api     *apigatewayv2.Client
	logs    *cloudwatchlogs.Client
	reports *lambdalog.Reader
	sqs     *sqs.Client
	s3      *s3.Client
	ecr     *ecr.Client

	// archives bounds the bytes of archives that are held for requests.
	archives *semaphore.Weighted
	// buckets lets one change at a time read and write the notifications of a bucket.
	buckets sync.Mutex

	mu sync.Mutex
	// account is known after the first question to STS.
	account account
	// roles remembers which policies the roles made by the suite were given a moment ago.
	roles map[string]*roleState
	// events remembers which functions have a destination for events.
	events map[string]*eventState
	// qualifiers remembers by which qualifier a function is called.
	qualifiers map[string]qualifier
	// outcomes keeps how events ended that this process has seen.
	outcomes outcomes
}

var (
	_ driver.Driver        = (*Driver)(nil)
	_ driver.AsyncResulter = (*Driver)(nil)
	_ driver.Preparer      = (*Driver)(nil)
)

// Open returns what opens drivers for scopes, as faas.Table has it.
func Open(opener *awsconfig.Opener, options Options) func(context.Context, driver.Scope) (driver.Driver, error) {
	return func(ctx context.Context, scope driver.Scope) (driver.Driver, error) {
		opened, err := opener.Open(ctx, scope.Credential, scope.Region)
		if err != nil {
			return nil, err
		}
		return New(opened, options), nil
	}
}

// idleConnections is how many connections to one host are kept: calls of the library trigger are many at once.
const idleConnections = 512

// New returns a driver that works with the given configuration of the SDK.
func New(opened awsconfig.Opened, options Options) *Driver {
	if options.Poll <= 0 {
		options.Poll = 200 * time.Millisecond
	}
	if options.Patience <= 0 {
		options.Patience = 5 * time.Minute
	}
	d := &Driver{
		region: opened.Region, source: opened.Source, poll: options.Poll, patience: options.Patience,
		archives: semaphore.NewWeighted(maxHeldBytes),
		roles:    make(map[string]*roleState), events: make(map[string]*eventState), qualifiers: make(map[string]qualifier),
	}
	config := opened.Config
	if config.HTTPClient == nil {
		d.client = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 2*idleConnections, idleConnections
		})
		config.HTTPClient = d.client
	}
	d.sts = sts.NewFromConfig(config)
	d.lambda = lambda.NewFromConfig(config)
	d.invoker = lambda.NewFromConfig(config, func(o *lambda.Options) { o.Retryer = sdk.NopRetryer{} })
	d.iam = iam.NewFromConfig(config)
	d.api = apigatewayv2.NewFromConfig(config)
	d.logs = cloudwatchlogs.NewFromConfig(config)
	d.reports = lambdalog.NewReader(d.logs, lambdalog.Options{Poll: options.Poll, Log: options.Log})
	d.sqs = sqs.NewFromConfig(config)
	d.s3 = s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = opened.Endpoint != "" })
	d.ecr = ecr.NewFromConfig(config)
	return d
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	if d.client != nil {
		d.client.GetTransport().CloseIdleConnections()
	}
	return nil
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities(context.Context) (driver.Capabilities, error) {
	return driver.Capabilities{
		Triggers: map[driver.TriggerType]driver.Ability{
			driver.TriggerHTTP: driver.Yes(), driver.TriggerLibrary: driver.Yes(), driver.TriggerStorage: driver.Yes(),
		},
		Runtimes:          runtimes(),
		Architectures:     []string{"x64", "arm64"},
		MinMemoryMB:       minMemoryMB,
		MaxMemoryMB:       maxMemoryMB,
		MaxTimeout:        maxTimeout,
		MaxPayloadBytes:   maxPayloadBytes,
		MaxCodeBytes:      maxCodeBytes,
		ContainerImages:   driver.Yes(),
		AsyncInvoke:       driver.Yes(),
		AsyncResults:      driver.Yes(),
		ColdStartControl:  driver.Yes(),
		MemoryApplied:     driver.Yes(),
		TimeoutApplied:    driver.Yes(),
		Logs:              driver.Yes(),
		InvocationMetrics: driver.Yes(),
		BilledDuration:    driver.Yes(),
		Notes: map[string]string{
			"asynchronous payload": fmt.Sprintf("at most %d bytes", maxEventBytes),
			"HTTP API":             "API Gateway ends a call after 30 s whatever the function's timeout",
		},
	}, nil
}

// account is what the credential belongs to.
type account struct {
	id, principal, partition string
}

// identify asks STS once.
func (d *Driver) identify(ctx context.Context) (account, error) {
	d.mu.Lock()
	known := d.account
	d.mu.Unlock()
	if known.id != "" {
		return known, nil
	}
	return d.ask(ctx)
}

func (d *Driver) ask(ctx context.Context) (account, error) {
	answer, err := d.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return account{}, err
	}
	who := account{id: sdk.ToString(answer.Account), principal: sdk.ToString(answer.Arn), partition: "aws"}
	// An ARN is arn:partition:service:region:account:resource.
	if parts := strings.SplitN(who.principal, ":", 3); len(parts) == 3 && parts[1] != "" {
		who.partition = parts[1]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.account = who
	return who, nil
}

// CheckCredentials implements driver.Driver.
func (d *Driver) CheckCredentials(ctx context.Context) (driver.Identity, error) {
	who, err := d.ask(ctx)
	if err != nil {
		return driver.Identity{}, err
	}
	return driver.Identity{Account: who.id, Principal: who.principal, Source: d.source, Region: d.region}, nil
}

// arn makes the name of a resource of this account in this region.
func (d *Driver) arn(who account, service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", who.partition, service, d.region, who.id, resource)
}

// waited is an answer that stayed the same as long as the driver waited, so that repeating the call helps no more.
type waited struct{ error }

func (w waited) Unwrap() error { return w.error }

// until repeats try until it is done, fails, or the driver's patience or ctx ends. reason tells what is waited for.
func (d *Driver) until(ctx context.Context, reason string, try func(context.Context) (done bool, err error)) error {
	end := time.Now().Add(d.patience)
	for pause := d.poll; ; pause = min(2*pause, 2*time.Second) {
		done, err := try(ctx)
		if done || err != nil && !pending(err) {
			return err
		}
		if time.Now().Add(pause).After(end) {
			if err != nil {
				return waited{err}
			}
			return fmt.Errorf("wait for %s: %w", reason, context.DeadlineExceeded)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			if err != nil {
				return fmt.Errorf("wait for %s: %w; AWS answered last: %w", reason, context.Cause(ctx), err)
			}
			return fmt.Errorf("wait for %s: %w", reason, context.Cause(ctx))
		case <-timer.C:
		}
	}
}
