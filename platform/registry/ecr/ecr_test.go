package ecr_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/registry/ecr"
)

// script is an ECR whose clock and faults a test moves.
type script struct {
	mu           sync.Mutex
	clock        time.Time
	life         time.Duration
	tokens       int
	repositories map[string]string // name to the tag sebs:deployment
	fail         error
	race         bool // another builder makes the repository between the question and the order
}

func (s *script) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *script) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

func (s *script) GetAuthorizationToken(context.Context, *sdk.GetAuthorizationTokenInput, ...func(*sdk.Options)) (*sdk.GetAuthorizationTokenOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.tokens++
	token := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "AWS:token-%d", s.tokens))
	return &sdk.GetAuthorizationTokenOutput{AuthorizationData: []types.AuthorizationData{{
		AuthorizationToken: &token, ExpiresAt: aws.Time(s.clock.Add(s.life)), ProxyEndpoint: aws.String("https://127.0.0.1:5000"),
	}}}, nil
}

func (s *script) DescribeRepositories(_ context.Context, in *sdk.DescribeRepositoriesInput, _ ...func(*sdk.Options)) (*sdk.DescribeRepositoriesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.repositories[in.RepositoryNames[0]]; !ok {
		return nil, &types.RepositoryNotFoundException{}
	}
	return &sdk.DescribeRepositoriesOutput{Repositories: []types.Repository{{RepositoryUri: aws.String("127.0.0.1:5000/" + in.RepositoryNames[0])}}}, nil
}

func (s *script) CreateRepository(_ context.Context, in *sdk.CreateRepositoryInput, _ ...func(*sdk.Options)) (*sdk.CreateRepositoryOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repositories[*in.RepositoryName] = *in.Tags[0].Key + "=" + *in.Tags[0].Value
	if s.race {
		return nil, &types.RepositoryAlreadyExistsException{}
	}
	return &sdk.CreateRepositoryOutput{Repository: &types.Repository{RepositoryUri: aws.String("127.0.0.1:5000/" + *in.RepositoryName)}}, nil
}

func open(life time.Duration) (*script, *ecr.Registry) {
	s := &script{clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), life: life, repositories: map[string]string{}}
	return s, ecr.New(s, s.now)
}

// password asks for the log-in of a host as the registry's client does.
func password(t *testing.T, r *ecr.Registry, host string) (authn.Authenticator, string) {
	t.Helper()
	registry, err := name.NewRegistry(host)
	if err != nil {
		t.Fatal(err)
	}
	login, err := authn.Resolve(t.Context(), r, registry)
	if err != nil {
		t.Fatal(err)
	}
	config, err := authn.Authorization(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return login, config.Password
}

func TestLoginIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		life, kept, renewed time.Duration
	}{
		{12 * time.Hour, 10*time.Hour + 59*time.Minute, 2 * time.Minute},
		{time.Hour, 29 * time.Minute, 2 * time.Minute},
	} {
		s, r := open(test.life)
		login, first := password(t, r, "127.0.0.1:5000")
		if first != "token-1" {
			t.Fatalf("password = %s", first)
		}
		s.pass(test.kept)
		if _, got := password(t, r, "127.0.0.1:5000"); got != "token-1" {
			t.Errorf("life %s: after %s the log-in is %s, want the first", test.life, test.kept, got)
		}
		s.pass(test.renewed)
		// A push that began before the renewal goes on with the new log-in.
		config, err := authn.Authorization(t.Context(), login)
		if err != nil || config.Password != "token-2" || config.Username != "AWS" {
			t.Errorf("life %s: log-in = %+v, %v; want the second", test.life, config, err)
		}
	}
}

func TestLoginGoesToItsRegistryOnly(t *testing.T) {
	t.Parallel()
	_, r := open(12 * time.Hour)
	if login, got := password(t, r, "registry.example.org"); got != "" || login != authn.Anonymous {
		t.Errorf("another registry gets %q", got)
	}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	for _, race := range []bool{false, true} {
		s, r := open(12 * time.Hour)
		s.race = race
		const want = "127.0.0.1:5000/sebs-benchmarks-abcd1234"
		if uri, err := r.Expect(t.Context(), "ABCD1234"); err != nil || uri != want || len(s.repositories) != 0 {
			t.Errorf("Expect = %s, %v", uri, err)
		}
		for range 2 {
			if uri, err := r.Ensure(t.Context(), "ABCD1234"); err != nil || uri != want {
				t.Errorf("Ensure = %s, %v", uri, err)
			}
		}
		if got := s.repositories["sebs-benchmarks-abcd1234"]; got != ecr.TagDeployment+"=ABCD1234" {
			t.Errorf("the repository is tagged %q", got)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fail error
		code codes.Code
		says string
	}{
		{&smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not authorized"}, codes.PermissionDenied, "ecr:GetAuthorizationToken"},
		{&smithy.GenericAPIError{Code: "ServerException", Message: "broken"}, codes.FailedPrecondition, "broken"},
		{errors.New("no route"), codes.Unavailable, "cannot be reached"},
	} {
		s, r := open(12 * time.Hour)
		s.fail = test.fail
		_, err := r.Expect(t.Context(), "x")
		if errs.Code(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("Expect = %v (%s), want %s saying %q", err, errs.Code(err), test.code, test.says)
		}
	}
}
