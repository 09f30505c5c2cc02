package invoker

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	"github.com/sebs-suite/sebs/internal/cache"
)

// Registration in etcd.
const (
	invokersPrefix  = "invokers/"
	registrationTTL = 10 * time.Second
	// tellInterval is how often the number of calls in flight is told, where it changed.
	tellInterval = 2 * time.Second
)

// Lease is a record in etcd that lives as long as its process.
type Lease interface {
	Update(ctx context.Context, m proto.Message) error
	Close(ctx context.Context) error
}

// Describe returns what the invoker tells about itself.
func (i *Invoker) Describe(address, version string, started time.Time) *invokerv1.Invoker {
	return &invokerv1.Invoker{
		Name:      i.id,
		Address:   address,
		Capacity:  int32(min(i.capacity, 1<<30)), //nolint:gosec // Bounded on the left.
		InFlight:  int32(min(i.busy.Load(), 1<<30)),
		StartTime: timestamppb.New(started),
		Version:   version,
	}
}

// Tell keeps the registration's number of calls in flight true until ctx ends.
func (i *Invoker) Tell(ctx context.Context, lease Lease, self *invokerv1.Invoker) error {
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := int32(min(i.busy.Load(), 1<<30))
		if now == self.GetInFlight() {
			continue
		}
		self.InFlight = now
		if err := lease.Update(ctx, self); err != nil && ctx.Err() == nil {
			i.log.Debug("the number of calls in flight could not be told", "error", err)
		}
	}
}

// listInvokers reads the registrations.
func listInvokers(ctx context.Context, records Records) ([]*invokerv1.Invoker, error) {
	var invokers []*invokerv1.Invoker
	err := records.List(ctx, invokersPrefix, func(_ string, _ int64, raw []byte) error {
		invoker := &invokerv1.Invoker{}
		if err := cache.Unmarshal(raw, invoker); err != nil {
			return err
		}
		invokers = append(invokers, invoker)
		return nil
	})
	return invokers, err
}
