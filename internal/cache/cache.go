// Package cache keeps the suite's shared state in etcd: records, locks, leases, counters and watches.
//
// Keys are relative to the prefix /sebs/v1/; values are the JSON form of protobuf messages, so that a person reads them
// with etcdctl. Nothing secret is ever written here. Errors carry categories of package errs: NOT_FOUND, ALREADY_EXISTS,
// ABORTED where compare-and-swap lost, RESOURCE_EXHAUSTED where the database is full, UNAVAILABLE where etcd is away.
package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

// Prefix stands in front of every key in etcd.
const Prefix = "/sebs/v1/"

// Reasons of the errors of this package.
const (
	ReasonNotFound    = "CACHE_KEY_NOT_FOUND"
	ReasonExists      = "CACHE_KEY_EXISTS"
	ReasonConflict    = "CACHE_CONFLICT"
	ReasonUnavailable = "CACHE_UNAVAILABLE"
	ReasonFull        = "CACHE_FULL"
	ReasonTooLarge    = "CACHE_VALUE_TOO_LARGE"
	ReasonBadKey      = "CACHE_BAD_KEY"
	ReasonBadValue    = "CACHE_BAD_VALUE"
)

const (
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 10 * time.Second
	listPage    = 500
)

// Config says how to reach etcd.
type Config struct {
	// Endpoints are URLs such as http://127.0.0.1:2379.
	Endpoints []string
	// TLS is used for https endpoints; nil means none.
	TLS *tls.Config
	// Username and Password log in where the cluster asks for it.
	Username string
	Password secret.String
}

// Store is the suite's view of etcd. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	// life ends when the store closes; leases and watches that outlive a request hang on it.
	life  context.Context
	stop  context.CancelFunc
	owned sync.WaitGroup
	close sync.Once
}

// Open connects to etcd. It does not wait for a connection: the first call does.
func Open(cfg Config) (*Store, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("open cache: no etcd endpoint; set etcd.endpoints")
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		Username:             cfg.Username,
		Password:             cfg.Password.Reveal(),
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		MaxUnaryRetries:      5,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	life, stop := context.WithCancel(context.Background())
	return &Store{client: client, life: life, stop: stop}, nil
}

// Close releases leases that are still held, ends watches and closes the connection.
func (s *Store) Close(ctx context.Context) error {
	var err error
	s.close.Do(func() {
		s.stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.owned.Wait()
		}()
		select {
		case <-done:
		case <-ctx.Done():
		}
		if cerr := s.client.Close(); cerr != nil && !errors.Is(cerr, context.Canceled) {
			err = fmt.Errorf("close cache: %w", cerr)
		}
	})
	return err
}

// Client returns the etcd client for packages that need transactions of their own. Keys are to be made with [Store.Key].
func (s *Store) Client() *clientv3.Client {
	return s.client
}

// Key returns the absolute key in etcd.
func (s *Store) Key(key string) string {
	return Prefix + key
}

// Ping reports whether etcd answers a linearizable read.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	_, err := s.client.Get(ctx, Prefix+"meta", clientv3.WithCountOnly())
	return Classify("ask etcd", err)
}

// Get reads a record and returns its revision for [Store.CompareAndSwap].
func (s *Store) Get(ctx context.Context, key string, into proto.Message) (rev int64, err error) {
	raw, rev, err := s.GetRaw(ctx, key)
	if err != nil {
		return 0, err
	}
	if err := Unmarshal(raw, into); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return rev, nil
}

// GetRaw reads a record without decoding it.
func (s *Store) GetRaw(ctx context.Context, key string) (raw []byte, rev int64, err error) {
	if err := checkKey(key); err != nil {
		return nil, 0, err
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	got, err := s.client.Get(ctx, s.Key(key))
	if err != nil {
		return nil, 0, Classify("read "+key, err)
	}
	if len(got.Kvs) == 0 {
		return nil, 0, errs.NotFound(ReasonNotFound, "no record %s", key).Resource("etcd key", key)
	}
	return got.Kvs[0].Value, got.Kvs[0].ModRevision, nil
}

// Create writes a record that must not exist yet; ALREADY_EXISTS otherwise.
func (s *Store) Create(ctx context.Context, key string, m proto.Message) (rev int64, err error) {
	return s.swap(ctx, key, 0, m)
}

// Put writes a record whether or not it exists.
func (s *Store) Put(ctx context.Context, key string, m proto.Message) (rev int64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	value, err := Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	put, err := s.client.Put(ctx, s.Key(key), string(value))
	if err != nil {
		return 0, Classify("write "+key, err)
	}
	return put.Header.Revision, nil
}

// CompareAndSwap writes a record if its revision still is rev, which [Store.Get] returned; ABORTED otherwise.
func (s *Store) CompareAndSwap(ctx context.Context, key string, rev int64, m proto.Message) (newRev int64, err error) {
	if rev <= 0 {
		return 0, errs.InvalidArgument(ReasonConflict, "swap %s: revision %d was not returned by a read", key, rev)
	}
	return s.swap(ctx, key, rev, m)
}

func (s *Store) swap(ctx context.Context, key string, rev int64, m proto.Message) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	value, err := Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	answer, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(s.Key(key)), "=", rev)).
		Then(clientv3.OpPut(s.Key(key), string(value))).
		Commit()
	switch {
	case err != nil:
		return 0, Classify("write "+key, err)
	case answer.Succeeded:
		return answer.Header.Revision, nil
	case rev == 0:
		return 0, errs.AlreadyExists(ReasonExists, "record %s exists already", key).Resource("etcd key", key)
	}
	return 0, errs.Aborted(ReasonConflict, "record %s was changed by another request; read it again and repeat", key)
}

