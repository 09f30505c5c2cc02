package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"
)

// digestMetadata is the object metadata that holds the SHA-256 which the uploader announced and the service checked.
const digestMetadata = "sebs-sha256"

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// upload says where and how to store an object.
type upload struct {
	deployment  deployment
	bucket, key string
	// sizeBytes is -1 when not known.
	sizeBytes   int64
	contentType string
	// keep leaves an object that exists as it is.
	keep bool
	// sha256 is checked when not empty.
	sha256 string
}

// put stores an object from a stream. skipped tells that it existed and was left as it is.
func (s *Service) put(ctx context.Context, u upload, body io.Reader) (o object.Object, skipped bool, err error) {
	_, store, err := s.objects(ctx, u.deployment)
	if err != nil {
		return object.Object{}, false, err
	}
	if u.keep {
		o, err := store.Store.Stat(ctx, u.bucket, u.key)
		if err == nil {
			return o, true, nil
		}
		if !errs.Is(err, codes.NotFound) {
			return object.Object{}, false, err
		}
	}
	opts := object.PutOptions{SizeBytes: u.sizeBytes, ContentType: u.contentType}
	if u.sha256 != "" {
		if !hexDigest.MatchString(u.sha256) {
			return object.Object{}, false, errs.Fields(errs.Field("sha256", "must be 64 lower case hex digits"))
		}
		opts.Metadata = map[string]string{digestMetadata: u.sha256}
		body = &verified{r: body, sum: sha256.New(), want: u.sha256}
	}
	o, err = store.Store.Put(ctx, u.bucket, u.key, body, opts)
	if errors.Is(err, errDigest) {
		return object.Object{}, false, errs.InvalidArgument("OBJECT_DIGEST_MISMATCH", "object %q: the content does not have the announced SHA-256; nothing was written", u.key).With("key", u.key)
	}
	return o, false, err
}

var errDigest = errors.New("the content has another digest than announced")

// verified passes on a body and fails at its end if the digest is not the announced one.
type verified struct {
	r    io.Reader
	sum  hash.Hash
	want string
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(v.sum.Sum(nil)) != v.want {
		return n, errDigest
	}
	return n, err
}

// get opens an object or a range of it.
func (s *Service) get(ctx context.Context, d deployment, bucket, key string, r object.Range) (io.ReadCloser, object.Object, error) {
	_, store, err := s.objects(ctx, d)
	if err != nil {
		return nil, object.Object{}, err
	}
	return store.Store.Get(ctx, bucket, key, r)
}

// stat describes an object.
func (s *Service) stat(ctx context.Context, d deployment, bucket, key string) (object.Object, error) {
	_, store, err := s.objects(ctx, d)
	if err != nil {
		return object.Object{}, err
	}
	return store.Store.Stat(ctx, bucket, key)
}

// list returns a page of objects and the key to continue after.
func (s *Service) list(ctx context.Context, d deployment, bucket, prefix, after string, limit int) ([]object.Object, string, error) {
	_, store, err := s.objects(ctx, d)
	if err != nil {
		return nil, "", err
	}
	return store.Store.List(ctx, bucket, prefix, after, limit)
}

// remove deletes an object; one that is not there is no error.
func (s *Service) remove(ctx context.Context, d deployment, bucket, key string) error {
	_, store, err := s.objects(ctx, d)
	if err != nil {
		return err
	}
	return store.Store.Delete(ctx, bucket, key)
}

// owned is an object that the reader of a bucket has already.
type owned struct {
	sizeBytes            int64
	etag, sha256, crc32c string
}

// same tells whether an object has the content that the reader has: the same size and the same checksum of a kind
// that both know.
func (h owned) same(o object.Object) bool {
	if h.sizeBytes != o.SizeBytes {
		return false
	}
	switch stored := o.Metadata[digestMetadata]; {
	case h.sha256 != "" && stored != "":
		return h.sha256 == stored
	case h.crc32c != "" && o.CRC32C != "":
		return h.crc32c == o.CRC32C
	}
	return h.etag != "" && h.etag == o.ETag
}

// readBucket calls f with every object of a bucket under a prefix, sub-folders included, that the reader does not
// have yet, in order of the keys. f must read or close the body before it returns.
func (s *Service) readBucket(ctx context.Context, d deployment, bucket, prefix string, have map[string]owned, f func(object.Object, io.Reader) error) error {
	_, store, err := s.objects(ctx, d)
	if err != nil {
		return err
	}
	return store.Store.Walk(ctx, bucket, prefix, func(listed object.Object) error {
		if h, ok := have[listed.Key]; ok && h.sizeBytes == listed.SizeBytes {
			o, err := store.Store.Stat(ctx, bucket, listed.Key)
			if errs.Is(err, codes.NotFound) {
				return nil // removed since it was listed
			}
			if err != nil {
				return err
			}
			if h.same(o) {
				return nil
			}
		}
		body, o, err := store.Store.Get(ctx, bucket, listed.Key, object.Range{})
		if errs.Is(err, codes.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f(o, body), body.Close()); err != nil {
			return fmt.Errorf("read object %s: %w", listed.Key, err)
		}
		return nil
	})
}
