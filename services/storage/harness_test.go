package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func TestMain(m *testing.M) {
	// The embedded store's HTTP library keeps one clock for the life of the process, and a cleaner that looks every
	// ten seconds whether its server has ended.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// memory keeps records as the service's tests need them.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memory) Get(_ context.Context, key string, into proto.Message) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.data[key]
	if !ok {
		return 0, errs.NotFound("CACHE_KEY_NOT_FOUND", "no record %s", key)
	}
	return 1, proto.Unmarshal(raw, into)
}

func (m *memory) Update(_ context.Context, key string, msg proto.Message, create bool, change func() error) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.data[key]
	if !ok && !create {
		return 0, errs.NotFound("CACHE_KEY_NOT_FOUND", "no record %s", key)
	}
	if err := proto.Unmarshal(raw, msg); err != nil {
		return 0, err
	}
	if err := change(); err != nil {
		return 0, err
	}
	raw, err := proto.Marshal(msg)
	m.data[key] = raw
	return 1, err
}

// bench is a running storage service over embedded stores.
type bench struct {
	client  storagev1.StorageServiceClient
	service *Service
	local   *localStores
	records *memory
	events  chan []byte
	http    string
}

// start runs the service over gRPC in memory and its HTTP routes on loopback.
func start(tb testing.TB) *bench {
	tb.Helper()
	return startWith(tb, nil)
}

// startWith is start with more platforms.
func startWith(tb testing.TB, platforms map[string]Platform) *bench {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	b := &bench{records: &memory{data: map[string][]byte{}}, events: make(chan []byte, 1000)}
	b.local = &localStores{dir: tb.TempDir(), log: log, notify: func(raw []byte) {
		select {
		case b.events <- raw:
		default:
		}
	}}
	table := b.local.platforms()
	maps.Copy(table, platforms)
	b.service = New(table, b.records, log)
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(16<<20),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			out, err := h(ctx, req)
			return out, asStatus(err)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return asStatus(h(srv, s))
		}),
	)
	NewServer(b.service).Register(server)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///storage", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		tb.Fatal(err)
	}
	b.client = storagev1.NewStorageServiceClient(conn)

	mux := http.NewServeMux()
	content := &httpContent{service: b.service, log: log, authorize: func(authn.Principal, string) error { return nil }}
	for pattern, h := range content.handlers() {
		mux.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(authn.WithPrincipal(r.Context(), authn.Principal{})))
		}))
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	web := &http.Server{Handler: mux}
	running.Go(func() { _ = web.Serve(socket) })
	b.http = "http://" + socket.Addr().String()

	tb.Cleanup(func() {
		err := errors.Join(conn.Close(), web.Close())
		server.Stop()
		running.Wait()
		if err := errors.Join(err, b.service.Close(context.Background()), b.local.close(context.Background())); err != nil {
			tb.Error(err)
		}
	})
	return b
}

func asStatus(err error) error {
	if err == nil {
		return nil
	}
	return errs.ToStatus(err).Err()
}

// record makes a deployment known.
func (b *bench) record(tb testing.TB, platform, id string) {
	tb.Helper()
	d := deployment{platform: platform, id: id}
	if _, err := b.records.Update(tb.Context(), d.record(), &typev1.Deployment{}, true, func() error { return nil }); err != nil {
		tb.Fatal(err)
	}
}

// upload sends an object in chunks.
func (b *bench) upload(ctx context.Context, target *storagev1.UploadTarget, body io.Reader) (*storagev1.UploadObjectResponse, error) {
	stream, err := b.client.UploadObject(ctx)
	if err != nil {
		return nil, errs.FromStatus(err)
	}
	err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: target}})
	buf := make([]byte, 512<<10)
	for err == nil {
		n, readErr := io.ReadFull(body, buf)
		if n > 0 {
			err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: buf[:n]}})
		}
		if readErr != nil {
			break
		}
	}
	out, err := stream.CloseAndRecv()
	return out, errs.FromStatus(err)
}

// download reads an object to its end.
func (b *bench) download(ctx context.Context, in *storagev1.DownloadObjectRequest, to io.Writer) (*storagev1.Object, error) {
	stream, err := b.client.DownloadObject(ctx, in)
	if err != nil {
		return nil, errs.FromStatus(err)
	}
	var facts *storagev1.Object
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return facts, nil
		}
		if err != nil {
			return nil, errs.FromStatus(err)
		}
		if o := m.GetObject(); o != nil {
			facts = o
			continue
		}
		if _, err := to.Write(m.GetChunk()); err != nil {
			return nil, err
		}
	}
}

func (b *bench) mustUpload(tb testing.TB, bucket, key string, data []byte) *storagev1.Object {
	tb.Helper()
	size := int64(len(data))
	out, err := b.upload(tb.Context(), &storagev1.UploadTarget{Bucket: bucket, Key: key, SizeBytes: &size}, bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	return out.GetObject()
}

// ensure makes the bucket of a role.
func (b *bench) ensure(tb testing.TB, parent string, role typev1.BucketRole) *storagev1.Bucket {
	tb.Helper()
	out, err := b.client.EnsureBucket(tb.Context(), &storagev1.EnsureBucketRequest{Parent: parent, Role: role})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
