// Package object is the suite's view of object stores: buckets and objects on any platform.
//
// Store holds what all platforms share (validation, clean-up by pages, verification of lengths, classified errors);
// the packages below it are drivers for one kind of store each. The conformance suite for drivers is in drivertest.
package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object/driver"
)

// The types of the driver interface that callers meet.
type (
	// Bucket is one bucket of a listing.
	Bucket = driver.Bucket
	// Object describes one object.
	Object = driver.Object
	// PutOptions describe the object to write.
	PutOptions = driver.PutOptions
	// Range is a part of an object; the zero value is all of it.
	Range = driver.Range
)

// MaxKeyBytes is the longest key that every supported store takes.
const MaxKeyBytes = 1024

// pageObjects is how many objects are listed or deleted by one request: one less than a store's page, so that the
// same request tells whether more follow.
const pageObjects = 999

// peekBytes is how much of a stream of unknown length is read ahead: short streams become one plain write.
const peekBytes = 256 << 10

// Store is an object store. It may be used by many goroutines at once.
type Store struct {
	driver driver.Store
}

// New puts a Store in front of a driver. Closing the Store closes the driver.
func New(d driver.Store) *Store { return &Store{driver: d} }

// Close releases the driver's connections.
func (s *Store) Close() error { return s.driver.Close() }

// CorrectName turns a wanted bucket name into one that the platform accepts.
func (s *Store) CorrectName(name string) string { return s.driver.CorrectName(name) }

// CreateBucket makes a bucket and tells whether it was made now; an existing one that the account can use is no error.
func (s *Store) CreateBucket(ctx context.Context, name string) (created bool, err error) {
	if err := checkBucket(name); err != nil {
		return false, err
	}
	err = s.driver.CreateBucket(ctx, name)
	if err == nil {
		return true, nil
	}
	if s.driver.ErrorCode(err) == codes.AlreadyExists {
		exists, second := s.driver.BucketExists(ctx, name)
		if second == nil && exists {
			return false, nil
		}
		return false, errs.AlreadyExists("BUCKET_NOT_OWNED", "bucket %q exists and belongs to another account; choose another resource id", name).With("bucket", name).Wrap(err)
	}
	return false, s.classify(err, "create bucket "+name, name, "")
}

// BucketExists tells whether there is a bucket of that name that the account can use.
func (s *Store) BucketExists(ctx context.Context, name string) (bool, error) {
	if err := checkBucket(name); err != nil {
		return false, err
	}
	ok, err := s.driver.BucketExists(ctx, name)
	return ok, s.classify(err, "look for bucket "+name, name, "")
}

// ListBuckets lists the buckets whose names start with prefix, by name.
func (s *Store) ListBuckets(ctx context.Context, prefix string) ([]Bucket, error) {
	all, err := s.driver.ListBuckets(ctx)
	if err != nil {
		return nil, s.classify(err, "list buckets", "", "")
	}
	all = slices.DeleteFunc(all, func(b Bucket) bool { return !strings.HasPrefix(b.Name, prefix) })
	slices.SortFunc(all, func(a, b Bucket) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// CleanBucket removes all objects with the prefix and returns how many there were.
func (s *Store) CleanBucket(ctx context.Context, name, prefix string) (int64, error) {
	if err := checkBucket(name); err != nil {
		return 0, err
	}
	var removed int64
	for {
		// The first page again each time: the objects of the page before are gone.
		page, more, err := s.driver.List(ctx, name, prefix, "", pageObjects)
		if err != nil {
			return removed, s.classify(err, "list bucket "+name, name, "")
		}
		if len(page) == 0 {
			return removed, nil
		}
		keys := make([]string, len(page))
		for i, o := range page {
			keys[i] = o.Key
		}
		if err := s.driver.Delete(ctx, name, keys); err != nil {
			return removed, s.classify(err, "clean bucket "+name, name, "")
		}
		removed += int64(len(keys))
		if !more {
			return removed, nil
		}
	}
}

// RemoveBucket removes a bucket; with force, its objects first. A bucket that is not there is a NotFound error.
func (s *Store) RemoveBucket(ctx context.Context, name string, force bool) error {
	if err := checkBucket(name); err != nil {
		return err
	}
	if force {
		if _, err := s.CleanBucket(ctx, name, ""); err != nil {
			return err
		}
	}
	return s.classify(s.driver.RemoveBucket(ctx, name), "remove bucket "+name, name, "")
}

// Put writes an object from a stream. With SizeBytes -1 the length may be unknown; with a length, a shorter or longer
// body is an error and nothing is written.
func (s *Store) Put(ctx context.Context, bucket, key string, body io.Reader, opts PutOptions) (Object, error) {
	if err := errors.Join(checkBucket(bucket), checkKey(key)); err != nil {
		return Object{}, err
	}
	if opts.ContentType == "" {
		opts.ContentType = "application/octet-stream"
	}
	if opts.SizeBytes < 0 {
		head := make([]byte, peekBytes)
		n, err := io.ReadFull(body, head)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			body, opts.SizeBytes = bytes.NewReader(head[:n]), int64(n)
		case err != nil:
			return Object{}, fmt.Errorf("read the body of object %s: %w", key, err)
		default:
			body = io.MultiReader(bytes.NewReader(head), body)
		}
	}
	if opts.SizeBytes >= 0 {
		body = &exact{r: body, left: opts.SizeBytes, want: opts.SizeBytes}
	}
	o, err := s.driver.Put(ctx, bucket, key, body, opts)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, errWrongLength) {
			return Object{}, errs.InvalidArgument("OBJECT_LENGTH_MISMATCH", "object %q of bucket %q: the body does not have the %d bytes that were announced; nothing was written", key, bucket, opts.SizeBytes)
		}
		return Object{}, s.classify(err, "write object "+key, bucket, key)
	}
	o.Key = key
	return o, nil
}

