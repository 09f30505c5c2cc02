package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// files stores buckets as directories below root. It hands every call to versitygw's file backend with the bucket's
// absolute path in place of its name, and puts the name back into answers and errors. Calls that it does not pass on
// answer NotImplemented.
type files struct {
	backend.BackendUnsupported
	posix *posix.Posix
	meta  meta.MetadataStorer
	root  string
}

var _ backend.Backend = (*files)(nil)

const aclAttribute = "acl"

// openFiles opens the data directory. Object attributes are kept as extended attributes where the file system has
// them, else, or when asked for, in files of a directory beside the data.
func openFiles(dir string, attributesInFiles bool) (*files, error) {
	root := filepath.Join(dir, "data")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make object store directory: %w", err)
	}
	opts := posix.PosixOpts{Concurrency: 256, IOBufferSize: 256 << 10}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	var attributes meta.MetadataStorer = meta.XattrMeta{}
	if attributesInFiles || (meta.XattrMeta{}).Test(root) != nil {
		side := filepath.Join(dir, "attributes")
		if err := os.MkdirAll(side, 0o700); err != nil {
			return nil, fmt.Errorf("make object attribute directory: %w", err)
		}
		sidecar, err := meta.NewSideCar(side)
		if err != nil {
			return nil, fmt.Errorf("open object attribute directory: %w", err)
		}
		attributes = sidecar
	}
	var p *posix.Posix
	// The backend changes the working directory when it is made, and needs it only for relative bucket names, which
	// it never gets from here.
	err := keepWorkingDirectory(func() error {
		var err error
		p, err = posix.New(root, attributes, opts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open object store directory %s: %w", root, err)
	}
	return &files{posix: p, meta: attributes, root: root}, nil
}

func (f *files) path(bucket string) string { return filepath.Join(f.root, bucket) }

func (f *files) pathPtr(bucket *string) *string {
	if bucket == nil {
		return nil
	}
	p := f.path(*bucket)
	return &p
}

// outside replaces the absolute path in an error by the bucket's name, so that clients do not learn where data lies.
func (f *files) outside(err error) error {
	var be s3err.BucketError
	if errors.As(err, &be) {
		be.BucketName = filepath.Base(be.BucketName)
		return be
	}
	return err
}

// Shutdown implements backend.Backend.
func (f *files) Shutdown() { f.posix.Shutdown() }

// String implements backend.Backend.
func (f *files) String() string { return "sebs object store" }

// NormalizeObjectKey implements backend.Backend.
func (f *files) NormalizeObjectKey(bucket, object string) string {
	return f.posix.NormalizeObjectKey(f.path(bucket), object)
}

// ListBuckets implements backend.Backend.
func (f *files) ListBuckets(_ context.Context, in s3response.ListBucketsInput) (s3response.ListAllMyBucketsResult, error) {
	names, err := f.buckets()
	if err != nil {
		return s3response.ListAllMyBucketsResult{}, err
	}
	out := s3response.ListAllMyBucketsResult{Owner: s3response.CanonicalUser{ID: in.Owner}, Prefix: in.Prefix}
	for _, e := range names {
		if !strings.HasPrefix(e.Name, in.Prefix) || e.Name <= in.ContinuationToken {
			continue
		}
		if !in.IsAdmin {
			owner, err := f.owner(e.Name)
			if err != nil {
				return s3response.ListAllMyBucketsResult{}, err
			}
			if owner != in.Owner {
				continue
			}
		}
		if n := len(out.Buckets.Bucket); n > 0 && n == int(in.MaxBuckets) {
			out.ContinuationToken = out.Buckets.Bucket[n-1].Name
			break
		}
		out.Buckets.Bucket = append(out.Buckets.Bucket, e)
	}
	return out, nil
}

// buckets lists all buckets by name.
func (f *files) buckets() ([]s3response.ListAllMyBucketsEntry, error) {
	entries, err := os.ReadDir(f.root)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var out []s3response.ListAllMyBucketsEntry
	for _, e := range entries {
		if !e.IsDir() || !utils.IsValidBucketName(e.Name()) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err != nil {
			return nil, fmt.Errorf("list buckets: %w", err)
		}
		out = append(out, s3response.ListAllMyBucketsEntry{Name: e.Name(), CreationDate: info.ModTime()})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func (f *files) owner(bucket string) (string, error) {
	raw, err := f.meta.RetrieveAttribute(nil, f.path(bucket), "", aclAttribute)
	if errors.Is(err, meta.ErrNoSuchKey) || errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the owner of bucket %s: %w", bucket, err)
	}
	var acl auth.ACL
	if err := json.Unmarshal(raw, &acl); err != nil {
		return "", fmt.Errorf("read the owner of bucket %s: %w", bucket, err)
	}
	return acl.Owner, nil
}

// ListBucketsAndOwners implements backend.Backend.
func (f *files) ListBucketsAndOwners(context.Context) ([]s3response.Bucket, error) {
	names, err := f.buckets()
	if err != nil {
		return nil, err
	}
	out := make([]s3response.Bucket, 0, len(names))
	for _, e := range names {
		owner, err := f.owner(e.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, s3response.Bucket{Name: e.Name, Owner: owner})
	}
	return out, nil
}

// HeadBucket implements backend.Backend.
func (f *files) HeadBucket(ctx context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.HeadBucket(ctx, &c)
	return out, f.outside(err)
}

// GetBucketAcl implements backend.Backend.
//
//nolint:staticcheck // the interface spells it so
func (f *files) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	out, err := f.posix.GetBucketAcl(ctx, &c)
	return out, f.outside(err)
}

// CreateBucket implements backend.Backend.
func (f *files) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	c := *in
	c.Bucket = f.pathPtr(in.Bucket)
	return f.outside(f.posix.CreateBucket(ctx, &c, acl))
}

