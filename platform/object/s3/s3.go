// Package s3 drives any store that speaks S3: the suite's own, MinIO, Ceph, and the like. (For AWS itself, whose
// credentials and regions need the vendor's library, there is a driver of its own.)
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/object/driver"
)

// partBytes is the size of one part of a multipart write; objects up to this size are written by one request.
const partBytes = 8 << 20

// partsAtOnce is how many parts of one write are on their way at once. A write holds partsAtOnce × partBytes.
const partsAtOnce = 2

// maxParts is how many parts S3 allows for one object.
const maxParts = 10000

// Config says where the store is and who asks. Endpoint, AccessKey and SecretKey are required.
type Config struct {
	// Endpoint is host:port, or a URL with scheme http or https. Without a scheme it is http.
	Endpoint  string
	AccessKey string
	SecretKey secret.String
	// Region is us-east-1 when empty.
	Region string
	// Transport carries the requests; nil makes one of its own.
	Transport http.RoundTripper
	// MaxAttempts is how often a request is tried that the store or the network failed; 5 when 0.
	MaxAttempts int
}

// Store implements driver.Store.
type Store struct {
	core  *minio.Core
	close func()
	// region names the place of new buckets.
	region string
}

var _ driver.Store = (*Store)(nil)

// Open makes a client. It does not connect yet.
func Open(cfg Config) (*Store, error) {
	host, secure, err := splitEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	if cfg.AccessKey == "" || cfg.SecretKey.Empty() {
		return nil, fmt.Errorf("open object store %s: access key and secret key are needed", host)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = 5
	}
	closeIdle := func() {}
	if cfg.Transport == nil {
		t := &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       time.Minute,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 5 * time.Minute,
			ExpectContinueTimeout: 10 * time.Second,
			DisableCompression:    true,
			WriteBufferSize:       64 << 10,
			ReadBufferSize:        64 << 10,
		}
		cfg.Transport, closeIdle = t, t.CloseIdleConnections
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:           credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey.Reveal(), ""),
		Secure:          secure,
		Transport:       cfg.Transport,
		Region:          cfg.Region,
		BucketLookup:    minio.BucketLookupPath,
		TrailingHeaders: true,
		MaxRetries:      cfg.MaxAttempts,
	})
	if err != nil {
		return nil, fmt.Errorf("open object store %s: %w", host, err)
	}
	return &Store{core: core, close: closeIdle, region: cfg.Region}, nil
}

// splitEndpoint reads host:port or a URL.
func splitEndpoint(endpoint string) (host string, secure bool, err error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return "", false, fmt.Errorf("%q is no object store endpoint; write host:port or a URL like https://host:port", endpoint)
	}
	return u.Host, u.Scheme == "https", nil
}

// CreateBucket implements driver.Store.
func (s *Store) CreateBucket(ctx context.Context, name string) error {
	return s.core.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.region})
}

// BucketExists implements driver.Store.
func (s *Store) BucketExists(ctx context.Context, name string) (bool, error) {
	return s.core.BucketExists(ctx, name)
}

// ListBuckets implements driver.Store.
func (s *Store) ListBuckets(ctx context.Context) ([]driver.Bucket, error) {
	found, err := s.core.ListBuckets(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]driver.Bucket, len(found))
	for i, b := range found {
		out[i] = driver.Bucket{Name: b.Name, Created: b.CreationDate}
	}
	return out, nil
}

// RemoveBucket implements driver.Store.
func (s *Store) RemoveBucket(ctx context.Context, name string) error {
	return s.core.RemoveBucket(ctx, name)
}

