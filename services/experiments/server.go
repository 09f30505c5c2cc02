package experiments

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

const (
	serviceName   = "experiments"
	operationKind = "run"
	// cancelWait is how long CancelRun waits for the run's record to tell its end.
	cancelWait = 10 * time.Second
	cancelLook = 50 * time.Millisecond
)

// Operations is what the server needs of the manager of operations.
type Operations interface {
	Start(ctx context.Context, spec operations.Spec, run operations.Run) (*longrunningpb.Operation, error)
	OnResume(kind string, f operations.Resume)
}

// Server is the gRPC face of the runs.
type Server struct {
	experimentsv1.UnimplementedExperimentsServiceServer
	runner     *Runner
	operations Operations
	// known answers and cancels operations, whoever owns them.
	known longrunningpb.OperationsServer
}

// NewServer returns the gRPC service. It takes up runs whose process was lost.
func NewServer(runner *Runner, manager Operations, known longrunningpb.OperationsServer) *Server {
	s := &Server{runner: runner, operations: manager, known: known}
	manager.OnResume(serviceName+"/"+operationKind, func(ctx context.Context, h *operations.Handle, request *anypb.Any) (proto.Message, error) {
		asked := &experimentsv1.CreateRunRequest{}
		if err := request.UnmarshalTo(asked); err != nil {
			return nil, errs.DataLoss("RUN_MALFORMED", "the request of %s is not readable: %v", h.Name(), err)
		}
		return s.make(ctx, h, asked)
	})
	return s
}

// Register adds the service to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	experimentsv1.RegisterExperimentsServiceServer(registrar, s)
}

func (s *Server) make(ctx context.Context, h *operations.Handle, request *experimentsv1.CreateRunRequest) (proto.Message, error) {
	run, err := s.runner.Make(ctx, h.Name(), h.Attempt(), request, func(m *experimentsv1.RunMetadata) { h.Update(m) })
	if err != nil {
		return nil, err
	}
	return run, nil
}

// CreateRun starts a run.
func (s *Server) CreateRun(ctx context.Context, request *experimentsv1.CreateRunRequest) (*longrunningpb.Operation, error) {
	if err := checkRequest(request); err != nil {
		return nil, err
	}
	op, err := s.operations.Start(ctx, operations.Spec{
		Service: serviceName, Kind: operationKind, RequestID: request.GetRequestId(), Request: request,
		Metadata: &experimentsv1.RunMetadata{StartTime: timestamppb.Now()},
	}, func(ctx context.Context, h *operations.Handle) (proto.Message, error) { return s.make(ctx, h, request) })
	if err != nil {
		return nil, err
	}
	if !op.GetDone() {
		// The record is there when the caller knows the run's name.
		if _, err := s.runner.begin(ctx, op.GetName(), request); err != nil {
			return nil, err
		}
	}
	return nameRun(op)
}

// PlanRun tells what a run would make and cost.
func (s *Server) PlanRun(ctx context.Context, request *experimentsv1.PlanRunRequest) (*experimentsv1.RunPlan, error) {
	if err := checkRequest(request.GetRun()); err != nil {
		return nil, err
	}
	return s.runner.Plan(ctx, request.GetRun())
}

// nameRun puts the run's name into the metadata of an operation that has not told it yet.
func nameRun(op *longrunningpb.Operation) (*longrunningpb.Operation, error) {
	metadata := &experimentsv1.RunMetadata{}
	if op.GetMetadata() != nil {
		if err := op.GetMetadata().UnmarshalTo(metadata); err != nil {
			return nil, errs.Internal(fmt.Errorf("read the metadata of %s: %w", op.GetName(), err))
		}
	}
	if metadata.GetRun() != "" {
		return op, nil
	}
	metadata.Run = runName(op.GetName())
	packed, err := anypb.New(metadata)
	if err != nil {
		return nil, errs.Internal(fmt.Errorf("encode the metadata of %s: %w", op.GetName(), err))
	}
	op.Metadata = packed
	return op, nil
}

// checkRequest reports all that is wrong with a request before anything is done.
func checkRequest(request *experimentsv1.CreateRunRequest) error {
	var problems []error
	if request.GetTarget().GetPlatform() == "" {
		problems = append(problems, errs.Field("target.platform", "must be set, such as local; set --deployment"))
	}
	if bound := request.MaxCostUsd; bound != nil && !(*bound > 0) {
		problems = append(problems, errs.Field("max_cost_usd", "must be above 0, not %g", *bound))
	}
	switch spec := request.GetSpec().(type) {
	case *experimentsv1.CreateRunRequest_BenchmarkInvoke:
		problems = append(problems, checkSource("benchmark_invoke.source", spec.BenchmarkInvoke.GetSource()))
		if spec.BenchmarkInvoke.GetSize() == "" {
			problems = append(problems, errs.Field("benchmark_invoke.size", "must be test, small or large"))
		}
		problems = append(problems, checkSize("benchmark_invoke.size", spec.BenchmarkInvoke.GetSize()))
		if spec.BenchmarkInvoke.GetRepetitions() < 0 {
			problems = append(problems, errs.Field("benchmark_invoke.repetitions", "must not be negative, not %d", spec.BenchmarkInvoke.GetRepetitions()))
		}
	case *experimentsv1.CreateRunRequest_Regression:
		for i, source := range spec.Regression.GetSources() {
			problems = append(problems, checkSource(fmt.Sprintf("regression.sources[%d]", i), source))
		}
		problems = append(problems, checkSize("regression.size", spec.Regression.GetSize()))
	case *experimentsv1.CreateRunRequest_Deploy:
		problems = append(problems, checkSource("deploy.source", spec.Deploy.GetSource()), checkDeploy(spec.Deploy))
	default:
		problems = append(problems, errs.Field("spec", "must be set: one of benchmark_invoke, regression, deploy"))
	}
	return errs.Fields(problems...)
}

