// Package ecr does what Amazon's Elastic Container Registry asks for beyond the OCI protocol: repositories have to be made,
// and log-ins end after twelve hours.
package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Reason stands in the errors of the registry's API.
const Reason = "ECR_FAILED"

// TagDeployment is the tag by which clean-up finds a repository of the suite; its value is the resource id.
const TagDeployment = "sebs:deployment"

// margin is how long before a log-in ends it is renewed: longer than the push of a large image.
const margin = time.Hour

// API is the part of ECR's API that is used.
type API interface {
	GetAuthorizationToken(ctx context.Context, in *ecr.GetAuthorizationTokenInput, options ...func(*ecr.Options)) (*ecr.GetAuthorizationTokenOutput, error)
	DescribeRepositories(ctx context.Context, in *ecr.DescribeRepositoriesInput, options ...func(*ecr.Options)) (*ecr.DescribeRepositoriesOutput, error)
	CreateRepository(ctx context.Context, in *ecr.CreateRepositoryInput, options ...func(*ecr.Options)) (*ecr.CreateRepositoryOutput, error)
}

// Registry is the registry of one account in one region. It is a keychain for its own hosts.
type Registry struct {
	api API
	now func() time.Time

	mu    sync.Mutex
	token token
	hosts map[string]bool
}

type token struct {
	username, password, host string
	renewal                  time.Time
}

// Open returns the registry that the SDK's configuration leads to. It asks nothing.
func Open(config aws.Config) *Registry { return New(ecr.NewFromConfig(config), time.Now) }

// New returns a registry behind an API, with a clock.
func New(api API, now func() time.Time) *Registry {
	return &Registry{api: api, now: now, hosts: map[string]bool{}}
}

// RepositoryName is the repository of a deployment. ECR knows lower-case names only.
func RepositoryName(resourcesID string) string {
	return "sebs-benchmarks-" + strings.ToLower(resourcesID)
}

// Ensure returns the URI of a deployment's repository, which is made when there is none.
func (r *Registry) Ensure(ctx context.Context, resourcesID string) (uri string, err error) {
	name := RepositoryName(resourcesID)
	uri, found, err := r.Find(ctx, resourcesID)
	if err != nil || found {
		return uri, err
	}
	made, err := r.api.CreateRepository(ctx, &ecr.CreateRepositoryInput{
		RepositoryName: aws.String(name),
		Tags:           []types.Tag{{Key: aws.String(TagDeployment), Value: aws.String(resourcesID)}},
	})
	var exists *types.RepositoryAlreadyExistsException
	if errors.As(err, &exists) {
		// Another builder was faster.
		uri, _, err = r.Find(ctx, resourcesID)
		return uri, err
	}
	if err != nil {
		return "", explain(err, "make repository %s", name)
	}
	return r.know(made.Repository)
}

// Find returns the URI of a deployment's repository, if there is one.
func (r *Registry) Find(ctx context.Context, resourcesID string) (uri string, found bool, err error) {
	name := RepositoryName(resourcesID)
	answer, err := r.api.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})
	var missing *types.RepositoryNotFoundException
	if errors.As(err, &missing) || err == nil && len(answer.Repositories) == 0 {
		return "", false, nil
	}
	if err != nil {
		return "", false, explain(err, "look for repository %s", name)
	}
	uri, err = r.know(&answer.Repositories[0])
	return uri, err == nil, err
}

// Expect returns the URI that the repository of a deployment has or will have.
func (r *Registry) Expect(ctx context.Context, resourcesID string) (uri string, err error) {
	uri, found, err := r.Find(ctx, resourcesID)
	if err != nil || found {
		return uri, err
	}
	t, err := r.login(ctx)
	if err != nil {
		return "", err
	}
	return t.host + "/" + RepositoryName(resourcesID), nil
}

// know takes down which host a repository lies on: that one gets the log-in.
func (r *Registry) know(repository *types.Repository) (string, error) {
	uri := aws.ToString(repository.RepositoryUri)
	host, path, ok := strings.Cut(uri, "/")
	if !ok || host == "" || path == "" {
		return "", errs.Unavailable(Reason, "ECR answers %q as the address of a repository, which is none", uri)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[host] = true
	return uri, nil
}

// Resolve implements authn.Keychain.
func (r *Registry) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return r.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (r *Registry) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	// Asking for the token tells the registry's own host, should no repository have told it.
	if _, err := r.login(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	known := r.hosts[target.RegistryStr()]
	r.mu.Unlock()
	if !known {
		return authn.Anonymous, nil
	}
	return authenticator{r}, nil
}

// authenticator takes the current log-in for every request, so that one which ends is renewed within a long push.
type authenticator struct{ registry *Registry }

// Authorization implements authn.Authenticator.
func (a authenticator) Authorization() (*authn.AuthConfig, error) {
	return a.AuthorizationContext(context.Background())
}

// AuthorizationContext implements authn.ContextAuthenticator.
func (a authenticator) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	t, err := a.registry.login(ctx)
	if err != nil {
		return nil, err
	}
	return &authn.AuthConfig{Username: t.username, Password: t.password}, nil
}

// login returns a log-in that holds for a while.
func (r *Registry) login(ctx context.Context) (token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now().Before(r.token.renewal) {
		return r.token, nil
	}
	answer, err := r.api.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return token{}, explain(err, "get a log-in")
	}
	if len(answer.AuthorizationData) == 0 {
		return token{}, errs.Unavailable(Reason, "ECR gives no log-in")
	}
	data := answer.AuthorizationData[0]
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(data.AuthorizationToken))
	username, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return token{}, errs.Unavailable(Reason, "ECR gives a log-in that is not of the form user:password in base64")
	}
	endpoint, err := url.Parse(aws.ToString(data.ProxyEndpoint))
	if err != nil || endpoint.Host == "" {
		return token{}, errs.Unavailable(Reason, "ECR answers %q as the address of the registry, which is none", aws.ToString(data.ProxyEndpoint))
	}
	r.hosts[endpoint.Host] = true
	// A log-in that ends sooner than the margin is used for half of its time.
	left := aws.ToTime(data.ExpiresAt).Sub(r.now())
	r.token = token{username: username, password: password, host: endpoint.Host, renewal: r.now().Add(max(left-margin, left/2))}
	return r.token, nil
}

// explain names the code that the API answered, which tells what the credential may not do.
func explain(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errs.Reason(err) != "" {
		return fmt.Errorf("%s in ECR: %w", what, err)
	}
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return errs.Unavailable(Reason, "%s in ECR: the API cannot be reached: %v", what, err)
	}
	text := fmt.Sprintf("%s in ECR: %s: %s", what, answer.ErrorCode(), answer.ErrorMessage())
	switch answer.ErrorCode() {
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return errs.PermissionDenied(Reason, "%s; the credential needs ecr:GetAuthorizationToken, DescribeRepositories, CreateRepository, TagResource and the rights to push", text)
	}
	return errs.FailedPrecondition(Reason, "%s", text)
}