// Put implements driver.Store. The store checks each request's body against a CRC32C and keeps that of the whole
// object. A body of one part is read before it is sent, so that the request can be tried again.
func (s *Store) Put(ctx context.Context, bucket, key string, body io.Reader, opts driver.PutOptions) (driver.Object, error) {
	o := minio.PutObjectOptions{
		ContentType: opts.ContentType,
		// A copy, because the library adds headers of its own.
		UserMetadata: maps.Clone(opts.Metadata),
		PartSize:     partBytes,
		// The checksum stands in a signed header; hashing the body a second time would only cost time.
		DisableContentSha256: true,
	}
	if opts.IfAbsent {
		o.SetMatchETagExcept("*")
	}
	if opts.SizeBytes >= 0 && opts.SizeBytes <= partBytes {
		data := make([]byte, opts.SizeBytes)
		if _, err := io.ReadFull(body, data); err != nil {
			return driver.Object{}, fmt.Errorf("read the body: %w", err)
		}
		// What follows must be the end, or the reader's complaint about the length.
		if n, err := body.Read(make([]byte, 1)); n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return driver.Object{}, fmt.Errorf("read the end of the body: %w", err)
		}
		if o.UserMetadata == nil {
			o.UserMetadata = make(map[string]string, 1)
		}
		o.UserMetadata[minio.ChecksumCRC32C.Key()] = minio.ChecksumCRC32C.EncodeToString(data)
		info, err := s.core.Client.PutObject(ctx, bucket, key, bytes.NewReader(data), opts.SizeBytes, o)
		if info.Size == 0 {
			info.Size = opts.SizeBytes
		}
		return written(info, opts), failed(err)
	}
	o.Checksum = minio.ChecksumFullObjectCRC32C
	o.ConcurrentStreamParts, o.NumThreads = true, partsAtOnce
	if least := opts.SizeBytes / maxParts; least >= partBytes {
		o.PartSize = uint64(least + 1)
	}
	// The size is withheld: only then are parts read ahead and sent in parallel.
	info, err := s.core.Client.PutObject(ctx, bucket, key, body, -1, o)
	return written(info, opts), failed(err)
}

// failed marks the errors of a full store.
func failed(err error) error {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && (answer.StatusCode == http.StatusInsufficientStorage || answer.Code == "InsufficientStorage" || answer.Code == "XMinioStorageFull" || answer.Code == "QuotaExceeded") {
		return fmt.Errorf("%w: %w", driver.ErrFull, err)
	}
	return err
}

func written(u minio.UploadInfo, opts driver.PutOptions) driver.Object {
	return driver.Object{
		Key: u.Key, SizeBytes: u.Size, ETag: u.ETag, Modified: u.LastModified,
		ContentType: opts.ContentType, CRC32C: u.ChecksumCRC32C, Metadata: opts.Metadata,
	}
}

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, bucket, key string, r driver.Range) (io.ReadCloser, driver.Object, error) {
	o := minio.GetObjectOptions{Checksum: true}
	switch {
	case r.LengthBytes > 0:
		if err := o.SetRange(r.OffsetBytes, r.OffsetBytes+r.LengthBytes-1); err != nil {
			return nil, driver.Object{}, err
		}
	case r.OffsetBytes > 0:
		if err := o.SetRange(r.OffsetBytes, 0); err != nil {
			return nil, driver.Object{}, err
		}
	}
	body, info, headers, err := s.core.GetObject(ctx, bucket, key, o)
	if err != nil {
		return nil, driver.Object{}, err
	}
	d := described(info)
	if total, ok := wholeSize(headers.Get("Content-Range")); ok {
		d.SizeBytes = total
	}
	return body, d, nil
}

// wholeSize reads the size behind the slash of "bytes 0-9/1234".
func wholeSize(contentRange string) (int64, bool) {
	_, total, ok := strings.Cut(contentRange, "/")
	if !ok {
		return 0, false
	}
	var n int64
	if _, err := fmt.Sscanf(total, "%d", &n); err != nil {
		return 0, false
	}
	return n, true
}

// Stat implements driver.Store.
func (s *Store) Stat(ctx context.Context, bucket, key string) (driver.Object, error) {
	info, err := s.core.StatObject(ctx, bucket, key, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return driver.Object{}, err
	}
	return described(info), nil
}

func described(info minio.ObjectInfo) driver.Object {
	o := driver.Object{
		Key: info.Key, SizeBytes: info.Size, ETag: info.ETag, Modified: info.LastModified,
		ContentType: info.ContentType, CRC32C: info.ChecksumCRC32C,
	}
	if strings.Contains(o.CRC32C, "-") {
		o.CRC32C = "" // a checksum of the parts' checksums, which says nothing about the content
	}
	if len(info.UserMetadata) > 0 {
		o.Metadata = make(map[string]string, len(info.UserMetadata))
		for k, v := range info.UserMetadata {
			o.Metadata[strings.ToLower(k)] = v
		}
	}
	return o
}

