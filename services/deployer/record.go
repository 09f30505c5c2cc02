package deployer

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Attributes of a function's record that hold the platform's own identifier, the entry
// point, and what the function has rights to.
const (
	attributeHandle  = "handle"
	attributeHandler = "handler"
	attributeGrants  = "grants"
)

// labelExpires is the label of a function with the time, as RFC 3339 has it, after which
// its deployment may be removed.
const labelExpires = "expires"

// recordOf returns the record of a function as the platform reports it. What only
// the record knew before is kept.
func recordOf(name functionName, actual driver.Function, before *typev1.Function) *typev1.Function {
	record := &typev1.Function{}
	if before != nil {
		record = proto.CloneOf(before)
	}
	record.Name = name.String()
	record.State = typev1.Function_STATE_ACTIVE
	record.CodeHash = actual.Digest
	if actual.Benchmark != "" {
		record.Benchmark = actual.Benchmark
	}
	record.Config = configProto(actual.Config, before.GetConfig().GetSystemVariant())
	for variable, value := range record.Config.GetEnvironment() {
		// A platform may keep values to itself; then the record has them.
		if value == "" {
			record.Config.Environment[variable] = before.GetConfig().GetEnvironment()[variable]
		}
	}
	record.SecretEnvironment = actual.Config.Secrets
	if record.PlatformAttributes == nil {
		record.PlatformAttributes = make(map[string]string)
	}
	for key, value := range actual.Attributes {
		record.PlatformAttributes[key] = value
	}
	storesOf(actual.Labels).mark(record.PlatformAttributes)
	if actual.Config.Handler != "" {
		record.PlatformAttributes[attributeHandler] = actual.Config.Handler
	}
	if actual.Handle != "" {
		record.PlatformAttributes[attributeHandle] = actual.Handle
	}
	if before == nil {
		for _, trigger := range actual.Triggers {
			record.Triggers = append(record.Triggers, triggerProto(name, trigger))
		}
	}
	record.CreateTime = stampOr(actual.Created, record.GetCreateTime())
	record.UpdateTime = stampOr(actual.Updated, timestamppb.Now())
	record.Etag = ""
	return record
}

func stampOr(t time.Time, otherwise *timestamppb.Timestamp) *timestamppb.Timestamp {
	switch {
	case !t.IsZero():
		return timestamppb.New(t)
	case otherwise != nil:
		return otherwise
	}
	return timestamppb.Now()
}

// save writes the record over the one that was seen.
func (d *Deployer) save(ctx context.Context, name functionName, seen observed, record *typev1.Function) error {
	record.Etag = ""
	var (
		revision int64
		err      error
	)
	if seen.record == nil {
		revision, err = d.records.Create(ctx, name.key(), record)
	} else {
		revision, err = d.records.CompareAndSwap(ctx, name.key(), seen.revision, record)
	}
	if errs.Is(err, codes.AlreadyExists) {
		err = errs.Aborted("FUNCTION_CHANGED", "another process recorded function %s; repeat the call", name.ID).Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("record function %s: %w", name.ID, err)
	}
	record.Etag = strconv.FormatInt(revision, 10)
	return nil
}

// failed notes in the record that a change failed and returns the failure. A record
// that cannot be written does not hide it.
func (d *Deployer) failed(ctx context.Context, name functionName, seen observed, failure error) error {
	if seen.record == nil {
		return failure
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	record := proto.CloneOf(seen.record)
	record.State = typev1.Function_STATE_FAILED
	if err := d.save(ctx, name, seen, record); err != nil {
		d.log.WarnContext(ctx, "record a failed change", "function", name.String(), "error", err)
	}
	return failure
}

// getFunction reads a record.
func (d *Deployer) getFunction(ctx context.Context, name functionName) (*typev1.Function, int64, error) {
	if err := d.platforms.table.Check(name.Deployment.Platform); err != nil {
		return nil, 0, err
	}
	record := &typev1.Function{}
	revision, err := d.records.Get(ctx, name.key(), record)
	if errs.Is(err, codes.NotFound) {
		return nil, 0, errs.NotFound("FUNCTION_NOT_FOUND",
			"function %s does not exist in deployment %s on platform %s; list the deployment's functions",
			name.ID, name.Deployment.ID, name.Deployment.Platform).Resource("sebs.Function", name.String())
	}
	if err != nil {
		return nil, 0, err
	}
	record.Etag = strconv.FormatInt(revision, 10)
	return record, revision, nil
}
