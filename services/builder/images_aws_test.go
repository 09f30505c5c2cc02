package builder

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/platform/registry/ecr"
	"github.com/sebs-suite/sebs/platform/registry/registrytest"
	"github.com/sebs-suite/sebs/services/builder/images"
	"github.com/sebs-suite/sebs/services/local/sandbox/docker"
	"github.com/sebs-suite/sebs/test/awsstand"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// TestImageGoesToECRAndRunsLocally builds one image for AWS, which the local platform then takes as it is.
func TestImageGoesToECRAndRunsLocally(t *testing.T) {
	needsBase(t)
	stand := awsstand.Start(t, awsstand.Options{Registry: true})
	opener := awsconfig.NewOpener(awsconfig.Settings{Endpoint: stand.Endpoint, Region: stand.Region}, credentials.NewResolver(credentials.Config{
		awsconfig.Platform: {credentials.Default: {"access_key": secret.New(stand.AccessKey), "secret_key": secret.New(stand.SecretKey)}},
	}, func(string) string { return "" }), nil)
	var amazon *ecr.Registry
	const name = "platforms/aws/deployments/abcd1234"
	b := newImageBench(t, pictures(asFunction), imageOptions{
		bases:       map[string]string{"aws.python": images.FromEngine + pythonBase},
		deployments: deployments{name: {Name: name, ResourcesId: "abcd1234", Platform: "aws", Region: stand.Region}},
		openECR: func(ctx context.Context, credential, region string) (*ecr.Registry, error) {
			opened, err := opener.Open(ctx, credential, region)
			if err != nil {
				return nil, err
			}
			amazon = ecr.Open(opened.Config)
			return amazon, nil
		},
	})
	spec := &builderv1.ImageSpec{Platform: "aws", Benchmark: "901.picture", Runtime: python("3.11"), Deployment: name}
	want := stand.Registry + "/sebs-benchmarks-abcd1234"
	if got, err := b.client.GetRegistryName(t.Context(), &builderv1.GetRegistryNameRequest{Spec: spec}); err != nil || got.GetRegistry()+"/"+got.GetRepository() != want {
		t.Fatalf("GetRegistryName before there is a repository = %v, %v; want %s", got, err, want)
	}
	aws := func(r *builderv1.CreatePackageRequest) { r.Platform, r.Deployment = "aws", name }
	built := b.container(t, aws)
	if !strings.HasPrefix(built.GetImageUri(), want+"@sha256:") {
		t.Fatalf("image = %s, want one in %s", built.GetImageUri(), want)
	}
	if again := b.container(t, aws); !again.GetCached() || again.GetImageUri() != built.GetImageUri() {
		t.Errorf("the second build = %v", again)
	}
	if made := stand.Count("ecr", "CreateRepository"); made != 1 {
		t.Errorf("%d repositories were made, want 1", made)
	}

	client := registry.New(amazon)
	defer client.Close()
	if _, found, err := client.Find(t.Context(), built.GetImageUri()); err != nil || !found {
		t.Fatalf("the image is not in ECR: %v, %v", found, err)
	}
	// The Engine pulls with the log-in of the moment.
	login, err := amazon.Resolve(registryHost(stand.Registry))
	if err != nil {
		t.Fatal(err)
	}
	config, err := login.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	removeImage(t, built.GetImageUri())
	h := newDockerHost(t, docker.PullLoopback, &registrytest.Registry{Address: stand.Registry, Username: config.Username, Password: config.Password})
	if err := deployImage(t, h, built); err != nil {
		t.Fatal(err)
	}
	if !invokeImage(t, h) || invokeImage(t, h) {
		t.Error("not cold, then warm")
	}
}

// TestECRLoginIsRenewed uses log-ins that end within the test.
func TestECRLoginIsRenewed(t *testing.T) {
	stand := awsstand.Start(t, awsstand.Options{Registry: true, Faults: awsstand.Faults{TokenLife: 500 * time.Millisecond}})
	opener := awsconfig.NewOpener(awsconfig.Settings{Endpoint: stand.Endpoint, Region: stand.Region}, credentials.NewResolver(credentials.Config{
		awsconfig.Platform: {credentials.Default: {"access_key": secret.New(stand.AccessKey), "secret_key": secret.New(stand.SecretKey)}},
	}, func(string) string { return "" }), nil)
	const name = "platforms/aws/deployments/abcd1234"
	b := newImageBench(t, pictures(asFunction), imageOptions{
		bases:       map[string]string{"aws.python": images.Scratch},
		deployments: deployments{name: {Name: name, ResourcesId: "abcd1234", Platform: "aws"}},
		openECR: func(ctx context.Context, credential, region string) (*ecr.Registry, error) {
			opened, err := opener.Open(ctx, credential, region)
			return ecr.Open(opened.Config), err
		},
	})
	for deadline := time.Now().Add(30 * time.Second); stand.Count("ecr", "GetAuthorizationToken") < 3; {
		built := b.container(t, func(r *builderv1.CreatePackageRequest) { r.Platform, r.Deployment, r.Force = "aws", name, true })
		if built.GetImageUri() == "" {
			t.Fatal("no image")
		}
		if time.Now().After(deadline) {
			t.Fatal("the log-in was not renewed")
		}
	}
}

// registryHost is a registry as its client names it.
type registryHost string

func (h registryHost) String() string      { return string(h) }
func (h registryHost) RegistryStr() string { return string(h) }
