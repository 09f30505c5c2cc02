package cache

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sebs-suite/sebs/internal/errs"
)

// EventType says what happened to a record.
type EventType int

// Kinds of events.
const (
	// EventPut: the record was created or changed.
	EventPut EventType = iota + 1
	// EventDelete: the record was deleted or its lease ended.
	EventDelete
	// EventResync: changes were missed because etcd was away for long; list again.
	EventResync
)

// Event is one change of a record.
type Event struct {
	Type EventType
	// Key is relative to [Prefix].
	Key string
	// Revision is the record's revision after the change.
	Revision int64
	// Value is the JSON form of the record, nil when it was deleted. Decode it with [Unmarshal].
	Value []byte
}

// watchReady bounds the wait for etcd's word that a watch stands.
const watchReady = 5 * time.Second

// Watch delivers the changes below prefix from now on: a change made after Watch returned is delivered. To see the state
// and its changes without a gap, watch first and list then. The channel closes when ctx or the store ends. The reader must
// keep reading.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	ready := time.AfterFunc(watchReady, cancel)
	watch := s.client.Watch(ctx, s.Key(prefix), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	first, ok := <-watch
	if !ready.Stop() || !ok || first.Err() != nil {
		cancel()
		if err := first.Err(); err != nil {
			return nil, Classify("watch "+prefix, err)
		}
		return nil, errs.Unavailable(ReasonUnavailable,
			"watch %s: the state store (etcd) does not answer; look whether it runs and whether etcd.endpoints is right", prefix)
	}
	events := make(chan Event, 64)
	s.owned.Go(func() {
		defer cancel()
		defer close(events)
		unhook := context.AfterFunc(s.life, cancel)
		defer unhook()
		s.follow(ctx, prefix, watch, first.Header.Revision+1, events)
	})
	return events, nil
}

// follow hands changes on and starts the watch anew where etcd ended it.
func (s *Store) follow(ctx context.Context, prefix string, watch clientv3.WatchChan, next int64, events chan<- Event) {
	for {
		for answer := range watch {
			if err := answer.Err(); err != nil {
				if errors.Is(err, rpctypes.ErrCompacted) {
					next = answer.CompactRevision
					if !send(ctx, events, Event{Type: EventResync, Revision: next}) {
						return
					}
				}
				break
			}
			for _, change := range answer.Events {
				if !send(ctx, events, event(change)) {
					return
				}
			}
			next = answer.Header.Revision + 1
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryPause):
		}
		watch = s.client.Watch(ctx, s.Key(prefix), clientv3.WithPrefix(), clientv3.WithRev(next))
	}
}

func event(change *clientv3.Event) Event {
	e := Event{
		Type:     EventPut,
		Key:      strings.TrimPrefix(string(change.Kv.Key), Prefix),
		Revision: change.Kv.ModRevision,
		Value:    change.Kv.Value,
	}
	if change.Type == mvccpb.Event_DELETE {
		e.Type, e.Value = EventDelete, nil
	}
	return e
}

func send(ctx context.Context, events chan<- Event, e Event) bool {
	select {
	case events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
