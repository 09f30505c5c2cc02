// Package awsconfig opens the AWS SDK for the drivers of the suite: whose credential it uses, which region, which
// endpoint, and how fast it may ask.
//
// Credentials are looked for in this order: the service's configuration and the directory in SEBS_CREDENTIALS_DIR, the
// environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; default credential only), and, where the
// configuration asks for it, the SDK's own chain of profiles, single sign-on and roles. Then it fails.
package awsconfig

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	suitecredentials "github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Platform is the platform's name in the suite.
const Platform = "aws"

// Section is the name of the configuration's section that Settings reads.
const Section = "aws"

// Sources of a credential.
const (
	SourceConfiguration = "config"
	SourceEnvironment   = "environment"
	SourceChain         = "sdk"
)

// ReasonCredentialsMissing is the reason where no credential was found.
const ReasonCredentialsMissing = "CREDENTIALS_NOT_ON_SERVICE"

// Settings is the section `aws` of the configuration.
type Settings struct {
	// Region is where deployments without a region of their own lie; empty takes AWS_REGION, then AWS_DEFAULT_REGION,
	// then us-east-1.
	Region string `yaml:"region"`
	// Endpoint takes the place of all of AWS's endpoints, for stand-ins and private installations; empty takes
	// AWS_ENDPOINT_URL, and without that AWS's own.
	Endpoint string `yaml:"endpoint"`
	// SDKCredentials lets the SDK's own chain (profile, single sign-on, role) follow the suite's search.
	SDKCredentials bool `yaml:"sdk_credentials"`
	// MaxAttempts is how often a request is tried in all that was throttled or failed on its way; 0 means 5.
	MaxAttempts int `yaml:"max_attempts"`
	// MaxBackoff bounds the pause between two tries; 0 means 20 s.
	MaxBackoff time.Duration `yaml:"max_backoff"`
	// RequestsPerSecond bounds for each API how many control requests all processes of the suite send together for one
	// account; 0 is no bound. The APIs are `lambda`, `lambda-getfunction`, `apigatewayv2`, `cloudwatch-logs`, `iam`, `sqs`,
	// `ecr`, `sts`, `s3` and `dynamodb`. One that is not named has AWS's documented quota (15, 100, 10, 10), or no bound;
	// with an endpoint of one's own it has none.
	RequestsPerSecond map[string]float64 `yaml:"requests_per_second"`
}

// Validate reports all problems at once.
func (s *Settings) Validate() error {
	var problems []error
	if s.Endpoint != "" {
		if u, err := url.Parse(s.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			problems = append(problems, errs.Field("endpoint", "%q is no URL such as http://127.0.0.1:5000", s.Endpoint))
		}
	}
	if s.MaxAttempts < 0 {
		problems = append(problems, errs.Field("max_attempts", "is %d and must not be negative", s.MaxAttempts))
	}
	if s.MaxBackoff < 0 {
		problems = append(problems, errs.Field("max_backoff", "is %s and must not be negative", s.MaxBackoff))
	}
	for api, rate := range s.RequestsPerSecond {
		if rate < 0 {
			problems = append(problems, errs.Field("requests_per_second."+api, "is %g and must not be negative", rate))
		}
	}
	return errs.Fields(problems...)
}

// Limiter bounds how fast requests are sent.
type Limiter interface {
	// Wait returns when one more request may be sent to an API in the name of an access key.
	Wait(ctx context.Context, accessKey, api string) error
}

// Opener opens the SDK. Make it with [NewOpener].
type Opener struct {
	settings Settings
	resolver *suitecredentials.Resolver
	getenv   func(string) string
	limiter  Limiter
}

// NewOpener returns an opener. The limiter may be nil.
func NewOpener(settings Settings, resolver *suitecredentials.Resolver, limiter Limiter) *Opener {
	return &Opener{settings: settings, resolver: resolver, getenv: os.Getenv, limiter: limiter}
}

// Opened is the SDK's configuration with where its credential was found.
type Opened struct {
	aws.Config
	// Source is one of the constants above.
	Source string
	// Endpoint is the endpoint that takes the place of AWS's own, empty where there is none.
	Endpoint string
}

