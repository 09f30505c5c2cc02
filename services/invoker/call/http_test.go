package call_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodAnswer = `{"begin":"1764061200.104512","end":"1764061200.204512","is_cold":true,"request_id":"r-1","container_id":"c",` +
	`"result":{"result":{"x":1},"measurement":{"compute_time":5}}}`

func httpTarget(url string) call.Target {
	return call.Target{
		Function: "platforms/local/deployments/d/functions/f", FunctionID: "f", Platform: "local", Deployment: "d", Timeout: 3 * time.Second,
		Trigger: &typev1.Trigger{Name: "t", Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: url},
	}
}

func newHTTP(t *testing.T, options call.HTTPOptions) *call.HTTP {
	t.Helper()
	caller := call.NewHTTP(options)
	t.Cleanup(caller.Close)
	return caller
}

// invoke calls a handler once and returns the record.
func invoke(t *testing.T, handler http.HandlerFunc, input call.Input, platform string) *typev1.InvocationRecord {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	target := httpTarget(server.URL)
	target.Platform = platform
	return record(t, newHTTP(t, call.HTTPOptions{MaxAnswerBytes: 1 << 20}), target, input)
}

func record(t *testing.T, caller call.Caller, target call.Target, input call.Input) *typev1.InvocationRecord {
	t.Helper()
	if input.Timeout == 0 {
		input.Timeout = 20 * time.Second
	}
	return call.Record(call.Identity{Run: "runs/x", Invoker: "invokers/i", Sequence: 7, Phase: "cold"}, target, caller.Call(t.Context(), target, input))
}

func TestAGoodAnswerIsRecordedInFull(t *testing.T) {
	t.Parallel()
	before := time.Now()
	got := invoke(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || string(body) != `{"a":1}` {
			t.Errorf("the function was sent %s %q %q", r.Method, r.Header.Get("Content-Type"), body)
		}
		fmt.Fprint(w, goodAnswer)
	}, call.Input{Payload: []byte(`{"a":1}`)}, "local")
	result, times := got.GetResult(), got.GetResult().GetTimes()
	if got.GetErrorClass() != 0 || got.GetErrorMessage() != "" || result.GetStats().GetFailure() || !result.GetStats().GetColdStart() ||
		result.GetRequestId() != "r-1" || result.GetOutputJson() != goodAnswer || got.GetHttpStatus() != 200 || got.GetSequence() != 7 ||
		got.GetAttempt() != 1 || got.GetPhase() != "cold" || times.GetBenchmarkUs() != 100_000 {
		t.Errorf("recorded %v", got)
	}
	switch {
	case times.HttpStartupSeconds == nil, times.HttpFirstByteReturnSeconds == nil:
		t.Error("the times of HTTP are missing")
	case times.GetHttpStartupSeconds() <= 0, times.GetHttpFirstByteReturnSeconds() < times.GetHttpStartupSeconds(),
		float64(times.GetClientUs()) < times.GetHttpFirstByteReturnSeconds()*1e6-1:
		t.Errorf("the times are out of order: %v", times)
	case times.GetClientBegin().AsTime().Before(before), got.GetFinishedUnixNs() < got.GetStartedUnixNs(), got.GetScheduledUnixNs() != got.GetStartedUnixNs():
		t.Errorf("the wall clock is wrong: %v", got)
	}
	if result.ProviderTimes != nil || result.Billing != nil || result.GetStats().MemoryUsedMb != nil || times.InitializationUs != nil {
		t.Errorf("unknown figures are present: %v", result)
	}
}

