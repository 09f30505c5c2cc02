package call_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

// memObjects is a store in memory; answer is what a function would do on an event.
type memObjects struct {
	mu      sync.Mutex
	objects map[string][]byte
	answer  func(key string, event []byte) (resultKey string, result []byte)
	putErr  error
}

func (m *memObjects) Put(_ context.Context, bucket, key, _ string, content []byte) error {
	if m.putErr != nil {
		return m.putErr
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[bucket+" "+key] = content
	if m.answer != nil {
		if at, result := m.answer(key, content); at != "" {
			m.objects[bucket+" "+at] = result
		}
	}
	return nil
}

func (m *memObjects) Get(_ context.Context, bucket, key string, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[bucket+" "+key]
	if !ok {
		return nil, errs.NotFound("OBJECT_NOT_FOUND", "no object %s", key)
	}
	if int64(len(content)) > limit {
		return nil, errs.OutOfRange("OBJECT_TOO_LARGE", "too large")
	}
	return content, nil
}

func (m *memObjects) Exists(_ context.Context, bucket, key string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.objects[bucket+" "+key]
	return ok, nil
}

func (m *memObjects) Delete(_ context.Context, bucket, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, bucket+" "+key)
	return nil
}

func storageTarget(attributes map[string]string) call.Target {
	target := httpTarget("")
	target.Trigger = &typev1.Trigger{Type: typev1.TriggerType_TRIGGER_TYPE_STORAGE, Attributes: attributes}
	return target
}

func TestStorageTrigger(t *testing.T) {
	t.Parallel()
	good := map[string]string{"bucket": "b", "prefix": "events/", "results_prefix": "results/"}
	answers := func(result string) func(string, []byte) (string, []byte) {
		return func(key string, _ []byte) (string, []byte) {
			return strings.Replace(key, "events/", "results/", 1), []byte(result)
		}
	}
	tests := map[string]struct {
		store      *memObjects
		attributes map[string]string
		class      typev1.ErrorClass
		message    string
	}{
		"answered":  {store: &memObjects{answer: answers(goodAnswer)}, attributes: good},
		"error":     {store: &memObjects{answer: answers(`{"errorType":"E","errorMessage":"m"}`)}, attributes: good, class: typev1.ErrorClass_ERROR_CLASS_FUNCTION, message: "E: m"},
		"no answer": {store: &memObjects{}, attributes: good, class: typev1.ErrorClass_ERROR_CLASS_CANCELLED, message: "no answer from function f"},
		"too large": {store: &memObjects{answer: answers(strings.Repeat("x", 5000))}, attributes: good, class: typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, message: "larger than 4096 bytes"},
		"no upload": {store: &memObjects{putErr: errs.Unavailable("X", "the store is away")}, attributes: good, class: typev1.ErrorClass_ERROR_CLASS_CONNECTION, message: "upload the event"},
		"no bucket": {store: &memObjects{}, attributes: map[string]string{"prefix": "p"}, class: typev1.ErrorClass_ERROR_CLASS_PLATFORM, message: "create the trigger again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.store.objects = map[string][]byte{}
			input := call.Input{ID: "id-1", Payload: []byte(`{}`), Timeout: time.Minute}
			if name == "no answer" {
				input.Timeout = 30 * time.Millisecond
			}
			got := record(t, call.NewStorage(test.store, 4096), storageTarget(test.attributes), input)
			if got.GetErrorClass() != test.class || !strings.Contains(got.GetErrorMessage(), test.message) {
				t.Errorf("classified as %s: %q", got.GetErrorClass(), got.GetErrorMessage())
			}
			if test.class == 0 && (got.GetResult().GetRequestId() != "r-1" || got.GetResult().GetTimes().HttpStartupSeconds != nil) {
				t.Errorf("recorded %v", got)
			}
			if len(test.store.objects) != 0 {
				t.Errorf("objects were left: %v", test.store.objects)
			}
		})
	}
}

func TestStorageTriggerNamesItsObjects(t *testing.T) {
	t.Parallel()
	var seen []string
	store := &memObjects{objects: map[string][]byte{}, answer: func(key string, _ []byte) (string, []byte) {
		seen = append(seen, key)
		return "out/id-1.json", []byte(goodAnswer)
	}}
	got := record(t, call.NewStorage(store, 0), storageTarget(map[string]string{"bucket": "b", "results_prefix": "out"}), call.Input{ID: "id-1"})
	if got.GetErrorClass() != 0 || fmt.Sprint(seen) != "[id-1.json]" {
		t.Errorf("uploaded %v, recorded %v", seen, got)
	}
}

