package runtimeapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/services/local/runtimeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runtime is the side of the sandbox.
type runtime struct {
	t    testing.TB
	base string
}

func start(t testing.TB, allow func(net.Conn) bool) (*runtimeapi.Server, *runtime) {
	t.Helper()
	l, err := runtimeapi.Listen(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s := runtimeapi.New(l, allow)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, &runtime{t: t, base: "http://127.0.0.1:" + strconv.Itoa(s.Port()) + "/2018-06-01/runtime/"}
}

// do sends one request on a connection of its own and returns status, headers and body.
func (r *runtime) do(ctx context.Context, method, path string, body io.Reader, header map[string]string) (int, http.Header, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return 0, nil, "", err
	}
	request.Close = true
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(raw), errors.Join(err, response.Body.Close())
}

func (r *runtime) must(method, path, body string, header map[string]string) (int, http.Header, string) {
	r.t.Helper()
	status, h, text, err := r.do(r.t.Context(), method, path, strings.NewReader(body), header)
	if err != nil {
		r.t.Fatal(err)
	}
	return status, h, text
}

type outcome struct {
	runtimeapi.Result
	how runtimeapi.Outcome
}

func invoke(s *runtimeapi.Server, inv runtimeapi.Invocation, stop <-chan struct{}) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, how := s.Invoke(inv, stop)
		done <- outcome{r, how}
	}()
	return done
}

func soon() time.Time { return time.Now().Add(time.Minute) }

