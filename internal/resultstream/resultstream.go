// Package resultstream is the contract between invokers and the metrics service: the JetStream stream on which batches of
// invocation records (sebs.type.v1.InvocationBatch) travel, compressed with zstd.
package resultstream

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

const (
	// Name is the stream's name.
	Name = "SEBS_RESULTS"
	// SubjectPrefix is followed by `<run id>.<invoker>`.
	SubjectPrefix = "sebs.v1.results."

	maxAge   = 7 * 24 * time.Hour
	maxBytes = 4 << 30
)

// Config is the configuration of the stream, which whoever comes first makes: an invoker or the metrics service. A full
// stream refuses new batches, so that nothing unread is dropped; they stay in the invokers' spools.
func Config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        Name,
		Description: "invocation records on their way to the metrics service",
		Subjects:    []string{SubjectPrefix + ">"},
		MaxAge:      maxAge,
		MaxBytes:    maxBytes,
		Discard:     jetstream.DiscardNew,
	}
}

// Address returns the subject of a batch and its message id, by which the stream takes it once.
func Address(batch *typev1.InvocationBatch) (subject, messageID string) {
	run := strings.TrimPrefix(batch.GetRun(), "runs/")
	invoker := strings.TrimPrefix(batch.GetInvoker(), "invokers/")
	return SubjectPrefix + run + "." + invoker, fmt.Sprintf("%s/%s/%d", run, invoker, batch.GetBatch())
}
