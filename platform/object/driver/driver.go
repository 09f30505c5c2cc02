// Package driver is what an object store must offer to stand behind object.Store.
//
// Drivers do not validate names, do not retry beyond what their client library does, and return the errors of that
// library; object.Store validates, counts bytes, and turns errors into the suite's own with ErrorCode.
package driver

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
)

// ErrFull is the cause of a write that failed because the store has no room left; its code is ResourceExhausted.
var ErrFull = errors.New("the store is full")

// Bucket is one bucket of a listing.
type Bucket struct {
	Name    string
	Created time.Time
}

// Object describes one object.
type Object struct {
	Key       string
	SizeBytes int64
	// ETag is the store's own tag of the content, without quotes. It is no checksum of a known kind.
	ETag     string
	Modified time.Time
	// ContentType is empty in listings.
	ContentType string
	// CRC32C is the Castagnoli checksum of the whole content in base64 (big endian), as S3 writes it. It is empty in
	// listings, and where the store keeps none.
	CRC32C string
	// Metadata are the user's own pairs, with lower-case names. Nil in listings.
	Metadata map[string]string
}

// PutOptions describe the object to write.
type PutOptions struct {
	// SizeBytes is the length of the body, or -1 when it is not known.
	SizeBytes   int64
	ContentType string
	Metadata    map[string]string
	// IfAbsent makes the write fail with codes.AlreadyExists when the key exists.
	IfAbsent bool
}

// Range is a part of an object. The zero Range is the whole object.
type Range struct {
	OffsetBytes int64
	// LengthBytes is the number of bytes wanted; 0 means up to the end.
	LengthBytes int64
}

// Store is one account of one object store. All methods may be called by many goroutines at once.
type Store interface {
	// CreateBucket makes a bucket; codes.AlreadyExists when there is one of that name, own or not.
	CreateBucket(ctx context.Context, name string) error
	// BucketExists tells whether the account can see a bucket of that name.
	BucketExists(ctx context.Context, name string) (bool, error)
	// ListBuckets lists the account's buckets in any order.
	ListBuckets(ctx context.Context) ([]Bucket, error)
	// RemoveBucket removes an empty bucket; codes.NotFound when there is none, codes.FailedPrecondition when it is
	// not empty.
	RemoveBucket(ctx context.Context, name string) error

	// Put writes an object from a stream, in bounded memory. The object appears as a whole or not at all.
	Put(ctx context.Context, bucket, key string, body io.Reader, opts PutOptions) (Object, error)
	// Get opens an object or a part of it; the caller closes the body. The Object's SizeBytes is that of the whole
	// object. codes.OutOfRange when the range starts behind the end.
	Get(ctx context.Context, bucket, key string, r Range) (io.ReadCloser, Object, error)
	// Stat describes an object.
	Stat(ctx context.Context, bucket, key string) (Object, error)
	// List returns up to limit objects in ascending order of their keys (as bytes), all starting with prefix and
	// behind the key after. More tells whether there are further ones.
	List(ctx context.Context, bucket, prefix, after string, limit int) (objects []Object, more bool, err error)
	// Delete removes objects; keys that do not exist are no error.
	Delete(ctx context.Context, bucket string, keys []string) error

	// CorrectName turns a wanted bucket name into one that the store accepts, by the store's rules.
	CorrectName(name string) string
	// ErrorCode classifies an error that one of the other methods returned.
	ErrorCode(err error) codes.Code
	// Close releases connections.
	Close() error
}
