package metrics

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/resultstream"
	"github.com/sebs-suite/sebs/services/metrics/prices"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// neighbours are the services that metrics calls, in memory.
type neighbours struct {
	storage     *fakeStorage
	experiments *fakeExperiments
	deployer    *fakeDeployer
	local       *fakeLocal
}

func newNeighbours() *neighbours {
	return &neighbours{
		storage:     &fakeStorage{buckets: make(map[string]bool), objects: make(map[string][]byte)},
		experiments: &fakeExperiments{runs: make(map[string]*experimentsv1.Run)},
		deployer:    &fakeDeployer{deployments: make(map[string]*typev1.Deployment)},
		local:       &fakeLocal{invocations: make(map[string][]*localv1.LocalInvocation)},
	}
}

func (n *neighbours) setup(_ context.Context, p *app.Process) error {
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) {
		storagev1.RegisterStorageServiceServer(r, n.storage)
		experimentsv1.RegisterExperimentsServiceServer(r, n.experiments)
		deployerv1.RegisterDeployerServiceServer(r, n.deployer)
		localv1.RegisterLocalServiceServer(r, n.local)
	})
	return nil
}

// start runs the service among its neighbours.
func start(t *testing.T) (metricsv1.MetricsServiceClient, *neighbours, *apptest.Running) {
	t.Helper()
	n := newNeighbours()
	running := apptest.Start(t, n.setup, Setup)
	// A stream that is made while the server stops would leave goroutines of the server behind.
	deadline := time.Now().Add(30 * time.Second)
	for {
		stream, err := running.Events.JetStream().Stream(t.Context(), resultstream.Name)
		if err == nil && stream.CachedInfo().State.Consumers > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the result stream is not read: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return metricsv1.NewMetricsServiceClient(running.Conn("metrics")), n, running
}

type fakeStorage struct {
	storagev1.UnimplementedStorageServiceServer
	mu      sync.Mutex
	buckets map[string]bool
	objects map[string][]byte
	// updated holds the age of objects by key, for listings.
	updated map[string]time.Time
}

func (f *fakeStorage) CreateBucket(_ context.Context, in *storagev1.CreateBucketRequest) (*storagev1.Bucket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := in.GetParent() + "/buckets/" + in.GetBucketId()
	f.buckets[name] = true
	return &storagev1.Bucket{Name: name, BucketId: in.GetBucketId()}, nil
}

func (f *fakeStorage) UploadObject(stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	target := first.GetTarget()
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
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.buckets[target.GetBucket()] {
		return errs.NotFound("BUCKET_NOT_FOUND", "no bucket %s", target.GetBucket())
	}
	if target.SizeBytes != nil && target.GetSizeBytes() != int64(content.Len()) {
		return errs.InvalidArgument("SIZE_MISMATCH", "%d bytes announced, %d sent", target.GetSizeBytes(), content.Len())
	}
	f.objects[target.GetBucket()+refSeparator+target.GetKey()] = content.Bytes()
	return stream.SendAndClose(&storagev1.UploadObjectResponse{Object: &storagev1.Object{Key: target.GetKey()}})
}

func (f *fakeStorage) DownloadObject(in *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	raw, ok := f.get(in.GetBucket() + refSeparator + in.GetKey())
	if !ok {
		return errs.NotFound("OBJECT_NOT_FOUND", "no object %s", in.GetKey())
	}
	facts := &storagev1.Object{Bucket: in.GetBucket(), Key: in.GetKey(), SizeBytes: int64(len(raw))}
	if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Object{Object: facts}}); err != nil {
		return err
	}
	for len(raw) > 0 {
		n := min(len(raw), chunkBytes)
		if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: raw[:n]}}); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

func (f *fakeStorage) DeleteObject(_ context.Context, in *storagev1.DeleteObjectRequest) (*emptypb.Empty, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, in.GetBucket()+refSeparator+in.GetKey())
	return &emptypb.Empty{}, nil
}

func (f *fakeStorage) ListObjects(_ context.Context, in *storagev1.ListObjectsRequest) (*storagev1.ListObjectsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &storagev1.ListObjectsResponse{}
	var refs []string
	for ref := range f.objects {
		if strings.HasPrefix(ref, in.GetBucket()+refSeparator+in.GetPrefix()) && ref > in.GetPageToken() {
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	// Two objects a page, so that paging is tried.
	if len(refs) > 2 {
		refs = refs[:2]
		out.NextPageToken = refs[1]
	}
	for _, ref := range refs {
		_, key, _ := strings.Cut(ref, refSeparator)
		out.Objects = append(out.Objects, &storagev1.Object{Bucket: in.GetBucket(), Key: key, UpdateTime: timestamppb.New(f.updated[key])})
	}
	return out, nil
}

func (f *fakeStorage) get(ref string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, ok := f.objects[ref]
	return raw, ok
}

// digests returns the content's digest of every object.
func (f *fakeStorage) digests() map[string][32]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][32]byte, len(f.objects))
	for ref, raw := range f.objects {
		out[ref] = sha256.Sum256(raw)
	}
	return out
}

type fakeExperiments struct {
	experimentsv1.UnimplementedExperimentsServiceServer
	runs map[string]*experimentsv1.Run
}

func (f *fakeExperiments) GetRun(_ context.Context, in *experimentsv1.GetRunRequest) (*experimentsv1.Run, error) {
	if run := f.runs[in.GetName()]; run != nil {
		return run, nil
	}
	return nil, errs.NotFound("RUN_NOT_FOUND", "no run %s", in.GetName())
}

type fakeDeployer struct {
	deployerv1.UnimplementedDeployerServiceServer
	deployments map[string]*typev1.Deployment
}

func (f *fakeDeployer) GetDeployment(_ context.Context, in *deployerv1.GetDeploymentRequest) (*typev1.Deployment, error) {
	if d := f.deployments[in.GetName()]; d != nil {
		return d, nil
	}
	return nil, errs.NotFound("DEPLOYMENT_NOT_FOUND", "no deployment %s", in.GetName())
}

// fakeLocal answers recorded invocations; the first late questions hold every second one back.
type fakeLocal struct {
	localv1.UnimplementedLocalServiceServer
	mu          sync.Mutex
	invocations map[string][]*localv1.LocalInvocation
	late        int
}

func (f *fakeLocal) ListLocalInvocations(_ context.Context, in *localv1.ListLocalInvocationsRequest) (*localv1.ListLocalInvocationsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, ok := f.invocations[in.GetFunctionId()]
	if !ok {
		return nil, errs.NotFound("FUNCTION_NOT_FOUND", "no function %s", in.GetFunctionId())
	}
	wanted := make(map[string]bool)
	for _, id := range in.GetRequestIds() {
		wanted[id] = true
	}
	out := &localv1.ListLocalInvocationsResponse{}
	for i, inv := range all {
		if f.late > 0 && i%2 == 1 || len(wanted) > 0 && !wanted[inv.GetRequestId()] {
			continue
		}
		if at := inv.GetStartTime().AsTime(); at.Before(in.GetStartTime().AsTime()) || !at.Before(in.GetEndTime().AsTime()) {
			continue
		}
		out.Invocations = append(out.Invocations, inv)
	}
	if f.late > 0 {
		f.late--
	}
	return out, nil
}

// testBook returns the built-in prices.
func testBook(tb testing.TB) *prices.Book {
	tb.Helper()
	book, err := prices.Open("")
	if err != nil {
		tb.Fatal(err)
	}
	return book
}
