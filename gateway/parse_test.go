package gateway

import (
	"strings"
	"testing"
)

func FuzzParseRange(f *testing.F) {
	for _, header := range []string{"", "bytes=0-", "bytes=-1", "bytes=3-5", "bytes=5-3", "bytes=99999999999999999999-", "bytes=0-0,1-1", "x"} {
		f.Add(header, int64(10))
	}
	f.Add("bytes=-5", int64(0))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			t.Skip()
		}
		offset, length, partial, err := parseRange(header, size)
		if err != nil {
			return
		}
		if offset < 0 || length < 0 || offset > size || length > size-offset {
			t.Errorf("range %q of %d bytes: offset %d, length %d", header, size, offset, length)
		}
		if partial && length == 0 && size > 0 {
			t.Errorf("range %q of %d bytes is empty", header, size)
		}
		if !partial && (offset != 0 || length != size) {
			t.Errorf("%q of %d bytes is neither a range nor the whole: %d, %d", header, size, offset, length)
		}
	})
}

func FuzzSplitContentPath(f *testing.F) {
	for _, path := range []string{"", "/v1/content/", "/v1/content/platforms/local/deployments/d/buckets/b/k", "/v1/content/platforms/p/deployments/d/buckets/b/a/b/c"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		bucket, key, err := splitContentPath(path)
		if err != nil {
			return
		}
		if key == "" || strings.Count(bucket, "/") != 5 || !strings.HasSuffix(path, bucket+"/"+key) {
			t.Errorf("%q: bucket %q, key %q", path, bucket, key)
		}
	})
}
