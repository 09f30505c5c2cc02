package invoker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// chunkBytes is the content of one message of an upload.
const chunkBytes = 1 << 20

// storedObjects reaches objects through the storage service.
type storedObjects struct {
	client storagev1.StorageServiceClient
}

// Put stores an object.
func (s storedObjects) Put(ctx context.Context, bucket, key, contentType string, content []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.UploadObject(ctx)
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, errs.FromStatus(err))
	}
	size := int64(len(content))
	err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: &storagev1.UploadTarget{
		Bucket: bucket, Key: key, SizeBytes: &size, ContentType: contentType,
	}}})
	for reader := bytes.NewReader(content); err == nil && reader.Len() > 0; {
		chunk := make([]byte, min(chunkBytes, reader.Len()))
		if _, err = io.ReadFull(reader, chunk); err == nil {
			err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: chunk}})
		}
	}
	// A refusal ends the stream: Send then only says EOF and the answer says why.
	if _, closeErr := stream.CloseAndRecv(); closeErr != nil {
		return fmt.Errorf("upload %s: %w", key, errs.FromStatus(closeErr))
	}
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, err)
	}
	return nil
}

// Get reads an object.
func (s storedObjects) Get(ctx context.Context, bucket, key string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
	}
	var content bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return content.Bytes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("download %s: %w", key, errs.FromStatus(err))
		}
		if int64(content.Len()+len(part.GetChunk())) > limit || part.GetObject().GetSizeBytes() > limit {
			return nil, errs.OutOfRange("OBJECT_TOO_LARGE", "%s is larger than %d bytes", key, limit)
		}
		content.Write(part.GetChunk())
	}
}

// Exists tells whether there is an object.
func (s storedObjects) Exists(ctx context.Context, bucket, key string) (bool, error) {
	_, err := s.client.GetObject(ctx, &storagev1.GetObjectRequest{Bucket: bucket, Key: key})
	if err = errs.FromStatus(err); errs.Is(err, codes.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Delete removes an object.
func (s storedObjects) Delete(ctx context.Context, bucket, key string) error {
	_, err := s.client.DeleteObject(ctx, &storagev1.DeleteObjectRequest{Bucket: bucket, Key: key})
	return errs.FromStatus(err)
}

// Where payloads and answers that are too large for a message lie.
const (
	suiteDeployment = "platforms/suite/deployments/main"
	payloadsBucket  = suiteDeployment + "/buckets/payloads"
	// refSeparator parts bucket and key in a reference.
	refSeparator = "/objects/"
	// inlineBytes is the largest payload or answer that travels in a message.
	inlineBytes = 256 << 10
	// maxPayloadBytes bounds a payload that is fetched by its reference.
	maxPayloadBytes = 64 << 20
)

// payloads keeps what is too large for a message in the suite's own object store.
type payloads struct {
	objects storedObjects

	mu    sync.Mutex
	ready bool
}

// store puts content under a key and returns its reference.
func (p *payloads) store(ctx context.Context, key string, content []byte) (ref string, err error) {
	if err := p.prepare(ctx); err != nil {
		return "", err
	}
	if err := p.objects.Put(ctx, payloadsBucket, key, "application/json", content); err != nil {
		return "", err
	}
	return payloadsBucket + refSeparator + key, nil
}

// prepare makes the bucket once.
func (p *payloads) prepare(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready {
		return nil
	}
	_, err := p.objects.client.CreateBucket(ctx, &storagev1.CreateBucketRequest{Parent: suiteDeployment, BucketId: "payloads"})
	if err = errs.FromStatus(err); err != nil && !errs.Is(err, codes.AlreadyExists) {
		return fmt.Errorf("make the bucket of payloads: %w", err)
	}
	p.ready = true
	return nil
}

// load reads what a reference names. References lead into the suite's own buckets only.
func (p *payloads) load(ctx context.Context, ref string) ([]byte, error) {
	bucket, key, ok := strings.Cut(ref, refSeparator)
	if !ok || key == "" || !strings.HasPrefix(bucket, suiteDeployment+"/buckets/") {
		return nil, errs.Fields(errs.Field("payload_ref",
			"%q does not name an object of the suite's store; it has to be of the form %s%s{key}", ref, payloadsBucket, refSeparator))
	}
	content, err := p.objects.Get(ctx, bucket, key, maxPayloadBytes)
	if errs.Is(err, codes.NotFound) {
		return nil, errs.NotFound("PAYLOAD_NOT_FOUND", "the payload %s does not exist; upload it again", ref)
	}
	return content, err
}
