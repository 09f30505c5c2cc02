package builder

import (
	"context"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/operations"
)

// Records are the suite's shared state.
type Records interface {
	Get(ctx context.Context, key string, into proto.Message) (rev int64, err error)
	Put(ctx context.Context, key string, m proto.Message) (rev int64, err error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string, each func(key string, rev int64, raw []byte) error) error
	Lock(ctx context.Context, what string) (unlock func(), err error)
}

// Starter starts long-running operations.
type Starter interface {
	Start(ctx context.Context, spec operations.Spec, run operations.Run) (*longrunningpb.Operation, error)
}

// Teller tells facts to other services.
type Teller interface {
	Tell(ctx context.Context, event string, fact proto.Message, id string) error
}
