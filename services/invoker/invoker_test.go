package invoker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/invoker"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	function = "platforms/local/deployments/d/functions/f"
	trigger  = function + "/triggers/http"
)

// memRecords is the shared state in memory.
type memRecords struct {
	mu      sync.Mutex
	records map[string]proto.Message
	reads   atomic.Int64
	watches []chan cache.Event
}

func (m *memRecords) Get(_ context.Context, key string, into proto.Message) (int64, error) {
	m.reads.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	record, ok := m.records[key]
	if !ok {
		return 0, errs.NotFound("CACHE_KEY_NOT_FOUND", "no record %s", key)
	}
	proto.Reset(into)
	proto.Merge(into, record)
	return 1, nil
}

func (m *memRecords) List(_ context.Context, prefix string, each func(string, int64, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, record := range m.records {
		if strings.HasPrefix(key, prefix) {
			raw, err := cache.Marshal(record)
			if err != nil {
				return err
			}
			if err := each(key, 1, raw); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memRecords) Watch(ctx context.Context, _ string) (<-chan cache.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	watch := make(chan cache.Event)
	m.watches = append(m.watches, watch)
	return watch, ctx.Err()
}

func (m *memRecords) put(key string, record proto.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[key] = record
}

// changed tells everyone who watches of a change.
func (m *memRecords) changed(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, watch := range m.watches {
		watch <- cache.Event{Type: cache.EventPut, Key: key}
	}
}

func (m *memRecords) watched() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.watches)
}

// memResults keeps the records of runs.
type memResults struct {
	mu      sync.Mutex
	records []*typev1.InvocationRecord
	flushed int
}

func (m *memResults) Add(record *typev1.InvocationRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, record)
}

func (m *memResults) Flush(context.Context, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushed = len(m.records)
	return nil
}

func (m *memResults) all() []*typev1.InvocationRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*typev1.InvocationRecord(nil), m.records...)
}

// memStorage is a storage service that keeps objects in memory.
type memStorage struct {
	storagev1.UnimplementedStorageServiceServer
	mu      sync.Mutex
	buckets map[string]bool
	objects map[string][]byte
}

func (m *memStorage) CreateBucket(_ context.Context, request *storagev1.CreateBucketRequest) (*storagev1.Bucket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buckets[request.GetParent()+"/buckets/"+request.GetBucketId()] = true
	return &storagev1.Bucket{}, nil
}

func (m *memStorage) UploadObject(stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]) error {
	var target *storagev1.UploadTarget
	var content []byte
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.buckets[target.GetBucket()] || int64(len(content)) != target.GetSizeBytes() {
		return errs.NotFound("BUCKET_NOT_FOUND", "no bucket %s for %d bytes", target.GetBucket(), len(content))
	}
	m.objects[target.GetBucket()+"/objects/"+target.GetKey()] = content
	return stream.SendAndClose(&storagev1.UploadObjectResponse{})
}

func (m *memStorage) DownloadObject(request *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	m.mu.Lock()
	content, ok := m.objects[request.GetBucket()+"/objects/"+request.GetKey()]
	m.mu.Unlock()
	if !ok {
		return errs.NotFound("OBJECT_NOT_FOUND", "no object %s", request.GetKey())
	}
	return stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: content}})
}

// world is an invoker with everything that it stands on.
type world struct {
	records  *memRecords
	results  *memResults
	storage  *memStorage
	invoker  *invoker.Invoker
	requests atomic.Int64
	// handle answers as the function.
	handle atomic.Pointer[http.HandlerFunc]
}

func answer(w http.ResponseWriter, id string, extra string) {
	fmt.Fprintf(w, `{"begin":"1.0","end":"2.0","is_cold":false,"request_id":%q,"result":{"result":"ok%s"}}`, id, extra)
}

func newWorld(t *testing.T, capacity int) *world {
	t.Helper()
	w := &world{
		results: &memResults{},
		storage: &memStorage{buckets: map[string]bool{}, objects: map[string][]byte{}},
	}
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) { answer(out, fmt.Sprint("r", w.requests.Load()), "") })
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		w.requests.Add(1)
		(*w.handle.Load())(out, in)
	}))
	t.Cleanup(server.Close)
	w.records = &memRecords{records: map[string]proto.Message{
		"functions/local/d/f": &typev1.Function{
			Name: function, Config: &typev1.FunctionConfig{TimeoutSeconds: 5},
			Triggers: []*typev1.Trigger{
				{Name: trigger, Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: server.URL},
				{Name: function + "/triggers/storage", Type: typev1.TriggerType_TRIGGER_TYPE_STORAGE},
			},
		},
		"functions/local/d/evil": &typev1.Function{Triggers: []*typev1.Trigger{
			{Name: "platforms/local/deployments/d/functions/evil/triggers/http", Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: "http://169.254.169.254/"},
		}},
	}}
	web := call.NewHTTP(call.HTTPOptions{})
	t.Cleanup(web.Close)
	w.invoker = invoker.New(invoker.Dependencies{
		ID: "one", Capacity: capacity, Records: w.records, Results: w.results, Storage: storageClient(t, w.storage),
		HTTP: web, Log: slog.New(slog.DiscardHandler),
	})
	return w
}

