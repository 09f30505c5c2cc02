package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/platform/registry/ecr"
	"github.com/sebs-suite/sebs/services/builder/images"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// RegistryConfig is the part `registry` of the section `builder`.
type RegistryConfig struct {
	// Address is the registry, host with an optional port, that takes images where the deployment names none: those of
	// platform local, and base images. Without one the Docker Engine of this machine keeps them.
	Address string `yaml:"address"`
	// Repository is the path of the repository in the registry.
	Repository string `yaml:"repository"`
	// Credential names the credential of platform `registry` to log in with; empty is the default one.
	Credential string `yaml:"credential"`
	// DockerConfig has the configuration file of the docker command searched for log-ins too.
	DockerConfig bool `yaml:"docker_config"`
	// PreviousVersion is the version of the suite whose base images are taken when there is none of the current one.
	PreviousVersion string `yaml:"previous_version"`
}

// Validate reports what no registry would take.
func (c RegistryConfig) Validate() error {
	if c.Address == "" {
		return nil
	}
	return images.Name{Registry: c.Address, Repository: c.Repository, Tag: "latest"}.Check()
}

// Repositories of images that the Docker Engine of this machine keeps.
const (
	engineFunctions = "sebs/functions"
	engineBases     = "sebs/base-images"
)

// Settings of a deployment that name a registry.
const (
	settingRegistry   = "docker-registry"
	settingRepository = "container_repository"
)

// keeper is what keeps images: a registry, or the Docker Engine.
type keeper interface {
	Find(ctx context.Context, reference string) (digest string, found bool, err error)
	Size(ctx context.Context, reference string) (int64, error)
	Push(ctx context.Context, reference string, img v1.Image, progress registry.Progress) (digest string, err error)
	PushIndex(ctx context.Context, reference string, index v1.ImageIndex, progress registry.Progress) (digest string, err error)
}

// place is a repository and what keeps it.
type place struct {
	name   images.Name // without a tag
	keeper keeper
	engine bool
	gone   string // deployment of the image that no longer exists; empty is none
}

// pinned is how the platform names an image that has a digest in the place.
func (p place) pinned(digest string) string {
	if p.engine {
		return digest
	}
	return p.name.Place() + "@" + digest
}

// engineKeeper has images kept by the Docker Engine.
type engineKeeper struct{ engine *images.Engine }

// Find implements keeper.
func (k engineKeeper) Find(ctx context.Context, reference string) (string, bool, error) {
	id, _, found, err := k.engine.Find(ctx, reference)
	return id, found, err
}

// Size implements keeper.
func (k engineKeeper) Size(ctx context.Context, reference string) (int64, error) {
	id, _, found, err := k.engine.Find(ctx, reference)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, errs.NotFound(registry.ReasonNotFound, "the Docker Engine has no image %s", reference).With("image", reference)
	}
	img, err := k.engine.Image(ctx, id)
	if err != nil {
		return 0, err
	}
	return registry.StoredSize(img)
}

// Push implements keeper.
func (k engineKeeper) Push(ctx context.Context, reference string, img v1.Image, _ registry.Progress) (string, error) {
	return k.engine.Load(ctx, reference, img)
}

// PushIndex implements keeper.
func (k engineKeeper) PushIndex(context.Context, string, v1.ImageIndex, registry.Progress) (string, error) {
	return "", errs.FailedPrecondition("REGISTRY_NEEDED", "the Docker Engine keeps no images of several architectures; set builder.registry, or leave out --multi-platform")
}

// Deployments tells about deployments.
type Deployments interface {
	GetDeployment(ctx context.Context, in *deployerv1.GetDeploymentRequest, opts ...grpc.CallOption) (*typev1.Deployment, error)
}

// Registries knows where images go. Make it with [NewRegistries].
type Registries struct {
	config      RegistryConfig
	client      *registry.Client
	engine      *images.Engine
	deployments Deployments
	openECR     func(ctx context.Context, credential, region string) (*ecr.Registry, error)

	mu   sync.Mutex
	ecrs map[string]*ecr.Registry // by credential and region, so that log-ins are kept
}

// NewRegistries returns the registries. openECR opens Amazon's for a credential in a region.
func NewRegistries(config RegistryConfig, client *registry.Client, engine *images.Engine, deployments Deployments, openECR func(ctx context.Context, credential, region string) (*ecr.Registry, error)) *Registries {
	return &Registries{config: config, client: client, engine: engine, deployments: deployments, openECR: openECR, ecrs: map[string]*ecr.Registry{}}
}

// standard is the place for images of no deployment.
func (r *Registries) standard(base bool) place {
	if r.config.Address != "" {
		return place{name: images.Name{Registry: r.config.Address, Repository: r.config.Repository}, keeper: r.client}
	}
	repository := engineFunctions
	if base {
		repository = engineBases
	}
	return place{name: images.Name{Repository: repository}, keeper: engineKeeper{r.engine}, engine: true}
}

