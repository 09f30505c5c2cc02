package dynamodb_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
)

// scripted answers requests from a list; the last answer repeats.
type scripted struct {
	answers []func(*http.Request) (*http.Response, error)
	calls   atomic.Int32
}

// RoundTrip implements http.RoundTripper.
func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	i := min(int(s.calls.Add(1))-1, len(s.answers)-1)
	return s.answers[i](r)
}

func says(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
}

func fails(kind string) func(*http.Request) (*http.Response, error) {
	return says(http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#`+kind+`","message":"injected"}`)
}

func lost(*http.Request) (*http.Response, error) { return nil, syscall.ECONNRESET }

func TestRetries(t *testing.T) {
	t.Parallel()
	done := says(http.StatusOK, `{}`)
	broken := says(http.StatusInternalServerError, `{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}`)
	throttled, throughput := fails("ThrottlingException"), fails("ProvisionedThroughputExceededException")
	type answers = []func(*http.Request) (*http.Response, error)
	cases := []struct {
		name    string
		answers answers
		want    codes.Code
		calls   int32
	}{
		{"throttled twice", answers{throttled, throughput, done}, codes.OK, 3},
		{"server error, then a lost connection", answers{broken, lost, done}, codes.OK, 3},
		{"always throttled", answers{throughput}, codes.ResourceExhausted, 4},
		{"always broken", answers{broken}, codes.Unavailable, 4},
		{"always lost", answers{lost}, codes.Unavailable, 4},
		{"access denied", answers{fails("AccessDeniedException")}, codes.PermissionDenied, 1},
		{"unknown key", answers{fails("UnrecognizedClientException")}, codes.Unauthenticated, 1},
		{"missing table", answers{fails("ResourceNotFoundException")}, codes.NotFound, 1},
		{"rejected", answers{fails("ValidationException")}, codes.InvalidArgument, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			transport := &scripted{answers: c.answers}
			d, err := dynamodb.Open(dynamodb.Config{Endpoint: "127.0.0.1:1", Transport: transport, MaxAttempts: 4, MaxBackoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			err = nosql.New(d).Put(t.Context(), "table", []nosql.Key{{Name: "k", Value: "v"}}, nil)
			if errs.Code(err) != c.want || transport.calls.Load() != c.calls {
				t.Errorf("got %v (%v) after %d calls, want %v after %d", errs.Code(err), err, transport.calls.Load(), c.want, c.calls)
			}
		})
	}
}

// TestUnprocessed shows that what a batch left undone is sent again.
func TestUnprocessed(t *testing.T) {
	t.Parallel()
	rest := map[string]any{"UnprocessedItems": map[string]any{"table": []any{map[string]any{"DeleteRequest": map[string]any{"Key": map[string]any{"k": map[string]any{"S": "2"}}}}}}}
	again, err := json.Marshal(rest)
	if err != nil {
		t.Fatal(err)
	}
	transport := &scripted{answers: []func(*http.Request) (*http.Response, error){
		says(http.StatusOK, `{"Table":{"TableName":"table","KeySchema":[{"AttributeName":"k","KeyType":"HASH"}]}}`),
		says(http.StatusOK, `{"Items":[{"k":{"S":"1"}},{"k":{"S":"2"}}]}`),
		says(http.StatusOK, string(again)),
		says(http.StatusOK, `{}`),
	}}
	d, err := dynamodb.Open(dynamodb.Config{Endpoint: "127.0.0.1:1", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	n, err := nosql.New(d).ClearTable(t.Context(), "table")
	if err != nil || n != 2 || transport.calls.Load() != 4 {
		t.Errorf("cleared %d, %v, after %d calls; want 2 after 4", n, err, transport.calls.Load())
	}
}

// TestDeleteBusy removes tables that are being made, or removed by somebody else.
func TestDeleteBusy(t *testing.T) {
	t.Parallel()
	type answers = []func(*http.Request) (*http.Response, error)
	state := func(status string) func(*http.Request) (*http.Response, error) {
		return says(http.StatusOK, `{"Table":{"TableName":"table","TableStatus":"`+status+`"}}`)
	}
	busy, gone, done := fails("ResourceInUseException"), fails("ResourceNotFoundException"), says(http.StatusOK, `{}`)
	for name, list := range map[string]answers{
		"being made":    {busy, state("CREATING"), state("CREATING"), state("ACTIVE"), done, state("DELETING"), gone},
		"being removed": {busy, state("DELETING"), state("DELETING"), gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &scripted{answers: list}
			d, err := dynamodb.Open(dynamodb.Config{Endpoint: "127.0.0.1:1", Transport: transport})
			if err != nil {
				t.Fatal(err)
			}
			if err := nosql.New(d).DeleteTable(t.Context(), "table"); err != nil || int(transport.calls.Load()) != len(list) {
				t.Errorf("%v after %d calls, want success after %d", err, transport.calls.Load(), len(list))
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, ok := range map[string]bool{
		"127.0.0.1:8000": true, "http://localhost:8000": true, "https://dynamodb.eu-west-1.amazonaws.com": true,
		"": false, "ftp://x": false, "http://user:pass@x": false,
	} {
		if _, err := dynamodb.Open(dynamodb.Config{Endpoint: endpoint}); (err == nil) != ok {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}