func (w *world) answerWith(handle http.HandlerFunc) { w.handle.Store(&handle) }

func TestInvokeAnswersARecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	got, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: trigger, Run: "runs/a", Sequence: 3, Phase: "warm"})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetErrorClass() != 0 || got.GetFunction() != function || got.GetInvoker() != "invokers/one" || got.GetSequence() != 3 || got.GetRun() != "runs/a" {
		t.Errorf("recorded %v", got)
	}
	if all := w.results.all(); len(all) != 1 || !proto.Equal(all[0], got) {
		t.Errorf("published %v", all)
	}
	if _, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: strings.ToUpper(trigger[:0]) + function + "/triggers/HTTP"}); err != nil {
		t.Errorf("the trigger's name in capitals: %v", err)
	}
	if len(w.results.all()) != 1 {
		t.Error("a call without a run was published")
	}
}

func TestWrongRequestsAreRefusedBeforeTheCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	tests := map[string]struct {
		request *invokerv1.InvokeRequest
		code    codes.Code
		text    string
	}{
		"no name":       {&invokerv1.InvokeRequest{Trigger: "x"}, codes.InvalidArgument, "of the form"},
		"dots":          {&invokerv1.InvokeRequest{Trigger: "platforms/local/deployments/../functions/f/triggers/http"}, codes.InvalidArgument, "of the form"},
		"no function":   {&invokerv1.InvokeRequest{Trigger: "platforms/local/deployments/d/functions/g/triggers/http"}, codes.NotFound, "deploy it first"},
		"no trigger":    {&invokerv1.InvokeRequest{Trigger: function + "/triggers/library"}, codes.NotFound, "create it first"},
		"no caller":     {&invokerv1.InvokeRequest{Trigger: function + "/triggers/storage"}, codes.Unimplemented, "storage"},
		"link-local":    {&invokerv1.InvokeRequest{Trigger: "platforms/local/deployments/d/functions/evil/triggers/http"}, codes.FailedPrecondition, "link-local"},
		"payload":       {&invokerv1.InvokeRequest{Trigger: trigger, PayloadJson: "{"}, codes.InvalidArgument, "payload_json"},
		"two payloads":  {&invokerv1.InvokeRequest{Trigger: trigger, PayloadJson: "{}", PayloadRef: "x"}, codes.InvalidArgument, "payload_ref"},
		"foreign ref":   {&invokerv1.InvokeRequest{Trigger: trigger, PayloadRef: "platforms/aws/deployments/d/buckets/b/objects/k"}, codes.InvalidArgument, "suite's store"},
		"missing ref":   {&invokerv1.InvokeRequest{Trigger: trigger, PayloadRef: "platforms/suite/deployments/main/buckets/payloads/objects/k"}, codes.NotFound, "upload it again"},
		"run":           {&invokerv1.InvokeRequest{Trigger: trigger, Run: "runs/a.b"}, codes.InvalidArgument, "runs/{id}"},
		"run with star": {&invokerv1.InvokeRequest{Trigger: trigger, Run: "runs/*"}, codes.InvalidArgument, "runs/{id}"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := w.invoker.Invoke(t.Context(), test.request)
			if !errs.Is(err, test.code) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("answered %v; want %s with %q", err, test.code, test.text)
			}
		})
	}
	t.Cleanup(func() {
		if n := w.requests.Load(); n != 0 {
			t.Errorf("%d calls were made", n)
		}
	})
}

func TestLargePayloadsAndAnswersTravelByReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	payload := `{"text":"` + strings.Repeat("p", 400<<10) + `"}`
	ref := "platforms/suite/deployments/main/buckets/payloads/objects/in.json"
	w.storage.objects[ref] = []byte(payload)
	w.answerWith(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		if string(body) != payload {
			t.Errorf("the function was sent %d bytes", len(body))
		}
		answer(out, "r", strings.Repeat("x", 300<<10))
	})
	got, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: trigger, PayloadRef: ref, Run: "runs/a"})
	if err != nil {
		t.Fatal(err)
	}
	result := got.GetResult()
	if got.GetErrorClass() != 0 || result.GetOutputJson() != "" || !strings.HasPrefix(result.GetOutputRef(), "platforms/suite/deployments/main/buckets/payloads/objects/outputs/a/") {
		t.Fatalf("recorded %v", got)
	}
	if stored := w.storage.objects[result.GetOutputRef()]; len(stored) < 300<<10 {
		t.Errorf("stored %d bytes", len(stored))
	}
}

func TestInvokeManyMakesEachCallOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	var now, most atomic.Int64
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for {
			seen := most.Load()
			if n <= seen || most.CompareAndSwap(seen, n) {
				break
			}
		}
		defer now.Add(-1)
		answer(out, "r", "")
	})
	seen := map[int64]int{}
	err := w.invoker.InvokeMany(t.Context(), &invokerv1.InvokeManyRequest{
		Trigger: trigger, Count: 100, Concurrency: 8, Run: "runs/a", FirstSequence: 10, ReuseConnections: true,
	}, func(record *typev1.InvocationRecord) error {
		seen[record.GetSequence()]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(10); i < 110; i++ {
		if seen[i] != 1 {
			t.Errorf("invocation %d was made %d times", i, seen[i])
		}
	}
	if len(seen) != 100 || w.requests.Load() != 100 || w.results.flushed != 100 {
		t.Errorf("%d records, %d requests, %d flushed", len(seen), w.requests.Load(), w.results.flushed)
	}
	if most.Load() > 3 {
		t.Errorf("%d calls at once with a capacity of 3", most.Load())
	}
}

func TestACancelledInvokeManyKeepsItsRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8)
	w.answerWith(func(out http.ResponseWriter, in *http.Request) {
		// The server notices that a client is gone only when the whole request was read.
		_, _ = io.Copy(io.Discard, in.Body)
		if w.requests.Load() > 5 {
			<-in.Context().Done()
			return
		}
		answer(out, "r", "")
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := 0
	err := w.invoker.InvokeMany(ctx, &invokerv1.InvokeManyRequest{Trigger: trigger, Count: 1000, Concurrency: 2, Run: "runs/a"}, func(*typev1.InvocationRecord) error {
		if got++; got == 5 {
			cancel()
		}
		return nil
	})
	if err == nil || w.results.flushed < 5 || w.results.flushed != len(w.results.all()) {
		t.Errorf("ended with %v, flushed %d of %d", err, w.results.flushed, len(w.results.all()))
	}
	for _, record := range w.results.all()[5:] {
		if record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_CANCELLED {
			t.Errorf("a call in flight is recorded as %s", record.GetErrorClass())
		}
	}
}

func TestAFullInvokerRefusesWhoCannotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	release, entered := make(chan struct{}), make(chan struct{})
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		answer(out, "r", "")
	})
	first := make(chan error, 1)
	go func() {
		_, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: trigger})
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.invoker.Invoke(ctx, &invokerv1.InvokeRequest{Trigger: trigger}); !errs.Is(err, codes.ResourceExhausted) {
		t.Errorf("the second call: %v", err)
	}
	draining := make(chan error, 1)
	go func() { draining <- w.invoker.Drain(t.Context()) }()
	for {
		_, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: trigger})
		if errs.Reason(err) == "INVOKER_DRAINING" {
			break
		}
		t.Errorf("a call while draining: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-draining; err != nil {
		t.Error(err)
	}
}

func TestADrainedInvokerEndsTheCallsInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	release, entered := make(chan struct{}), make(chan struct{}, 2)
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		answer(out, "r", "")
	})
	var got []*typev1.InvocationRecord
	ended := make(chan error, 1)
	go func() {
		ended <- w.invoker.InvokeMany(t.Context(), &invokerv1.InvokeManyRequest{Trigger: trigger, Count: 100, Concurrency: 2}, func(record *typev1.InvocationRecord) error {
			got = append(got, record)
			return nil
		})
	}()
	<-entered
	<-entered
	draining, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.invoker.Drain(draining); err == nil {
		t.Error("drained with two calls in flight")
	}
	close(release)
	if err := <-ended; errs.Reason(err) != "INVOKER_DRAINING" {
		t.Errorf("ended with %v", err)
	}
	if len(got) != 2 || got[0].GetErrorClass() != 0 || got[1].GetErrorClass() != 0 {
		t.Errorf("recorded %v", got)
	}
}

func TestFunctionsAreReadOnceAndAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.invoker.Follow(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	invoke := func() error {
		_, err := w.invoker.Invoke(t.Context(), &invokerv1.InvokeRequest{Trigger: trigger})
		return err
	}
	eventually(t, "both watches", func() bool { return w.records.watched() == 2 })
	// The memory is used from the moment when the changes are followed.
	eventually(t, "a call without a read", func() bool {
		before := w.records.reads.Load()
		if err := invoke(); err != nil {
			t.Fatal(err)
		}
		return w.records.reads.Load() == before
	})
	w.records.put("functions/local/d/f", &typev1.Function{Name: function})
	w.records.changed("functions/local/d/f")
	eventually(t, "the change seen", func() bool { return errs.Is(invoke(), codes.NotFound) })
}

// eventually repeats a look until it is true.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
