package builder

import (
	"context"
	"fmt"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/images"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// PushImage starts to push an image that the suite has built, or that the Docker Engine has.
func (s *Server) PushImage(ctx context.Context, r *builderv1.PushImageRequest) (*longrunningpb.Operation, error) {
	if _, _, _, err := s.placeOf(ctx, "repository_uri", r.GetRepositoryUri(), r.GetTag()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindPush, r.GetRequestId(), r, func(ctx context.Context, tell work) (proto.Message, error) {
		return s.pushImage(ctx, r, tell)
	})
}

func (s *Server) pushImage(ctx context.Context, r *builderv1.PushImageRequest, tell work) (*builderv1.PushImageResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Operation)
	defer cancel()
	at, name, record, err := s.placeOf(ctx, "repository_uri", r.GetRepositoryUri(), r.GetTag())
	if err != nil {
		return nil, err
	}
	pushed, err := s.pushAgain(ctx, at, name, record, tell)
	return pushed, withoutDeployment(at.gone, err)
}

// PushToRegistry starts to push a function's image, or a base image, that was built before.
func (s *Server) PushToRegistry(ctx context.Context, r *builderv1.PushToRegistryRequest) (*longrunningpb.Operation, error) {
	if _, err := s.resolveSpec(r.GetSpec()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindPush, r.GetRequestId(), r, func(ctx context.Context, tell work) (proto.Message, error) {
		return s.pushToRegistry(ctx, r, tell)
	})
}

func (s *Server) pushToRegistry(ctx context.Context, r *builderv1.PushToRegistryRequest, tell work) (*builderv1.PushImageResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Operation)
	defer cancel()
	choice, err := s.resolveSpec(r.GetSpec())
	if err != nil {
		return nil, err
	}
	at, name, err := s.locate(ctx, r.GetSpec(), choice, true)
	if err != nil {
		return nil, err
	}
	record, err := s.imageOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.pushAgain(ctx, at, name, record, tell)
}

// pushAgain pushes an image without building it: what was recorded is put together from the store, what was not is taken
// from the Docker Engine.
func (s *Server) pushAgain(ctx context.Context, at place, name images.Name, record *builderv1.Image, tell work) (*builderv1.PushImageResponse, error) {
	if record == nil {
		return s.pushFromEngine(ctx, at, name, tell)
	}
	var parts []part
	for _, recorded := range record.GetParts() {
		p, err := s.recordedPart(ctx, at, record, recorded)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	image, err := s.publish(ctx, at, name, parts, record.GetDeployment(), tell)
	if err != nil {
		return nil, err
	}
	return &builderv1.PushImageResponse{ImageUri: name.URI(), Digest: image.GetDigest()}, nil
}

func (s *Server) recordedPart(ctx context.Context, at place, record *builderv1.Image, recorded *builderv1.ImagePart) (part, error) {
	p := part{pkg: &builderv1.Package{Platform: record.GetPlatform(), Runtime: recorded.GetRuntime(), Architecture: recorded.GetArchitecture()}}
	var err error
	if recorded.GetPackage() != "" {
		if p.pkg, err = s.GetPackage(ctx, &builderv1.GetPackageRequest{Name: recorded.GetPackage()}); err != nil {
			return part{}, err
		}
	}
	if p.base, err = s.bases(at).Open(ctx, recorded.GetBaseImage(), architectureNames[recorded.GetArchitecture()]); err != nil {
		return part{}, fmt.Errorf("open the image that %s was built on: %w", record.GetImageUri(), err)
	}
	return p, nil
}

func (s *Server) pushFromEngine(ctx context.Context, at place, name images.Name, tell work) (*builderv1.PushImageResponse, error) {
	id, _, found, err := s.images.Engine.Find(ctx, name.URI())
	if err != nil && !errs.Is(err, codes.Unavailable) {
		return nil, err
	}
	if !found {
		return nil, errs.NotFound(ReasonImageNotBuilt, "image %s was not built by this suite, and the Docker Engine does not have it; build it with `sebs docker build` or `sebs benchmark package --system-variant container`", name.URI()).With("image", name.URI())
	}
	if at.engine {
		return &builderv1.PushImageResponse{ImageUri: name.URI(), Digest: id}, nil
	}
	img, err := s.images.Engine.Image(ctx, id)
	if err != nil {
		return nil, err
	}
	digest, err := push(ctx, at, name.URI(), []v1.Image{img}, tell)
	if err != nil {
		return nil, err
	}
	return &builderv1.PushImageResponse{ImageUri: name.URI(), Digest: digest}, nil
}