func TestFailuresAreClassified(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	tests := map[string]struct {
		handler  http.HandlerFunc
		platform string
		class    typev1.ErrorClass
		message  string
	}{
		"throttled":       {answer(429, `{"errorType":"TooManyRequests","errorMessage":"busy"}`, "Retry-After", "1"), "local", typev1.ErrorClass_ERROR_CLASS_THROTTLED, "retry after 1 s"},
		"raised":          {answer(500, `{"errorType":"ValueError","errorMessage":"no such thing"}`, "X-Sebs-Function-Error", "Unhandled"), "local", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "function f failed: ValueError: no such thing"},
		"platform's own":  {answer(500, `{"errorType":"Internal","errorMessage":"internal error"}`), "local", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "HTTP 500: Internal: internal error"},
		"raised in aws":   {answer(502, `{"errorType":"KeyError","errorMessage":"x"}`), "aws", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "KeyError: x"},
		"crashed in gcp":  {answer(500, `oops`), "gcp", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "HTTP 500: oops"},
		"timed out":       {answer(504, `{"errorType":"Sandbox.Timedout","errorMessage":"Task timed out after 3.00 seconds"}`, "X-Sebs-Function-Error", "Timeout"), "local", typev1.ErrorClass_ERROR_CLASS_TIMEOUT, "time limit of 3s"},
		"slow gateway":    {answer(504, `gateway`), "aws", typev1.ErrorClass_ERROR_CLASS_TIMEOUT, "raise the function's timeout"},
		"out of memory":   {answer(502, `{"errorType":"Runtime.OutOfMemory","errorMessage":"64 MB"}`, "X-Sebs-Function-Error", "OutOfMemory"), "local", typev1.ErrorClass_ERROR_CLASS_OUT_OF_MEMORY, "raise it with --memory"},
		"slow init":       {answer(504, `{"errorType":"Sandbox.Timedout","errorMessage":"init"}`, "X-Sebs-Function-Error", "InitError"), "local", typev1.ErrorClass_ERROR_CLASS_INITIALIZATION, "could not start"},
		"import error":    {answer(502, `{"errorType":"Runtime.ImportModuleError","errorMessage":"No module named x"}`), "aws", typev1.ErrorClass_ERROR_CLASS_INITIALIZATION, "No module named x"},
		"not JSON inside": {answer(502, `{"errorType":"Runtime.InvalidResponse","errorMessage":"y"}`, "X-Sebs-Function-Error", "BadResponse"), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "not JSON"},
		"long story":      {answer(500, `{"errorType":"E","errorMessage":"`+strings.Repeat("ä", 9000)+`"}`, "X-Sebs-Function-Error", "Unhandled"), "local", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "ä…"},
		"unavailable":     {answer(503, `{"message":"Service Unavailable"}`), "aws", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "HTTP 503: Service Unavailable"},
		"gone":            {answer(404, `{"errorType":"ResourceNotFound","errorMessage":"f"}`), "local", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "deploy it again"},
		"forbidden":       {answer(403, `{"Message":"Forbidden"}`), "aws", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "does not allow this caller"},
		"redirect":        {answer(302, ``, "Location", "http://127.0.0.1:1/"), "local", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "redirects are not followed"},
		"too large sent":  {answer(413, `{}`), "local", typev1.ErrorClass_ERROR_CLASS_PLATFORM, "payload is larger"},
		"no JSON":         {answer(200, `hello`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "not JSON"},
		"empty":           {answer(200, ``), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "is empty"},
		"no request id":   {answer(200, `{"is_cold":false,"result":{}}`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, `"request_id" is missing`},
		"no is_cold":      {answer(200, `{"request_id":"a","result":{}}`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, `"is_cold" is missing`},
		"a number":        {answer(200, `{"request_id":"failed-7","is_cold":false,"result":42}`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "returned 42, which is not an object; return an object with the field result"},
		"nothing":         {answer(200, `{"request_id":"failed-7","is_cold":false,"result":null}`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "returned nothing; return an object"},
		"no result":       {answer(200, `{"request_id":"failed-7","is_cold":false,"result":{"outcome":1}}`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, `lacks the field result`},
		"error document":  {answer(200, `{"errorType":"E","errorMessage":"m"}`), "local", typev1.ErrorClass_ERROR_CLASS_FUNCTION, "E: m"},
		"huge":            {answer(200, `"`+strings.Repeat("x", 2<<20)+`"`), "local", typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE, "larger than 1048576 bytes"},
		"broke off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "{")
		}, "local", typev1.ErrorClass_ERROR_CLASS_CONNECTION, "broke off"},
		"reset": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}, "local", typev1.ErrorClass_ERROR_CLASS_CONNECTION, "closed the connection"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := invoke(t, test.handler, call.Input{}, test.platform)
			if got.GetErrorClass() != test.class || !strings.Contains(got.GetErrorMessage(), test.message) {
				t.Errorf("classified as %s: %q; want %s with %q", got.GetErrorClass(), got.GetErrorMessage(), test.class, test.message)
			}
			if !got.GetResult().GetStats().GetFailure() || got.GetResult().GetRequestId() != "failed-7" || got.GetResult().GetTimes() == nil {
				t.Errorf("the failure's record is incomplete: %v", got)
			}
		})
	}
}

func TestOutputThatIsLostIsRemarkedOn(t *testing.T) {
	t.Parallel()
	for dropped, want := range map[string]string{"2049": "function f printed more than its log keeps: at least 3 KB are lost; print less", "0": "", "": "", "many": ""} {
		got := invoke(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Sebs-Output-Dropped", dropped)
			fmt.Fprint(w, `{"request_id":"r","is_cold":false,"result":{"result":1}}`)
		}, call.Input{}, "local")
		if got.GetResult().GetStats().GetFailure() || !strings.HasPrefix(got.GetErrorMessage(), want) || want == "" && got.GetErrorMessage() != "" {
			t.Errorf("with %q lost: %v", dropped, got)
		}
	}
}

func TestAFailureKeepsThePlatformsRequestID(t *testing.T) {
	t.Parallel()
	got := invoke(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Sebs-Request-Id", "r-9")
		w.Header().Set("X-Sebs-Cold-Start", "true")
		w.Header().Set("X-Sebs-Function-Error", "Unhandled")
		w.WriteHeader(http.StatusInternalServerError)
	}, call.Input{}, "local")
	if got.GetResult().GetRequestId() != "r-9" || !got.GetResult().GetStats().GetColdStart() {
		t.Errorf("recorded %v", got)
	}
}

