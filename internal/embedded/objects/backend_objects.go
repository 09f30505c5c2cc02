package objects

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// PutObject implements backend.Backend.
func (f *files) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	in.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.PutObject(ctx, in)
	return out, f.outside(err)
}

// HeadObject implements backend.Backend.
func (f *files) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.HeadObject(ctx, &c)
	return out, f.outside(err)
}

// GetObject implements backend.Backend.
func (f *files) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.GetObject(ctx, &c)
	return out, f.outside(err)
}

// GetObjectAttributes implements backend.Backend.
func (f *files) GetObjectAttributes(ctx context.Context, in *s3.GetObjectAttributesInput) (s3response.GetObjectAttributesResponse, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.GetObjectAttributes(ctx, &c)
	return out, f.outside(err)
}

// CopyObject implements backend.Backend. The file backend reads the source's bucket name from a slash-separated
// string, where a path cannot stand, so the copy is a read and a write.
func (f *files) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	bucket, key, err := copySource(in.CopySource)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	src, err := f.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &bucket, Key: &key,
		IfMatch: in.CopySourceIfMatch, IfNoneMatch: in.CopySourceIfNoneMatch,
		IfModifiedSince: in.CopySourceIfModifiedSince, IfUnmodifiedSince: in.CopySourceIfUnmodifiedSince,
	})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	defer func() { _ = src.Body.Close() }() // only read
	put := s3response.PutObjectInput{
		Bucket: in.Bucket, Key: in.Key, Body: src.Body, ContentLength: src.ContentLength,
		ContentType: src.ContentType, ContentEncoding: src.ContentEncoding, ContentDisposition: src.ContentDisposition,
		ContentLanguage: src.ContentLanguage, CacheControl: src.CacheControl, Metadata: src.Metadata,
	}
	if in.MetadataDirective == "REPLACE" {
		put.ContentType, put.ContentEncoding, put.ContentDisposition = in.ContentType, in.ContentEncoding, in.ContentDisposition
		put.ContentLanguage, put.CacheControl, put.Metadata = in.ContentLanguage, in.CacheControl, in.Metadata
	}
	res, err := f.PutObject(ctx, put)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	head, err := f.HeadObject(ctx, &s3.HeadObjectInput{Bucket: in.Bucket, Key: in.Key})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	etag := res.ETag
	return s3response.CopyObjectOutput{CopyObjectResult: &s3response.CopyObjectResult{ETag: &etag, LastModified: head.LastModified}}, nil
}

// copySource splits "bucket/key" as it stands in the x-amz-copy-source header.
func copySource(raw *string) (bucket, key string, err error) {
	if raw == nil {
		return "", "", s3err.GetInvalidArgumentErr(s3err.InvalidArgCopySourceBucket, "")
	}
	decoded, err := url.QueryUnescape(strings.TrimPrefix(*raw, "/"))
	if err != nil {
		return "", "", s3err.GetInvalidArgumentErr(s3err.InvalidArgCopySourceEncoding, *raw)
	}
	decoded, _, _ = strings.Cut(decoded, "?versionId=")
	bucket, key, found := strings.Cut(decoded, "/")
	if !found || bucket == "" || key == "" || !filepath.IsLocal(bucket) {
		return "", "", s3err.GetInvalidArgumentErr(s3err.InvalidArgCopySourceBucket, *raw)
	}
	return bucket, key, nil
}

// ListObjects implements backend.Backend.
func (f *files) ListObjects(ctx context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.ListObjects(ctx, &c)
	out.Name = in.Bucket
	return out, f.outside(err)
}

// ListObjectsV2 implements backend.Backend.
func (f *files) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.ListObjectsV2(ctx, &c)
	out.Name = in.Bucket
	return out, f.outside(err)
}

// DeleteObject implements backend.Backend.
func (f *files) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.DeleteObject(ctx, &c)
	return out, f.outside(err)
}

// DeleteObjects implements backend.Backend.
func (f *files) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.DeleteObjects(ctx, &c)
	return out, f.outside(err)
}

// GetObjectTagging implements backend.Backend.
func (f *files) GetObjectTagging(ctx context.Context, bucket, object, version string) (map[string]string, error) {
	out, err := f.posix.GetObjectTagging(ctx, f.path(bucket), object, version)
	return out, f.outside(err)
}

// PutObjectTagging implements backend.Backend.
func (f *files) PutObjectTagging(ctx context.Context, bucket, object, version string, tags map[string]string) error {
	return f.outside(f.posix.PutObjectTagging(ctx, f.path(bucket), object, version, tags))
}

// DeleteObjectTagging implements backend.Backend.
func (f *files) DeleteObjectTagging(ctx context.Context, bucket, object, version string) error {
	return f.outside(f.posix.DeleteObjectTagging(ctx, f.path(bucket), object, version))
}

// CreateMultipartUpload implements backend.Backend.
func (f *files) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	bucket := in.Bucket
	in.Bucket = f.pathPtr(bucket)
	out, err := f.posix.CreateMultipartUpload(ctx, in)
	if bucket != nil {
		out.Bucket = *bucket
	}
	return out, f.outside(err)
}

// UploadPart implements backend.Backend.
func (f *files) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.UploadPart(ctx, &c)
	return out, f.outside(err)
}

// UploadPartCopy implements backend.Backend; see CopyObject.
func (f *files) UploadPartCopy(ctx context.Context, in *s3.UploadPartCopyInput) (s3response.CopyPartResult, error) {
	bucket, key, err := copySource(in.CopySource)
	if err != nil {
		return s3response.CopyPartResult{}, err
	}
	src, err := f.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &bucket, Key: &key, Range: in.CopySourceRange,
		IfMatch: in.CopySourceIfMatch, IfNoneMatch: in.CopySourceIfNoneMatch,
		IfModifiedSince: in.CopySourceIfModifiedSince, IfUnmodifiedSince: in.CopySourceIfUnmodifiedSince,
	})
	if err != nil {
		return s3response.CopyPartResult{}, err
	}
	defer func() { _ = src.Body.Close() }() // only read
	part, err := f.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, PartNumber: in.PartNumber,
		Body: src.Body, ContentLength: src.ContentLength,
	})
	if err != nil {
		return s3response.CopyPartResult{}, fmt.Errorf("copy part: %w", err)
	}
	out := s3response.CopyPartResult{ETag: part.ETag}
	if src.LastModified != nil {
		out.LastModified = *src.LastModified
	}
	return out, nil
}

// CompleteMultipartUpload implements backend.Backend.
func (f *files) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, version, err := f.posix.CompleteMultipartUpload(ctx, &c)
	out.Bucket = in.Bucket
	return out, version, f.outside(err)
}

// AbortMultipartUpload implements backend.Backend.
func (f *files) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	return f.outside(f.posix.AbortMultipartUpload(ctx, &c))
}

// ListMultipartUploads implements backend.Backend.
func (f *files) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.ListMultipartUploads(ctx, &c)
	if in.Bucket != nil {
		out.Bucket = *in.Bucket
	}
	return out, f.outside(err)
}

// ListParts implements backend.Backend.
func (f *files) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.ListParts(ctx, &c)
	if in.Bucket != nil {
		out.Bucket = *in.Bucket
	}
	return out, f.outside(err)
}
