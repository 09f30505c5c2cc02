package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sebs-suite/sebs/internal/errs"
)

// StateVersion is the version of the layout of keys and values that this binary reads and writes.
const StateVersion = 1

const metaKey = "meta"

// meta is the record that says which layout the state has.
type meta struct {
	StateVersion int       `json:"state_version"`
	Written      time.Time `json:"written"`
}

// Migration changes the state from one version to the next. It is called under a lock and may be called again after a
// crash.
type Migration func(ctx context.Context, s *Store) error

// migrations[i] leads from version i+1 to version i+2.
func migrations() []Migration {
	return nil
}

// CheckVersion writes the state's version where there is none, migrates an older state, and refuses a newer one.
func (s *Store) CheckVersion(ctx context.Context) error {
	return s.checkVersion(ctx, StateVersion, migrations())
}

func (s *Store) checkVersion(ctx context.Context, mine int, steps []Migration) error {
	unlock, err := s.Lock(ctx, "state-version")
	if err != nil {
		return fmt.Errorf("check state version: %w", err)
	}
	defer unlock()
	ctx, cancel := bound(ctx)
	defer cancel()
	got, err := s.client.Get(ctx, s.Key(metaKey))
	if err != nil {
		return Classify("check state version", err)
	}
	if len(got.Kvs) == 0 {
		return s.writeVersion(ctx, mine)
	}
	var found meta
	if err := json.Unmarshal(got.Kvs[0].Value, &found); err != nil || found.StateVersion < 1 {
		return errs.DataLoss(ReasonBadValue, "check state version: the record %s%s is not readable", Prefix, metaKey)
	}
	if found.StateVersion > mine {
		return errs.FailedPrecondition("STATE_TOO_NEW",
			"the state in etcd has version %d and this binary knows up to %d; use a newer binary", found.StateVersion, mine)
	}
	for version := found.StateVersion; version < mine; version++ {
		if err := steps[version-1](ctx, s); err != nil {
			return fmt.Errorf("migrate state from version %d: %w", version, err)
		}
		if err := s.writeVersion(ctx, version+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeVersion(ctx context.Context, version int) error {
	raw, err := json.Marshal(meta{StateVersion: version, Written: time.Now().UTC()})
	if err != nil {
		return errs.Internal(err)
	}
	_, err = s.client.Put(ctx, s.Key(metaKey), string(raw))
	return Classify("write state version", err)
}

// Maintain gives back what the database no longer needs: it compacts all revisions but the last ones, defragments every
// member, and lets a database that was full take writes again. It returns the size of the database of each member in bytes, by endpoint.
func (s *Store) Maintain(ctx context.Context) (map[string]int64, error) {
	got, err := s.client.Get(ctx, s.Key(metaKey))
	if err != nil {
		return nil, Classify("compact", err)
	}
	if _, err := s.client.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return nil, Classify("compact", err)
	}
	sizes := make(map[string]int64)
	for _, endpoint := range s.client.Endpoints() {
		if _, err := s.client.Defragment(ctx, endpoint); err != nil {
			return nil, Classify("defragment "+endpoint, err)
		}
		status, err := s.client.Status(ctx, endpoint)
		if err != nil {
			return nil, Classify("ask "+endpoint, err)
		}
		sizes[endpoint] = status.DbSize
	}
	if _, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return nil, Classify("clear the alarm", err)
	}
	return sizes, nil
}
