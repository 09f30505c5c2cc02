package operations

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	pruneInterval = time.Hour
	watchPause    = time.Second
)

// Watch takes up operations whose owner died, hands on cancellations, and removes operations past their retention, until
// ctx ends. Run it in a goroutine of the process once all OnResume functions are known.
func (m *Manager) Watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.watch(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn("watching operations was interrupted; trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(watchPause):
			}
		}
	}
	return nil
}

func (m *Manager) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cancels, err := m.store.Watch(ctx, keyCancel)
	if err != nil {
		return err
	}
	owners, err := m.store.Watch(ctx, keyOwners)
	if err != nil {
		return err
	}
	scan := time.NewTicker(m.cfg.ScanInterval)
	defer scan.Stop()
	prune := time.NewTicker(pruneInterval)
	defer prune.Stop()
	if err := errors.Join(m.cancelRequested(ctx), m.takeUp(ctx), m.prune(ctx)); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-cancels:
			if !ok {
				return errors.New("the watch of cancellations ended")
			}
			if e.Type == cache.EventResync {
				err = m.cancelRequested(ctx)
			} else if e.Type == cache.EventPut {
				m.cancelLocal(strings.TrimPrefix(e.Key, keyCancel))
			}
		case e, ok := <-owners:
			if !ok {
				return errors.New("the watch of owners ended")
			}
			if e.Type != cache.EventPut {
				err = m.takeUp(ctx)
			}
		case <-scan.C:
			err = errors.Join(m.takeUp(ctx), m.cancelRequested(ctx))
		case <-prune.C:
			err = m.prune(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// cancelLocal cancels an operation that runs in this process.
func (m *Manager) cancelLocal(id string) {
	m.mu.Lock()
	h := m.handles[namePrefix+id]
	m.mu.Unlock()
	if h != nil {
		h.cancel(errCancelled)
	}
}

// cancelRequested cancels every operation of this process that has a request for it.
func (m *Manager) cancelRequested(ctx context.Context) error {
	return m.store.List(ctx, keyCancel, func(key string, _ int64, _ []byte) error {
		m.cancelLocal(strings.TrimPrefix(key, keyCancel))
		return nil
	})
}

// takeUp looks through the running operations of this process's services and takes up those without a living owner.
func (m *Manager) takeUp(ctx context.Context) error {
	// The operations are listed ahead of their owners: a process registers before its first operation, so an owner that
	// lives is in the later list. The other way round a process that came in between would lose its work.
	owners := make(map[string]string)
	var names []string
	for _, service := range m.served() {
		err := m.store.List(ctx, keyActive+service+"-", func(key string, _ int64, owner []byte) error {
			name := namePrefix + strings.TrimPrefix(key, keyActive)
			names, owners[name] = append(names, name), string(owner)
			return nil
		})
		if err != nil {
			return err
		}
	}
	m.dropLost(owners)
	living := make(map[string]bool)
	err := m.store.List(ctx, keyOwners, func(key string, _ int64, _ []byte) error {
		living[strings.TrimPrefix(key, keyOwners)] = true
		return nil
	})
	if err != nil {
		return err
	}
	if !living[m.cfg.Owner] {
		// Without a registration of its own this process must not judge others; it comes back with etcd.
		return nil
	}
	orphans := slices.DeleteFunc(names, func(name string) bool { return living[owners[name]] })
	for _, name := range orphans {
		if m.isStopping() {
			return nil
		}
		if err := m.adopt(ctx, name, owners[name]); err != nil {
			return err
		}
	}
	return nil
}

// dropLost ends what runs here although another process took it up, which happens when this one was cut off from etcd for
// longer than its lease lives.
func (m *Manager) dropLost(owners map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, h := range m.handles {
		if owner, ok := owners[name]; ok && owner != m.cfg.Owner {
			h.cancel(errLost)
		}
	}
}

func (m *Manager) isStopping() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopping
}

// served returns the services whose operations this process answers for.
func (m *Manager) served() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	services := make([]string, 0, len(m.services))
	for service := range m.services {
		services = append(services, service)
	}
	return services
}

// adopt makes this process the owner of an operation and resumes or fails it, if its owner still is the one that was found
// dead. Of several replicas one wins.
func (m *Manager) adopt(ctx context.Context, name, dead string) error {
	rec, rev, err := m.read(ctx, name)
	id := strings.TrimPrefix(name, namePrefix)
	if errs.Is(err, codes.NotFound) || (err == nil && rec.Done) {
		return m.store.Delete(ctx, keyActive+id)
	}
	if err != nil {
		return err
	}
	if rec.Owner != dead {
		return nil
	}
	m.cfg.Log.Info("taking up an operation whose owner is gone", "operation", name, "kind", rec.Kind, "owner", rec.Owner)
	rec.Owner = m.cfg.Owner
	rec.Attempt++
	rev, err = m.replace(ctx, rec, rev, clientv3.OpPut(m.store.Key(keyActive+id), rec.Owner))
	if errors.Is(err, errLost) {
		return nil
	}
	if err != nil {
		return err
	}
	run, err := m.resumed(ctx, rec, id)
	if err != nil {
		return err
	}
	if err := m.launch(ctx, rec, rev, run); err != nil && !errs.Is(err, codes.Unavailable) {
		return err
	}
	return nil
}

// resumed returns what is to be run for an adopted operation: its continuation or its failure.
func (m *Manager) resumed(ctx context.Context, rec *record, id string) (Run, error) {
	_, _, err := m.store.GetRaw(ctx, keyCancel+id)
	if err == nil {
		return failing(errs.Canceled(ReasonCancelled, "the operation was cancelled")), nil
	}
	if !errs.Is(err, codes.NotFound) {
		return nil, err
	}
	resume := m.resumer(rec)
	if resume == nil || rec.Request.empty() {
		return failing(errs.Unavailable(ReasonOwnerLost,
			"the process that ran the operation died and work of kind %s cannot be taken up; start it again", rec.Kind).
			With("operation", rec.Name)), nil
	}
	request, err := rec.Request.any()
	if err != nil {
		return failing(err), nil
	}
	return func(ctx context.Context, h *Handle) (proto.Message, error) { return resume(ctx, h, request) }, nil
}

func failing(err error) Run {
	return func(context.Context, *Handle) (proto.Message, error) { return nil, err }
}

// prune removes operations of this process's services that are past their retention.
func (m *Manager) prune(ctx context.Context) error {
	now := time.Now()
	var old []*record
	for _, service := range m.served() {
		err := m.store.List(ctx, keyOperations+service+"-", func(_ string, _ int64, raw []byte) error {
			if rec, err := decode(raw); err == nil && rec.Done && now.After(rec.Expires) {
				old = append(old, rec)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, rec := range old {
		if err := m.remove(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes a finished operation and its request id.
func (m *Manager) remove(ctx context.Context, rec *record) error {
	ops := []clientv3.Op{clientv3.OpDelete(m.store.Key(keyOperations + strings.TrimPrefix(rec.Name, namePrefix)))}
	if rec.RequestID != "" {
		ops = append(ops, clientv3.OpDelete(m.requestKey(rec)))
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := m.store.Client().Txn(ctx).Then(ops...).Commit()
	return cache.Classify("remove "+rec.Name, err)
}
