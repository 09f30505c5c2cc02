package invoker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
	"github.com/sebs-suite/sebs/services/invoker"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

// queueing is a platform that queues calls by itself. An outcome is there at the third look.
type queueing struct {
	*faastest.Memory
	without bool

	mu       sync.Mutex
	prepared int
	looks    map[string]int
	payloads map[string]string
}

func (q *queueing) Capabilities(ctx context.Context) (driver.Capabilities, error) {
	caps, err := q.Memory.Capabilities(ctx)
	caps.AsyncResults = driver.Yes()
	if q.without {
		caps.AsyncResults = driver.No("it keeps no answers")
	}
	return caps, err
}

func (q *queueing) Prepare(context.Context, driver.Call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.prepared++
	return nil
}

func (q *queueing) Invoke(_ context.Context, c driver.Call) (driver.CallResult, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !c.Async || q.prepared == 0 {
		return driver.CallResult{}, errors.New("the call is not queued, or not prepared")
	}
	id := fmt.Sprintf("queued-%d", len(q.payloads))
	q.payloads[id] = string(c.Payload)
	return driver.CallResult{RequestID: id}, nil
}

func (q *queueing) AsyncResult(_ context.Context, _, id string) (driver.CallResult, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.looks[id]++; q.looks[id] < 3 || strings.Contains(q.payloads[id], "never") {
		return driver.CallResult{}, &faastest.FaultError{Fault: driver.Fault{Code: codes.NotFound}, Message: "not yet"}
	}
	if strings.Contains(q.payloads[id], "fail") {
		return driver.CallResult{RequestID: id, FunctionError: "Unhandled", Payload: []byte(`{"errorType":"ValueError","errorMessage":"asked to"}`)}, nil
	}
	return driver.CallResult{RequestID: id, Payload: fmt.Appendf(nil, `{"statusCode":200,"body":{"is_cold":false,"request_id":%q,"result":{"result":"ok"}}}`, id)}, nil
}

// withLibrary gives the world's function a library trigger on the platform.
func withLibrary(t *testing.T, w *world, platform *queueing) {
	t.Helper()
	fn, ok := w.records.records["functions/local/d/f"].(*typev1.Function)
	if !ok {
		t.Fatal("the world has no function")
	}
	fn.Triggers = append(fn.Triggers, &typev1.Trigger{Name: function + "/triggers/library", Type: typev1.TriggerType_TRIGGER_TYPE_LIBRARY})
	web := call.NewHTTP(call.HTTPOptions{})
	t.Cleanup(web.Close)
	library := call.NewLibrary(faas.Table{"local": func(context.Context, driver.Scope) (driver.Driver, error) { return platform, nil }})
	t.Cleanup(func() { _ = library.Close() })
	w.invoker = invoker.New(invoker.Dependencies{
		ID: "one", Capacity: 4, Records: w.records, Results: w.results, Storage: storageClient(t, w.storage),
		HTTP: web, Library: library, Log: slog.New(slog.DiscardHandler),
	})
}

func newQueueing() *queueing {
	return &queueing{Memory: faastest.NewMemory(), looks: make(map[string]int), payloads: make(map[string]string)}
}

func TestThePlatformsOwnQueueGivesResults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	withLibrary(t, w, newQueueing())
	queue := work(t, w, natsServer(t))
	for payload, want := range map[string]struct {
		class   typev1.ErrorClass
		message string
		timeout time.Duration
	}{
		`{"a":1}`:        {},
		`{"fail":true}`:  {class: typev1.ErrorClass_ERROR_CLASS_FUNCTION, message: "ValueError: asked to"},
		`{"never":true}`: {class: typev1.ErrorClass_ERROR_CLASS_CANCELLED, message: "no answer", timeout: 300 * time.Millisecond},
	} {
		request := &invokerv1.CreateInvocationRequest{Trigger: function + "/triggers/library", Run: "runs/a", PayloadJson: payload, PlatformAsync: true}
		if want.timeout > 0 {
			request.Timeout = durationpb.New(want.timeout)
		}
		created, err := queue.Create(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		got := wait(t, queue.Queue, created.GetName())
		record := got.GetRecord()
		if got.GetState() != invokerv1.Invocation_STATE_DONE || record.GetErrorClass() != want.class || !strings.Contains(record.GetErrorMessage(), want.message) ||
			!strings.HasPrefix(record.GetResult().GetRequestId(), "queued-") {
			t.Errorf("%s became %v", payload, got)
		}
	}
	if published := len(w.results.all()); published != 3 {
		t.Errorf("%d records were published, want 3", published)
	}
}

func TestWhatThePlatformCannotQueueIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	platform := newQueueing()
	platform.without = true
	withLibrary(t, w, platform)
	queue := work(t, w, natsServer(t))
	_, err := queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger, PlatformAsync: true})
	if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(fmt.Sprint(errs.Violations(err)), "platform_async") {
		t.Errorf("for an HTTP trigger: %v", err)
	}
	_, err = queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: function + "/triggers/library", PlatformAsync: true})
	if !errs.Is(err, codes.Unimplemented) || !strings.Contains(err.Error(), "it keeps no answers") {
		t.Errorf("for a platform without results: %v", err)
	}
	if len(platform.payloads) > 0 || w.requests.Load() > 0 {
		t.Error("a refused call was made")
	}
}
