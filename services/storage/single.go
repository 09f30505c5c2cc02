package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// embeddedKey is where the process that runs the embedded object store is registered.
	embeddedKey = "stores/objects"
	// embeddedTTL is how long a store that ended without notice stays registered.
	embeddedTTL = 10 * time.Second
)

// claimEmbedded registers this process's embedded object store as the suite's only one. A second one, which lies in
// another directory, would hold other objects under the same names: it is refused. The same store coming back after a
// crash is let in at once.
func claimEmbedded(ctx context.Context, c *cache.Store, accessKey string) (*cache.Registration, error) {
	sum := sha256.Sum256([]byte(accessKey))
	identity := hex.EncodeToString(sum[:8])
	unlock, err := c.Lock(ctx, "stores-objects")
	if err != nil {
		return nil, fmt.Errorf("claim the embedded object store: %w", err)
	}
	defer unlock()
	var other wrapperspb.StringValue
	_, err = c.Get(ctx, embeddedKey, &other)
	if err != nil && !errs.Is(err, codes.NotFound) {
		return nil, fmt.Errorf("look for another object store: %w", err)
	}
	if err == nil && other.GetValue() != identity {
		return nil, errs.FailedPrecondition("OBJECT_STORE_ELSEWHERE", "another storage process of this suite runs an embedded object store, whose objects this one would not have; give both an S3 store as storage.platforms.local.object.endpoint, or run one storage process (one that has just been killed is forgotten after %s)", embeddedTTL)
	}
	registered, err := c.Register(ctx, embeddedKey, wrapperspb.String(identity), embeddedTTL)
	if err != nil {
		return nil, fmt.Errorf("claim the embedded object store: %w", err)
	}
	return registered, nil
}
