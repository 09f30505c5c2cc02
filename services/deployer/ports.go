package deployer

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/events"
)

// Records is what the deployer needs of the shared state.
type Records interface {
	Get(ctx context.Context, key string, into proto.Message) (rev int64, err error)
	Create(ctx context.Context, key string, m proto.Message) (rev int64, err error)
	CompareAndSwap(ctx context.Context, key string, rev int64, m proto.Message) (newRev int64, err error)
	Update(ctx context.Context, key string, m proto.Message, create bool, change func() error) (int64, error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string, each func(key string, rev int64, raw []byte) error) error
	Increment(ctx context.Context, key string) (int64, error)
	LockContext(ctx context.Context, what string) (held context.Context, unlock func(), err error)
}

// Publisher tells facts to whoever listens.
type Publisher interface {
	Publish(ctx context.Context, subject string, m proto.Message, msgID string, opts ...events.PublishOption) error
}

// Progress is told how far a change is.
type Progress func(phase, message string)