// Get opens an object or a part of it. The caller closes the body. The returned size is that of the whole object.
func (s *Store) Get(ctx context.Context, bucket, key string, r Range) (io.ReadCloser, Object, error) {
	if err := errors.Join(checkBucket(bucket), checkKey(key), checkRange(r)); err != nil {
		return nil, Object{}, err
	}
	body, o, err := s.driver.Get(ctx, bucket, key, r)
	if err != nil {
		return nil, Object{}, s.classify(err, "read object "+key, bucket, key)
	}
	o.Key = key
	return body, o, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, bucket, key string) (Object, error) {
	if err := errors.Join(checkBucket(bucket), checkKey(key)); err != nil {
		return Object{}, err
	}
	o, err := s.driver.Stat(ctx, bucket, key)
	if err != nil {
		return Object{}, s.classify(err, "describe object "+key, bucket, key)
	}
	o.Key = key
	return o, nil
}

// List returns one page: at most limit objects whose keys start with prefix and are greater than after. The key to
// continue after is returned when there are more, else "".
func (s *Store) List(ctx context.Context, bucket, prefix, after string, limit int) (page []Object, next string, err error) {
	if err := checkBucket(bucket); err != nil {
		return nil, "", err
	}
	if limit <= 0 || limit > pageObjects {
		limit = pageObjects
	}
	page, more, err := s.driver.List(ctx, bucket, prefix, after, limit)
	if err != nil {
		return nil, "", s.classify(err, "list bucket "+bucket, bucket, "")
	}
	if more && len(page) > 0 {
		next = page[len(page)-1].Key
	}
	return page, next, nil
}

