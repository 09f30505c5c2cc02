package storage

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/sebs-suite/sebs/platform/object"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// The sub-benchmarks "service" and "client" do the same work: through the storage service over gRPC, and with the plain
// client of the store behind it. Their ratio is what counts.

func objectBench(b *testing.B) (*bench, *object.Store, string, string) {
	h := start(b)
	bucket := h.ensure(b, "platforms/suite/deployments/main", typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT)
	o, err := h.local.open(b.Context(), Scope{})
	if err != nil {
		b.Fatal(err)
	}
	return h, o.Store, bucket.GetName(), bucket.GetBucketId()
}

// BenchmarkSmallObjects writes and reads 1,000 objects of 16 KiB per iteration.
func BenchmarkSmallObjects(b *testing.B) {
	const objects, size = 1000, 16 << 10
	data := bytes.Repeat([]byte{7}, size)
	h, plain, name, id := objectBench(b)
	length := int64(size)
	b.Run("service", func(b *testing.B) {
		b.SetBytes(2 * objects * size)
		for b.Loop() {
			for i := range objects {
				key := fmt.Sprintf("service/%d", i)
				if _, err := h.upload(b.Context(), &storagev1.UploadTarget{Bucket: name, Key: key, SizeBytes: &length}, bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
				if _, err := h.download(b.Context(), &storagev1.DownloadObjectRequest{Bucket: name, Key: key}, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("client", func(b *testing.B) {
		b.SetBytes(2 * objects * size)
		for b.Loop() {
			for i := range objects {
				key := fmt.Sprintf("client/%d", i)
				if _, err := plain.Put(b.Context(), id, key, bytes.NewReader(data), object.PutOptions{SizeBytes: size}); err != nil {
					b.Fatal(err)
				}
				readAll(b, plain, id, key)
			}
		}
	})
}

// BenchmarkLargeObject writes and reads one object of 256 MiB per iteration.
func BenchmarkLargeObject(b *testing.B) {
	const size = int64(256 << 20)
	h, plain, name, id := objectBench(b)
	length := size
	b.Run("service", func(b *testing.B) {
		b.SetBytes(2 * size)
		for b.Loop() {
			body := zeros(size)
			if _, err := h.upload(b.Context(), &storagev1.UploadTarget{Bucket: name, Key: "service", SizeBytes: &length}, &body); err != nil {
				b.Fatal(err)
			}
			if _, err := h.download(b.Context(), &storagev1.DownloadObjectRequest{Bucket: name, Key: "service"}, io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("client", func(b *testing.B) {
		b.SetBytes(2 * size)
		for b.Loop() {
			body := zeros(size)
			if _, err := plain.Put(b.Context(), id, "client", &body, object.PutOptions{SizeBytes: size}); err != nil {
				b.Fatal(err)
			}
			readAll(b, plain, id, "client")
		}
	})
}

func readAll(b *testing.B, s *object.Store, bucket, key string) {
	body, _, err := s.Get(b.Context(), bucket, key, object.Range{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		b.Fatal(err)
	}
	if err := body.Close(); err != nil {
		b.Fatal(err)
	}
}
