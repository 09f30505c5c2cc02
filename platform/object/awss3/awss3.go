// Package awss3 drives Amazon S3 on AWS's own library: its credentials, its regions, its retries. (Stores that only
// speak S3's protocol have package s3.)
package awss3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/object/driver"
)

// defaultRegion is the one region that is not named where a bucket is made.
const defaultRegion = "us-east-1"

// regionHeader is where S3 names the region of a bucket, also when it refuses a request for being sent elsewhere.
const regionHeader = "X-Amz-Bucket-Region"

// batchKeys is how many keys the API takes in one request to delete.
const batchKeys = 1000

// Store implements driver.Store.
type Store struct {
	api    *s3.Client
	close  func()
	region string

	mu sync.Mutex
	// elsewhere holds the regions of buckets that are not in the store's own.
	elsewhere map[string]string
}

var _ driver.Store = (*Store)(nil)

// Open makes a client for the region of the configuration, in which it makes buckets; buckets of other regions are
// found. It does not connect yet. With an endpoint in the configuration, buckets are part of the path.
func Open(opened awsconfig.Opened) *Store {
	closeIdle := func() {}
	if opened.HTTPClient == nil {
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
		closeIdle = t.CloseIdleConnections
		opened.HTTPClient = &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	api := s3.NewFromConfig(opened.Config, func(o *s3.Options) {
		o.UsePathStyle = opened.Endpoint != ""
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		// A bucket of this name has just been removed, or another conditional write runs: both pass.
		o.Retryer = retry.AddWithErrorCodes(o.Retryer, "OperationAborted", "ConditionalRequestConflict")
	})
	return &Store{api: api, close: closeIdle, region: opened.Region, elsewhere: map[string]string{}}
}

// at runs an operation on a bucket in the bucket's region. Where S3 says that the bucket is in another one than it was
// asked in, the operation runs again there.
func at[O any](s *Store, bucket string, operation func(option func(*s3.Options)) (O, error)) (O, error) {
	s.mu.Lock()
	region := s.elsewhere[bucket]
	s.mu.Unlock()
	out, err := operation(inRegion(region))
	if named := namedRegion(err); named != "" && named != region && (region != "" || named != s.region) {
		s.mu.Lock()
		s.elsewhere[bucket] = named
		s.mu.Unlock()
		return operation(inRegion(named))
	}
	return out, err
}

func inRegion(region string) func(*s3.Options) {
	return func(o *s3.Options) {
		if region != "" {
			o.Region = region
		}
	}
}

// namedRegion returns the region that a refusal names: 301 and 307 where the endpoint is the wrong one, 400 where the
// signature's region is.
func namedRegion(err error) string {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		return ""
	}
	switch answer.HTTPStatusCode() {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest:
		return answer.Response.Header.Get(regionHeader)
	}
	return ""
}

// CreateBucket implements driver.Store.
func (s *Store) CreateBucket(ctx context.Context, name string) error {
	in := &s3.CreateBucketInput{Bucket: &name}
	if s.region == defaultRegion {
		// Here, and only here, making an own bucket a second time succeeds: S3 does not tell whether it is new.
		exists, err := s.BucketExists(ctx, name)
		if err != nil {
			return err
		}
		if exists {
			return &types.BucketAlreadyOwnedByYou{}
		}
	} else {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(s.region)}
	}
	_, err := s.api.CreateBucket(ctx, in)
	return err
}

// BucketExists implements driver.Store. A bucket of somebody else is the error PermissionDenied.
func (s *Store) BucketExists(ctx context.Context, name string) (bool, error) {
	_, err := s.head(ctx, name)
	if s.ErrorCode(err) == codes.NotFound {
		return false, nil
	}
	return err == nil, err
}

// BucketRegion returns the region of a bucket; codes.NotFound when there is none.
func (s *Store) BucketRegion(ctx context.Context, name string) (string, error) {
	out, err := s.head(ctx, name)
	if err != nil {
		return "", err
	}
	if region := aws.ToString(out.BucketRegion); region != "" {
		return region, nil
	}
	return s.region, nil // stand-ins have but one
}

func (s *Store) head(ctx context.Context, bucket string) (*s3.HeadBucketOutput, error) {
	return at(s, bucket, func(option func(*s3.Options)) (*s3.HeadBucketOutput, error) {
		return s.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket}, option)
	})
}

// ListBuckets implements driver.Store: the account's buckets of all regions.
func (s *Store) ListBuckets(ctx context.Context) ([]driver.Bucket, error) {
	var out []driver.Bucket
	pages := s3.NewListBucketsPaginator(s.api, &s3.ListBucketsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, b := range page.Buckets {
			out = append(out, driver.Bucket{Name: aws.ToString(b.Name), Created: aws.ToTime(b.CreationDate)})
		}
	}
	return out, nil
}