// oneDriver answers Invoke only.
type oneDriver struct {
	driver.Driver
	result driver.CallResult
	err    error
}

func (d oneDriver) Invoke(context.Context, driver.Call) (driver.CallResult, error) {
	return d.result, d.err
}

func (d oneDriver) Classify(err error) driver.Fault {
	return driver.Fault{Code: errs.Code(err), Reason: errs.Reason(err)}
}

func (d oneDriver) Close() error { return nil }

func TestLibraryTrigger(t *testing.T) {
	t.Parallel()
	ms := func(n int) *time.Duration { d := time.Duration(n) * time.Millisecond; return &d }
	memory, used, cold := 512, 71.5, true
	measured := &driver.InvocationRecord{
		RequestID: "p-1", Duration: ms(100), Init: ms(250), Billed: ms(350), MemoryMB: &memory, MemoryUsedMB: &used, Cold: &cold,
	}
	tests := map[string]struct {
		driver  oneDriver
		class   typev1.ErrorClass
		message string
	}{
		"answered":  {driver: oneDriver{result: driver.CallResult{RequestID: "p-1", Payload: []byte(goodAnswer), Record: measured}}},
		"raised":    {oneDriver{result: driver.CallResult{RequestID: "p-1", FunctionError: "Unhandled", Payload: []byte(`{"errorType":"E","errorMessage":"m"}`), Record: measured}}, typev1.ErrorClass_ERROR_CLASS_FUNCTION, "E: m"},
		"timeout":   {oneDriver{result: driver.CallResult{FunctionError: "Timeout"}}, typev1.ErrorClass_ERROR_CLASS_TIMEOUT, "time limit"},
		"throttled": {oneDriver{err: errs.ResourceExhausted(time.Second, "THROTTLED", "all sandboxes are busy")}, typev1.ErrorClass_ERROR_CLASS_THROTTLED, "busy"},
		"gone":      {oneDriver{err: errs.NotFound("FUNCTION_NOT_FOUND", "no function f")}, typev1.ErrorClass_ERROR_CLASS_PLATFORM, "deploy the function again"},
		"away":      {oneDriver{err: errs.Unavailable("X", "away")}, typev1.ErrorClass_ERROR_CLASS_CONNECTION, "away"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			library := call.NewLibrary(faas.Table{"local": func(context.Context, driver.Scope) (driver.Driver, error) { return test.driver, nil }})
			t.Cleanup(func() { _ = library.Close() })
			target := httpTarget("")
			target.Trigger = &typev1.Trigger{Type: typev1.TriggerType_TRIGGER_TYPE_LIBRARY}
			got := record(t, library, target, call.Input{})
			if got.GetErrorClass() != test.class || !strings.Contains(got.GetErrorMessage(), test.message) {
				t.Errorf("classified as %s: %q", got.GetErrorClass(), got.GetErrorMessage())
			}
			result := got.GetResult()
			if test.driver.result.Record != nil && (result.GetProviderTimes().GetExecutionUs() != 100_000 || result.GetProviderTimes().GetInitializationUs() != 250_000 ||
				result.GetBilling().GetGbSeconds() != 0.175 || result.GetBilling().GetBilledTimeMs() != 350 || result.GetBilling().GetMemoryMb() != 512 ||
				result.GetStats().GetMemoryUsedMb() != 71.5 || !result.GetStats().GetColdStart()) {
				t.Errorf("the platform's figures are wrong: %v", result)
			}
			if result.GetTimes().HttpStartupSeconds != nil || result.GetTimes().HttpFirstByteReturnSeconds != nil {
				t.Errorf("a library call has times of HTTP: %v", result.GetTimes())
			}
		})
	}
}

func TestLibraryRefusesPlatformsWithoutDriver(t *testing.T) {
	t.Parallel()
	library := call.NewLibrary(faas.Table{"local": func(context.Context, driver.Scope) (driver.Driver, error) { return oneDriver{}, nil }})
	if err := library.Check("aws"); !errs.Is(err, codes.Unimplemented) || !strings.Contains(err.Error(), "aws") {
		t.Errorf("aws without a driver: %v", err)
	}
	if err := library.Check("local"); err != nil {
		t.Error(err)
	}
}
