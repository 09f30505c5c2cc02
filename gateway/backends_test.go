package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

// moment is when everything in the backends happened.
var moment = timestamppb.New(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))

const deployment = "platforms/local/deployments/d1"

// backends answer for the services behind the gateway, with fixed contents.
type backends struct {
	operations *operations.Manager
	objects    *objectBackend
	sources    *builderBackend
	streams    *invokerBackend
}

// setup serves the backends in a process.
func (b *backends) setup(t *testing.T) app.Setup {
	return func(_ context.Context, p *app.Process) error {
		b.operations = p.Operations
		b.objects = &objectBackend{contents: make(map[string][]byte)}
		b.sources = &builderBackend{}
		b.streams = &invokerBackend{t: t, cancelled: make(chan error, 1)}
		p.RegisterGRPC(func(r grpc.ServiceRegistrar) {
			storagev1.RegisterStorageServiceServer(r, b.objects)
			builderv1.RegisterBuilderServiceServer(r, b.sources)
			deployerv1.RegisterDeployerServiceServer(r, &deployerBackend{})
			invokerv1.RegisterInvokerServiceServer(r, b.streams)
			metricsv1.RegisterMetricsServiceServer(r, &metricsBackend{})
			experimentsv1.RegisterExperimentsServiceServer(r, &experimentsBackend{operations: p.Operations})
			localv1.RegisterLocalServiceServer(r, &localBackend{})
		})
		return nil
	}
}

// objectBackend keeps objects in memory.
type objectBackend struct {
	storagev1.UnimplementedStorageServiceServer
	mu       sync.Mutex
	contents map[string][]byte
	targets  []*storagev1.UploadTarget
}

func (b *objectBackend) UploadObject(stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	target := first.GetTarget()
	if target.GetKey() == "refused" {
		return errs.PermissionDenied("OBJECT_REFUSED", "the object %s cannot be written", target.GetKey())
	}
	var content bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		content.Write(part.GetChunk())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.contents[target.GetKey()] = content.Bytes()
	b.targets = append(b.targets, target)
	return stream.SendAndClose(&storagev1.UploadObjectResponse{Object: b.object(target.GetBucket(), target.GetKey())})
}

func (b *objectBackend) object(bucket, key string) *storagev1.Object {
	return &storagev1.Object{
		Bucket: bucket, Key: key, SizeBytes: int64(len(b.contents[key])), ContentType: "text/plain", Etag: "e1", UpdateTime: moment,
	}
}

func (b *objectBackend) find(bucket, key string) (*storagev1.Object, []byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.contents[key]
	if !ok {
		return nil, nil, errs.NotFound("OBJECT_NOT_FOUND", "there is no object %q in bucket %q", key, bucket).With("key", key)
	}
	return b.object(bucket, key), content, nil
}

func (b *objectBackend) GetObject(_ context.Context, r *storagev1.GetObjectRequest) (*storagev1.Object, error) {
	object, _, err := b.find(r.GetBucket(), r.GetKey())
	return object, err
}

func (b *objectBackend) DownloadObject(r *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	object, content, err := b.find(r.GetBucket(), r.GetKey())
	if err != nil {
		return err
	}
	if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Object{Object: object}}); err != nil {
		return err
	}
	content = content[r.GetOffsetBytes():]
	if r.GetLengthBytes() > 0 {
		content = content[:r.GetLengthBytes()]
	}
	for len(content) > 0 {
		n := min(len(content), 64<<10)
		if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: content[:n]}}); err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

func (b *objectBackend) GetBucket(_ context.Context, r *storagev1.GetBucketRequest) (*storagev1.Bucket, error) {
	if r.GetName() != deployment+"/buckets/b1" {
		return nil, errs.NotFound("BUCKET_NOT_FOUND", "%s does not exist", r.GetName()).Resource("sebs.Bucket", r.GetName())
	}
	return &storagev1.Bucket{Name: r.GetName(), CreateTime: moment}, nil
}

// builderBackend keeps the last source.
type builderBackend struct {
	builderv1.UnimplementedBuilderServiceServer
	mu      sync.Mutex
	header  *builderv1.SourceHeader
	archive []byte
}

func (b *builderBackend) UploadSource(stream grpc.ClientStreamingServer[builderv1.UploadSourceRequest, builderv1.Source]) error {
	var archive bytes.Buffer
	var header *builderv1.SourceHeader
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if part.GetHeader() != nil {
			header = part.GetHeader()
		}
		archive.Write(part.GetChunk())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.header, b.archive = header, archive.Bytes()
	return stream.SendAndClose(&builderv1.Source{Digest: "cafe", Benchmark: header.GetBenchmark()})
}

