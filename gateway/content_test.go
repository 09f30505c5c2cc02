package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

func TestObjectsAsRawBodies(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	const path = "/v1/content/" + deployment + "/buckets/b1/a/b c.txt"
	escaped := strings.ReplaceAll(path, " ", "%20")
	put := s.do(request{method: "PUT", path: escaped, body: "0123456789", header: map[string]string{"Content-Type": "text/plain"}})
	if put.status != http.StatusOK || !strings.Contains(string(put.body), `"a/b c.txt"`) {
		t.Fatalf("put: %d %s", put.status, put.body)
	}
	if target := s.objects.targets[0]; target.GetSizeBytes() != 10 || target.GetContentType() != "text/plain" || target.GetBucket() != deployment+"/buckets/b1" {
		t.Errorf("the service was told %v", target)
	}
	for _, c := range []struct {
		header, want, contentRange string
		status                     int
	}{
		{"", "0123456789", "", 200},
		{"bytes=0-3", "0123", "bytes 0-3/10", 206},
		{"bytes=4-", "456789", "bytes 4-9/10", 206},
		{"bytes=-3", "789", "bytes 7-9/10", 206},
		{"bytes=-100", "0123456789", "bytes 0-9/10", 206},
		{"bytes=8-100", "89", "bytes 8-9/10", 206},
		{"bytes=10-", "", "bytes */10", 416},
		{"bytes=5-2", "", "bytes */10", 416},
		{"bytes=x-", "", "bytes */10", 416},
		{"bytes=0-1,3-4", "0123456789", "", 200},
		{"lines=0-1", "0123456789", "", 200},
	} {
		got := s.do(request{path: escaped, header: map[string]string{"Range": c.header}})
		if got.status != c.status || string(got.body) != c.want || got.header.Get("Content-Range") != c.contentRange {
			t.Errorf("range %q: %d %q %q", c.header, got.status, got.body, got.header.Get("Content-Range"))
		}
		if c.status != 416 && (got.header.Get("ETag") != `"e1"` || got.header.Get("Content-Type") != "text/plain" || got.header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("range %q: header %v", c.header, got.header)
		}
	}
	if head := s.do(request{method: "HEAD", path: escaped}); head.status != 200 || head.header.Get("Content-Length") != "10" || len(head.body) != 0 {
		t.Errorf("head: %d %v %q", head.status, head.header, head.body)
	}
	if empty := s.do(request{method: "PUT", path: "/v1/content/" + deployment + "/buckets/b1/empty"}); empty.status != 200 {
		t.Errorf("an empty object: %d %s", empty.status, empty.body)
	}
	if empty := s.do(request{path: "/v1/content/" + deployment + "/buckets/b1/empty"}); empty.status != 200 || len(empty.body) != 0 {
		t.Errorf("an empty object: %d %q", empty.status, empty.body)
	}
}

func TestObjectsThatFail(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	base := "/v1/content/" + deployment + "/buckets/b1/"
	for _, c := range []struct {
		request
		status int
		reason string
	}{
		{request{path: base + "none"}, 404, "OBJECT_NOT_FOUND"},
		{request{path: base}, 400, "PATH_INVALID"},
		{request{path: "/v1/content/platforms/local/x/d1/buckets/b/k"}, 400, "PATH_INVALID"},
		{request{method: "PUT", path: base + "refused", body: strings.Repeat("z", 2<<20)}, 403, "OBJECT_REFUSED"},
		{request{method: "PUT", path: "/v1/content/x", body: "z"}, 400, "PATH_INVALID"},
		{request{method: "POST", path: base + "k", body: "z"}, 404, "ROUTE_NOT_FOUND"},
	} {
		if got := s.do(c.request); got.status != c.status || got.reason() != c.reason {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
		}
	}
}

func TestSourcesAsRawBodies(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	archive := strings.Repeat("tar", 400_000)
	for query, kind := range map[string]builderv1.SourceKind{
		"": builderv1.SourceKind_SOURCE_KIND_BENCHMARK, "?kind=data": builderv1.SourceKind_SOURCE_KIND_DATA,
	} {
		got := s.do(request{method: "PUT", path: "/v1/sources/my.benchmark" + query, body: archive})
		if got.status != http.StatusOK || !strings.Contains(string(got.body), "cafe") {
			t.Errorf("%q: %d %s", query, got.status, got.body)
		}
		s.sources.mu.Lock()
		if s.sources.header.GetBenchmark() != "my.benchmark" || s.sources.header.GetKind() != kind || string(s.sources.archive) != archive {
			t.Errorf("%q: the service got %v and %d bytes", query, s.sources.header, len(s.sources.archive))
		}
		s.sources.mu.Unlock()
	}
}
