package awsconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"google.golang.org/grpc/codes"

	suitecredentials "github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

func configured(values map[string]string) suitecredentials.Config {
	set := make(map[string]secret.String, len(values))
	for name, value := range values {
		set[name] = secret.New(value)
	}
	return suitecredentials.Config{Platform: {"default": set, "other": set}}
}

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// opener looks only where the test says.
func opener(settings Settings, config suitecredentials.Config, values map[string]string, limiter Limiter) *Opener {
	o := NewOpener(settings, suitecredentials.NewResolver(config, environment(values)), limiter)
	o.getenv = environment(values)
	return o
}

func folder(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	writeCredential(t, dir, content)
	return dir
}

func writeCredential(t *testing.T, dir, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, Platform), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, Platform, "default.yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsAreLookedForInOrder(t *testing.T) {
	t.Parallel()
	dir := folder(t, "access_key: FROMFILE\nsecret_key: file-secret\nsession_token: file-token\n")
	both := configured(map[string]string{"access_key": "FROMCONFIG", "secret_key": "config-secret", "session_token": "config-token"})
	env := map[string]string{"AWS_ACCESS_KEY_ID": "FROMENV", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token"}
	withDir := map[string]string{suitecredentials.DirVariable: dir, "AWS_ACCESS_KEY_ID": "FROMENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}
	tests := map[string]struct {
		config             suitecredentials.Config
		env                map[string]string
		credential         string
		key, token, source string
		code               codes.Code
		reason             string
	}{
		"configuration first":         {config: both, env: withDir, key: "FROMCONFIG", token: "config-token", source: SourceConfiguration},
		"then the directory":          {env: withDir, key: "FROMFILE", token: "file-token", source: SourceConfiguration},
		"then the environment":        {env: env, key: "FROMENV", token: "env-token", source: SourceEnvironment},
		"half an environment":         {env: map[string]string{"AWS_ACCESS_KEY_ID": "FROMENV"}, code: codes.FailedPrecondition, reason: ReasonCredentialsMissing},
		"nothing":                     {code: codes.FailedPrecondition, reason: ReasonCredentialsMissing},
		"another one in the config":   {config: both, env: env, credential: "other", key: "FROMCONFIG", token: "config-token", source: SourceConfiguration},
		"another one not in the env":  {env: env, credential: "other", code: codes.FailedPrecondition, reason: ReasonCredentialsMissing},
		"half a configuration":        {config: configured(map[string]string{"access_key": "A"}), env: env, code: codes.FailedPrecondition, reason: suitecredentials.ReasonKeyMissing},
		"a name that leads elsewhere": {env: env, credential: "../x", code: codes.InvalidArgument, reason: errs.ReasonInvalidFields},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := opener(Settings{}, test.config, test.env, nil).Open(t.Context(), test.credential, "")
			if test.code != codes.OK {
				if !errs.Is(err, test.code) || errs.Reason(err) != test.reason {
					t.Fatalf("answered %v, want %s with reason %s", err, test.code, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := opened.Credentials.Retrieve(t.Context())
			if err != nil || got.AccessKeyID != test.key || got.SessionToken != test.token || opened.Source != test.source {
				t.Errorf("found key %q with token %q from %q (%v); want %q, %q, %q", got.AccessKeyID, got.SessionToken, opened.Source, err, test.key, test.token, test.source)
			}
		})
	}
}

func TestANewTokenInTheFileIsNoticed(t *testing.T) {
	t.Parallel()
	dir := folder(t, "access_key: ONE\nsecret_key: s\nsession_token: first\n")
	opened, err := opener(Settings{}, nil, map[string]string{suitecredentials.DirVariable: dir}, nil).Open(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := opened.Credentials.Retrieve(t.Context())
	if err != nil || !first.CanExpire || time.Until(first.Expires) > reread {
		t.Fatalf("the credential is kept for longer than %s: %v (%v)", reread, first.Expires, err)
	}
	writeCredential(t, dir, "access_key: ONE\nsecret_key: s\nsession_token: second\n")
	cache, ok := opened.Credentials.(*sdk.CredentialsCache)
	if !ok {
		t.Fatalf("credentials are a %T", opened.Credentials)
	}
	cache.Invalidate()
	if second, err := cache.Retrieve(t.Context()); err != nil || second.SessionToken != "second" {
		t.Errorf("after the change the token is %q (%v)", second.SessionToken, err)
	}
}

func TestRegionAndEndpoint(t *testing.T) {
	t.Parallel()
	keys := configured(map[string]string{"access_key": "A", "secret_key": "B"})
	tests := map[string]struct {
		settings         Settings
		env              map[string]string
		asked            string
		region, endpoint string
	}{
		"defaults":                 {region: "us-east-1"},
		"environment's default":    {env: map[string]string{"AWS_DEFAULT_REGION": "eu-west-3"}, region: "eu-west-3"},
		"environment":              {env: map[string]string{"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-3"}, region: "eu-west-1"},
		"configuration":            {settings: Settings{Region: "eu-west-2"}, env: map[string]string{"AWS_REGION": "eu-west-1"}, region: "eu-west-2"},
		"deployment":               {settings: Settings{Region: "eu-west-2"}, asked: "ap-south-1", region: "ap-south-1"},
		"endpoint":                 {settings: Settings{Endpoint: "http://127.0.0.1:1"}, env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:2"}, region: "us-east-1", endpoint: "http://127.0.0.1:1"},
		"endpoint of the variable": {env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:2"}, region: "us-east-1", endpoint: "http://127.0.0.1:2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened, err := opener(test.settings, keys, test.env, nil).Open(t.Context(), "", test.asked)
			if err != nil {
				t.Fatal(err)
			}
			if opened.Config.Region != test.region || opened.Endpoint != test.endpoint || sdk.ToString(opened.BaseEndpoint) != test.endpoint {
				t.Errorf("region %q, endpoint %q (%q); want %q, %q", opened.Config.Region, opened.Endpoint, sdk.ToString(opened.BaseEndpoint), test.region, test.endpoint)
			}
		})
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings Settings
		field    string
	}{
		"no URL":         {Settings{Endpoint: "localhost:5000"}, "endpoint"},
		"with a secret":  {Settings{Endpoint: "http://user:hidden@host"}, "endpoint"},
		"attempts":       {Settings{MaxAttempts: -1}, "max_attempts"},
		"backoff":        {Settings{MaxBackoff: -1}, "max_backoff"},
		"rate of an API": {Settings{RequestsPerSecond: map[string]float64{"lambda": -1}}, "requests_per_second.lambda"},
	} {
		if err := test.settings.Validate(); !errs.Is(err, codes.InvalidArgument) || !strings.Contains(fmt.Sprint(errs.Violations(err)), test.field) {
			t.Errorf("%s: answered %v", name, err)
		}
	}
	if err := (&Settings{Endpoint: "https://aws.example.org", MaxAttempts: 3}).Validate(); err != nil {
		t.Errorf("good settings: %v", err)
	}
}

// roundTrip answers requests by a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(body))}
}

const (
	identity  = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/u</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`
	mismatch  = `<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>The Canonical String should have been 'POST / x-amz-security-token:%s'</Message></Error></ErrorResponse>`
	throttled = `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>`
)

func TestAnEnvironmentThatIsTooLargeIsNotRepeated(t *testing.T) {
	t.Parallel()
	o := opener(Settings{}, configured(map[string]string{"access_key": "AKID", "secret_key": "the-secret-key"}), nil, nil)
	opened, err := o.Open(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	opened.HTTPClient = roundTrip(func(*http.Request) (*http.Response, error) {
		refused := response(http.StatusBadRequest, `{"message":"The environment variables you have provided exceeded the 4KB limit. String measured: {\"TOKEN\":\"hidden\"}"}`)
		refused.Header = http.Header{"Content-Type": {"application/json"}, "X-Amzn-Errortype": {"InvalidParameterValueException"}}
		return refused, nil
	})
	_, err = lambda.NewFromConfig(opened.Config).UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: sdk.String("f")})
	if err == nil || !strings.HasSuffix(err.Error(), "InvalidParameterValueException: The environment variables you have provided exceeded the 4KB limit.") {
		t.Errorf("a large environment is %v", err)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	keys := configured(map[string]string{"access_key": "AKID", "secret_key": "the-secret-key", "session_token": "the-session-token"})
	o := opener(Settings{}, keys, nil, nil)
	opened, err := o.Open(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	opened.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
		return response(http.StatusForbidden, fmt.Sprintf(mismatch, r.Header.Get("X-Amz-Security-Token"))), nil
	})
	_, err = sts.NewFromConfig(opened.Config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err == nil || !strings.Contains(err.Error(), "secret key belongs to the access key") {
		t.Errorf("a wrong signature is %v", err)
	}
	_, absent := opener(Settings{}, nil, map[string]string{"AWS_SECRET_ACCESS_KEY": "the-secret-key", "AWS_SESSION_TOKEN": "the-session-token"}, nil).Open(t.Context(), "", "")
	for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v", o, o), fmt.Sprintf("%v", opened.Source), fmt.Sprint(absent)} {
		for _, hidden := range []string{"the-secret-key", "the-session-token"} {
			if strings.Contains(text, hidden) {
				t.Errorf("%q shows %s", text, hidden)
			}
		}
	}
}

// counting notes what it is asked to wait for.
type counting struct {
	mu    sync.Mutex
	waits []string
	err   error
}

func (c *counting) Wait(_ context.Context, key, api string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, key+" "+api)
	return c.err
}

func TestEveryTryWaitsForTheLimiter(t *testing.T) {
	t.Parallel()
	keys := configured(map[string]string{"access_key": "AKID", "secret_key": "s"})
	limiter := &counting{}
	opened, err := opener(Settings{MaxBackoff: time.Millisecond}, keys, nil, limiter).Open(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	opened.HTTPClient = roundTrip(func(*http.Request) (*http.Response, error) {
		if sent++; sent < 3 {
			return response(http.StatusBadRequest, throttled), nil
		}
		return response(http.StatusOK, identity), nil
	})
	client := sts.NewFromConfig(opened.Config)
	if _, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(limiter.waits, ","); got != "AKID sts,AKID sts,AKID sts" {
		t.Errorf("waited for %q", got)
	}
	limiter.err = errors.New("no more")
	if _, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); !errors.Is(err, limiter.err) || sent != 3 {
		t.Errorf("after a refusal %d requests were sent, and answered %v", sent, err)
	}
}
