package deployer

import (
	"context"
	"maps"
	"slices"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// service is the name under which the operations of this service run.
const service = "deployer"

// Kinds of operations.
const (
	kindEnsure = "ensure_function"
	kindUpdate = "update_function"
	kindDelete = "delete_deployment"
	kindExpire = "expire_deployments"
)

// Operations starts long work.
type Operations interface {
	Start(ctx context.Context, spec operations.Spec, run operations.Run) (*longrunningpb.Operation, error)
	OnResume(kind string, f operations.Resume)
}

// Server is the gRPC service. Long work runs as operations.
type Server struct {
	deployerv1.UnimplementedDeployerServiceServer
	deployer   *Deployer
	operations Operations
}

// NewServer returns the service and tells how its operations are taken up after their
// owner died: all of them can be repeated from the start.
func NewServer(d *Deployer, ops Operations) *Server {
	s := &Server{deployer: d, operations: ops}
	ops.OnResume(service+"/"+kindEnsure, resume(func(ctx context.Context, req *deployerv1.EnsureFunctionRequest, p Progress) (proto.Message, error) {
		return d.EnsureFunction(ctx, req, p)
	}))
	ops.OnResume(service+"/"+kindUpdate, resume(func(ctx context.Context, req *deployerv1.UpdateFunctionRequest, p Progress) (proto.Message, error) {
		// The etag that the caller sent may have been used up by the first attempt.
		req.GetFunction().Etag = ""
		return d.UpdateFunction(ctx, req, p)
	}))
	ops.OnResume(service+"/"+kindDelete, resume(func(ctx context.Context, req *deployerv1.DeleteDeploymentRequest, p Progress) (proto.Message, error) {
		return d.DeleteDeployment(ctx, req, p)
	}))
	ops.OnResume(service+"/"+kindExpire, resume(func(ctx context.Context, req *deployerv1.ExpireDeploymentsRequest, p Progress) (proto.Message, error) {
		return d.ExpireDeployments(ctx, req, p)
	}))
	return s
}

// Register tells the gRPC server of the service.
func (s *Server) Register(r grpc.ServiceRegistrar) { deployerv1.RegisterDeployerServiceServer(r, s) }

// report hands progress on as the operation's metadata.
func report(h *operations.Handle) Progress {
	began := timestamppb.Now()
	return func(phase, message string) {
		h.Update(&deployerv1.DeployMetadata{Phase: phase, Message: message, StartTime: began})
	}
}

// resume runs work again with its stored request.
func resume[Req any, P interface {
	*Req
	proto.Message
}](run func(context.Context, P, Progress) (proto.Message, error)) operations.Resume {
	return func(ctx context.Context, h *operations.Handle, stored *anypb.Any) (proto.Message, error) {
		req := P(new(Req))
		if err := stored.UnmarshalTo(req); err != nil {
			return nil, err
		}
		return run(ctx, req, report(h))
	}
}

// start runs work as an operation.
func (s *Server) start(ctx context.Context, kind, requestID string, req proto.Message, run func(context.Context, Progress) (proto.Message, error)) (*longrunningpb.Operation, error) {
	return s.operations.Start(ctx, operations.Spec{
		Service: service, Kind: kind, RequestID: requestID, Request: req,
		Metadata: &deployerv1.DeployMetadata{Phase: "start", StartTime: timestamppb.Now()},
	}, func(ctx context.Context, h *operations.Handle) (proto.Message, error) {
		return run(ctx, report(h))
	})
}

// EnsureFunction implements DeployerService.
func (s *Server) EnsureFunction(ctx context.Context, req *deployerv1.EnsureFunctionRequest) (*longrunningpb.Operation, error) {
	// What is wrong with the request itself is told at once.
	if err := s.check(req.GetParent()); err != nil {
		return nil, err
	}
	if err := checkPackage("package", req.GetPackage()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindEnsure, req.GetRequestId(), req, func(ctx context.Context, p Progress) (proto.Message, error) {
		return s.deployer.EnsureFunction(ctx, req, p)
	})
}

// UpdateFunction implements DeployerService.
func (s *Server) UpdateFunction(ctx context.Context, req *deployerv1.UpdateFunctionRequest) (*longrunningpb.Operation, error) {
	name, _, err := checkUpdate(req)
	if err != nil {
		return nil, err
	}
	if err := s.check(name.Deployment.String()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindUpdate, req.GetRequestId(), req, func(ctx context.Context, p Progress) (proto.Message, error) {
		return s.deployer.UpdateFunction(ctx, req, p)
	})
}

// DeleteDeployment implements DeployerService.
func (s *Server) DeleteDeployment(ctx context.Context, req *deployerv1.DeleteDeploymentRequest) (*longrunningpb.Operation, error) {
	if err := s.check(req.GetName()); err != nil {
		return nil, err
	}
	return s.start(ctx, kindDelete, req.GetRequestId(), req, func(ctx context.Context, p Progress) (proto.Message, error) {
		return s.deployer.DeleteDeployment(ctx, req, p)
	})
}

// ExpireDeployments implements DeployerService.
func (s *Server) ExpireDeployments(ctx context.Context, req *deployerv1.ExpireDeploymentsRequest) (*longrunningpb.Operation, error) {
	platform, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	if err := s.deployer.platforms.table.Check(platform); err != nil {
		return nil, err
	}
	return s.start(ctx, kindExpire, req.GetRequestId(), req, func(ctx context.Context, p Progress) (proto.Message, error) {
		return s.deployer.ExpireDeployments(ctx, req, p)
	})
}

// check parses a deployment's name and refuses a platform that is not there.
func (s *Server) check(name string) error {
	parsed, err := parseDeployment("parent", name, false)
	if err != nil {
		return err
	}
	return s.deployer.platforms.table.Check(parsed.Platform)
}

// DeleteFunction implements DeployerService.
func (s *Server) DeleteFunction(ctx context.Context, req *deployerv1.DeleteFunctionRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.deployer.DeleteFunction(ctx, req)
}

// DeleteTrigger implements DeployerService.
func (s *Server) DeleteTrigger(ctx context.Context, req *deployerv1.DeleteTriggerRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.deployer.DeleteTrigger(ctx, req)
}

// ListDeployments implements DeployerService.
func (s *Server) ListDeployments(ctx context.Context, req *deployerv1.ListDeploymentsRequest) (*deployerv1.ListDeploymentsResponse, error) {
	platform, err := parsePlatform(req.GetParent(), true)
	if err != nil {
		return nil, err
	}
	if platform != wildcard {
		if err := s.deployer.platforms.table.Check(platform); err != nil {
			return nil, err
		}
	}
	var all []*typev1.Deployment
	err = s.deployer.eachDeployment(ctx, platform, func(record *typev1.Deployment) error {
		all = append(all, record)
		return nil
	})
	if err != nil {
		return nil, err
	}
	page, next, err := paginate(all, (*typev1.Deployment).GetName, req.GetParent(), req.GetPageSize(), req.GetPageToken())
	return &deployerv1.ListDeploymentsResponse{Deployments: page, NextPageToken: next}, err
}

// CheckCredentials implements DeployerService.
func (s *Server) CheckCredentials(ctx context.Context, req *deployerv1.CheckCredentialsRequest) (*deployerv1.CheckCredentialsResponse, error) {
	name, err := parsePlatform(req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	platform, err := s.deployer.platforms.get(ctx, name, driver.Scope{Credential: req.GetCredential()})
	if err != nil {
		return nil, err
	}
	// Asked anew each time: that is what the caller wants to know.
	identity, err := platform.CheckCredentials(ctx)
	if err != nil {
		return nil, err
	}
	return &deployerv1.CheckCredentialsResponse{Account: identity.Account, Identity: identity.Principal, Source: identity.Source}, nil
}

// ListPlatforms implements DeployerService. A platform that does not answer is listed
// with the reason.
func (s *Server) ListPlatforms(ctx context.Context, _ *deployerv1.ListPlatformsRequest) (*deployerv1.ListPlatformsResponse, error) {
	answer := &deployerv1.ListPlatformsResponse{}
	for _, name := range faas.Known() {
		entry := &deployerv1.Platform{Name: "platforms/" + name}
		answer.Platforms = append(answer.Platforms, entry)
		if s.deployer.platforms.table[name] == nil {
			entry.Limits = map[string]string{"driver": "not part of this build"}
			continue
		}
		entry.Available = true
		platform, err := s.deployer.platforms.get(ctx, name, driver.Scope{})
		var caps driver.Capabilities
		if err == nil {
			caps, err = platform.Capabilities(ctx)
		}
		if errs.Is(err, codes.FailedPrecondition) {
			// A platform that nobody gave a credential for is no fault.
			entry.Limits = map[string]string{"credentials": errs.ToStatus(err).Message()}
			continue
		}
		if err != nil {
			s.deployer.log.WarnContext(ctx, "ask a platform what it can do", "platform", name, "error", err)
			entry.Limits = map[string]string{"capabilities": "the platform does not answer now"}
			continue
		}
		describe(entry, caps)
	}
	return answer, nil
}

// describe writes what the platform can do, and for the rest the reasons.
func describe(entry *deployerv1.Platform, caps driver.Capabilities) {
	entry.Limits = make(map[string]string)
	for _, kind := range triggerTypes() {
		if caps.Triggers[kind].Supported {
			entry.Triggers = append(entry.Triggers, kind.Proto())
		} else {
			entry.Limits[string(kind)+" trigger"] = caps.Triggers[kind].Reason
		}
	}
	for _, architecture := range caps.Architectures {
		entry.Architectures = append(entry.Architectures, driver.ArchitectureProto(architecture))
	}
	entry.SystemVariants = []typev1.SystemVariant{typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE}
	if caps.ContainerImages.Supported {
		entry.SystemVariants = append(entry.SystemVariants, typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER)
	}
	entry.MinMemoryMb, entry.MaxMemoryMb = int32(caps.MinMemoryMB), int32(caps.MaxMemoryMB)
	entry.MaxTimeoutSeconds = int32(caps.MaxTimeout.Seconds())
	abilities := map[string]driver.Ability{
		"container images": caps.ContainerImages, "asynchronous calls": caps.AsyncInvoke, "cold-start enforcement": caps.ColdStartControl,
		"memory limit": caps.MemoryApplied, "time limit": caps.TimeoutApplied, "logs": caps.Logs,
		"invocation metrics": caps.InvocationMetrics, "billed duration": caps.BilledDuration,
	}
	for _, name := range slices.Sorted(maps.Keys(abilities)) {
		if !abilities[name].Supported {
			entry.Limits[name] = abilities[name].Reason
		}
	}
	maps.Copy(entry.Limits, caps.Notes)
}
