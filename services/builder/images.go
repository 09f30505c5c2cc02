package builder

import (
	"context"
	"fmt"
	"slices"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/images"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// ReasonImageNotBuilt stands in the errors of images that are neither recorded nor on this machine.
const ReasonImageNotBuilt = "IMAGE_NOT_BUILT"

// containerVariant is the system variant of functions that are images.
const containerVariant = "container"

// Images makes container images for a Server.
type Images struct {
	// Bases finds the images below, Registries the places where images go.
	Bases      *images.Bases
	Registries *Registries
	// Engine is the Docker Engine of this machine.
	Engine *images.Engine
	// Bootstraps are the runtimes of languages.
	Bootstraps images.Bootstraps
	// Dir is a directory of this process for layers on their way.
	Dir string
	// Version is the suite's.
	Version string
}

func imageRecord(uri string) string { return "images/" + uri }

// checkImageFields refuses what is for images only in requests for packages, and prefixes that make no tag.
func checkImageFields(choice runtimesdata.Choice, r *builderv1.CreatePackageRequest) error {
	if choice.SystemVariant == containerVariant {
		return checkPrefix("image_tag_prefix", r.GetImageTagPrefix())
	}
	return nil
}

func checkPrefix(field, prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := images.CheckTag(field, prefix); err != nil {
		return errs.Fields(err)
	}
	return nil
}

// labelsOf are what the tags of a choice are made of.
func (s *Server) labelsOf(b string, choice runtimesdata.Choice, prefix string) images.Labels {
	return images.Labels{
		Platform: choice.Platform, Benchmark: b, Language: choice.Language, Version: choice.Version, Variant: choice.Variant,
		Architecture: choice.Architecture, Prefix: prefix, Suite: s.images.Version,
	}
}

// named gives a place a tag.
func named(at place, tag string) (images.Name, error) {
	name := at.name
	name.Tag = tag
	return name, name.Check()
}

// resolveSpec completes the runtime of an image's description.
func (s *Server) resolveSpec(spec *builderv1.ImageSpec) (runtimesdata.Choice, error) {
	choice := choiceOf(spec.GetPlatform(), spec.GetRuntime(), spec.GetArchitecture(), 0)
	choice.SystemVariant = containerVariant
	choice, err := s.runtimes.Resolve(choice, s.host)
	if err != nil {
		return choice, err
	}
	if spec.GetBenchmark() == "" {
		return choice, nil
	}
	if err := benchmark.CheckName(spec.GetBenchmark()); err != nil {
		return choice, err
	}
	return choice, checkPrefix("spec.tag_prefix", spec.GetTagPrefix())
}

// locate says where the image of a description is kept and how it is named.
func (s *Server) locate(ctx context.Context, spec *builderv1.ImageSpec, choice runtimesdata.Choice, push bool) (place, images.Name, error) {
	if s.images == nil {
		return place{}, images.Name{}, errs.Internal(errNoImages)
	}
	isBase := spec.GetBenchmark() == ""
	at, err := s.images.Registries.find(ctx, choice.Platform, spec.GetDeployment(), isBase, push)
	if err != nil {
		return place{}, images.Name{}, err
	}
	labels := s.labelsOf(spec.GetBenchmark(), choice, spec.GetTagPrefix())
	if spec.GetMultiPlatform() {
		labels.Architecture = ""
	}
	tag := images.FunctionTag(labels)
	if isBase {
		tag = images.BaseTags(labels, "")[0]
	}
	name, err := named(at, tag)
	return at, name, err
}

// GetRegistryName tells where an image is kept and how it is named.
func (s *Server) GetRegistryName(ctx context.Context, r *builderv1.GetRegistryNameRequest) (*builderv1.RegistryName, error) {
	choice, err := s.resolveSpec(r.GetSpec())
	if err != nil {
		return nil, err
	}
	_, name, err := s.locate(ctx, r.GetSpec(), choice, false)
	if err != nil {
		return nil, err
	}
	return &builderv1.RegistryName{Registry: name.Registry, Repository: name.Repository, Tag: name.Tag, ImageUri: name.URI()}, nil
}

// placeOf is the place of a repository that a request names with its registry.
func (s *Server) placeOf(ctx context.Context, field, repository, tag string) (place, images.Name, *builderv1.Image, error) {
	if s.images == nil {
		return place{}, images.Name{}, nil, errs.Internal(errNoImages)
	}
	name := split(repository)
	name.Tag = tag
	if err := name.Check(); err != nil {
		return place{}, images.Name{}, nil, fmt.Errorf("%s: %w", field, err)
	}
	record, err := s.imageOf(ctx, name)
	if err != nil {
		return place{}, images.Name{}, nil, err
	}
	gone := ""
	// The deployment's own log-in is the right one. An image can outlive the deployment: then the service's has to do.
	if deployment := record.GetDeployment(); deployment != "" {
		at, err := s.images.Registries.find(ctx, record.GetPlatform(), deployment, false, false)
		if err == nil || errs.Reason(err) != reasonNoDeployment {
			return at, name, record, err
		}
		gone = deployment
	}
	at, err := s.images.Registries.at(ctx, name)
	at.gone = gone
	return at, name, record, withoutDeployment(gone, err)
}

// reasonNoDeployment is the deployer's reason when there is no such deployment.
const reasonNoDeployment = "DEPLOYMENT_NOT_FOUND"

// withoutDeployment adds to a refusal that the deployment of the image (empty is none) is gone, and what to do.
func withoutDeployment(gone string, err error) error {
	refused := []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.NotFound, codes.FailedPrecondition}
	if gone == "" || !slices.Contains(refused, errs.Code(err)) {
		return err
	}
	return fmt.Errorf("the image was made for %s, which no longer exists, so the service's log-in is used in place of its own; give the service one for this registry, or build the image for a deployment that exists: %w", gone, err)
}

