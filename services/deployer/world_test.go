package deployer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/embedded/etcd"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
	"github.com/sebs-suite/sebs/services/deployer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// storage is a storage service in memory.
type storage struct {
	storagev1.UnimplementedStorageServiceServer

	mu          sync.Mutex
	buckets     map[string]bool
	tables      []string
	secret      string
	environment int
	ensureFails error
	// archive is what every object holds; nil stands for a few bytes.
	archive []byte
	// uploads are the objects that were stored, by bucket and key.
	uploads map[string][]byte
}

func rid(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func (s *storage) EnsureBucket(_ context.Context, req *storagev1.EnsureBucketRequest) (*storagev1.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ensureFails != nil {
		return nil, s.ensureFails
	}
	role := strings.ToLower(strings.TrimPrefix(req.GetRole().String(), "BUCKET_ROLE_"))
	id := "sebs-" + role + "-" + rid(req.GetParent())
	s.buckets[id] = true
	return &storagev1.Bucket{Name: req.GetParent() + "/buckets/" + id, BucketId: id, Role: req.GetRole()}, nil
}

func (s *storage) GetBucket(_ context.Context, req *storagev1.GetBucketRequest) (*storagev1.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.buckets[rid(req.GetName())] {
		return nil, errs.ToStatus(errs.NotFound("BUCKET_NOT_FOUND", "no bucket %s", req.GetName())).Err()
	}
	return &storagev1.Bucket{Name: req.GetName(), BucketId: rid(req.GetName())}, nil
}

func (s *storage) ListBuckets(_ context.Context, req *storagev1.ListBucketsRequest) (*storagev1.ListBucketsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &storagev1.ListBucketsResponse{}
	for id := range s.buckets {
		if strings.HasPrefix(id, req.GetPrefix()) {
			answer.Buckets = append(answer.Buckets, &storagev1.Bucket{BucketId: id})
		}
	}
	return answer, nil
}

func (s *storage) FindDeployments(context.Context, *storagev1.FindDeploymentsRequest) (*storagev1.FindDeploymentsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &storagev1.FindDeploymentsResponse{}
	for id := range s.buckets {
		if after, ok := strings.CutPrefix(id, "sebs-benchmarks-"); ok {
			answer.ResourcesIds = append(answer.ResourcesIds, after)
		}
	}
	slices.Sort(answer.ResourcesIds)
	return answer, nil
}

func (s *storage) CleanupBuckets(_ context.Context, req *storagev1.CleanupBucketsRequest) (*storagev1.CleanupBucketsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &storagev1.CleanupBucketsResponse{}
	for id := range s.buckets {
		if strings.HasSuffix(id, "-"+rid(req.GetParent())) {
			answer.Buckets = append(answer.Buckets, id)
			if !req.GetDryRun() {
				delete(s.buckets, id)
			}
		}
	}
	return answer, nil
}

func (s *storage) ListTables(context.Context, *storagev1.ListTablesRequest) (*storagev1.ListTablesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &storagev1.ListTablesResponse{}
	for _, table := range s.tables {
		answer.Tables = append(answer.Tables, &storagev1.Table{TableId: table, Benchmark: "130.crud-api", Spec: &storagev1.TableSpec{LogicalName: "cart"}})
	}
	return answer, nil
}

func (s *storage) CleanupTables(_ context.Context, req *storagev1.CleanupTablesRequest) (*storagev1.CleanupTablesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &storagev1.CleanupTablesResponse{Tables: slices.Clone(s.tables)}
	if !req.GetDryRun() {
		s.tables = nil
	}
	return answer, nil
}

func (s *storage) GetFunctionEnvironment(context.Context, *storagev1.GetFunctionEnvironmentRequest) (*storagev1.FunctionEnvironment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.environment++
	return &storagev1.FunctionEnvironment{Variables: []*storagev1.EnvironmentVariable{
		{Name: "MINIO_ADDRESS", Value: "127.0.0.1:9000"},
		{Name: "MINIO_SECRET_KEY", Value: s.secret, Secret: true},
	}}, nil
}

func (s *storage) DownloadObject(req *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	if strings.HasPrefix(req.GetKey(), "gone") {
		return errs.ToStatus(errs.NotFound("OBJECT_NOT_FOUND", "no object %s", req.GetKey())).Err()
	}
	if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Object{Object: &storagev1.Object{Key: req.GetKey()}}}); err != nil {
		return err
	}
	if s.archive != nil {
		return stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: s.archive}})
	}
	for range 3 {
		if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: []byte("code")}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *storage) UploadObject(stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]) error {
	var (
		target  *storagev1.UploadTarget
		content []byte
	)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if part.GetTarget() != nil {
			target = part.GetTarget()
		}
		content = append(content, part.GetChunk()...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uploads == nil {
		s.uploads = make(map[string][]byte)
	}
	s.uploads[rid(target.GetBucket())+"/"+target.GetKey()] = content
	return stream.SendAndClose(&storagev1.UploadObjectResponse{Object: &storagev1.Object{Key: target.GetKey()}})
}

// builder knows packages by digest.
type builder struct {
	builderv1.UnimplementedBuilderServiceServer

	mu       sync.Mutex
	packages map[string]*builderv1.Package
}

func (b *builder) GetPackage(_ context.Context, req *builderv1.GetPackageRequest) (*builderv1.Package, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pkg := b.packages[req.GetName()]
	if pkg == nil {
		return nil, errs.ToStatus(errs.NotFound("PACKAGE_NOT_FOUND", "no package %s", req.GetName())).Err()
	}
	return proto.CloneOf(pkg), nil
}

// add makes a package and returns its name.
func (b *builder) add(digest string, change ...func(*builderv1.Package)) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	pkg := &builderv1.Package{
		Name: "packages/" + digest, Digest: digest, Benchmark: "010.sleep", Platform: "local",
		Runtime:      &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.12", Variant: "default"},
		Architecture: typev1.Architecture_ARCHITECTURE_X64, SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE,
		Bucket: "platforms/suite/deployments/main/buckets/packages", ObjectKey: digest + ".zip", SizeBytes: 12,
		Handler: "handler.handler", TimeoutSeconds: 120, MemoryMb: 128,
	}
	for _, f := range change {
		f(pkg)
	}
	b.packages[pkg.GetName()] = pkg
	return pkg.GetName()
}

