package operations

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// defaultWait is how long WaitOperation waits where neither the request nor the deadline say less.
	defaultWait = 30 * time.Second
	// revisionHeader carries the revision of an operation that a client has seen, and comes back with the one it gets:
	// WaitOperation then also returns when the metadata changed.
	revisionHeader = "sebs-operation-revision"
)

// Server answers google.longrunning.Operations from the shared state. Every replica of a service can answer for all.
type Server struct {
	longrunningpb.UnimplementedOperationsServer
	manager *Manager
}

// Server returns the gRPC service of the manager.
func (m *Manager) Server() *Server {
	return &Server{manager: m}
}

// GetOperation returns the state of an operation.
func (s *Server) GetOperation(ctx context.Context, req *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	rec, rev, err := s.manager.read(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	sendRevision(ctx, rev)
	return rec.operation()
}

// listed returns the services whose operations are listed, in the order of pages.
func (m *Manager) listed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.services)
	maps.Copy(all, m.answered)
	return slices.Sorted(maps.Keys(all))
}

// ListOperations returns the operations of the services that this process answers for, newest first within a service. The filter is a list of
// "done=true|false", "service=<name>" and "kind=<kind>", joined by " AND ".
func (s *Server) ListOperations(ctx context.Context, req *longrunningpb.ListOperationsRequest) (*longrunningpb.ListOperationsResponse, error) {
	want, err := parseFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size < 0 {
		return nil, errs.Fields(errs.Field("page_size", "must not be negative"))
	}
	if size == 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	after, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
	if err != nil {
		return nil, errs.Fields(errs.Field("page_token", "is not one that this service returned"))
	}
	answer := &longrunningpb.ListOperationsResponse{}
	services := s.manager.listed()
	for _, service := range services {
		full, err := s.list(ctx, service, string(after), want, size, answer)
		if err != nil {
			return nil, err
		}
		if full {
			last := answer.Operations[len(answer.Operations)-1].GetName()
			answer.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(strings.TrimPrefix(last, namePrefix)))
			return answer, nil
		}
	}
	return answer, nil
}

// list adds a service's operations that come behind after, and reports whether the page is full.
func (s *Server) list(ctx context.Context, service, after string, want filter, size int, into *longrunningpb.ListOperationsResponse) (bool, error) {
	if want.service != "" && want.service != service {
		return false, nil
	}
	store := s.manager.store
	from := store.Key(keyOperations + service + "-")
	end := clientv3.GetPrefixRangeEnd(from)
	if owner, _, _ := strings.Cut(after, "-"); after != "" && owner > service {
		return false, nil
	} else if owner == service {
		end = store.Key(keyOperations + after)
	}
	for {
		page, err := store.Client().Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(size)),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
		if err != nil {
			return false, cache.Classify("list operations", err)
		}
		for _, kv := range page.Kvs {
			if len(into.Operations) == size {
				return true, nil
			}
			rec, err := decode(kv.Value)
			if err != nil {
				return false, err
			}
			if !want.matches(rec) {
				continue
			}
			op, err := rec.operation()
			if err != nil {
				return false, err
			}
			into.Operations = append(into.Operations, op)
		}
		if !page.More {
			return false, nil
		}
		end = string(page.Kvs[len(page.Kvs)-1].Key)
	}
}

type filter struct {
	service, kind string
	done          *bool
}

func (f filter) matches(rec *record) bool {
	return (f.done == nil || *f.done == rec.Done) && (f.kind == "" || f.kind == rec.Kind)
}

func parseFilter(text string) (filter, error) {
	var f filter
	if strings.TrimSpace(text) == "" {
		return f, nil
	}
	for term := range strings.SplitSeq(text, " AND ") {
		key, value, ok := strings.Cut(term, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch key = strings.TrimSpace(key); {
		case ok && key == "service":
			f.service = value
		case ok && key == "kind":
			f.kind = value
		case ok && key == "done" && (value == "true" || value == "false"):
			done := value == "true"
			f.done = &done
		default:
			return f, errs.Fields(errs.Field("filter",
				"%q is not understood; use done=true|false, service=<name> and kind=<kind>, joined by AND", term))
		}
	}
	return f, nil
}

// CancelOperation asks the owner to stop. It returns when the wish is stored; an operation that is done is left alone.
func (s *Server) CancelOperation(ctx context.Context, req *longrunningpb.CancelOperationRequest) (*emptypb.Empty, error) {
	rec, _, err := s.manager.read(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if rec.Done {
		return &emptypb.Empty{}, nil
	}
	id := strings.TrimPrefix(rec.Name, namePrefix)
	if _, err := s.manager.store.Put(ctx, keyCancel+id, wrapperspb.Bool(true)); err != nil {
		return nil, err
	}
	// The operation may have ended in between, and with it the clean-up of this key.
	if rec, _, err = s.manager.read(ctx, req.GetName()); err == nil && rec.Done {
		err = s.manager.store.Delete(ctx, keyCancel+id)
	}
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// DeleteOperation forgets a finished operation.
func (s *Server) DeleteOperation(ctx context.Context, req *longrunningpb.DeleteOperationRequest) (*emptypb.Empty, error) {
	rec, _, err := s.manager.read(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if !rec.Done {
		return nil, errs.FailedPrecondition("OPERATION_RUNNING", "%s still runs; cancel it first", rec.Name)
	}
	if err := s.manager.remove(ctx, rec); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// WaitOperation returns when the operation is done or the timeout of the request passed. A client that names the revision
// it has seen in the header also gets the next change of the metadata.
func (s *Server) WaitOperation(ctx context.Context, req *longrunningpb.WaitOperationRequest) (*longrunningpb.Operation, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	limit := defaultWait
	if t := req.GetTimeout(); t != nil {
		limit = min(limit, t.AsDuration())
	}
	if deadline, ok := ctx.Deadline(); ok {
		// Answering a little before the deadline gives the client the state in place of an error.
		limit = min(limit, time.Until(deadline)-100*time.Millisecond)
	}
	waiting, cancel := context.WithTimeout(ctx, max(limit, 0))
	defer cancel()
	seen := seenRevision(ctx)
	rec, rev, err := s.manager.read(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if rec.Done || (seen > 0 && rev > seen) || waiting.Err() != nil {
		sendRevision(ctx, rev)
		return rec.operation()
	}
	changes, err := s.manager.store.Watch(waiting, keyOperations+strings.TrimPrefix(req.GetName(), namePrefix))
	if err != nil {
		return nil, err
	}
	for {
		// Read again: the change may have come before the watch.
		if rec, rev, err = s.manager.read(ctx, req.GetName()); err != nil {
			return nil, err
		}
		if rec.Done || (seen > 0 && rev > seen) {
			break
		}
		if _, ok := <-changes; !ok {
			break
		}
	}
	sendRevision(ctx, rev)
	return rec.operation()
}

func seenRevision(ctx context.Context) int64 {
	for _, text := range metadata.ValueFromIncomingContext(ctx, revisionHeader) {
		if rev, err := strconv.ParseInt(text, 10, 64); err == nil {
			return rev
		}
	}
	return 0
}

func sendRevision(ctx context.Context, rev int64) {
	// Without a stream, in a direct call, there is nobody to send it to.
	_ = grpc.SetHeader(ctx, metadata.Pairs(revisionHeader, strconv.FormatInt(rev, 10)))
}
