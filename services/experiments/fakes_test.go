package experiments_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/operations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deployment = "platforms/local/deployments/d"

// suite stands in for the services that a run works with.
type suite struct {
	builderv1.UnimplementedBuilderServiceServer
	deployerv1.UnimplementedDeployerServiceServer
	invokerv1.UnimplementedInvokerServiceServer
	metricsv1.UnimplementedMetricsServiceServer
	localv1.UnimplementedLocalServiceServer

	operations *operations.Manager

	mu sync.Mutex
	// build replaces the work of CreatePackage, outcome is what EnsureFunction answers.
	build   func(ctx context.Context) error
	outcome deployerv1.EnsureFunctionResponse_Outcome
	// invoke makes the invocations of one InvokeMany; nil means that all succeed.
	invoke func(call int, request *invokerv1.InvokeManyRequest, send func(sequence int64, publish bool) error) error
	// verdict is what ValidateOutput answers.
	verdict *builderv1.ValidateOutputResponse
	// output is what the function answers under `result`.
	output string

	// cold is what the answer of an invocation says of its sandbox; nil says nothing.
	cold func(sequence int64) bool
	// price is what EstimateCost computes with; nil fails.
	price *metricsv1.Price
	plans []*deployerv1.PlanDeploymentRequest

	coldStarts, validations, buildsCancelled int
	requests                                 []*invokerv1.InvokeManyRequest
	stored                                   map[string][]*typev1.InvocationRecord
	waited                                   []int64
}

func newSuite() *suite {
	return &suite{
		outcome: deployerv1.EnsureFunctionResponse_OUTCOME_CREATED,
		verdict: &builderv1.ValidateOutputResponse{Valid: true},
		output:  `{"result":1}`,
		stored:  map[string][]*typev1.InvocationRecord{},
	}
}

// setup serves the stand-ins.
func (s *suite) setup(_ context.Context, p *app.Process) error {
	s.operations = p.Operations
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) {
		builderv1.RegisterBuilderServiceServer(r, s)
		deployerv1.RegisterDeployerServiceServer(r, s)
		invokerv1.RegisterInvokerServiceServer(r, s)
		metricsv1.RegisterMetricsServiceServer(r, s)
		localv1.RegisterLocalServiceServer(r, s)
	})
	return nil
}

func (s *suite) start(ctx context.Context, service, requestID string, work func(context.Context) (proto.Message, error)) (*longrunningpb.Operation, error) {
	return s.operations.Start(ctx, operations.Spec{Service: service, Kind: "work", RequestID: requestID},
		func(ctx context.Context, _ *operations.Handle) (proto.Message, error) { return work(ctx) })
}

func (s *suite) GetHost(context.Context, *localv1.GetHostRequest) (*localv1.Host, error) {
	host := &localv1.Host{Architecture: typev1.Architecture_ARCHITECTURE_X64}
	for _, version := range []string{"3.9", "3.13", "3.11"} {
		host.Runtimes = append(host.Runtimes, &localv1.HostRuntime{Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: version}})
	}
	return host, nil
}

func (s *suite) CreateDeployment(context.Context, *deployerv1.CreateDeploymentRequest) (*typev1.Deployment, error) {
	return &typev1.Deployment{Name: deployment, Platform: "local", ResourcesId: "d"}, nil
}

func (s *suite) PrepareInput(ctx context.Context, request *builderv1.PrepareInputRequest) (*longrunningpb.Operation, error) {
	return s.start(ctx, "builder", request.GetRequestId(), func(context.Context) (proto.Message, error) {
		return &builderv1.BenchmarkInput{Benchmark: "x", PayloadJson: `{"a":1}`, Digest: "i1"}, nil
	})
}

func (s *suite) CreatePackage(ctx context.Context, request *builderv1.CreatePackageRequest) (*longrunningpb.Operation, error) {
	return s.start(ctx, "builder", request.GetRequestId(), func(ctx context.Context) (proto.Message, error) {
		s.mu.Lock()
		build := s.build
		s.mu.Unlock()
		if build != nil {
			if err := build(ctx); err != nil {
				if ctx.Err() != nil {
					s.mu.Lock()
					s.buildsCancelled++
					s.mu.Unlock()
				}
				return nil, err
			}
		}
		return &builderv1.Package{Name: "packages/p1", Digest: "p1", Benchmark: "x", Runtime: request.GetRuntime(), Architecture: request.GetArchitecture()}, nil
	})
}

func (s *suite) EnsureFunction(ctx context.Context, request *deployerv1.EnsureFunctionRequest) (*longrunningpb.Operation, error) {
	return s.start(ctx, "deployer", request.GetRequestId(), func(context.Context) (proto.Message, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name := deployment + "/functions/f"
		if request.GetConfig().GetMemoryMb() == 0 {
			request.Config.MemoryMb, request.Config.TimeoutSeconds = 128, 60
		}
		return &deployerv1.EnsureFunctionResponse{Outcome: s.outcome, Function: &typev1.Function{
			Name: name, Config: request.GetConfig(),
			Triggers: []*typev1.Trigger{{Name: name + "/triggers/http", Type: typev1.TriggerType_TRIGGER_TYPE_HTTP}},
		}}, nil
	})
}