// FindImage asks by the manifest whether an image exists.
func (s *Server) FindImage(ctx context.Context, r *builderv1.FindImageRequest) (*builderv1.FindImageResponse, error) {
	at, name, _, err := s.placeOf(ctx, "repository", r.GetRepository(), r.GetTag())
	if err != nil {
		return nil, err
	}
	digest, found, err := at.keeper.Find(ctx, name.URI())
	return &builderv1.FindImageResponse{Found: found, Digest: digest}, withoutDeployment(at.gone, err)
}

// imageOf returns the record of an image; nil when there is none.
func (s *Server) imageOf(ctx context.Context, name images.Name) (*builderv1.Image, error) {
	record := &builderv1.Image{}
	if _, err := s.records.Get(ctx, imageRecord(name.URI()), record); errs.Is(err, codes.NotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read record of the image: %w", err)
	}
	return record, nil
}

// FinalizeContainerBuild answers the package that an image was made of: the platforms whose images this builder makes want
// nothing beside them.
func (s *Server) FinalizeContainerBuild(ctx context.Context, r *builderv1.FinalizeContainerBuildRequest) (*longrunningpb.Operation, error) {
	if _, err := s.resolveSpec(r.GetSpec()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindFinalize, r.GetRequestId(), r, func(ctx context.Context, _ work) (proto.Message, error) {
		return s.finalizeContainer(ctx, r)
	})
}

func (s *Server) finalizeContainer(ctx context.Context, r *builderv1.FinalizeContainerBuildRequest) (*builderv1.Package, error) {
	choice, err := s.resolveSpec(r.GetSpec())
	if err != nil {
		return nil, err
	}
	_, name, err := s.locate(ctx, r.GetSpec(), choice, false)
	if err != nil {
		return nil, err
	}
	record, err := s.imageOf(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, recorded := range record.GetParts() {
		if recorded.GetPackage() != "" && architectureNames[recorded.GetArchitecture()] == choice.Architecture {
			return s.GetPackage(ctx, &builderv1.GetPackageRequest{Name: recorded.GetPackage()})
		}
	}
	return nil, errs.NotFound(ReasonImageNotBuilt, "image %s was not built by this suite; build it first", name.URI()).With("image", name.URI())
}
