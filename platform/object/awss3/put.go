package awss3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/object/driver"
)

// partBytes is the size of one part of a multipart write; objects up to this size are written by one request.
const partBytes = 8 << 20

// partsAtOnce is how many parts of one write are on their way at once. A write holds partsAtOnce × partBytes.
const partsAtOnce = 2

// maxParts is how many parts S3 allows for one object.
const maxParts = 10000

// abortTimeout bounds the removal of what a failed write left behind.
const abortTimeout = 30 * time.Second

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is a CRC32C as S3 writes it.
func checksum(sum uint32) *string {
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)))
}

// Put implements driver.Store. S3 checks each request's body against a CRC32C and keeps that of the whole object.
// Bodies are read before they are sent, part by part, so that every request can be tried again.
func (s *Store) Put(ctx context.Context, bucket, key string, body io.Reader, opts driver.PutOptions) (driver.Object, error) {
	// One byte more than the body has tells its end.
	size := int64(partBytes)
	if opts.SizeBytes >= 0 {
		size = min(size, opts.SizeBytes+1)
	}
	size = max(size, opts.SizeBytes/maxParts+1)
	first := make([]byte, size)
	n, err := io.ReadFull(body, first)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.putWhole(ctx, bucket, key, first[:n], opts)
	case err != nil:
		return driver.Object{}, fmt.Errorf("read the body: %w", err)
	}
	return s.putParts(ctx, bucket, key, first, body, opts)
}

// unhashed are the options of requests whose body S3 checks by its CRC32C, a signed header: hashing the body a second
// time for the signature would only cost time.
func unhashed(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}

func ifAbsent(opts driver.PutOptions) *string {
	if opts.IfAbsent {
		return aws.String("*")
	}
	return nil
}

func (s *Store) putWhole(ctx context.Context, bucket, key string, data []byte, opts driver.PutOptions) (driver.Object, error) {
	sum := checksum(crc32.Checksum(data, castagnoli))
	out, err := at(s, bucket, func(option func(*s3.Options)) (*s3.PutObjectOutput, error) {
		return s.api.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
			ContentType: &opts.ContentType, Metadata: opts.Metadata, ChecksumCRC32C: sum, IfNoneMatch: ifAbsent(opts),
		}, option, unhashed)
	})
	if err != nil {
		return driver.Object{}, failed(err)
	}
	return driver.Object{
		Key: key, SizeBytes: int64(len(data)), ETag: unquoted(out.ETag), ContentType: opts.ContentType, CRC32C: *sum, Metadata: opts.Metadata,
	}, nil
}

// putParts writes first and what follows it in body as parts of the size of first.
func (s *Store) putParts(ctx context.Context, bucket, key string, first []byte, body io.Reader, opts driver.PutOptions) (driver.Object, error) {
	created, err := at(s, bucket, func(option func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
		return s.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &bucket, Key: &key, ContentType: &opts.ContentType, Metadata: opts.Metadata,
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeFullObject,
		}, option)
	})
	if err != nil {
		return driver.Object{}, failed(err)
	}
	u := &upload{store: s, bucket: bucket, key: key, id: aws.ToString(created.UploadId)}
	o, err := u.run(ctx, first, body, opts)
	if err != nil {
		return driver.Object{}, errors.Join(failed(err), u.abort(ctx))
	}
	return o, nil
}

// upload is a multipart write.
type upload struct {
	store           *Store
	bucket, key, id string
	// parts are in order; each gets its tag when it has been sent.
	parts []*types.CompletedPart
}

func (u *upload) run(ctx context.Context, first []byte, body io.Reader, opts driver.PutOptions) (driver.Object, error) {
	group, sending := errgroup.WithContext(ctx)
	free := make(chan []byte, partsAtOnce)
	for range partsAtOnce - 1 {
		free <- make([]byte, len(first))
	}
	var size int64
	var sum uint32
	for buffer, n := first, len(first); n > 0; {
		data := buffer[:n]
		size += int64(n)
		sum = crc32.Update(sum, castagnoli, data)
		part := &types.CompletedPart{PartNumber: aws.Int32(int32(len(u.parts) + 1)), ChecksumCRC32C: checksum(crc32.Checksum(data, castagnoli))}
		u.parts = append(u.parts, part)
		group.Go(func() error {
			defer func() { free <- data[:len(first)] }()
			return u.send(sending, part, data)
		})
		select {
		case buffer = <-free:
		case <-sending.Done():
			return driver.Object{}, errors.Join(group.Wait(), ctx.Err())
		}
		var err error
		n, err = io.ReadFull(body, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return driver.Object{}, errors.Join(fmt.Errorf("read the body: %w", err), group.Wait())
		}
	}
	if err := group.Wait(); err != nil {
		return driver.Object{}, err
	}
	return u.complete(ctx, size, checksum(sum), opts)
}

// send sends one part and keeps its tag.
func (u *upload) send(ctx context.Context, part *types.CompletedPart, data []byte) error {
	out, err := at(u.store, u.bucket, func(option func(*s3.Options)) (*s3.UploadPartOutput, error) {
		return u.store.api.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.bucket, Key: &u.key, UploadId: &u.id, PartNumber: part.PartNumber,
			Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumCRC32C: part.ChecksumCRC32C,
		}, option, unhashed)
	})
	if err == nil {
		part.ETag = out.ETag
	}
	return err
}

// complete makes the object of the parts.
func (u *upload) complete(ctx context.Context, size int64, sum *string, opts driver.PutOptions) (driver.Object, error) {
	parts := make([]types.CompletedPart, len(u.parts))
	for i, part := range u.parts {
		parts[i] = *part
	}
	o := driver.Object{Key: u.key, SizeBytes: size, ContentType: opts.ContentType, CRC32C: *sum, Metadata: opts.Metadata}
	out, err := at(u.store, u.bucket, func(option func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
		return u.store.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.bucket, Key: &u.key, UploadId: &u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			ChecksumCRC32C: sum, ChecksumType: types.ChecksumTypeFullObject, IfNoneMatch: ifAbsent(opts),
		}, option)
	})
	switch {
	case err == nil:
		o.ETag = unquoted(out.ETag)
		return o, nil
	case answerOf(err).code == "NoSuchUpload":
		// The answer to an earlier try may have been lost on its way.
		have, look := u.store.Stat(ctx, u.bucket, u.key)
		if look == nil && have.SizeBytes == size && have.CRC32C == *sum {
			o.ETag = have.ETag
			return o, nil
		}
	}
	return driver.Object{}, err
}

// abort removes the parts of an upload that failed, also when the caller has given up. One that is gone is no error.
func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := at(u.store, u.bucket, func(option func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
		return u.store.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.bucket, Key: &u.key, UploadId: &u.id}, option)
	})
	if u.store.ErrorCode(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the parts of the failed write: %w", err)
	}
	return nil
}
