package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
	"github.com/sebs-suite/sebs/platform/object/s3"
)

func answer(r *http.Request, status int, code string) *http.Response {
	body := "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>injected</Message></Error>"
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func slowDown(r *http.Request) (*http.Response, error) {
	return answer(r, http.StatusServiceUnavailable, "SlowDown"), nil
}

func full(r *http.Request) (*http.Response, error) {
	return answer(r, http.StatusInsufficientStorage, "InsufficientStorage"), nil
}

func reset(*http.Request) (*http.Response, error) { return nil, syscall.ECONNRESET }

func withFaults(t *testing.T, store *objects.Store, f *drivertest.Faulty, attempts int) *object.Store {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	f.Next = transport
	root := store.Root()
	d, err := s3.Open(s3.Config{Endpoint: store.Endpoint(), AccessKey: root.AccessKey, SecretKey: root.SecretKey, Transport: f, MaxAttempts: attempts})
	if err != nil {
		t.Fatal(err)
	}
	return object.New(d)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	store, err := objects.Start(t.Context(), objects.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	clean := withFaults(t, store, &drivertest.Faulty{Match: func(*http.Request) bool { return false }}, 1)
	if _, err := clean.CreateBucket(t.Context(), "faults"); err != nil {
		t.Fatal(err)
	}
	puts := func(r *http.Request) bool { return r.Method == http.MethodPut }
	heads := func(r *http.Request) bool { return r.Method == http.MethodHead }
	small, large := []byte("small"), bytes.Repeat([]byte("0123456789"), 2<<20)
	cases := []struct {
		name     string
		match    func(*http.Request) bool
		fail     func(*http.Request) (*http.Response, error)
		times    int32
		attempts int
		data     []byte
		want     codes.Code
	}{
		{"throttled once, small", puts, slowDown, 1, 3, small, codes.OK},
		{"throttled twice, in parts", puts, slowDown, 2, 4, large, codes.OK},
		{"connection lost, small", puts, reset, 1, 3, small, codes.OK},
		{"connection lost, in parts", puts, reset, 1, 3, large, codes.OK},
		{"always throttled", puts, slowDown, 1000, 2, small, codes.ResourceExhausted},
		{"disk full, small", puts, full, 1000, 2, small, codes.ResourceExhausted},
		{"disk full, in parts", puts, full, 1000, 2, large, codes.ResourceExhausted},
		{"always lost", puts, reset, 1000, 2, small, codes.Unavailable},
		{"a part always throttled", puts, slowDown, 1000, 2, large, codes.ResourceExhausted},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := &drivertest.Faulty{Match: c.match, Fail: c.fail}
			f.Left.Store(c.times)
			s := withFaults(t, store, f, c.attempts)
			key := strings.ReplaceAll(c.name, " ", "-")
			_, err := s.Put(t.Context(), "faults", key, bytes.NewReader(c.data), object.PutOptions{SizeBytes: int64(len(c.data))})
			if errs.Code(err) != c.want {
				t.Fatalf("got %v (%v), want %v", errs.Code(err), err, c.want)
			}
			if strings.HasPrefix(c.name, "disk full") && errs.Reason(err) != "OBJECT_STORE_FULL" {
				t.Errorf("reason %q, want OBJECT_STORE_FULL", errs.Reason(err))
			}
			if err != nil {
				if _, err := clean.Stat(t.Context(), "faults", key); errs.Code(err) != codes.NotFound {
					t.Errorf("after a failed write the object is there: %v", err)
				}
				return
			}
			body, _, err := clean.Get(t.Context(), "faults", key, object.Range{})
			if err != nil {
				t.Fatal(err)
			}
			back, err := io.ReadAll(body)
			if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(back, c.data) {
				t.Errorf("read back %d bytes, %v", len(back), err)
			}
		})
	}
	t.Run("the caller's deadline ends the tries", func(t *testing.T) {
		f := &drivertest.Faulty{Match: heads, Fail: slowDown}
		f.Left.Store(1 << 30)
		s := withFaults(t, store, f, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		f.Fail = func(r *http.Request) (*http.Response, error) {
			if f.Seen.Load() == 3 {
				cancel()
			}
			return slowDown(r)
		}
		if _, err := s.Stat(ctx, "faults", "x"); errs.Code(err) != codes.Canceled {
			t.Errorf("got %v (%v), want CANCELED", errs.Code(err), err)
		}
	})
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, ok := range map[string]bool{
		"127.0.0.1:9000": true, "http://localhost:9000": true, "https://s3.example.com": true, "https://s3.example.com/": true,
		"": false, "http://": false, "ftp://x": false, "http://user:pass@x": false, "http://x/path": false,
	} {
		d, err := s3.Open(s3.Config{Endpoint: endpoint, AccessKey: "a", SecretKey: secretOf("b")})
		if (err == nil) != ok {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
		if err == nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := s3.Open(s3.Config{Endpoint: "127.0.0.1:1"}); err == nil {
		t.Error("opened without keys")
	}
}
