package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// readReference reads what a message names by reference: a bucket's resource name, `/objects/` and a key.
func readReference(ctx context.Context, s *session, ref string) ([]byte, error) {
	bucket, key, ok := strings.Cut(ref, "/objects/")
	if !ok {
		return nil, fmt.Errorf("read %q: not a reference into the object store", ref)
	}
	stream, err := storagev1.NewStorageServiceClient(s.conn).DownloadObject(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: key})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	var content bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return content.Bytes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, errs.FromStatus(err))
		}
		content.Write(part.GetChunk())
	}
}
