package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// suiteDeployment is where the suite keeps its own objects.
const suiteDeployment = "platforms/suite/deployments/main"

// chunkBytes is the size of one message of an upload.
const chunkBytes = 512 << 10

// Store keeps archives in the suite's own bucket, through the storage service.
type Store struct {
	storage storagev1.StorageServiceClient

	mu     sync.Mutex
	bucket string
}

// NewStore returns a store that is reached through a client.
func NewStore(storage storagev1.StorageServiceClient) *Store { return &Store{storage: storage} }

// Bucket returns the resource name of the bucket, which is made when it does not exist.
func (s *Store) Bucket(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket != "" {
		return s.bucket, nil
	}
	bucket, err := s.storage.EnsureBucket(ctx, &storagev1.EnsureBucketRequest{Parent: suiteDeployment, Role: typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT})
	if err != nil {
		return "", fmt.Errorf("find the suite's bucket for packages: %w", errs.FromStatus(err))
	}
	s.bucket = bucket.GetName()
	return s.bucket, nil
}

// Has says whether there is an object of the key.
func (s *Store) Has(ctx context.Context, key string) (bool, error) {
	bucket, err := s.Bucket(ctx)
	if err != nil {
		return false, err
	}
	_, err = s.storage.GetObject(ctx, &storagev1.GetObjectRequest{Bucket: bucket, Key: key})
	if err = errs.FromStatus(err); errs.Is(err, codes.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Fetch writes the object of a key to w; found is false when there is none.
func (s *Store) Fetch(ctx context.Context, key string, w io.Writer) (found bool, err error) {
	bucket, err := s.Bucket(ctx)
	if err != nil {
		return false, err
	}
	err = download(ctx, s.storage, bucket, key, w)
	if errs.Is(err, codes.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Put stores the whole content of a file under a key. Objects are named by their content, so one that exists is kept.
func (s *Store) Put(ctx context.Context, key string, content *os.File, sha256 string) error {
	return s.put(ctx, key, content, sha256, false)
}

func (s *Store) put(ctx context.Context, key string, content *os.File, sha256 string, replace bool) error {
	bucket, err := s.Bucket(ctx)
	if err != nil {
		return err
	}
	_, err = upload(ctx, s.storage, &storagev1.UploadTarget{
		Bucket: bucket, Key: key, ContentType: "application/zip", ReplaceExisting: &replace, Sha256: sha256,
	}, content)
	return err
}

// Remove deletes the object of a key, whether or not there is one.
func (s *Store) Remove(ctx context.Context, key string) error {
	bucket, err := s.Bucket(ctx)
	if err != nil {
		return err
	}
	if _, err := s.storage.DeleteObject(ctx, &storagev1.DeleteObjectRequest{Bucket: bucket, Key: key}); err != nil {
		return fmt.Errorf("delete %s: %w", key, errs.FromStatus(err))
	}
	return nil
}

// upload sends a file from its beginning. It reports whether the object existed and was kept.
func upload(ctx context.Context, storage storagev1.StorageServiceClient, target *storagev1.UploadTarget, content *os.File) (skipped bool, err error) {
	info, err := content.Stat()
	if err != nil {
		return false, fmt.Errorf("upload %s: %w", target.GetKey(), err)
	}
	size := info.Size()
	target.SizeBytes = &size
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := storage.UploadObject(ctx)
	if err != nil {
		return false, fmt.Errorf("upload %s: %w", target.GetKey(), errs.FromStatus(err))
	}
	err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: target}})
	source := io.NewSectionReader(content, 0, size)
	buffer := make([]byte, chunkBytes)
	for err == nil {
		n, readErr := io.ReadFull(source, buffer)
		if n > 0 {
			err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: buffer[:n]}})
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return false, fmt.Errorf("read %s: %w", target.GetKey(), readErr)
		}
	}
	// A failed Send says io.EOF; the reason is in the answer. The server also ends early when the object exists.
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("upload %s: %w", target.GetKey(), errs.FromStatus(err))
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return false, fmt.Errorf("upload %s: %w", target.GetKey(), errs.FromStatus(err))
	}
	return answer.GetSkipped(), nil
}

// download writes an object's content to w.
func download(ctx context.Context, storage storagev1.StorageServiceClient, bucket, key string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := storage.DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		return fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
		}
		if _, err := w.Write(part.GetChunk()); err != nil {
			return fmt.Errorf("download %s: %w", key, err)
		}
	}
}