func (s *suite) EnforceColdStart(context.Context, *deployerv1.EnforceColdStartRequest) (*deployerv1.EnforceColdStartResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coldStarts++
	return &deployerv1.EnforceColdStartResponse{Counter: int64(s.coldStarts)}, nil
}

func (s *suite) ValidateOutput(_ context.Context, request *builderv1.ValidateOutputRequest) (*builderv1.ValidateOutputResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.validations++
	if request.GetOutputJson() != s.output || request.GetPayloadJson() != `{"a":1}` {
		return &builderv1.ValidateOutputResponse{Reason: "validated " + request.GetOutputJson()}, nil
	}
	return s.verdict, nil
}

func (s *suite) ListInvokers(context.Context, *invokerv1.ListInvokersRequest) (*invokerv1.ListInvokersResponse, error) {
	return &invokerv1.ListInvokersResponse{}, nil
}

func (s *suite) InvokeMany(request *invokerv1.InvokeManyRequest, stream grpc.ServerStreamingServer[invokerv1.InvokeManyResponse]) error {
	s.mu.Lock()
	s.requests = append(s.requests, request)
	call, invoke, cold := len(s.requests), s.invoke, s.cold
	s.mu.Unlock()
	send := func(sequence int64, publish bool) error {
		record := &typev1.InvocationRecord{
			Run: request.GetRun(), Sequence: sequence, Phase: request.GetPhase(), Function: deployment + "/functions/f",
			Result: &typev1.ExecutionResult{
				RequestId: fmt.Sprint("r", sequence), OutputJson: `{"request_id":"r","result":` + s.output + `}`, Stats: &typev1.ExecutionStats{},
				Times: &typev1.ExecutionTimes{ClientUs: 2000},
			},
		}
		if cold != nil {
			record.Result.OutputJson = fmt.Sprintf(`{"request_id":"r","is_cold":%t,"result":%s}`, cold(sequence), s.output)
			record.Result.Stats.ColdStart = cold(sequence)
		}
		if publish {
			s.store(record)
		}
		return stream.Send(&invokerv1.InvokeManyResponse{Record: record})
	}
	if invoke != nil {
		return invoke(call, request, send)
	}
	return sendAll(request, send)
}

func sendAll(request *invokerv1.InvokeManyRequest, send func(int64, bool) error) error {
	for i := range int64(request.GetCount()) {
		if err := send(request.GetFirstSequence()+i, true); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) store(records ...*typev1.InvocationRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, record := range records {
		s.stored[record.GetRun()] = append(s.stored[record.GetRun()], record)
	}
}

// sequences returns the numbers of what is stored of a run, sorted.
func (s *suite) sequences(run string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var numbers []int64
	for _, record := range s.stored[run] {
		numbers = append(numbers, record.GetSequence())
	}
	slices.Sort(numbers)
	return numbers
}

func (s *suite) GetStatistics(_ context.Context, request *metricsv1.GetStatisticsRequest) (*metricsv1.Statistics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if request.GetWaitForCount() > 0 {
		s.waited = append(s.waited, request.GetWaitForCount())
	}
	return &metricsv1.Statistics{Run: request.GetRun(), Functions: []*metricsv1.FunctionStatistics{
		{Function: "f", Count: int64(len(s.stored[request.GetRun()])), Groups: []*metricsv1.GroupStatistics{
			{Series: []*metricsv1.Series{{Name: "client_exec", Unit: "us", Count: 4, Mean: 2000}}},
			{ColdStart: true, Series: []*metricsv1.Series{{Name: "client_exec", Unit: "us", Count: 1, Mean: 12000}}},
		}},
	}}, nil
}

func (s *suite) EstimateCost(_ context.Context, request *metricsv1.EstimateCostRequest) (*metricsv1.EstimateCostResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.price == nil {
		return nil, status.Error(codes.Unimplemented, "no price table")
	}
	each := s.price.GetUsdPerRequest() + request.GetDuration().AsDuration().Seconds()*float64(request.GetMemoryMb())/1024*s.price.GetUsdPerGbSecond()
	return &metricsv1.EstimateCostResponse{Usd: float64(request.GetInvocations()) * each, Price: s.price}, nil
}

func (s *suite) GetBenchmark(_ context.Context, request *builderv1.GetBenchmarkRequest) (*builderv1.Benchmark, error) {
	return &builderv1.Benchmark{Name: request.GetName(), Benchmark: "x", MemoryMb: 128, TimeoutSeconds: 60, Modules: []string{"storage"}}, nil
}

func (s *suite) ListRuntimes(context.Context, *builderv1.ListRuntimesRequest) (*builderv1.ListRuntimesResponse, error) {
	const x64, arm = typev1.Architecture_ARCHITECTURE_X64, typev1.Architecture_ARCHITECTURE_ARM64
	answer := &builderv1.ListRuntimesResponse{}
	for _, one := range []struct {
		language      typev1.Language
		version       string
		architectures []typev1.Architecture
	}{
		{typev1.Language_LANGUAGE_PYTHON, "3.11", []typev1.Architecture{x64, arm}},
		{typev1.Language_LANGUAGE_PYTHON, "3.9", []typev1.Architecture{x64}},
		{typev1.Language_LANGUAGE_JAVA, "17", []typev1.Architecture{arm}},
	} {
		answer.Runtimes = append(answer.Runtimes, &builderv1.SupportedRuntime{
			Runtime: &typev1.Runtime{Language: one.language, Version: one.version}, Architectures: one.architectures,
		})
	}
	return answer, nil
}

func (s *suite) ListPlatforms(context.Context, *deployerv1.ListPlatformsRequest) (*deployerv1.ListPlatformsResponse, error) {
	return &deployerv1.ListPlatformsResponse{Platforms: []*deployerv1.Platform{{
		Name: "platforms/aws", Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP, typev1.TriggerType_TRIGGER_TYPE_LIBRARY},
		Architectures:  []typev1.Architecture{typev1.Architecture_ARCHITECTURE_X64, typev1.Architecture_ARCHITECTURE_ARM64},
		SystemVariants: []typev1.SystemVariant{typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE, typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER},
	}}}, nil
}