func checkSource(field string, source *builderv1.BenchmarkSource) error {
	if source.GetBenchmark() == "" {
		return errs.Field(field+".benchmark", "must name a benchmark, such as 110.dynamic-html")
	}
	return nil
}

func checkSize(field, size string) error {
	switch size {
	case "", "test", "small", "large":
		return nil
	}
	return errs.Field(field, "must be test, small or large, not %q", size)
}

// GetRun returns a run.
func (s *Server) GetRun(ctx context.Context, request *experimentsv1.GetRunRequest) (*experimentsv1.Run, error) {
	run, err := s.runner.store.get(ctx, request.GetName())
	if err != nil {
		return nil, err
	}
	return s.reconcile(ctx, run)
}

// reconcile ends a run whose operation ended without telling its record, such as one that was cancelled while no process
// owned it.
func (s *Server) reconcile(ctx context.Context, run *experimentsv1.Run) (*experimentsv1.Run, error) {
	if run.GetState() != experimentsv1.Run_STATE_RUNNING {
		return run, nil
	}
	op, err := s.known.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: run.GetOperation()})
	if err != nil && !notFound(err) {
		return nil, err
	}
	if err == nil && !op.GetDone() {
		return run, nil
	}
	// The owner stores the run before the operation, so a second look tells its word where there is one.
	if run, err = s.runner.store.get(ctx, run.GetName()); err != nil || run.GetState() != experimentsv1.Run_STATE_RUNNING {
		return run, err
	}
	run.State, run.EndTime = experimentsv1.Run_STATE_FAILED, timestamppb.Now()
	reason := "the operation of the run is gone"
	if failure := errs.FromProto(op.GetError()); failure != nil {
		reason = publicText(failure)
		if errs.Reason(failure) == operations.ReasonCancelled {
			run.State = experimentsv1.Run_STATE_CANCELLED
		}
	}
	run.Problems = append(run.GetProblems(), reason)
	return run, s.runner.store.save(ctx, run)
}

// ListRuns lists runs, newest first.
func (s *Server) ListRuns(ctx context.Context, request *experimentsv1.ListRunsRequest) (*experimentsv1.ListRunsResponse, error) {
	answer, err := s.runner.store.list(ctx, request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	for i, run := range answer.GetRuns() {
		if answer.Runs[i], err = s.reconcile(ctx, run); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// DeleteRun deletes a run's record.
func (s *Server) DeleteRun(ctx context.Context, request *experimentsv1.DeleteRunRequest) (*emptypb.Empty, error) {
	run, err := s.GetRun(ctx, &experimentsv1.GetRunRequest{Name: request.GetName()})
	if err != nil {
		return nil, err
	}
	if run.GetState() == experimentsv1.Run_STATE_RUNNING {
		return nil, errs.FailedPrecondition("RUN_AT_WORK", "%s is at work; cancel it first", run.GetName())
	}
	return &emptypb.Empty{}, s.runner.store.records.Delete(ctx, run.GetName())
}

// CancelRun cancels a run and returns it, ended where that comes soon.
func (s *Server) CancelRun(ctx context.Context, request *experimentsv1.CancelRunRequest) (*experimentsv1.Run, error) {
	get := &experimentsv1.GetRunRequest{Name: request.GetName()}
	run, err := s.GetRun(ctx, get)
	if err != nil || run.GetState() != experimentsv1.Run_STATE_RUNNING {
		return run, err
	}
	if _, err := s.known.CancelOperation(ctx, &longrunningpb.CancelOperationRequest{Name: run.GetOperation()}); err != nil {
		return nil, fmt.Errorf("cancel %s: %w", run.GetName(), err)
	}
	limited, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	look := time.NewTicker(cancelLook)
	defer look.Stop()
	for {
		select {
		case <-limited.Done():
			return run, nil
		case <-look.C:
		}
		if run, err = s.GetRun(ctx, get); err != nil || run.GetState() != experimentsv1.Run_STATE_RUNNING {
			return run, err
		}
	}
}

// RerunRun starts a run with what an earlier one was asked.
func (s *Server) RerunRun(ctx context.Context, request *experimentsv1.RerunRunRequest) (*longrunningpb.Operation, error) {
	run, err := s.runner.store.get(ctx, request.GetName())
	if err != nil {
		return nil, err
	}
	again := proto.CloneOf(run.GetRequest())
	again.RequestId = request.GetRequestId()
	if again.GetLabels() == nil {
		again.Labels = make(map[string]string)
	}
	again.Labels["rerun-of"] = run.GetName()
	return s.CreateRun(ctx, again)
}