// Update reads a record into m, lets change edit it and writes it back, repeating where another writer came in between.
// The record is created where it does not exist and create is true; m is then empty when change is called.
func (s *Store) Update(ctx context.Context, key string, m proto.Message, create bool, change func() error) (int64, error) {
	for {
		proto.Reset(m)
		rev, err := s.Get(ctx, key, m)
		if err != nil && (!create || !errs.Is(err, codes.NotFound)) {
			return 0, err
		}
		if err := change(); err != nil {
			return 0, err
		}
		newRev, err := s.swap(ctx, key, rev, m)
		if errs.Is(err, codes.Aborted) || errs.Is(err, codes.AlreadyExists) {
			if ctx.Err() != nil {
				return 0, Classify("update "+key, ctx.Err())
			}
			continue
		}
		return newRev, err
	}
}

// Delete removes a record. A record that is not there is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	_, err := s.client.Delete(ctx, s.Key(key))
	return Classify("delete "+key, err)
}

// DeletePrefix removes all records below a prefix, which ends with "/", and returns how many there were.
func (s *Store) DeletePrefix(ctx context.Context, prefix string) (int64, error) {
	if !strings.HasSuffix(prefix, "/") {
		return 0, errs.InvalidArgument(ReasonBadKey, "delete below %q: a prefix ends with /", prefix)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	gone, err := s.client.Delete(ctx, s.Key(prefix), clientv3.WithPrefix())
	if err != nil {
		return 0, Classify("delete below "+prefix, err)
	}
	return gone.Deleted, nil
}

// List calls each for every record whose key starts with prefix, in order of keys, as of one revision. Decode raw with
// [Unmarshal]. An error of each ends the listing and is returned.
func (s *Store) List(ctx context.Context, prefix string, each func(key string, rev int64, raw []byte) error) error {
	from := s.Key(prefix)
	end := clientv3.GetPrefixRangeEnd(from)
	var at int64
	for {
		page, err := s.page(ctx, prefix, from, end, at)
		if err != nil {
			return err
		}
		at = page.Header.Revision
		for _, kv := range page.Kvs {
			if err := each(strings.TrimPrefix(string(kv.Key), Prefix), kv.ModRevision, kv.Value); err != nil {
				return err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func (s *Store) page(ctx context.Context, prefix, from, end string, at int64) (*clientv3.GetResponse, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(listPage)}
	if at > 0 {
		opts = append(opts, clientv3.WithRev(at))
	}
	page, err := s.client.Get(ctx, from, opts...)
	if err != nil {
		return nil, Classify("list "+prefix, err)
	}
	return page, nil
}

// Marshal returns the JSON form of m, as it stands in etcd.
func Marshal(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, errs.Internal(fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err))
	}
	return raw, nil
}

// Unmarshal reads what [Marshal] wrote. Fields that a newer version of the suite added are ignored.
func Unmarshal(raw []byte, into proto.Message) error {
	proto.Reset(into)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, into); err != nil {
		return errs.DataLoss(ReasonBadValue, "decode %s: %v", into.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || strings.HasPrefix(key, "/") || strings.HasSuffix(key, "/") || strings.ContainsAny(key, "\x00\n") {
		return errs.InvalidArgument(ReasonBadKey, "etcd key %q: must be relative, not empty, and not end with /", key)
	}
	return nil
}

// bound sets a deadline where ctx has none, so that no call waits for ever.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// Classify turns an error of the etcd client into one with a category.
func Classify(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return errs.ResourceExhausted(0, ReasonFull,
			"%s: the state store is full; free space with 'sebs cache prune' or raise its quota", op).Wrap(err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max"):
		// The second is the client's own limit.
		return errs.InvalidArgument(ReasonTooLarge,
			"%s: the record is too large for the state store; keep large values in the object store", op).Wrap(err)
	}
	code := status.Code(err)
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	switch {
	case code == codes.Unavailable, code == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		return errs.Unavailable(ReasonUnavailable,
			"%s: the state store (etcd) does not answer; look whether it runs and whether etcd.endpoints is right", op).Wrap(err)
	case code == codes.Canceled:
		return errs.Canceled("CANCELED", "%s: cancelled", op).Wrap(err)
	case code == codes.Unauthenticated, code == codes.PermissionDenied:
		return errs.Internal(fmt.Errorf("%s: etcd refuses this service's login: %w", op, err))
	}
	return errs.Internal(fmt.Errorf("%s: %w", op, err))
}
