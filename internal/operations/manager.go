// Package operations runs long work as google.longrunning operations that are stored in etcd.
//
// An operation is started with [Manager.Start] and runs in the process that took the request; its state stands in etcd, so
// every replica answers Get, Wait and Cancel. The owner holds a lease: when it dies, another replica of the service takes
// the operation up (see [Manager.OnResume]) or fails it with the reason OPERATION_OWNER_LOST. None is left running.
package operations

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Reasons of the errors of this package.
const (
	ReasonNotFound        = "OPERATION_NOT_FOUND"
	ReasonOwnerLost       = "OPERATION_OWNER_LOST"
	ReasonCancelled       = "OPERATION_CANCELLED"
	ReasonRequestIDReused = "REQUEST_ID_REUSED"
	ReasonPanicked        = "OPERATION_PANICKED"
	ReasonStopping        = "SERVICE_STOPPING"
)

// Keys in etcd.
const (
	keyOperations = "operations/"
	keyActive     = "operations-active/"
	keyCancel     = "operations-cancel/"
	keyRequests   = "operations-requests/"
	keyOwners     = "operations-owners/"
)

// DefaultRetention is how long a finished operation can be read.
const DefaultRetention = 30 * 24 * time.Hour

// Config of a [Manager].
type Config struct {
	// Owner names the process; unique in the whole system. Default: a new UUID.
	Owner string
	// OwnerTTL is how long after its owner's death an operation is taken up. Default 10 s.
	OwnerTTL time.Duration
	// Retention is how long a finished operation can be read. Default 30 days.
	Retention time.Duration
	// UpdateInterval is the shortest time between two writes of an operation's progress. Default 200 ms.
	UpdateInterval time.Duration
	// ScanInterval is how often the manager looks for operations without an owner, besides being told. Default 30 s.
	ScanInterval time.Duration
	// Log receives causes of failures. Default: slog.DiscardHandler.
	Log *slog.Logger
}

func (c *Config) complete() {
	if c.Owner == "" {
		c.Owner = uuid.NewString()
	}
	if c.OwnerTTL <= 0 {
		c.OwnerTTL = 10 * time.Second
	}
	if c.Retention <= 0 {
		c.Retention = DefaultRetention
	}
	if c.UpdateInterval <= 0 {
		c.UpdateInterval = 200 * time.Millisecond
	}
	if c.ScanInterval <= 0 {
		c.ScanInterval = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Spec describes an operation to start.
type Spec struct {
	// Service owns the operation, such as "builder"; its name is the prefix of the id.
	Service string
	// Kind tells what is done, such as "build_package"; see [Manager.OnResume].
	Kind string
	// RequestID makes the start idempotent: the same id with the same request answers the same operation.
	RequestID string
	// Metadata is the first progress that clients see.
	Metadata proto.Message
	// Request is kept while the operation runs, for a replica that takes it up. It must not hold secrets.
	Request proto.Message
}

// Run does the work of an operation. Its context ends when the operation is cancelled or the process stops.
type Run func(ctx context.Context, h *Handle) (proto.Message, error)

// Resume takes up the work of an operation whose owner died.
type Resume func(ctx context.Context, h *Handle, request *anypb.Any) (proto.Message, error)

// Manager starts, stores and takes up operations. Make it with [New], call [Manager.Open] before the first operation and
// [Manager.Watch] when all OnResume functions are known.
type Manager struct {
	cfg   Config
	store *cache.Store

	mu       sync.Mutex
	owner    *cache.Registration
	resumes  map[string]Resume
	services map[string]bool
	// answered are services of other processes whose operations are listed here.
	answered map[string]bool
	handles  map[string]*Handle
	stopping bool
	running  sync.WaitGroup
}

// New makes a manager on the shared state.
func New(store *cache.Store, cfg Config) *Manager {
	cfg.complete()
	return &Manager{
		cfg: cfg, store: store,
		resumes:  make(map[string]Resume),
		services: make(map[string]bool),
		answered: make(map[string]bool),
		handles:  make(map[string]*Handle),
	}
}

// Open registers this process as an owner.
func (m *Manager) Open(ctx context.Context) error {
	owner, err := m.store.Register(ctx, keyOwners+m.cfg.Owner, wrapperspb.String(m.cfg.Owner), m.cfg.OwnerTTL)
	if err != nil {
		return fmt.Errorf("open operations: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owner = owner
	return nil
}

// OnResume names the function that takes up operations of a kind ("<service>/<kind>" or the kind alone) whose owner died.
// Operations of other kinds are failed. Call it before [Manager.Watch].
func (m *Manager) OnResume(kind string, f Resume) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resumes[kind] = f
}

// Serve names a service whose operations this process answers for and takes up.
func (m *Manager) Serve(services ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		m.services[service] = true
	}
}

// Answer names services whose operations this process lists without taking them up: those of other processes.
func (m *Manager) Answer(services ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		m.answered[service] = true
	}
}

// Start stores an operation and runs it in the background. With a request id that was used before it returns the operation
// of that time and runs nothing.
func (m *Manager) Start(ctx context.Context, spec Spec, run Run) (*longrunningpb.Operation, error) {
	if spec.Service == "" || spec.Kind == "" || strings.ContainsAny(spec.Service, "-/") {
		return nil, errs.Internal(fmt.Errorf("start operation: service %q and kind %q have to be set", spec.Service, spec.Kind))
	}
	rec, err := m.newRecord(spec)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Kind, err)
	}
	m.Serve(spec.Service)
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Kind, err)
	}
	rev, existing, err := m.insert(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Kind, err)
	}
	if existing != nil {
		return existing, nil
	}
	op, err := rec.operation()
	if err != nil {
		return nil, err
	}
	if err := m.launch(ctx, rec, rev, run); err != nil {
		return nil, err
	}
	return op, nil
}