// PutBucketAcl implements backend.Backend.
//
//nolint:staticcheck // the interface spells it so
func (f *files) PutBucketAcl(ctx context.Context, bucket string, data []byte) error {
	return f.outside(f.posix.PutBucketAcl(ctx, f.path(bucket), data))
}

// DeleteBucket implements backend.Backend.
func (f *files) DeleteBucket(ctx context.Context, bucket string) error {
	return f.outside(f.posix.DeleteBucket(ctx, f.path(bucket)))
}

// GetBucketVersioning implements backend.Backend.
func (f *files) GetBucketVersioning(ctx context.Context, bucket string) (s3response.GetBucketVersioningOutput, error) {
	out, err := f.posix.GetBucketVersioning(ctx, f.path(bucket))
	return out, f.outside(err)
}

// PutBucketPolicy implements backend.Backend.
func (f *files) PutBucketPolicy(ctx context.Context, bucket string, policy []byte) error {
	return f.outside(f.posix.PutBucketPolicy(ctx, f.path(bucket), policy))
}

// GetBucketPolicy implements backend.Backend.
func (f *files) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	out, err := f.posix.GetBucketPolicy(ctx, f.path(bucket))
	return out, f.outside(err)
}

// DeleteBucketPolicy implements backend.Backend.
func (f *files) DeleteBucketPolicy(ctx context.Context, bucket string) error {
	return f.outside(f.posix.DeleteBucketPolicy(ctx, f.path(bucket)))
}

// GetBucketOwnershipControls implements backend.Backend.
func (f *files) GetBucketOwnershipControls(ctx context.Context, bucket string) (types.ObjectOwnership, error) {
	out, err := f.posix.GetBucketOwnershipControls(ctx, f.path(bucket))
	return out, f.outside(err)
}

// GetBucketCors implements backend.Backend.
func (f *files) GetBucketCors(ctx context.Context, bucket string) ([]byte, error) {
	out, err := f.posix.GetBucketCors(ctx, f.path(bucket))
	return out, f.outside(err)
}

// GetBucketTagging implements backend.Backend.
func (f *files) GetBucketTagging(ctx context.Context, bucket string) (map[string]string, error) {
	out, err := f.posix.GetBucketTagging(ctx, f.path(bucket))
	return out, f.outside(err)
}

// PutBucketTagging implements backend.Backend.
func (f *files) PutBucketTagging(ctx context.Context, bucket string, tags map[string]string) error {
	return f.outside(f.posix.PutBucketTagging(ctx, f.path(bucket), tags))
}

// DeleteBucketTagging implements backend.Backend.
func (f *files) DeleteBucketTagging(ctx context.Context, bucket string) error {
	return f.outside(f.posix.DeleteBucketTagging(ctx, f.path(bucket)))
}

// GetObjectLockConfiguration implements backend.Backend.
func (f *files) GetObjectLockConfiguration(ctx context.Context, bucket string) ([]byte, error) {
	out, err := f.posix.GetObjectLockConfiguration(ctx, f.path(bucket))
	return out, f.outside(err)
}
