package deployer

import (
	"context"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Most methods answer at once and have the deployer do the work.

// CreateDeployment implements DeployerService.
func (s *Server) CreateDeployment(ctx context.Context, req *deployerv1.CreateDeploymentRequest) (*typev1.Deployment, error) {
	return s.deployer.CreateDeployment(ctx, req)
}

// GetDeployment implements DeployerService.
func (s *Server) GetDeployment(ctx context.Context, req *deployerv1.GetDeploymentRequest) (*typev1.Deployment, error) {
	return s.deployer.GetDeployment(ctx, req)
}

// UpdateDeployment implements DeployerService.
func (s *Server) UpdateDeployment(ctx context.Context, req *deployerv1.UpdateDeploymentRequest) (*typev1.Deployment, error) {
	return s.deployer.UpdateDeployment(ctx, req)
}

// FindDeployments implements DeployerService.
func (s *Server) FindDeployments(ctx context.Context, req *deployerv1.FindDeploymentsRequest) (*deployerv1.FindDeploymentsResponse, error) {
	return s.deployer.FindDeployments(ctx, req)
}

// PlanDeployment implements DeployerService.
func (s *Server) PlanDeployment(ctx context.Context, req *deployerv1.PlanDeploymentRequest) (*deployerv1.PlanDeploymentResponse, error) {
	return s.deployer.PlanDeployment(ctx, req)
}

// SetStorageBucket implements DeployerService.
func (s *Server) SetStorageBucket(ctx context.Context, req *deployerv1.SetStorageBucketRequest) (*typev1.Deployment, error) {
	return s.deployer.SetStorageBucket(ctx, req)
}

// GetStorageBucket implements DeployerService.
func (s *Server) GetStorageBucket(ctx context.Context, req *deployerv1.GetStorageBucketRequest) (*deployerv1.GetStorageBucketResponse, error) {
	return s.deployer.GetStorageBucket(ctx, req)
}

// ListStorageBuckets implements DeployerService.
func (s *Server) ListStorageBuckets(ctx context.Context, req *deployerv1.ListStorageBucketsRequest) (*deployerv1.ListStorageBucketsResponse, error) {
	return s.deployer.ListStorageBuckets(ctx, req)
}

// ReconcileBuckets implements DeployerService.
func (s *Server) ReconcileBuckets(ctx context.Context, req *deployerv1.ReconcileBucketsRequest) (*deployerv1.ReconcileBucketsResponse, error) {
	return s.deployer.ReconcileBuckets(ctx, req)
}

// ImportCache implements DeployerService.
func (s *Server) ImportCache(ctx context.Context, req *deployerv1.ImportCacheRequest) (*deployerv1.ImportCacheResponse, error) {
	return s.deployer.ImportCache(ctx, req)
}

// GetFunction implements DeployerService.
func (s *Server) GetFunction(ctx context.Context, req *deployerv1.GetFunctionRequest) (*typev1.Function, error) {
	return s.deployer.GetFunction(ctx, req)
}

// ListFunctions implements DeployerService.
func (s *Server) ListFunctions(ctx context.Context, req *deployerv1.ListFunctionsRequest) (*deployerv1.ListFunctionsResponse, error) {
	return s.deployer.ListFunctions(ctx, req)
}

// CleanupFunctions implements DeployerService.
func (s *Server) CleanupFunctions(ctx context.Context, req *deployerv1.CleanupFunctionsRequest) (*deployerv1.CleanupFunctionsResponse, error) {
	return s.deployer.CleanupFunctions(ctx, req)
}

// GetDefaultFunctionName implements DeployerService.
func (s *Server) GetDefaultFunctionName(ctx context.Context, req *deployerv1.GetDefaultFunctionNameRequest) (*deployerv1.GetDefaultFunctionNameResponse, error) {
	return s.deployer.GetDefaultFunctionName(ctx, req)
}

// GetFunctionLogs implements DeployerService.
func (s *Server) GetFunctionLogs(ctx context.Context, req *deployerv1.GetFunctionLogsRequest) (*deployerv1.GetFunctionLogsResponse, error) {
	return s.deployer.GetFunctionLogs(ctx, req)
}

// EnforceColdStart implements DeployerService.
func (s *Server) EnforceColdStart(ctx context.Context, req *deployerv1.EnforceColdStartRequest) (*deployerv1.EnforceColdStartResponse, error) {
	return s.deployer.EnforceColdStart(ctx, req)
}

// CreateTrigger implements DeployerService.
func (s *Server) CreateTrigger(ctx context.Context, req *deployerv1.CreateTriggerRequest) (*typev1.Trigger, error) {
	return s.deployer.CreateTrigger(ctx, req)
}

// ListTriggers implements DeployerService.
func (s *Server) ListTriggers(ctx context.Context, req *deployerv1.ListTriggersRequest) (*deployerv1.ListTriggersResponse, error) {
	return s.deployer.ListTriggers(ctx, req)
}
