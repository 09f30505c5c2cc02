package operations

import (
	"context"
	"strconv"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	waitRound    = 20 * time.Second
	waitMargin   = 10 * time.Second
	retryPause   = 500 * time.Millisecond
	retryAtMost  = 2 * time.Minute
	fallbackPoll = 200 * time.Millisecond
)

// Wait follows an operation until it is done or ctx ends. onProgress, which may be nil, is called with every state that is
// new. The operation's error is returned as an error of package errs; otherwise the operation is done and has a response.
// A server that is away for a short time does not end the wait.
func Wait(ctx context.Context, client longrunningpb.OperationsClient, op *longrunningpb.Operation,
	onProgress func(*longrunningpb.Operation),
) (*longrunningpb.Operation, error) {
	name := op.GetName()
	seen := "1"
	var failing time.Time
	report(onProgress, op)
	for !op.GetDone() {
		var header metadata.MD
		round, cancel := context.WithTimeout(ctx, waitRound+waitMargin)
		round = metadata.AppendToOutgoingContext(round, revisionHeader, seen)
		next, err := client.WaitOperation(round, &longrunningpb.WaitOperationRequest{
			Name:    name,
			Timeout: durationpb.New(waitRound),
		}, grpc.Header(&header))
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return op, ctx.Err()
			}
			err = errs.FromStatus(err)
			if failing.IsZero() {
				failing = time.Now()
			}
			if !transient(err) || time.Since(failing) > retryAtMost {
				return op, err
			}
			if err := pause(ctx, retryPause); err != nil {
				return op, err
			}
			continue
		}
		failing = time.Time{}
		changed := !proto.Equal(op.GetMetadata(), next.GetMetadata())
		op = next
		if revisions := header.Get(revisionHeader); len(revisions) > 0 {
			seen = newer(seen, revisions[0])
		} else if err := pause(ctx, fallbackPoll); err != nil && !op.GetDone() {
			return op, err
		}
		if changed || op.GetDone() {
			report(onProgress, op)
		}
	}
	return op, errs.FromProto(op.GetError())
}

// Result decodes the response of an operation that is done.
func Result(op *longrunningpb.Operation, into proto.Message) error {
	if err := errs.FromProto(op.GetError()); err != nil {
		return err
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		return errs.DataLoss("OPERATION_MALFORMED", "the response of %s is not readable: %v", op.GetName(), err)
	}
	return nil
}

func report(onProgress func(*longrunningpb.Operation), op *longrunningpb.Operation) {
	if onProgress != nil {
		onProgress(op)
	}
}

func transient(err error) bool {
	return errs.Is(err, codes.Unavailable) || errs.Is(err, codes.DeadlineExceeded)
}

func newer(seen, got string) string {
	a, errA := strconv.ParseInt(seen, 10, 64)
	b, errB := strconv.ParseInt(got, 10, 64)
	if errA == nil && errB == nil && b > a {
		return got
	}
	return seen
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
