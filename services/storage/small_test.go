package storage

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/s3"
)

func secretOf(text string) secret.String { return secret.New(text) }

func putOne(ctx context.Context, s *object.Store, bucket string) error {
	_, err := s.Put(ctx, bucket, "k", strings.NewReader("x"), object.PutOptions{SizeBytes: 1})
	return err
}

// f2 classifies an error of a driver's own method.
func f2(err error, d *s3.Store) error {
	if d.ErrorCode(err) == codes.PermissionDenied {
		return errs.PermissionDenied("X", "denied")
	}
	return err
}

func TestPageTokens(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "a", "ä/ö b%", strings.Repeat("k", 1024)} {
		back, err := afterToken(pageToken(key))
		if err != nil || back != key {
			t.Errorf("key %.20q comes back as %.20q, %v", key, back, err)
		}
	}
	if _, err := afterToken("%%%"); errs.Code(err) != codes.InvalidArgument {
		t.Errorf("a foreign token: %v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=-5", "bytes=3-", "bytes=9-2", "bytes=", "x", "bytes=1-2,3-4"} {
		f.Add(seed, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		r, _, err := parseRange(header, size)
		if err == nil && (r.OffsetBytes < 0 || r.LengthBytes < 0 || r.OffsetBytes+r.LengthBytes > size) {
			t.Errorf("range %q of %d bytes: %+v", header, size, r)
		}
	})
}

func FuzzTablesOf(f *testing.F) {
	for _, seed := range []string{`{"TableName":"a"}`, `{"RequestItems":{"a":[]}}`, `{"TransactItems":[{"Put":{"TableName":"a"}}]}`, `[]`, `{"TableName":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		names, err := tablesOf(body)
		if err == nil && len(names) == 0 {
			t.Errorf("%q names no table and is let through", body)
		}
	})
}

func FuzzParseDeployment(f *testing.F) {
	for _, seed := range []string{"platforms/local/deployments/a", "platforms/x", "a/b/c/d", "platforms/local/deployments/../.."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d, err := parseDeployment("parent", name)
		if err == nil && d.String() != name {
			t.Errorf("%q was read as %q", name, d.String())
		}
	})
}