// find returns the place for the images of a deployment (empty is none) of a platform. A repository that has to be made
// first is made when the caller is about to push.
func (r *Registries) find(ctx context.Context, platform, deployment string, base, push bool) (place, error) {
	if deployment == "" {
		if platform != platformLocal && r.config.Address == "" && !base {
			return place{}, errs.FailedPrecondition("REGISTRY_NEEDED", "images for platform %s need a registry; name the deployment whose registry takes them, or set builder.registry in the configuration", platform).With("platform", platform)
		}
		return r.standard(base), nil
	}
	match := deploymentPattern.FindStringSubmatch(deployment)
	if match == nil || match[1] != platform {
		return place{}, errs.Fields(errs.Field("deployment", "%q is not a name of the form platforms/%s/deployments/{rid}", deployment, platform))
	}
	found, err := r.deployments.GetDeployment(ctx, &deployerv1.GetDeploymentRequest{Name: deployment})
	if err != nil {
		return place{}, fmt.Errorf("find the registry of %s: %w", deployment, errs.FromStatus(err))
	}
	if host := found.GetSettings()[settingRegistry]; host != "" {
		return r.named(host, found.GetSettings())
	}
	if platform != platformAWS {
		return r.standard(base), nil
	}
	return r.amazon(ctx, found, push)
}

// Platforms that this file treats on their own.
const (
	platformLocal = "local"
	platformAWS   = "aws"
)

// named is the place that the settings of a deployment name.
func (r *Registries) named(host string, settings map[string]string) (place, error) {
	host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://"), "/")
	name := images.Name{Registry: host, Repository: strings.Trim(settings[settingRepository], "/"), Tag: "latest"}
	if name.Repository == "" {
		return place{}, errs.FailedPrecondition("REGISTRY_NEEDED", "the deployment names the registry %s and no repository in it; set %s", host, settingRepository)
	}
	if err := name.Check(); err != nil {
		return place{}, fmt.Errorf("settings %s and %s of the deployment: %w", settingRegistry, settingRepository, err)
	}
	name.Tag = ""
	return place{name: name, keeper: r.client}, nil
}

// amazon is the repository of a deployment in ECR.
func (r *Registries) amazon(ctx context.Context, deployment *typev1.Deployment, push bool) (place, error) {
	own, err := r.ecr(ctx, deployment.GetCredential(), deployment.GetRegion())
	if err != nil {
		return place{}, err
	}
	var uri string
	if push {
		uri, err = own.Ensure(ctx, deployment.GetResourcesId())
	} else {
		uri, err = own.Expect(ctx, deployment.GetResourcesId())
	}
	if err != nil {
		return place{}, err
	}
	host, repository, _ := strings.Cut(uri, "/")
	return place{name: images.Name{Registry: host, Repository: repository}, keeper: r.client.With(own)}, nil
}

func (r *Registries) ecr(ctx context.Context, credential, region string) (*ecr.Registry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := credential + "\n" + region
	if known := r.ecrs[key]; known != nil {
		return known, nil
	}
	opened, err := r.openECR(ctx, credential, region)
	if err != nil {
		return nil, fmt.Errorf("open ECR: %w", err)
	}
	r.ecrs[key] = opened
	return opened, nil
}

var amazonHost = regexp.MustCompile(`^[0-9]{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// split parts a repository that is given with its host from that. One without is the Docker Engine's.
func split(repository string) images.Name {
	host, rest, ok := strings.Cut(repository, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return images.Name{Repository: repository}
	}
	return images.Name{Registry: host, Repository: rest}
}

// at is the place of a repository of no deployment, with the log-in of the service.
func (r *Registries) at(ctx context.Context, name images.Name) (place, error) {
	name.Tag = ""
	if name.Registry == "" {
		return place{name: name, keeper: engineKeeper{r.engine}, engine: true}, nil
	}
	if match := amazonHost.FindStringSubmatch(name.Registry); match != nil {
		own, err := r.ecr(ctx, "", match[1])
		if err != nil {
			return place{}, err
		}
		return place{name: name, keeper: r.client.With(own)}, nil
	}
	return place{name: name, keeper: r.client}, nil
}

// bases are the references of base images that the suite was told to build, best first.
func (r *Registries) bases(at place, labels images.Labels) []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range []place{at, r.standard(true)} {
		if p.name.Repository == engineFunctions {
			continue
		}
		for _, tag := range images.BaseTags(labels, r.config.PreviousVersion) {
			reference := images.Name{Registry: p.name.Registry, Repository: p.name.Repository, Tag: tag}.URI()
			if p.engine {
				reference = images.FromEngine + reference
			}
			if !seen[reference] {
				out, seen[reference] = append(out, reference), true
			}
		}
	}
	return out
}

// describeRegistry names a place for people.
func describeRegistry(p place) string { return cmp.Or(p.name.Registry, "the Docker Engine") }

var errNoImages = errors.New("this builder makes no container images")
