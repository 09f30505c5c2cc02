package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc/codes"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// suiteDeployment is the suite's own store, which serves no measured platform.
	suiteDeployment = "platforms/suite/deployments/main"
	resultsBucket   = "results"
	refSeparator    = "/objects/"
	// chunkBytes is the content of one message of an upload.
	chunkBytes = 1 << 20
)

// objects keeps objects in the suite's bucket of results by way of the storage service.
type objects struct {
	client storagev1.StorageServiceClient

	mu    sync.Mutex
	ready bool
}

func bucketName() string { return suiteDeployment + "/buckets/" + resultsBucket }

// Ref returns the reference of an object: bucket and key.
func (o *objects) Ref(key string) string { return bucketName() + refSeparator + key }

// prepare makes the bucket once.
func (o *objects) prepare(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ready {
		return nil
	}
	_, err := o.client.CreateBucket(ctx, &storagev1.CreateBucketRequest{Parent: suiteDeployment, BucketId: resultsBucket})
	if err = errs.FromStatus(err); err != nil && !errs.Is(err, codes.AlreadyExists) {
		return fmt.Errorf("make the bucket of results: %w", err)
	}
	o.ready = true
	return nil
}

// Put stores an object.
func (o *objects) Put(ctx context.Context, key string, content io.ReadSeeker, size int64) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := o.client.UploadObject(ctx)
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, errs.FromStatus(err))
	}
	err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: &storagev1.UploadTarget{
		Bucket: bucketName(), Key: key, SizeBytes: &size,
	}}})
	var readError error
	for err == nil {
		// Every message needs a buffer of its own: an in-process call hands it on as it is.
		chunk := make([]byte, min(chunkBytes, max(size, 1)))
		var n int
		n, readError = io.ReadFull(content, chunk)
		if n > 0 {
			err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: chunk[:n]}})
		}
		if readError != nil {
			break
		}
	}
	if readError != nil && !errors.Is(readError, io.EOF) && !errors.Is(readError, io.ErrUnexpectedEOF) {
		return fmt.Errorf("upload %s: %w", key, readError)
	}
	// A refusal ends the stream: Send then only says EOF and the answer says why.
	if _, closeError := stream.CloseAndRecv(); closeError != nil {
		return fmt.Errorf("upload %s: %w", key, errs.FromStatus(closeError))
	}
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, err)
	}
	return nil
}

// Get reads an object as a stream.
func (o *objects) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := o.prepare(ctx); err != nil {
		return nil, err
	}
	return o.open(ctx, bucketName(), key)
}

// open reads an object of any of the suite's own buckets.
func (o *objects) open(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := o.client.DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
	}
	// The first message carries the facts, or the refusal.
	if _, err := stream.Recv(); err != nil {
		cancel()
		return nil, fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
	}
	return &download{key: key, stream: stream, cancel: cancel}, nil
}

// Delete removes an object; one that does not exist is no error.
func (o *objects) Delete(ctx context.Context, key string) error {
	_, err := o.client.DeleteObject(ctx, &storagev1.DeleteObjectRequest{Bucket: bucketName(), Key: key})
	if err = errs.FromStatus(err); err != nil && !errs.Is(err, codes.NotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// download turns the messages of a download into a reader.
type download struct {
	key    string
	stream interface {
		Recv() (*storagev1.DownloadObjectResponse, error)
	}
	cancel context.CancelFunc
	left   []byte
}

// Read returns the next bytes.
func (d *download) Read(p []byte) (int, error) {
	for len(d.left) == 0 {
		part, err := d.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("download %s: %w", d.key, errs.FromStatus(err))
		}
		d.left = part.GetChunk()
	}
	n := copy(p, d.left)
	d.left = d.left[n:]
	return n, nil
}

// Close ends the download.
func (d *download) Close() error {
	d.cancel()
	return nil
}