// List implements driver.Store.
func (s *Store) List(ctx context.Context, bucket, prefix, after string, limit int) ([]driver.Object, bool, error) {
	asked := minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true, MaxKeys: min(limit+1, 1000)}
	out := make([]driver.Object, 0, limit)
	for c := range s.core.ListObjectsIter(ctx, bucket, asked) {
		if c.Err != nil {
			return nil, false, c.Err
		}
		if len(out) == limit {
			return out, true, nil
		}
		out = append(out, driver.Object{Key: c.Key, SizeBytes: c.Size, ETag: strings.Trim(c.ETag, `"`), Modified: c.LastModified})
	}
	return out, false, ctx.Err()
}

// Delete implements driver.Store.
func (s *Store) Delete(ctx context.Context, bucket string, keys []string) error {
	if len(keys) == 1 {
		return s.core.Client.RemoveObject(ctx, bucket, keys[0], minio.RemoveObjectOptions{})
	}
	names := make(chan minio.ObjectInfo, len(keys))
	for _, k := range keys {
		names <- minio.ObjectInfo{Key: k}
	}
	close(names)
	var problems []error
	for failed := range s.core.RemoveObjects(ctx, bucket, names, minio.RemoveObjectsOptions{}) {
		if s.ErrorCode(failed.Err) != codes.NotFound {
			problems = append(problems, fmt.Errorf("delete %s: %w", failed.ObjectName, failed.Err))
		}
	}
	return errors.Join(problems...)
}

// SetBucketPolicy replaces the policy of a bucket. It is no part of the driver interface: only a store whose accounts
// the suite manages needs it.
func (s *Store) SetBucketPolicy(ctx context.Context, bucket string, policy []byte) error {
	return s.core.SetBucketPolicy(ctx, bucket, string(policy))
}

// CorrectName implements driver.Store: lower case, letters, digits, dots and dashes, 3 to 63 characters.
func (s *Store) CorrectName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') || r == '-' || r == '.' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	out := b.String()
	if len(out) > 63 {
		out = out[:63]
	}
	out = strings.Trim(out, "-.")
	for len(out) < 3 {
		out += "0"
	}
	return out
}

// ErrorCode implements driver.Store.
func (s *Store) ErrorCode(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, driver.ErrFull):
		return codes.ResourceExhausted
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answerCode(answer)
	}
	var network net.Error
	var request *url.Error
	if errors.As(err, &network) || errors.As(err, &request) || errors.Is(err, io.ErrUnexpectedEOF) {
		return codes.Unavailable
	}
	return codes.Unknown
}

// answerCode classifies what the store answered, by its error name and, failing that, by the HTTP status.
func answerCode(e minio.ErrorResponse) codes.Code {
	switch e.Code {
	case "NoSuchBucket", "NoSuchKey", "NoSuchUpload":
		return codes.NotFound
	case "BucketAlreadyExists", "BucketAlreadyOwnedByYou", "PreconditionFailed":
		return codes.AlreadyExists
	case "BucketNotEmpty", "ObjectParentIsFile", "ExistingObjectIsDirectory", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory":
		return codes.FailedPrecondition
	case "InvalidBucketName", "InvalidArgument", "InvalidRequest", "KeyTooLongError", "EntityTooLarge", "BadDigest", "XAmzContentChecksumMismatch", "XMinioInvalidObjectName":
		return codes.InvalidArgument
	case "InvalidRange":
		return codes.OutOfRange
	case "AccessDenied", "AllAccessDisabled", "MethodNotAllowed":
		return codes.PermissionDenied
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed":
		return codes.Unauthenticated
	case "SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling", "ThrottlingException":
		return codes.ResourceExhausted
	case "NotImplemented":
		return codes.Unimplemented
	}
	switch e.StatusCode {
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusPreconditionFailed:
		return codes.AlreadyExists
	case http.StatusRequestedRangeNotSatisfiable:
		return codes.OutOfRange
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return codes.Unavailable
	}
	return codes.Unknown
}

// Close implements driver.Store.
func (s *Store) Close() error {
	s.close()
	return nil
}