func (b *builderBackend) GetBenchmark(_ context.Context, r *builderv1.GetBenchmarkRequest) (*builderv1.Benchmark, error) {
	if r.GetName() != "benchmarks/010.sleep" {
		return nil, errs.NotFound("BENCHMARK_NOT_FOUND", "%s is in none of the catalogues; did you mean 010.sleep?", r.GetName())
	}
	return &builderv1.Benchmark{Name: r.GetName()}, nil
}

type deployerBackend struct {
	deployerv1.UnimplementedDeployerServiceServer
}

func (b *deployerBackend) GetFunction(_ context.Context, r *deployerv1.GetFunctionRequest) (*typev1.Function, error) {
	if r.GetName() != deployment+"/functions/f1" {
		return nil, errs.NotFound("FUNCTION_NOT_FOUND", "%s does not exist", r.GetName()).Resource("sebs.Function", r.GetName())
	}
	return &typev1.Function{Name: r.GetName(), Benchmark: "010.sleep", CodeHash: "cafe"}, nil
}

func (b *deployerBackend) DeleteFunction(context.Context, *deployerv1.DeleteFunctionRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// invokerBackend streams records and tells how its streams end.
type invokerBackend struct {
	invokerv1.UnimplementedInvokerServiceServer
	t         *testing.T
	cancelled chan error
}

func (b *invokerBackend) Invoke(ctx context.Context, r *invokerv1.InvokeRequest) (*invokerv1.InvokeResponse, error) {
	switch r.GetPayloadJson() {
	case `"throttled"`:
		return nil, errs.ResourceExhausted(3*time.Second, "FUNCTION_THROTTLED", "the function is at its limit")
	case `"slow"`:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &invokerv1.InvokeResponse{Record: &typev1.InvocationRecord{Function: r.GetTrigger(), Sequence: 7}}, nil
}

func (b *invokerBackend) InvokeMany(r *invokerv1.InvokeManyRequest, stream grpc.ServerStreamingServer[invokerv1.InvokeManyResponse]) error {
	for i := range int64(r.GetCount()) {
		if err := stream.Send(&invokerv1.InvokeManyResponse{Record: &typev1.InvocationRecord{Sequence: i}}); err != nil {
			return err
		}
	}
	if r.GetPhase() == "endless" {
		<-stream.Context().Done()
		b.cancelled <- stream.Context().Err()
		return stream.Context().Err()
	}
	return nil
}

type metricsBackend struct {
	metricsv1.UnimplementedMetricsServiceServer
}

func (b *metricsBackend) GetStatistics(_ context.Context, r *metricsv1.GetStatisticsRequest) (*metricsv1.Statistics, error) {
	if r.GetRun() != "runs/r1" {
		return nil, errs.NotFound("RESULTS_NOT_FOUND", "%s has no results", r.GetRun())
	}
	return &metricsv1.Statistics{Run: r.GetRun(), Functions: []*metricsv1.FunctionStatistics{{Function: deployment + "/functions/f1", Count: 3}}}, nil
}

func (b *metricsBackend) ExportRun(_ *metricsv1.ExportRunRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	for _, part := range []string{"a,b\n", "1,2\n"} {
		if err := stream.Send(&httpbody.HttpBody{ContentType: "text/csv", Data: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

type experimentsBackend struct {
	experimentsv1.UnimplementedExperimentsServiceServer
	operations *operations.Manager
}

func (b *experimentsBackend) CreateRun(ctx context.Context, r *experimentsv1.CreateRunRequest) (*longrunningpb.Operation, error) {
	return b.operations.Start(ctx, operations.Spec{Service: "experiments", Kind: "test", RequestID: r.GetRequestId(), Request: r},
		func(context.Context, *operations.Handle) (proto.Message, error) {
			return &experimentsv1.Run{Name: "runs/r1", State: experimentsv1.Run_STATE_SUCCEEDED}, nil
		})
}

func (b *experimentsBackend) GetRun(_ context.Context, r *experimentsv1.GetRunRequest) (*experimentsv1.Run, error) {
	if r.GetName() != "runs/r1" {
		return nil, errs.NotFound("RUN_NOT_FOUND", "%s does not exist", r.GetName()).Resource("sebs.Run", r.GetName())
	}
	return &experimentsv1.Run{Name: r.GetName(), State: experimentsv1.Run_STATE_PARTIAL, StartTime: moment, InvocationCount: 3}, nil
}

type localBackend struct {
	localv1.UnimplementedLocalServiceServer
}

func (b *localBackend) GetLocalFunction(_ context.Context, r *localv1.GetLocalFunctionRequest) (*localv1.LocalFunction, error) {
	if r.GetFunctionId() != "f1" {
		return nil, errs.NotFound("FUNCTION_NOT_FOUND", "the local platform has no function %q", r.GetFunctionId())
	}
	return &localv1.LocalFunction{FunctionId: "f1", Version: 2}, nil
}