// Region returns the region for a deployment that names the given one, or none.
func (o *Opener) Region(region string) string {
	return cmp.Or(region, o.settings.Region, o.getenv("AWS_REGION"), o.getenv("AWS_DEFAULT_REGION"), "us-east-1")
}

// Open returns the SDK's configuration for a credential (empty is the default one) in a region (empty is the
// configured one). It asks no service unless the SDK's own chain is used.
func (o *Opener) Open(ctx context.Context, credential, region string) (Opened, error) {
	provider, source, err := o.provider(ctx, cmp.Or(credential, suitecredentials.Default))
	if err != nil {
		return Opened{}, err
	}
	attempts, backoff := cmp.Or(o.settings.MaxAttempts, 5), cmp.Or(o.settings.MaxBackoff, 20*time.Second)
	opened := Opened{
		Config: aws.Config{
			Region:      o.Region(region),
			Credentials: aws.NewCredentialsCache(provider),
			Retryer: func() aws.Retryer {
				return retry.NewStandard(func(options *retry.StandardOptions) {
					options.MaxAttempts, options.MaxBackoff = attempts, backoff
				})
			},
		},
		Source:   source,
		Endpoint: cmp.Or(o.settings.Endpoint, o.getenv("AWS_ENDPOINT_URL")),
	}
	if opened.Endpoint != "" {
		opened.BaseEndpoint = aws.String(opened.Endpoint)
	}
	opened.APIOptions = append(opened.APIOptions, conceal)
	if o.limiter != nil {
		opened.APIOptions = append(opened.APIOptions, limit(o.limiter, opened.Config.Credentials))
	}
	return opened, nil
}

// reread is how long a credential of the suite counts before it is read again, so that a file with a new session token
// is noticed.
const reread = time.Minute

// resolved is a credential of the suite's configuration or of its directory.
type resolved struct {
	resolver *suitecredentials.Resolver
	name     string
}

// Retrieve implements aws.CredentialsProvider.
func (r resolved) Retrieve(context.Context) (aws.Credentials, error) {
	set, err := r.resolver.Resolve(Platform, r.name)
	if err != nil {
		return aws.Credentials{}, err
	}
	access, err := set.Require("access_key")
	if err != nil {
		return aws.Credentials{}, err
	}
	secret, err := set.Require("secret_key")
	if err != nil {
		return aws.Credentials{}, err
	}
	return aws.Credentials{
		AccessKeyID: access.Reveal(), SecretAccessKey: secret.Reveal(), SessionToken: set.Value("session_token").Reveal(),
		Source: SourceConfiguration, CanExpire: true, Expires: time.Now().Add(reread),
	}, nil
}

// provider finds the credential.
func (o *Opener) provider(ctx context.Context, name string) (aws.CredentialsProvider, string, error) {
	own := resolved{resolver: o.resolver, name: name}
	_, err := own.Retrieve(ctx)
	if err == nil {
		return own, SourceConfiguration, nil
	}
	if errs.Reason(err) != suitecredentials.ReasonNotOnService {
		return nil, "", err
	}
	if name == suitecredentials.Default {
		access, secret := o.getenv("AWS_ACCESS_KEY_ID"), o.getenv("AWS_SECRET_ACCESS_KEY")
		if access != "" && secret != "" {
			return credentials.NewStaticCredentialsProvider(access, secret, o.getenv("AWS_SESSION_TOKEN")), SourceEnvironment, nil
		}
		if o.settings.SDKCredentials {
			chain, err := config.LoadDefaultConfig(ctx)
			if err != nil {
				return nil, "", fmt.Errorf("open the AWS SDK's own credentials: %w", err)
			}
			return chain.Credentials, SourceChain, nil
		}
	}
	return nil, "", errs.FailedPrecondition(ReasonCredentialsMissing,
		"credential %q of aws is not on this service; set credentials.aws.%s.access_key and secret_key in its configuration, put %s.yaml into the folder aws of the directory in %s, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (default credential only)",
		name, name, name, suitecredentials.DirVariable).With("platform", Platform).With("credential", name)
}