func TestConnectionsThatFail(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	caller := newHTTP(t, call.HTTPOptions{})
	tests := map[string]struct {
		url, message string
		class        typev1.ErrorClass
	}{
		"refused":    {closed, "the connection was refused", typev1.ErrorClass_ERROR_CLASS_CONNECTION},
		"no host":    {"http://no-such-host.invalid/", "cannot find the host", typev1.ErrorClass_ERROR_CLASS_CONNECTION},
		"link-local": {"http://169.254.169.254/latest", "link-local", typev1.ErrorClass_ERROR_CLASS_PLATFORM},
		"mapped":     {"http://[::ffff:169.254.169.254]/", "link-local", typev1.ErrorClass_ERROR_CLASS_PLATFORM},
		"IPv6":       {"http://[fe80::1]/", "link-local", typev1.ErrorClass_ERROR_CLASS_PLATFORM},
		"ftp":        {"ftp://example.org/", "not of the form", typev1.ErrorClass_ERROR_CLASS_PLATFORM},
		"no scheme":  {"127.0.0.1:80", "cannot be read", typev1.ErrorClass_ERROR_CLASS_PLATFORM},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := record(t, caller, httpTarget(test.url), call.Input{})
			if got.GetErrorClass() != test.class || !strings.Contains(got.GetErrorMessage(), test.message) {
				t.Errorf("classified as %s: %q", got.GetErrorClass(), got.GetErrorMessage())
			}
		})
	}
}

func TestCallsEndWithTheirTimeAndTheirCaller(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	entered := make(chan struct{}, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	caller := newHTTP(t, call.HTTPOptions{})
	target := httpTarget(server.URL)
	late := call.Record(call.Identity{}, target, caller.Call(t.Context(), target, call.Input{Timeout: 50 * time.Millisecond}))
	if late.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_CANCELLED || !strings.Contains(late.GetErrorMessage(), "within 50ms") {
		t.Errorf("a late call is %s: %q", late.GetErrorClass(), late.GetErrorMessage())
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	stopped := call.Record(call.Identity{}, target, caller.Call(ctx, target, call.Input{Timeout: time.Minute}))
	if stopped.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_CANCELLED || !strings.Contains(stopped.GetErrorMessage(), "was cancelled") {
		t.Errorf("a cancelled call is %s: %q", stopped.GetErrorClass(), stopped.GetErrorMessage())
	}
}

func TestConnectionsAreKeptWhereAsked(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, goodAnswer) }))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	caller := newHTTP(t, call.HTTPOptions{TLS: &tls.Config{RootCAs: roots}})
	startup := func(reuse bool) float64 {
		got := record(t, caller, httpTarget(server.URL), call.Input{Reuse: reuse})
		if got.GetErrorClass() != 0 || got.GetResult().GetTimes().HttpStartupSeconds == nil {
			t.Fatalf("recorded %v", got)
		}
		return got.GetResult().GetTimes().GetHttpStartupSeconds()
	}
	if first, second := startup(false), startup(false); first <= 0 || second <= 0 {
		t.Errorf("fresh connections took %v and %v", first, second)
	}
	if first, second := startup(true), startup(true); first <= 0 || second != 0 {
		t.Errorf("kept connections took %v and %v, want more than 0 and then 0", first, second)
	}
}
