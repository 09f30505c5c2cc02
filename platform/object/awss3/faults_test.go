package awss3_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/awss3"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
)

func answer(r *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/xml")
	if r.Method == http.MethodHead {
		body = ""
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func problem(code string) string {
	return "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>injected</Message></Error>"
}

func slowDown(r *http.Request) (*http.Response, error) {
	return answer(r, http.StatusServiceUnavailable, nil, problem("SlowDown")), nil
}

func full(r *http.Request) (*http.Response, error) {
	return answer(r, http.StatusInsufficientStorage, nil, problem("InsufficientStorage")), nil
}

func conflict(r *http.Request) (*http.Response, error) {
	return answer(r, http.StatusConflict, nil, problem("OperationAborted")), nil
}

func reset(*http.Request) (*http.Response, error) { return nil, syscall.ECONNRESET }

func withFaults(t *testing.T, store *objects.Store, f *drivertest.Faulty, attempts int) *object.Store {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	f.Next = transport
	root := store.Root()
	o := opened("http://"+store.Endpoint(), objects.Region, root.AccessKey, root.SecretKey.Reveal(), attempts)
	o.HTTPClient = &http.Client{Transport: f}
	return object.New(awss3.Open(o))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	store := embedded(t)
	clean := withFaults(t, store, &drivertest.Faulty{Match: func(*http.Request) bool { return false }}, 1)
	if _, err := clean.CreateBucket(t.Context(), "faults"); err != nil {
		t.Fatal(err)
	}
	puts := func(r *http.Request) bool { return r.Method == http.MethodPut }
	heads := func(r *http.Request) bool { return r.Method == http.MethodHead }
	joins := func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") }
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
		{"another operation in the way", puts, conflict, 1, 3, small, codes.OK},
		{"always throttled", puts, slowDown, 1000, 2, small, codes.ResourceExhausted},
		{"disk full, small", puts, full, 1000, 2, small, codes.ResourceExhausted},
		{"disk full, in parts", puts, full, 1000, 2, large, codes.ResourceExhausted},
		{"always lost", puts, reset, 1000, 2, small, codes.Unavailable},
		{"a part always throttled", puts, slowDown, 1000, 2, large, codes.ResourceExhausted},
		{"joining always throttled", joins, slowDown, 1000, 2, large, codes.ResourceExhausted},
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
			checkContent(t, clean, key, c.data)
		})
	}
	t.Run("the answer to the joining is lost", func(t *testing.T) {
		f := &drivertest.Faulty{Match: func(*http.Request) bool { return false }}
		s := withFaults(t, store, f, 3)
		f.Next = &unheard{next: f.Next, match: joins}
		if _, err := s.Put(t.Context(), "faults", "unheard", bytes.NewReader(large), object.PutOptions{SizeBytes: int64(len(large))}); err != nil {
			t.Fatal(err)
		}
		checkContent(t, clean, "unheard", large)
	})
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

// unheard loses the answer to the first request that matches.
type unheard struct {
	next  http.RoundTripper
	match func(*http.Request) bool
	lost  atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (u *unheard) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := u.next.RoundTrip(r)
	if err == nil && u.match(r) && u.lost.CompareAndSwap(false, true) {
		_, _ = io.Copy(io.Discard, response.Body)
		return nil, errors.Join(response.Body.Close(), syscall.ECONNRESET)
	}
	return response, err
}

func checkContent(t *testing.T, s *object.Store, key string, want []byte) {
	t.Helper()
	body, _, err := s.Get(t.Context(), "faults", key, object.Range{})
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(back, want) {
		t.Errorf("read back %d bytes, %v", len(back), err)
	}
}

// world is S3 in several regions, as far as these tests ask it.
type world struct {
	mu      sync.Mutex
	buckets map[string]string // region by name; "" is somebody else's
	asked   []string          // method, region and path of each request
	sent    []string          // bodies
}

// RoundTrip implements http.RoundTripper.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := ""
	if r.Body != nil {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(raw)
	}
	bucket, rest, _ := strings.Cut(r.URL.Host, ".s3.")
	region := strings.TrimSuffix(rest, ".amazonaws.com")
	w.asked = append(w.asked, r.Method+" "+region+" "+r.URL.Path)
	w.sent = append(w.sent, body)
	home, exists := w.buckets[bucket]
	if r.Method == http.MethodPut && r.URL.Path == "/" {
		switch {
		case exists && home == "":
			return answer(r, http.StatusConflict, nil, problem("BucketAlreadyExists")), nil
		case exists && region != "us-east-1":
			return answer(r, http.StatusConflict, nil, problem("BucketAlreadyOwnedByYou")), nil
		}
		w.buckets[bucket] = region
		return answer(r, http.StatusOK, nil, ""), nil
	}
	header := http.Header{"X-Amz-Bucket-Region": {home}}
	switch {
	case !exists:
		return answer(r, http.StatusNotFound, nil, problem("NoSuchBucket")), nil
	case home == "":
		return answer(r, http.StatusForbidden, nil, problem("AccessDenied")), nil
	case home != region && bucket == "malformed":
		return answer(r, http.StatusBadRequest, header, problem("AuthorizationHeaderMalformed")), nil
	case home != region:
		return answer(r, http.StatusMovedPermanently, header, problem("PermanentRedirect")), nil
	case r.Method == http.MethodDelete:
		delete(w.buckets, bucket)
		return answer(r, http.StatusNoContent, header, ""), nil
	case r.Method == http.MethodGet:
		return answer(r, http.StatusOK, header, "<ListBucketResult></ListBucketResult>"), nil
	}
	return answer(r, http.StatusOK, header, ""), nil
}

