package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// memoryStorage is a storage service that keeps everything in memory.
type memoryStorage struct {
	storagev1.UnimplementedStorageServiceServer

	mu      sync.Mutex
	objects map[string][]byte
	items   []*storagev1.WriteItemRequest
}

func (m *memoryStorage) EnsureBucket(_ context.Context, r *storagev1.EnsureBucketRequest) (*storagev1.Bucket, error) {
	return &storagev1.Bucket{Name: r.GetParent() + "/buckets/sebs-deployment-main", BucketId: "sebs-deployment-main", Role: r.GetRole()}, nil
}

func (m *memoryStorage) UploadObject(stream storagev1.StorageService_UploadObjectServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	target := first.GetTarget()
	key := target.GetBucket() + "//" + target.GetKey()
	m.mu.Lock()
	_, exists := m.objects[key]
	m.mu.Unlock()
	if exists && target.ReplaceExisting != nil && !target.GetReplaceExisting() {
		return stream.SendAndClose(&storagev1.UploadObjectResponse{Skipped: true})
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
	sum := sha256.Sum256(content.Bytes())
	if want := target.GetSha256(); want != "" && want != hex.EncodeToString(sum[:]) {
		return status.Error(codes.InvalidArgument, "the content has another SHA-256")
	}
	if target.GetSizeBytes() != int64(content.Len()) {
		return status.Error(codes.InvalidArgument, "the content has another size")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = content.Bytes()
	return stream.SendAndClose(&storagev1.UploadObjectResponse{})
}

func (m *memoryStorage) object(bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[bucket+"//"+key]
	if !ok {
		return nil, errs.ToStatus(errs.NotFound("OBJECT_NOT_FOUND", "object %s does not exist", key)).Err()
	}
	return content, nil
}

func (m *memoryStorage) DownloadObject(r *storagev1.DownloadObjectRequest, stream storagev1.StorageService_DownloadObjectServer) error {
	content, err := m.object(r.GetBucket(), r.GetKey())
	if err != nil {
		return err
	}
	if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Object{Object: &storagev1.Object{Key: r.GetKey()}}}); err != nil {
		return err
	}
	for chunk := range slices.Chunk(content, 100_000) {
		if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: chunk}}); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStorage) GetObject(_ context.Context, r *storagev1.GetObjectRequest) (*storagev1.Object, error) {
	content, err := m.object(r.GetBucket(), r.GetKey())
	return &storagev1.Object{Key: r.GetKey(), SizeBytes: int64(len(content))}, err
}

func (m *memoryStorage) DeleteObject(_ context.Context, r *storagev1.DeleteObjectRequest) (*emptypb.Empty, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, r.GetBucket()+"//"+r.GetKey())
	return &emptypb.Empty{}, nil
}

func (m *memoryStorage) AllocateBenchmarkData(_ context.Context, r *storagev1.AllocateBenchmarkDataRequest) (*storagev1.BenchmarkData, error) {
	data := &storagev1.BenchmarkData{Bucket: &storagev1.Bucket{Name: r.GetParent() + "/buckets/sebs-benchmarks-test", BucketId: "sebs-benchmarks-test"}}
	for i := range r.GetInputCount() {
		data.InputPrefixes = append(data.InputPrefixes, fmt.Sprintf("%s-%d-input", r.GetBenchmark(), i))
	}
	for i := range r.GetOutputCount() {
		data.OutputPrefixes = append(data.OutputPrefixes, fmt.Sprintf("%s-%d-output", r.GetBenchmark(), i))
	}
	return data, nil
}

func (m *memoryStorage) CreateBenchmarkTables(_ context.Context, r *storagev1.CreateBenchmarkTablesRequest) (*storagev1.CreateBenchmarkTablesResponse, error) {
	answer := &storagev1.CreateBenchmarkTablesResponse{}
	for _, spec := range r.GetTables() {
		id := "sebs-benchmarks-test-" + r.GetBenchmark() + "-" + spec.GetLogicalName()
		answer.Tables = append(answer.Tables, &storagev1.Table{Name: r.GetParent() + "/tables/" + id, TableId: id, Spec: spec})
	}
	return answer, nil
}

func (m *memoryStorage) WriteItem(_ context.Context, r *storagev1.WriteItemRequest) (*storagev1.WriteItemResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, r)
	return &storagev1.WriteItemResponse{}, nil
}

func (m *memoryStorage) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.objects {
		_, key, _ = strings.Cut(key, "//")
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// serve connects a client with a server in the same process.
func serve(t testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	plain := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			answer, err := handle(ctx, request)
			return answer, toStatus(err)
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return toStatus(handle(service, stream))
		}),
	)
	register(plain)
	done := make(chan error, 1)
	go func() { done <- plain.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		plain.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return errs.ToStatus(err).Err()
}

// memoryRecords are records in memory.
type memoryRecords struct {
	mu      sync.Mutex
	records map[string][]byte
	locks   map[string]chan struct{}
}

func newRecords() *memoryRecords {
	return &memoryRecords{records: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

func (m *memoryRecords) Get(_ context.Context, key string, into proto.Message) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.records[key]
	if !ok {
		return 0, errs.NotFound(cache.ReasonNotFound, "no record %s", key)
	}
	return 1, cache.Unmarshal(raw, into)
}

func (m *memoryRecords) Put(_ context.Context, key string, message proto.Message) (int64, error) {
	raw, err := cache.Marshal(message)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[key] = raw
	return 1, err
}

func (m *memoryRecords) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, key)
	return nil
}

func (m *memoryRecords) List(_ context.Context, prefix string, each func(string, int64, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.records {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := each(key, 1, m.records[key]); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryRecords) Lock(ctx context.Context, what string) (func(), error) {
	m.mu.Lock()
	lock, ok := m.locks[what]
	if !ok {
		lock = make(chan struct{}, 1)
		m.locks[what] = lock
	}
	m.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// synchronous runs an operation before Start returns.
type synchronous struct{}

func (synchronous) Start(ctx context.Context, _ operations.Spec, run operations.Run) (*longrunningpb.Operation, error) {
	result, err := run(ctx, new(operations.Handle))
	if err != nil {
		return nil, err
	}
	response, err := anypb.New(result)
	if err != nil {
		return nil, err
	}
	return &longrunningpb.Operation{Name: "operations/builder-test", Done: true, Result: &longrunningpb.Operation_Response{Response: response}}, nil
}

// localHost is a local platform without Docker.
type localHost struct{}

func (localHost) GetHost(context.Context, *localv1.GetHostRequest, ...grpc.CallOption) (*localv1.Host, error) {
	return &localv1.Host{}, nil
}

// told keeps events.
type told struct {
	mu    sync.Mutex
	facts []proto.Message
}

func (f *told) Tell(_ context.Context, _ string, fact proto.Message, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.facts = append(f.facts, fact)
	return nil
}