// RemoveBucket implements driver.Store.
func (s *Store) RemoveBucket(ctx context.Context, name string) error {
	_, err := at(s, name, func(option func(*s3.Options)) (*s3.DeleteBucketOutput, error) {
		return s.api.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}, option)
	})
	if err == nil {
		s.mu.Lock()
		delete(s.elsewhere, name) // the next one of this name may be somewhere else
		s.mu.Unlock()
	}
	return err
}

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, bucket, key string, r driver.Range) (io.ReadCloser, driver.Object, error) {
	in := &s3.GetObjectInput{Bucket: &bucket, Key: &key, Range: rangeHeader(r)}
	if in.Range == nil {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	out, err := at(s, bucket, func(option func(*s3.Options)) (*s3.GetObjectOutput, error) {
		return s.api.GetObject(ctx, in, option)
	})
	if err != nil {
		return nil, driver.Object{}, err
	}
	o := driver.Object{
		Key: key, SizeBytes: aws.ToInt64(out.ContentLength), ETag: unquoted(out.ETag), Modified: aws.ToTime(out.LastModified),
		ContentType: aws.ToString(out.ContentType), CRC32C: ofContent(out.ChecksumCRC32C), Metadata: lower(out.Metadata),
	}
	if size, ok := wholeSize(aws.ToString(out.ContentRange)); ok {
		o.SizeBytes = size
	}
	return out.Body, o, nil
}

// Stat implements driver.Store.
func (s *Store) Stat(ctx context.Context, bucket, key string) (driver.Object, error) {
	in := &s3.HeadObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled}
	out, err := at(s, bucket, func(option func(*s3.Options)) (*s3.HeadObjectOutput, error) {
		return s.api.HeadObject(ctx, in, option)
	})
	if err != nil {
		return driver.Object{}, err
	}
	return driver.Object{
		Key: key, SizeBytes: aws.ToInt64(out.ContentLength), ETag: unquoted(out.ETag), Modified: aws.ToTime(out.LastModified),
		ContentType: aws.ToString(out.ContentType), CRC32C: ofContent(out.ChecksumCRC32C), Metadata: lower(out.Metadata),
	}, nil
}

// List implements driver.Store.
func (s *Store) List(ctx context.Context, bucket, prefix, after string, limit int) ([]driver.Object, bool, error) {
	out := make([]driver.Object, 0, limit)
	in := &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix}
	if after != "" {
		in.StartAfter = &after
	}
	for {
		in.MaxKeys = aws.Int32(int32(min(limit+1-len(out), 1000)))
		page, err := at(s, bucket, func(option func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
			return s.api.ListObjectsV2(ctx, in, option)
		})
		if err != nil {
			return nil, false, err
		}
		for _, c := range page.Contents {
			if len(out) == limit {
				return out, true, nil
			}
			out = append(out, driver.Object{
				Key: aws.ToString(c.Key), SizeBytes: aws.ToInt64(c.Size), ETag: unquoted(c.ETag), Modified: aws.ToTime(c.LastModified),
			})
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextContinuationToken) == "" {
			return out, false, nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// Delete implements driver.Store.
func (s *Store) Delete(ctx context.Context, bucket string, keys []string) error {
	if len(keys) == 1 {
		_, err := at(s, bucket, func(option func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
			return s.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &keys[0]}, option)
		})
		return err
	}
	var problems []error
	for len(keys) > 0 {
		n := min(batchKeys, len(keys))
		if err := s.deleteBatch(ctx, bucket, keys[:n]); err != nil {
			problems = append(problems, err)
		}
		keys = keys[n:]
	}
	return errors.Join(problems...)
}

func (s *Store) deleteBatch(ctx context.Context, bucket string, keys []string) error {
	in := &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for i := range keys {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &keys[i]})
	}
	out, err := at(s, bucket, func(option func(*s3.Options)) (*s3.DeleteObjectsOutput, error) {
		return s.api.DeleteObjects(ctx, in, option)
	})
	if err != nil {
		return err
	}
	var problems []error
	for _, failed := range out.Errors {
		problem := &keyError{key: aws.ToString(failed.Key), code: aws.ToString(failed.Code), message: aws.ToString(failed.Message)}
		if s.ErrorCode(problem) != codes.NotFound {
			problems = append(problems, problem)
		}
	}
	return errors.Join(problems...)
}

// CorrectName implements driver.Store: lower case letters, digits and dashes, 3 to 63 characters, a letter or digit at
// either end, none of the beginnings and ends that S3 reserves. Dots are allowed by S3, but the certificate of a
// bucket's own host does not cover them.
func (s *Store) CorrectName(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	out := b.String()
	for {
		fixed := out
		for _, reserved := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
			fixed = strings.TrimPrefix(fixed, reserved)
		}
		fixed = strings.Trim(fixed, "-")
		if len(fixed) > 63 {
			fixed = fixed[:63]
		}
		for _, reserved := range []string{"-s3alias", "--ol-s3", "--x-s3", "--table-s3"} {
			fixed = strings.TrimSuffix(fixed, reserved)
		}
		if fixed == out {
			break
		}
		out = fixed
	}
	for len(out) < 3 {
		out += "0"
	}
	return out
}

// Close implements driver.Store.
func (s *Store) Close() error {
	s.close()
	return nil
}

func unquoted(tag *string) string { return strings.Trim(aws.ToString(tag), `"`) }

// ofContent drops a checksum of the parts' checksums, which says nothing about the content.
func ofContent(sum *string) string {
	if strings.Contains(aws.ToString(sum), "-") {
		return ""
	}
	return aws.ToString(sum)
}

func lower(metadata map[string]string) map[string]string {
	if len(metadata) == 0 {
		return nil
	}
	out := make(map[string]string, len(metadata))
	for k, v := range metadata {
		out[strings.ToLower(k)] = v
	}
	return out
}
