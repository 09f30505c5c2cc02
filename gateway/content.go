package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// chunkBytes is the size of one message of an upload; it leaves room below the message limit.
const chunkBytes = 512 << 10

// splitContentPath takes the bucket's resource name and the key out of
// /v1/content/platforms/{p}/deployments/{rid}/buckets/{bucket}/{key…}.
func splitContentPath(path string) (bucket, key string, err error) {
	parts := strings.SplitN(strings.TrimPrefix(path, "/v1/content/"), "/", 7)
	if len(parts) != 7 || parts[0] != "platforms" || parts[2] != "deployments" || parts[4] != "buckets" || parts[6] == "" {
		return "", "", errs.InvalidArgument("PATH_INVALID", "want /v1/content/platforms/{platform}/deployments/{rid}/buckets/{bucket}/{key}")
	}
	return strings.Join(parts[:6], "/"), parts[6], nil
}

// outgoing puts the headers of a REST request that services want to see into a call's context.
func outgoing(r *http.Request) context.Context {
	headers := metadata.MD{}
	for _, key := range forwarded {
		if value := r.Header.Get(key); value != "" {
			headers.Set(key, value)
		}
	}
	return metadata.NewOutgoingContext(r.Context(), headers)
}

// putObject stores the body of a request as an object.
func (g *gateway) putObject(w http.ResponseWriter, r *http.Request) {
	bucket, key, err := splitContentPath(r.URL.Path)
	if err != nil {
		writeError(w, err)
		return
	}
	stream, err := storagev1.NewStorageServiceClient(g.checked("storage")).UploadObject(outgoing(r))
	if err != nil {
		writeError(w, err)
		return
	}
	target := &storagev1.UploadTarget{Bucket: bucket, Key: key, ContentType: r.Header.Get("Content-Type")}
	if r.ContentLength >= 0 {
		target.SizeBytes = &r.ContentLength
	}
	err = stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: target}})
	if err == nil {
		err = sendBody(r.Body, func(chunk []byte) error {
			return stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: chunk}})
		})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		writeError(w, err)
		return
	}
	stored, err := stream.CloseAndRecv()
	answer(w, stored.GetObject(), errs.FromStatus(err))
}

// putSource stores the body of a request as the archive of a benchmark folder.
func (g *gateway) putSource(w http.ResponseWriter, r *http.Request) {
	stream, err := builderv1.NewBuilderServiceClient(g.checked("builder")).UploadSource(outgoing(r))
	if err != nil {
		writeError(w, err)
		return
	}
	header := &builderv1.SourceHeader{Benchmark: r.PathValue("benchmark"), Kind: builderv1.SourceKind_SOURCE_KIND_BENCHMARK}
	if r.URL.Query().Get("kind") == "data" {
		header.Kind = builderv1.SourceKind_SOURCE_KIND_DATA
	}
	err = stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Header{Header: header}})
	if err == nil {
		err = sendBody(r.Body, func(chunk []byte) error {
			return stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Chunk{Chunk: chunk}})
		})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		writeError(w, err)
		return
	}
	stored, err := stream.CloseAndRecv()
	answer(w, stored, errs.FromStatus(err))
}

// sendBody sends what a body holds in chunks. io.EOF tells that the receiver has answered before the end.
func sendBody(body io.Reader, send func(chunk []byte) error) error {
	buffer := make([]byte, chunkBytes)
	for {
		n, err := io.ReadFull(body, buffer)
		if n > 0 {
			if err := send(append([]byte(nil), buffer[:n]...)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read body: %w", err)
		}
	}
}

func answer(w http.ResponseWriter, message proto.Message, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		writeError(w, errs.Internal(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw)
}

// getObject answers an object's content, or the range of it that the request asks for.
func (g *gateway) getObject(w http.ResponseWriter, r *http.Request) {
	bucket, key, err := splitContentPath(r.URL.Path)
	if err != nil {
		writeError(w, err)
		return
	}
	client := storagev1.NewStorageServiceClient(g.checked("storage"))
	ctx := outgoing(r)
	facts, err := client.GetObject(ctx, &storagev1.GetObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		writeError(w, err)
		return
	}
	size := facts.GetSizeBytes()
	offset, length, partial, err := parseRange(r.Header.Get("Range"), size)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	header := w.Header()
	header.Set("Content-Type", facts.GetContentType())
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Accept-Ranges", "bytes")
	header.Set("ETag", strconv.Quote(facts.GetEtag()))
	header.Set("Content-Length", strconv.FormatInt(length, 10))
	if length == 0 {
		return
	}
	stream, err := client.DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key, OffsetBytes: offset, LengthBytes: length})
	if err != nil {
		header.Del("Content-Length")
		writeError(w, err)
		return
	}
	if partial {
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, offset+length-1, size))
		w.WriteHeader(http.StatusPartialContent)
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			// The status is out; only a broken connection can still tell of the failure.
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(part.GetChunk()); err != nil {
			return
		}
	}
}

var errRange = errors.New("range not satisfiable")

// parseRange reads a header such as `bytes=0-99`, `bytes=100-` or `bytes=-5`. Several ranges at once, and units other
// than bytes, are answered with the whole object, as HTTP allows.
func parseRange(header string, size int64) (offset, length int64, partial bool, err error) {
	text, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(text, ",") {
		return 0, size, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(text), "-")
	if !ok {
		return 0, size, false, nil
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n <= 0 {
			return 0, 0, false, errRange
		}
		n = min(n, size)
		return size - n, n, true, nil
	}
	offset, err = strconv.ParseInt(first, 10, 64)
	if err != nil || offset < 0 || offset >= size {
		return 0, 0, false, errRange
	}
	end := size - 1
	if last != "" {
		if end, err = strconv.ParseInt(last, 10, 64); err != nil || end < offset {
			return 0, 0, false, errRange
		}
		end = min(end, size-1)
	}
	return offset, end - offset + 1, true, nil
}