func (s *suite) PlanDeployment(_ context.Context, request *deployerv1.PlanDeploymentRequest) (*deployerv1.PlanDeploymentResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = append(s.plans, request)
	return &deployerv1.PlanDeploymentResponse{
		Deployment: &typev1.Deployment{Name: deployment, Region: "eu-north-1"},
		Resources:  []*deployerv1.PlannedResource{{Action: deployerv1.PlannedResource_ACTION_CREATE, Type: "function", Name: "f"}},
	}, nil
}

func (s *suite) ListInvocations(_ context.Context, request *metricsv1.ListInvocationsRequest) (*metricsv1.ListInvocationsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &metricsv1.ListInvocationsResponse{Records: s.stored[request.GetParent()]}, nil
}

func (s *suite) IngestInvocations(_ context.Context, request *metricsv1.IngestInvocationsRequest) (*metricsv1.IngestInvocationsResponse, error) {
	s.store(request.GetBatch().GetRecords()...)
	return &metricsv1.IngestInvocationsResponse{}, nil
}

func (s *suite) DownloadMetrics(ctx context.Context, _ *metricsv1.DownloadMetricsRequest) (*longrunningpb.Operation, error) {
	return s.start(ctx, "metrics", "", func(context.Context) (proto.Message, error) { return &metricsv1.DownloadMetricsResponse{}, nil })
}

func (s *suite) CompactRun(context.Context, *metricsv1.CompactRunRequest) (*metricsv1.CompactRunResponse, error) {
	return &metricsv1.CompactRunResponse{}, nil
}

// client calls the experiments service of a process.
type client struct {
	experimentsv1.ExperimentsServiceClient
	operations longrunningpb.OperationsClient
}

func newClient(p *apptest.Running) client {
	conn := p.Conn("experiments")
	return client{experimentsv1.NewExperimentsServiceClient(conn), longrunningpb.NewOperationsClient(conn)}
}

// create starts a run and returns its operation and name.
func (c client) create(t *testing.T, request *experimentsv1.CreateRunRequest) (*longrunningpb.Operation, string) {
	t.Helper()
	op, err := c.CreateRun(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	metadata := &experimentsv1.RunMetadata{}
	if err := op.GetMetadata().UnmarshalTo(metadata); err != nil {
		t.Fatal(err)
	}
	return op, metadata.GetRun()
}

// run makes a run and returns its record as it is kept, and the operation's error.
func (c client) run(t *testing.T, request *experimentsv1.CreateRunRequest) (*experimentsv1.Run, error) {
	t.Helper()
	op, name := c.create(t, request)
	_, failure := operations.Wait(t.Context(), c.operations, op, nil)
	run, err := c.GetRun(t.Context(), &experimentsv1.GetRunRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return run, failure
}

func request(edit func(*experimentsv1.BenchmarkInvokeSpec)) *experimentsv1.CreateRunRequest {
	spec := &experimentsv1.BenchmarkInvokeSpec{Source: &builderv1.BenchmarkSource{Benchmark: "x"}, Size: "test"}
	if edit != nil {
		edit(spec)
	}
	return &experimentsv1.CreateRunRequest{
		Target: &experimentsv1.Target{Platform: "local"},
		Spec:   &experimentsv1.CreateRunRequest_BenchmarkInvoke{BenchmarkInvoke: spec},
	}
}
