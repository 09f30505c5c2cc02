package deployer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// getPackage returns a package of the platform.
func (d *Deployer) getPackage(ctx context.Context, field, name, platform string) (*builderv1.Package, error) {
	if err := checkPackage(field, name); err != nil {
		return nil, err
	}
	pkg, err := d.builder.GetPackage(ctx, &builderv1.GetPackageRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("get package: %w", err)
	}
	if pkg.GetPlatform() != platform {
		return nil, errs.Fields(errs.Field(field, "is built for platform %s, not for %s; build a package for that platform", pkg.GetPlatform(), platform))
	}
	return pkg, nil
}

// codeOf returns the package's code, which is read from the object store when the
// platform asks for it.
func (d *Deployer) codeOf(pkg *builderv1.Package) driver.Code {
	return driver.Code{
		Digest:        pkg.GetDigest(),
		ContentSHA256: pkg.GetArchiveSha256(),
		SizeBytes:     pkg.GetSizeBytes(),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			return openObject(ctx, d.storage, pkg.GetBucket(), pkg.GetObjectKey())
		},
	}
}

// openObject starts to read an object. The first message is awaited, so that an
// object that is not there fails here.
func openObject(ctx context.Context, storage storagev1.StorageServiceClient, bucket, key string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := storage.DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err == nil {
		var first *storagev1.DownloadObjectResponse
		if first, err = stream.Recv(); err == nil {
			return &objectReader{stream: stream, cancel: cancel, rest: first.GetChunk()}, nil
		}
	}
	cancel()
	if errors.Is(err, io.EOF) {
		return nil, errs.Internal(fmt.Errorf("download %s of bucket %s: the stream is empty", key, bucket))
	}
	if errs.Is(err, codes.NotFound) {
		return nil, errs.FailedPrecondition("PACKAGE_ARCHIVE_MISSING",
			"the archive %s is gone from bucket %s; build the package again with --update-code", key, bucket).Wrap(err)
	}
	return nil, fmt.Errorf("download %s of bucket %s: %w", key, bucket, err)
}

// objectReader reads the chunks of a download.
type objectReader struct {
	stream grpc.ServerStreamingClient[storagev1.DownloadObjectResponse]
	cancel context.CancelFunc
	rest   []byte
}

// Read implements io.Reader.
func (r *objectReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		message, err := r.stream.Recv()
		if err != nil {
			return 0, err
		}
		r.rest = message.GetChunk()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends the download.
func (r *objectReader) Close() error {
	r.cancel()
	return nil
}