func TestExchange(t *testing.T) {
	t.Parallel()
	s, r := start(t, nil)
	deadline := soon()
	for n := range 3 {
		id := fmt.Sprintf("id-%d", n)
		done := invoke(s, runtimeapi.Invocation{RequestID: id, Deadline: deadline, FunctionARN: "arn:f", TraceID: "Root=1", Payload: []byte(`{"n":1}`)}, nil)
		status, h, body := r.must(http.MethodGet, "invocation/next", "", nil)
		if status != http.StatusOK || body != `{"n":1}` {
			t.Fatalf("next: %d %s", status, body)
		}
		for name, want := range map[string]string{
			"Lambda-Runtime-Aws-Request-Id": id, "Lambda-Runtime-Deadline-Ms": strconv.FormatInt(deadline.UnixMilli(), 10),
			"Lambda-Runtime-Invoked-Function-Arn": "arn:f", "Lambda-Runtime-Trace-Id": "Root=1", "Content-Type": "application/json",
		} {
			if h.Get(name) != want {
				t.Errorf("header %s is %q, not %q", name, h.Get(name), want)
			}
		}
		if status, _, body := r.must(http.MethodPost, "invocation/other/response", "1", nil); status != http.StatusBadRequest || !strings.Contains(body, "InvalidRequestID") {
			t.Errorf("response to another request: %d %s", status, body)
		}
		if status, _, _ := r.must(http.MethodPost, "invocation/"+id+"/response", `"answer"`, nil); status != http.StatusAccepted {
			t.Errorf("response: %d", status)
		}
		if got := <-done; got.how != runtimeapi.Answered || string(got.Body) != `"answer"` || got.Err != nil {
			t.Errorf("outcome %+v", got)
		}
		if status, _, _ := r.must(http.MethodPost, "invocation/"+id+"/response", `"again"`, nil); status != http.StatusBadRequest {
			t.Errorf("second response: %d", status)
		}
	}
	select {
	case <-s.Ready():
	default:
		t.Error("the server is not ready after a request for work")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s, r := start(t, nil)
	tests := []struct {
		name, body, header string
		want               runtimeapi.FunctionError
	}{
		{"document", `{"errorMessage":"m","errorType":"T","stackTrace":["a","b"]}`, "", runtimeapi.FunctionError{Message: "m", Type: "T", StackTrace: []string{"a", "b"}}},
		{"header", `{"errorMessage":"m"}`, "H", runtimeapi.FunctionError{Message: "m", Type: "H"}},
		{"text", `not json`, "", runtimeapi.FunctionError{Message: "not json", Type: "Runtime.Unknown"}},
		{"odd types", `{"errorMessage":{"a":1},"errorType":7,"stackTrace":"x\ny"}`, "", runtimeapi.FunctionError{Message: `{"a":1}`, Type: "7", StackTrace: []string{"x", "y"}}},
		{"nothing", ``, "", runtimeapi.FunctionError{Message: "the runtime gave no message", Type: "Runtime.Unknown"}},
	}
	for _, test := range tests {
		done := invoke(s, runtimeapi.Invocation{RequestID: "x", Deadline: soon()}, nil)
		r.must(http.MethodGet, "invocation/next", "", nil)
		header := map[string]string{}
		if test.header != "" {
			header["Lambda-Runtime-Function-Error-Type"] = test.header
		}
		if status, _, _ := r.must(http.MethodPost, "invocation/x/error", test.body, header); status != http.StatusAccepted {
			t.Errorf("%s: status %d", test.name, status)
		}
		got := <-done
		if got.how != runtimeapi.Answered || got.Err == nil || got.Err.Error() != test.want.Error() || fmt.Sprint(got.Err.StackTrace) != fmt.Sprint(test.want.StackTrace) {
			t.Errorf("%s: outcome %+v", test.name, got)
		}
	}
	if status, _, _ := r.must(http.MethodPost, "init/error", `{"errorMessage":"no","errorType":"Init"}`, nil); status != http.StatusAccepted {
		t.Errorf("init error: %d", status)
	}
	if doc := <-s.InitError(); doc.Error() != "Init: no" {
		t.Errorf("init error %v", doc)
	}
	for _, path := range []string{"nothing", "invocation/x/else"} {
		if status, _, _ := r.must(http.MethodPost, path, "", nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestLargeResponses(t *testing.T) {
	t.Parallel()
	s, r := start(t, nil)
	for _, test := range []struct {
		size    int
		chunked bool
		fits    bool
	}{
		{runtimeapi.MaxResponseBytes, false, true}, {runtimeapi.MaxResponseBytes + 1, false, false},
		{runtimeapi.MaxResponseBytes, true, true}, {runtimeapi.MaxResponseBytes + 1, true, false},
	} {
		done := invoke(s, runtimeapi.Invocation{RequestID: "x", Deadline: soon()}, nil)
		r.must(http.MethodGet, "invocation/next", "", nil)
		var body io.Reader = bytes.NewReader(bytes.Repeat([]byte{'1'}, test.size))
		if test.chunked {
			body = struct{ io.Reader }{body}
		}
		status, _, text, err := r.do(t.Context(), http.MethodPost, "invocation/x/response", body, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := <-done
		switch {
		case test.fits && (status != http.StatusAccepted || len(got.Body) != test.size):
			t.Errorf("%+v: status %d %s, %d bytes", test, status, text, len(got.Body))
		case !test.fits && (status != http.StatusRequestEntityTooLarge || got.Err == nil || got.Err.Type != "Function.ResponseSizeTooLarge"):
			t.Errorf("%+v: status %d %s, outcome %+v", test, status, text, got.Err)
		}
	}
}

func TestOutcomesWithoutAnswer(t *testing.T) {
	t.Parallel()
	s, r := start(t, nil)
	stop := make(chan struct{})
	close(stop)
	if got := <-invoke(s, runtimeapi.Invocation{RequestID: "a", Deadline: soon()}, stop); got.how != runtimeapi.NotFetched {
		t.Errorf("stopped before it was fetched: %v", got.how)
	}
	if got := <-invoke(s, runtimeapi.Invocation{RequestID: "b", Deadline: time.Now()}, nil); got.how != runtimeapi.NotFetched {
		t.Errorf("late before it was fetched: %v", got.how)
	}
	stop = make(chan struct{})
	done := invoke(s, runtimeapi.Invocation{RequestID: "c", Deadline: soon()}, stop)
	r.must(http.MethodGet, "invocation/next", "", nil)
	close(stop)
	if got := <-done; got.how != runtimeapi.Stopped {
		t.Errorf("stopped while running: %v", got.how)
	}
	done = invoke(s, runtimeapi.Invocation{RequestID: "d", Deadline: time.Now().Add(300 * time.Millisecond)}, nil)
	r.must(http.MethodGet, "invocation/next", "", nil)
	if got := <-done; got.how != runtimeapi.TimedOut {
		t.Errorf("late while running: %v", got.how)
	}
	// An answer that comes after all is refused and harms nobody.
	if status, _, _ := r.must(http.MethodPost, "invocation/d/response", "1", nil); status != http.StatusBadRequest {
		t.Errorf("late answer: %d", status)
	}
	done = invoke(s, runtimeapi.Invocation{RequestID: "e", Deadline: soon()}, nil)
	r.must(http.MethodGet, "invocation/next", "", nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.how != runtimeapi.Stopped {
		t.Errorf("closed while running: %v", got.how)
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	_, r := start(t, func(net.Conn) bool { return false })
	if status, _, _, err := r.do(t.Context(), http.MethodGet, "invocation/next", nil, nil); err == nil {
		t.Errorf("a stranger got status %d", status)
	}
}

// TestSmallAnswersLeaveInOneWrite guards against a pause of some 40 ms per call that two small packets would cost.
func TestSmallAnswersLeaveInOneWrite(t *testing.T) {
	t.Parallel()
	s, r := start(t, nil)
	done := invoke(s, runtimeapi.Invocation{RequestID: "x", Deadline: soon(), Payload: []byte(`{"a":1}`)}, nil)
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.base, "http://"), "/2018-06-01/runtime/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil || !strings.HasSuffix(string(buf[:n]), `{"a":1}`) {
		t.Errorf("the first read got %q, error %v", buf[:n], err)
	}
	if _, err := io.WriteString(c, "POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Errorf("response %v, error %v", response, err)
	}
	<-done
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte(`{"errorMessage":"m","errorType":"T","stackTrace":["a"]}`), "")
	f.Add([]byte("\xff\x00"), "T")
	f.Add([]byte(`{"stackTrace":[{"a":[]},null,1]}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, fallback string) {
		doc := runtimeapi.ParseError(raw, fallback)
		if doc.Message == "" || doc.Type == "" {
			t.Errorf("%q became %+v", raw, doc)
		}
	})
}