func (m *Manager) newRecord(spec Spec) (*record, error) {
	// Version 7 ids sort by time.
	id, err := uuid.NewV7()
	if err != nil {
		return nil, errs.Internal(err)
	}
	rec := &record{
		Name: namePrefix + spec.Service + "-" + id.String(), Service: spec.Service, Kind: spec.Kind,
		RequestID: spec.RequestID, Owner: m.cfg.Owner, Attempt: 1, Created: time.Now().UTC(),
	}
	if rec.Metadata, err = pack(spec.Metadata); err != nil {
		return nil, err
	}
	if rec.Request, err = pack(spec.Request); err != nil {
		return nil, err
	}
	if spec.Request != nil {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec.Request)
		if err != nil {
			return nil, errs.Internal(err)
		}
		sum := sha256.Sum256(raw)
		rec.RequestHash = hex.EncodeToString(sum[:])
	}
	return rec, nil
}

// insert writes a new record, unless its request id is known: then it returns the operation that has it.
func (m *Manager) insert(ctx context.Context, rec *record) (int64, *longrunningpb.Operation, error) {
	raw, err := json.Marshal(rec)
	if err != nil {
		return 0, nil, errs.Internal(err)
	}
	id := strings.TrimPrefix(rec.Name, namePrefix)
	puts := []clientv3.Op{
		clientv3.OpPut(m.store.Key(keyOperations+id), string(raw)),
		clientv3.OpPut(m.store.Key(keyActive+id), rec.Owner),
	}
	free := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(m.store.Key(keyOperations+id)), "=", 0)}
	requestKey := m.requestKey(rec)
	if rec.RequestID != "" {
		free = append(free, clientv3.Compare(clientv3.CreateRevision(requestKey), "=", 0))
		puts = append(puts, clientv3.OpPut(requestKey, id))
	}
	// A caller that leaves in the middle must not leave a record behind that nobody works on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	answer, err := m.store.Client().Txn(ctx).If(free...).Then(puts...).Else(clientv3.OpGet(requestKey)).Commit()
	if err != nil {
		return 0, nil, cache.Classify("store the operation", err)
	}
	if answer.Succeeded {
		return answer.Header.Revision, nil, nil
	}
	kvs := answer.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return 0, nil, errs.Aborted("OPERATION_CONFLICT", "another request used the same request id; repeat the request")
	}
	found, _, err := m.read(ctx, namePrefix+string(kvs[0].Value))
	if err != nil {
		return 0, nil, err
	}
	if found.RequestHash != rec.RequestHash {
		return 0, nil, errs.InvalidArgument(ReasonRequestIDReused,
			"request_id %s was used for another request (%s); use a new id", rec.RequestID, found.Name).With("operation", found.Name)
	}
	op, err := found.operation()
	return 0, op, err
}

func (m *Manager) requestKey(rec *record) string {
	return m.store.Key(keyRequests + rec.Service + "/" + rec.Kind + "/" + hex.EncodeToString([]byte(rec.RequestID)))
}

// read returns the record of an operation and its revision.
func (m *Manager) read(ctx context.Context, name string) (*record, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	raw, rev, err := m.store.GetRaw(ctx, keyOperations+strings.TrimPrefix(name, namePrefix))
	if errs.Is(err, codes.NotFound) {
		return nil, 0, errs.NotFound(ReasonNotFound,
			"%s does not exist; finished operations are kept for %s", name, m.cfg.Retention).Resource("google.longrunning.Operation", name)
	}
	if err != nil {
		return nil, 0, err
	}
	rec, err := decode(raw)
	return rec, rev, err
}

// Close cancels what runs here, waits for it within ctx, and gives the ownership back, so that another replica takes up at
// once what was not finished.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.stopping = true
	owner := m.owner
	for _, h := range m.handles {
		h.cancel(errStopping)
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.running.Wait()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("close operations: work still runs: %w", context.Cause(ctx))
	}
	if owner != nil {
		if cerr := owner.Close(ctx); err == nil {
			err = cerr
		}
	}
	return err
}

// Drain waits until no operation runs in this process, or until ctx ends. New ones are refused from now on.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.running.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