// heard collects events.
type heard struct {
	mu     sync.Mutex
	events []string
}

func (h *heard) Publish(_ context.Context, subject string, m proto.Message, _ string, _ ...events.PublishOption) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, fmt.Sprintf("%s %v", subject, m))
	return nil
}

func (h *heard) count(subject string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, event := range h.events {
		if strings.HasPrefix(event, subject+" ") {
			n++
		}
	}
	return n
}

// world is a platform, the neighbours of the deployer, and shared state.
type world struct {
	memory   *faastest.Memory
	storage  *storage
	builder  *builder
	heard    *heard
	endpoint string
	conn     *grpc.ClientConn
	// driver takes the place of the platform in memory.
	driver faas.OpenFunc
	// retry adjusts the patience with the platform.
	retry faas.RetryPolicy

	mu sync.Mutex
	// scopes are those that the platform was opened for.
	scopes []driver.Scope
}

// open opens the platform for whatever scope, and notes it.
func (w *world) open(ctx context.Context, scope driver.Scope) (driver.Driver, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scopes = append(w.scopes, scope)
	if w.driver != nil {
		return w.driver(ctx, scope)
	}
	return w.memory, nil
}

// serve runs services on a connection in memory.
func serve(t *testing.T, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		answer, err := handler(ctx, req)
		if err != nil {
			return nil, errs.ToStatus(err).Err()
		}
		return answer, nil
	}))
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	w := &world{
		memory:   faastest.NewMemory(),
		storage:  &storage{buckets: make(map[string]bool), secret: "top-secret-value"},
		builder:  &builder{packages: make(map[string]*builderv1.Package)},
		heard:    &heard{},
		endpoint: server.Endpoint(),
	}
	w.conn = serve(t, func(r grpc.ServiceRegistrar) {
		storagev1.RegisterStorageServiceServer(r, w.storage)
		builderv1.RegisterBuilderServiceServer(r, w.builder)
	})
	return w
}

// service is one deployer process.
type service struct {
	deployerv1.DeployerServiceClient
	operations longrunningpb.OperationsClient
	store      *cache.Store
	// stop ends the process; its operations are taken up by others.
	stop func()
}

// deployer starts a process with a connection to etcd of its own.
func (w *world) deployer(t *testing.T) *service {
	t.Helper()
	store, err := cache.Open(cache.Config{Endpoints: []string{w.endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	manager := operations.New(store, operations.Config{})
	manager.Serve("deployer")
	if err := manager.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := deployer.New(deployer.Dependencies{
		Platforms: faas.Table{"local": w.open, "aws": w.open},
		Options:   faas.Options{PollInterval: time.Millisecond, Retry: w.retry},
		Records:   store, Events: w.heard,
		Storage: storagev1.NewStorageServiceClient(w.conn),
		Builder: builderv1.NewBuilderServiceClient(w.conn),
		Log:     slog.New(slog.DiscardHandler),
	})
	s := deployer.NewServer(d, manager)
	watching, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	watched := make(chan error, 1)
	go func() { watched <- manager.Watch(watching) }()
	stop := sync.OnceFunc(func() {
		ctx := context.WithoutCancel(t.Context())
		cancel()
		<-watched
		if err := manager.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	conn := serve(t, func(r grpc.ServiceRegistrar) {
		s.Register(r)
		longrunningpb.RegisterOperationsServer(r, manager.Server())
	})
	return &service{
		DeployerServiceClient: deployerv1.NewDeployerServiceClient(conn),
		operations:            longrunningpb.NewOperationsClient(conn),
		store:                 store,
		stop:                  stop,
	}
}

// deployment makes the usual deployment.
func (s *service) deployment(t *testing.T) *typev1.Deployment {
	t.Helper()
	made, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: "platforms/local"})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// wait follows an operation to its end.
func (s *service) wait(ctx context.Context, op *longrunningpb.Operation, err error, into proto.Message) error {
	if err != nil {
		return err
	}
	done, err := operations.Wait(ctx, s.operations, op, nil)
	if err != nil {
		return err
	}
	return operations.Result(done, into)
}

func (s *service) ensure(ctx context.Context, req *deployerv1.EnsureFunctionRequest) (*deployerv1.EnsureFunctionResponse, error) {
	answer := &deployerv1.EnsureFunctionResponse{}
	op, err := s.EnsureFunction(ctx, req)
	return answer, s.wait(ctx, op, err, answer)
}

func (s *service) mustEnsure(t *testing.T, req *deployerv1.EnsureFunctionRequest) *deployerv1.EnsureFunctionResponse {
	t.Helper()
	answer, err := s.ensure(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
