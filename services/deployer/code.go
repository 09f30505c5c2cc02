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
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// stageChunkBytes is the size of one message of a copy.
const stageChunkBytes = 512 << 10

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

// codeOf returns the package's code: an image, or an archive that is read from the
// object store when the platform asks for it.
func (d *Deployer) codeOf(name deploymentName, pkg *builderv1.Package) driver.Code {
	code := driver.Code{Digest: pkg.GetDigest(), ImageURI: pkg.GetImageUri()}
	if code.ImageURI != "" {
		return code
	}
	code.ContentSHA256, code.SizeBytes = pkg.GetArchiveSha256(), pkg.GetSizeBytes()
	code.Open = func(ctx context.Context) (io.ReadCloser, error) {
		return openObject(ctx, d.storage, pkg.GetBucket(), pkg.GetObjectKey())
	}
	code.Stage = func(ctx context.Context) (string, string, error) { return d.stage(ctx, name, pkg) }
	return code
}

// stagedKey is where a package's archive lies in the bucket of the role DEPLOYMENT. SeBS
// has the benchmark and the architecture in front as well.
func stagedKey(pkg *builderv1.Package) string {
	return fmt.Sprintf("%s/%s/%s.zip", pkg.GetBenchmark(), driver.ArchitectureFromProto(pkg.GetArchitecture()), pkg.GetDigest())
}

// stage copies the archive into the deployment's bucket for code, from which the
// platform can read it. An archive that lies there already is left: its key names its
// content.
func (d *Deployer) stage(ctx context.Context, name deploymentName, pkg *builderv1.Package) (bucket, key string, err error) {
	deployment, err := d.withBucket(ctx, name, typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT)
	if err != nil {
		return "", "", err
	}
	bucket, key = bucketOf(deployment, typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT), stagedKey(pkg)
	archive, err := openObject(ctx, d.storage, pkg.GetBucket(), pkg.GetObjectKey())
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	upload, err := d.storage.UploadObject(ctx)
	if err != nil {
		return "", "", fmt.Errorf("upload %s to bucket %s: %w", key, bucket, err)
	}
	size, replace := pkg.GetSizeBytes(), false
	target := &storagev1.UploadTarget{
		Bucket: name.String() + "/buckets/" + bucket, Key: key, ContentType: "application/zip", ReplaceExisting: &replace,
		Sha256: pkg.GetArchiveSha256(),
	}
	if size > 0 {
		target.SizeBytes = &size
	}
	err = upload.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Target{Target: target}})
	chunk := make([]byte, stageChunkBytes)
	for err == nil {
		var n int
		if n, err = archive.Read(chunk); n > 0 {
			if sent := upload.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: chunk[:n]}}); sent != nil {
				err = sent
			}
		}
	}
	// The receiver ends the stream early where the object is there already, or with the reason of a refusal.
	if !errors.Is(err, io.EOF) {
		return "", "", fmt.Errorf("read %s of bucket %s: %w", pkg.GetObjectKey(), pkg.GetBucket(), err)
	}
	if _, err := upload.CloseAndRecv(); err != nil {
		return "", "", fmt.Errorf("upload %s to bucket %s: %w", key, bucket, err)
	}
	return bucket, key, nil
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
