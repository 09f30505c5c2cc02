package builder

import (
	"context"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"

	"github.com/sebs-suite/sebs/internal/errs"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// ReasonPlatformNotAvailable stands in the refusals of container images.
const ReasonPlatformNotAvailable = "PLATFORM_NOT_AVAILABLE"

// noImages refuses a method for container images, with the reason that fits the platform.
func noImages(method, platform string) error {
	switch platform {
	case "":
		return errs.Unimplemented(ReasonPlatformNotAvailable, "%s: this builder has no driver for a container registry; deploy the function as a code package", method)
	case "local":
		return errs.Unimplemented("NOT_SUPPORTED_BY_PLATFORM", "%s: platform local runs code packages and builds no function images; leave --system-variant at package", method).With("platform", platform)
	}
	return errs.Unimplemented(ReasonPlatformNotAvailable, "%s: this builder has no container driver for platform %s", method, platform).With("platform", platform)
}

// BuildImage refuses: see noImages.
func (*Server) BuildImage(_ context.Context, r *builderv1.BuildImageRequest) (*longrunningpb.Operation, error) {
	return nil, noImages("build image", r.GetSpec().GetPlatform())
}

// FindImage refuses: see noImages.
func (*Server) FindImage(context.Context, *builderv1.FindImageRequest) (*builderv1.FindImageResponse, error) {
	return nil, noImages("find image", "")
}

// PushImage refuses: see noImages.
func (*Server) PushImage(context.Context, *builderv1.PushImageRequest) (*longrunningpb.Operation, error) {
	return nil, noImages("push image", "")
}

// PushToRegistry refuses: see noImages.
func (*Server) PushToRegistry(_ context.Context, r *builderv1.PushToRegistryRequest) (*longrunningpb.Operation, error) {
	return nil, noImages("push to registry", r.GetSpec().GetPlatform())
}

// GetRegistryName refuses: see noImages.
func (*Server) GetRegistryName(_ context.Context, r *builderv1.GetRegistryNameRequest) (*builderv1.RegistryName, error) {
	return nil, noImages("registry name", r.GetSpec().GetPlatform())
}

// FinalizeContainerBuild refuses: see noImages.
func (*Server) FinalizeContainerBuild(_ context.Context, r *builderv1.FinalizeContainerBuildRequest) (*longrunningpb.Operation, error) {
	return nil, noImages("finalize container build", r.GetSpec().GetPlatform())
}