// Walk calls f for every object with the prefix, in order of the keys, until f returns an error.
func (s *Store) Walk(ctx context.Context, bucket, prefix string, f func(Object) error) error {
	after := ""
	for {
		page, next, err := s.List(ctx, bucket, prefix, after, pageObjects)
		if err != nil {
			return err
		}
		for _, o := range page {
			if err := f(o); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// Delete removes objects. Keys that do not exist are no error.
func (s *Store) Delete(ctx context.Context, bucket string, keys ...string) error {
	if err := checkBucket(bucket); err != nil {
		return err
	}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	for page := range slices.Chunk(keys, pageObjects) {
		if err := s.driver.Delete(ctx, bucket, page); err != nil {
			return s.classify(err, "delete objects of bucket "+bucket, bucket, "")
		}
	}
	return nil
}

// classify wraps a driver's error once.
func (s *Store) classify(err error, operation, bucket, key string) error {
	if err == nil {
		return nil
	}
	code := s.driver.ErrorCode(err)
	if errors.Is(err, context.Canceled) {
		code = codes.Canceled
	} else if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	var e *errs.Error
	switch code {
	case codes.NotFound:
		if key != "" {
			e = errs.NotFound("OBJECT_NOT_FOUND", "%s: there is no object %q in bucket %q", operation, key, bucket)
		} else {
			e = errs.NotFound("BUCKET_NOT_FOUND", "%s: there is no bucket %q", operation, bucket)
		}
	case codes.AlreadyExists:
		e = errs.AlreadyExists("OBJECT_EXISTS", "%s: it exists already", operation)
	case codes.FailedPrecondition:
		if key != "" {
			e = errs.FailedPrecondition("OBJECT_KEY_CONFLICT", "%s: an object of bucket %q stands in the way, because this store cannot hold both a key and keys below it (\"a\" and \"a/b\"); choose another key", operation, bucket)
		} else {
			e = errs.FailedPrecondition("BUCKET_NOT_EMPTY", "%s: the bucket still has objects; clean it first", operation)
		}
	case codes.InvalidArgument:
		e = errs.InvalidArgument("OBJECT_STORE_REJECTED", "%s: the store rejects the request: %s", operation, err.Error())
	case codes.OutOfRange:
		e = errs.OutOfRange("OBJECT_RANGE", "%s: the range starts behind the end of the object", operation)
	case codes.PermissionDenied:
		e = errs.PermissionDenied("OBJECT_ACCESS_DENIED", "%s: the account may not do this", operation)
	case codes.Unauthenticated:
		e = errs.Unauthenticated("OBJECT_CREDENTIALS", "%s: the store does not accept the credentials", operation)
	case codes.ResourceExhausted:
		if errors.Is(err, driver.ErrFull) {
			e = errs.ResourceExhausted(0, "OBJECT_STORE_FULL", "%s: the object store has no room left; free space on its disk or remove buckets that are not needed", operation)
			break
		}
		e = errs.ResourceExhausted(time.Second, "OBJECT_STORE_BUSY", "%s: the store asks to slow down", operation)
	case codes.Canceled:
		e = errs.Canceled("CANCELED", "%s: canceled", operation)
	case codes.DeadlineExceeded:
		e = errs.DeadlineExceeded("DEADLINE", "%s: the deadline passed", operation)
	case codes.Unavailable:
		e = errs.Unavailable("OBJECT_STORE_UNAVAILABLE", "%s: the object store cannot be reached", operation)
	case codes.Unimplemented:
		e = errs.Unimplemented("OBJECT_STORE_UNSUPPORTED", "%s: this store does not support it", operation)
	default:
		return fmt.Errorf("%s: %w", operation, err)
	}
	if bucket != "" {
		e = e.With("bucket", bucket)
	}
	if key != "" {
		e = e.With("key", key)
	}
	return e.Wrap(err)
}

func checkBucket(name string) error {
	switch {
	case name == "":
		return errs.Fields(errs.Field("bucket", "must not be empty"))
	case len(name) > 255, strings.ContainsAny(name, "/\\\x00"), name == ".", name == "..":
		return errs.Fields(errs.Field("bucket", "%q is no bucket name; use 3 to 63 lower case letters, digits, dots and dashes", name))
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return errs.Fields(errs.Field("key", "must not be empty"))
	case len(key) > MaxKeyBytes:
		return errs.Fields(errs.Field("key", "has %d bytes; the limit is %d", len(key), MaxKeyBytes))
	case !utf8.ValidString(key), strings.ContainsRune(key, 0):
		return errs.Fields(errs.Field("key", "%q is not valid UTF-8 without NUL", key))
	case strings.HasPrefix(key, "/"), strings.HasSuffix(key, "/"):
		return errs.Fields(errs.Field("key", "%q must not start or end with a slash", key))
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "." || part == ".." || part == "" {
			return errs.Fields(errs.Field("key", "%q has an empty part, \".\" or \"..\" between slashes", key))
		}
	}
	return nil
}

func checkRange(r Range) error {
	if r.OffsetBytes < 0 || r.LengthBytes < 0 {
		return errs.Fields(errs.Field("range", "offset and length must not be negative"))
	}
	return nil
}

var errWrongLength = errors.New("the body has another length than announced")

// exact passes on a body and fails at its end if the length is not the announced one.
type exact struct {
	r    io.Reader
	left int64
	want int64
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		// One more byte tells a longer body from one that ends here.
		var one [1]byte
		for {
			n, err := e.r.Read(one[:])
			switch {
			case n > 0:
				return 0, errWrongLength
			case err != nil:
				return 0, err
			}
		}
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		return n, errWrongLength
	}
	return n, err
}
