package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// chunkBytes is the size of the chunks that the service sends.
const chunkBytes = 512 << 10

// maxChunkBytes is the largest chunk that the service takes.
const maxChunkBytes = 1 << 20

// chunkBuffers are reused between downloads: a message is encoded before Send returns.
var chunkBuffers = sync.Pool{New: func() any { b := make([]byte, chunkBytes); return &b }}

func objectMessage(d deployment, bucket string, o object.Object) *storagev1.Object {
	m := &storagev1.Object{
		Bucket: d.bucket(bucket), Key: o.Key, SizeBytes: o.SizeBytes, ContentType: o.ContentType, Etag: o.ETag,
		Sha256: o.Metadata[digestMetadata], Crc32C: o.CRC32C,
	}
	if !o.Modified.IsZero() {
		m.UpdateTime = timestamppb.New(o.Modified)
	}
	return m
}

// chunks reads the content of an upload from its stream.
type chunks struct {
	stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]
	rest   []byte
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		m, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, fmt.Errorf("receive a chunk: %w", err)
		}
		part, ok := m.GetPart().(*storagev1.UploadObjectRequest_Chunk)
		if !ok {
			return 0, errs.InvalidArgument("UPLOAD_PROTOCOL", "only the first message of an upload carries a target; the following ones carry a chunk")
		}
		if len(part.Chunk) > maxChunkBytes {
			return 0, errs.InvalidArgument("UPLOAD_PROTOCOL", "a chunk has %d bytes; send at most %d", len(part.Chunk), maxChunkBytes)
		}
		c.rest = part.Chunk
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// UploadObject implements the RPC.
func (s *Server) UploadObject(stream grpc.ClientStreamingServer[storagev1.UploadObjectRequest, storagev1.UploadObjectResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("receive the target of an upload: %w", err)
	}
	t := first.GetTarget()
	if t == nil {
		return errs.InvalidArgument("UPLOAD_PROTOCOL", "the first message of an upload must carry the target")
	}
	d, bucket, err := parseChild("target.bucket", t.GetBucket(), "buckets")
	if err != nil {
		return err
	}
	u := upload{deployment: d, bucket: bucket, key: t.GetKey(), sizeBytes: -1, contentType: t.GetContentType(), sha256: t.GetSha256()}
	if t.SizeBytes != nil {
		u.sizeBytes = t.GetSizeBytes()
	}
	u.keep = t.ReplaceExisting != nil && !t.GetReplaceExisting()
	o, skipped, err := s.service.put(stream.Context(), u, &chunks{stream: stream})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&storagev1.UploadObjectResponse{Object: objectMessage(d, bucket, o), Skipped: skipped})
}

// sendObject sends an object's facts and its content.
func sendObject(stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse], facts *storagev1.Object, body io.Reader) error {
	if err := stream.Send(&storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Object{Object: facts}}); err != nil {
		return err
	}
	buffer := chunkBuffers.Get().(*[]byte)
	defer chunkBuffers.Put(buffer)
	for {
		n, err := io.ReadFull(body, *buffer)
		if n > 0 {
			chunk := &storagev1.DownloadObjectResponse{Part: &storagev1.DownloadObjectResponse_Chunk{Chunk: (*buffer)[:n]}}
			if err := stream.Send(chunk); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
			return nil
		case err != nil:
			return errs.Unavailable("OBJECT_STREAM", "object %q: the store ended the stream early", facts.GetKey()).Wrap(err)
		}
	}
}

// DownloadObject implements the RPC.
func (s *Server) DownloadObject(in *storagev1.DownloadObjectRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	d, bucket, err := parseChild("bucket", in.GetBucket(), "buckets")
	if err != nil {
		return err
	}
	r := object.Range{OffsetBytes: in.GetOffsetBytes(), LengthBytes: in.GetLengthBytes()}
	body, o, err := s.service.get(stream.Context(), d, bucket, in.GetKey(), r)
	if err != nil {
		return err
	}
	return errors.Join(sendObject(stream, objectMessage(d, bucket, o), counted(body, r, o)), body.Close())
}

// counted makes a body that ends early an error: HTTP libraries report that only for bodies of known length.
func counted(body io.Reader, r object.Range, o object.Object) io.Reader {
	want := o.SizeBytes - r.OffsetBytes
	if r.LengthBytes > 0 {
		want = min(want, r.LengthBytes)
	}
	return &lengthChecked{r: body, left: want}
}

type lengthChecked struct {
	r    io.Reader
	left int64
}

var errShort = errors.New("the content ended early")

func (l *lengthChecked) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if errors.Is(err, io.EOF) && l.left > 0 {
		return n, errShort
	}
	return n, err
}

// GetObject implements the RPC.
func (s *Server) GetObject(ctx context.Context, in *storagev1.GetObjectRequest) (*storagev1.Object, error) {
	d, bucket, err := parseChild("bucket", in.GetBucket(), "buckets")
	if err != nil {
		return nil, err
	}
	o, err := s.service.stat(ctx, d, bucket, in.GetKey())
	if err != nil {
		return nil, err
	}
	return objectMessage(d, bucket, o), nil
}

// ListObjects implements the RPC.
func (s *Server) ListObjects(ctx context.Context, in *storagev1.ListObjectsRequest) (*storagev1.ListObjectsResponse, error) {
	d, bucket, err := parseChild("bucket", in.GetBucket(), "buckets")
	if err != nil {
		return nil, err
	}
	after, err := afterToken(in.GetPageToken())
	if err != nil {
		return nil, err
	}
	page, next, err := s.service.list(ctx, d, bucket, in.GetPrefix(), after, pageSize(in.GetPageSize(), 1000))
	if err != nil {
		return nil, err
	}
	out := &storagev1.ListObjectsResponse{NextPageToken: pageToken(next), Objects: make([]*storagev1.Object, len(page))}
	for i, o := range page {
		out.Objects[i] = objectMessage(d, bucket, o)
	}
	return out, nil
}

// DeleteObject implements the RPC.
func (s *Server) DeleteObject(ctx context.Context, in *storagev1.DeleteObjectRequest) (*emptypb.Empty, error) {
	d, bucket, err := parseChild("bucket", in.GetBucket(), "buckets")
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.service.remove(ctx, d, bucket, in.GetKey())
}

// DownloadBucket implements the RPC.
func (s *Server) DownloadBucket(in *storagev1.DownloadBucketRequest, stream grpc.ServerStreamingServer[storagev1.DownloadObjectResponse]) error {
	d, bucket, err := parseChild("bucket", in.GetBucket(), "buckets")
	if err != nil {
		return err
	}
	have := make(map[string]owned, len(in.GetHave()))
	for _, h := range in.GetHave() {
		have[h.GetKey()] = owned{sizeBytes: h.GetSizeBytes(), etag: h.GetEtag(), sha256: h.GetSha256(), crc32c: h.GetCrc32C()}
	}
	return s.service.readBucket(stream.Context(), d, bucket, in.GetPrefix(), have, func(o object.Object, body io.Reader) error {
		return sendObject(stream, objectMessage(d, bucket, o), counted(body, object.Range{}, o))
	})
}