func (w *world) open(region string) (*awss3.Store, *object.Store) {
	o := opened("", region, "AKIA", "secret", 1)
	o.HTTPClient = &http.Client{Transport: w}
	d := awss3.Open(o)
	return d, object.New(d)
}

func TestBucketsOfOtherRegions(t *testing.T) {
	t.Parallel()
	w := &world{buckets: map[string]string{"far": "eu-west-1", "malformed": "ap-south-1", "foreign": ""}}
	d, s := w.open("us-east-1")
	ctx := t.Context()
	for bucket, want := range map[string]string{"far": "eu-west-1", "malformed": "ap-south-1"} {
		if ok, err := s.BucketExists(ctx, bucket); err != nil || !ok {
			t.Errorf("%s: exists %v, %v", bucket, ok, err)
		}
		if region, err := d.BucketRegion(ctx, bucket); err != nil || region != want {
			t.Errorf("%s: region %q, %v; want %s", bucket, region, err, want)
		}
		if err := putText(ctx, s, bucket); err != nil {
			t.Errorf("%s: %v", bucket, err)
		}
		if err := s.RemoveBucket(ctx, bucket, true); err != nil {
			t.Errorf("%s: remove: %v", bucket, err)
		}
	}
	// The way is asked for once for each bucket.
	if n := len(slices.DeleteFunc(slices.Clone(w.asked), func(a string) bool { return !strings.Contains(a, " us-east-1 ") })); n != 2 {
		t.Errorf("%d requests to the wrong region, want one for each bucket: %v", n, w.asked)
	}
	if _, err := s.BucketExists(ctx, "foreign"); errs.Code(err) != codes.PermissionDenied {
		t.Errorf("a bucket of somebody else: %v", err)
	}
}

func putText(ctx context.Context, s *object.Store, bucket string) error {
	_, err := s.Put(ctx, bucket, "k", strings.NewReader("text"), object.PutOptions{SizeBytes: 4})
	return err
}

func TestCreateBucketInRegions(t *testing.T) {
	t.Parallel()
	for region, constrained := range map[string]bool{"us-east-1": false, "eu-central-1": true} {
		t.Run(region, func(t *testing.T) {
			t.Parallel()
			w := &world{buckets: map[string]string{"foreign": ""}}
			_, s := w.open(region)
			for i, want := range []bool{true, false} {
				if created, err := s.CreateBucket(t.Context(), "own"); err != nil || created != want {
					t.Errorf("call %d: created=%v, %v; want %v", i+1, created, err, want)
				}
			}
			var got struct {
				LocationConstraint string
			}
			for i, asked := range w.asked {
				if strings.HasPrefix(asked, "PUT") && w.sent[i] != "" {
					if err := xml.Unmarshal([]byte(w.sent[i]), &got); err != nil {
						t.Fatal(err)
					}
				}
			}
			if constrained != (got.LocationConstraint == region) || !constrained && got.LocationConstraint != "" {
				t.Errorf("location constraint %q", got.LocationConstraint)
			}
			_, err := s.CreateBucket(t.Context(), "foreign")
			if code := errs.Code(err); code != codes.AlreadyExists && code != codes.PermissionDenied {
				t.Errorf("a name that somebody else has: %v", err)
			}
		})
	}
}

func TestCorrectName(t *testing.T) {
	t.Parallel()
	_, s := (&world{}).open("us-east-1")
	for name, want := range map[string]string{
		"sebs-benchmarks-1a2b3c4d": "sebs-benchmarks-1a2b3c4d", "My.Bucket_x": "my-bucket-x", "192.168.0.1": "192-168-0-1",
		"xn--abc": "abc", "sthree-xn--abc": "abc", "a-s3alias": "a00", "x--ol-s3": "x00", "-": "000", "": "000",
		strings.Repeat("a", 62) + "-b": strings.Repeat("a", 62),
	} {
		if got := s.CorrectName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}
