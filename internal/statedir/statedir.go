// Package statedir decides who owns a state directory: one process runs the suite on it, others join that process.
//
// Ownership is a file lock, so it ends with the process however that ends. The owner writes its address beside the
// lock; a client that joins holds a shared lock of its own, which the owner waits for before it stops.
package statedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	ownerLock   = "suite.lock"
	clientsLock = "clients.lock"
	infoFile    = "suite.json"
	pollPause   = 50 * time.Millisecond
)

// Info tells how to reach the suite that runs on a state directory.
type Info struct {
	// PID is the process that runs the suite.
	PID int `json:"pid"`
	// Address is the gateway's address, host:port.
	Address string `json:"address"`
	// Version is the suite's version.
	Version string `json:"version"`
	// Background tells that the suite stays until it is stopped.
	Background bool `json:"background"`
	// StartTime is when the suite was ready.
	StartTime time.Time `json:"start_time"`
}

// Owner is the process that runs the suite on a state directory.
type Owner struct {
	dir  string
	lock *flock.Flock
}

// Own makes this process the owner of the directory, which is created with mode 0700 when missing. It answers false
// when another process is the owner.
func Own(dir string) (*Owner, bool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("create state directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, ownerLock), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("lock state directory %s: %w", dir, err)
	}
	if !locked {
		return nil, false, nil
	}
	if err := os.Remove(filepath.Join(dir, infoFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, errors.Join(fmt.Errorf("remove the record of an earlier suite: %w", err), lock.Unlock())
	}
	return &Owner{dir: dir, lock: lock}, true, nil
}

// Publish writes how to reach the suite.
func (o *Owner) Publish(info Info) error {
	raw, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("encode suite record: %w", err)
	}
	temporary := filepath.Join(o.dir, infoFile+".tmp")
	if err := os.WriteFile(temporary, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write suite record: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(o.dir, infoFile)); err != nil {
		return fmt.Errorf("publish suite record: %w", err)
	}
	return nil
}

// HasClients tells whether another process has joined.
func (o *Owner) HasClients() (bool, error) {
	lock := flock.New(filepath.Join(o.dir, clientsLock), flock.SetPermissions(0o600))
	free, err := lock.TryLock()
	if err != nil {
		return false, fmt.Errorf("look for joined clients: %w", err)
	}
	if !free {
		return true, nil
	}
	return false, lock.Unlock()
}

// WaitForClients returns when no client is joined any more, or the context ends.
func (o *Owner) WaitForClients(ctx context.Context) error {
	for {
		joined, err := o.HasClients()
		if err != nil || !joined {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// Release gives the directory up.
func (o *Owner) Release() error {
	removeErr := os.Remove(filepath.Join(o.dir, infoFile))
	if errors.Is(removeErr, os.ErrNotExist) {
		removeErr = nil
	}
	return errors.Join(removeErr, o.lock.Unlock())
}

// Membership keeps the owner of a state directory from stopping.
type Membership struct {
	lock *flock.Flock
}

// Join waits until the owner of the directory has published its address, and keeps it alive until Leave.
func Join(ctx context.Context, dir string) (*Membership, Info, error) {
	lock := flock.New(filepath.Join(dir, clientsLock), flock.SetPermissions(0o600))
	if locked, err := lock.TryRLockContext(ctx, pollPause); err != nil || !locked {
		return nil, Info{}, fmt.Errorf("join the suite on %s: %w", dir, err)
	}
	for {
		info, err := Read(dir)
		if err == nil {
			return &Membership{lock: lock}, info, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, Info{}, errors.Join(err, lock.Unlock())
		}
		select {
		case <-ctx.Done():
			return nil, Info{}, errors.Join(fmt.Errorf("the suite on %s does not come up: %w", dir, ctx.Err()), lock.Unlock())
		case <-time.After(pollPause):
		}
	}
}

// Leave lets the owner stop.
func (m *Membership) Leave() error { return m.lock.Unlock() }

// Read returns how to reach the suite of a directory; os.ErrNotExist tells that none has published itself.
func Read(dir string) (Info, error) {
	raw, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil {
		return Info{}, fmt.Errorf("read suite record: %w", err)
	}
	var info Info
	if err := json.Unmarshal(raw, &info); err != nil {
		return Info{}, fmt.Errorf("read suite record %s: %w", filepath.Join(dir, infoFile), err)
	}
	return info, nil
}
