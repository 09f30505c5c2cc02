package objects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func TestDropStale(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	transport, err := minio.DefaultTransport(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	root := s.Root()
	c, err := minio.NewCore(s.Endpoint(), &minio.Options{Creds: credentials.NewStaticV4(root.AccessKey, root.SecretKey.Reveal(), ""), Region: Region, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := c.MakeBucket(ctx, "half", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"old", "new"} {
		id, err := c.NewMultipartUpload(ctx, "half", key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutObjectPart(ctx, "half", key, id, 1, strings.NewReader("part"), 4, minio.PutObjectPartOptions{}); err != nil {
			t.Fatal(err)
		}
		if key == "old" {
			found, err := filepath.Glob(filepath.Join(dir, "data", "half", "*", "multipart", "*", id))
			if err != nil || len(found) != 1 {
				t.Fatalf("upload lies at %v, %v", found, err)
			}
			past := time.Now().Add(-48 * time.Hour)
			if err := os.Chtimes(found[0], past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := dropStale(s.files.root, time.Now().Add(-staleUpload)); err != nil || n != 1 {
		t.Errorf("dropped %d, %v; want the old one", n, err)
	}
	left, err := c.ListMultipartUploads(ctx, "half", "", "", "", "", 10)
	if err != nil || len(left.Uploads) != 1 || left.Uploads[0].Key != "new" {
		t.Errorf("left %+v, %v", left.Uploads, err)
	}
	// A bucket with an unfinished upload and no object is empty.
	if err := c.RemoveBucket(ctx, "half"); err != nil {
		t.Errorf("remove the bucket: %v", err)
	}
}
