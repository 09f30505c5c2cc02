package experiments

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/pagetoken"
)

const (
	runsPrefix = "runs/"
	// pageDefault and pageMax bound a page of runs.
	pageDefault = 50
	pageMax     = 1000
	// maxRecordBytes is what one run's record may have; etcd takes 1.5 MB in all.
	maxRecordBytes = 1 << 20
)

// Records is what runs need of the shared state.
type Records interface {
	Get(ctx context.Context, key string, into proto.Message) (rev int64, err error)
	Create(ctx context.Context, key string, m proto.Message) (rev int64, err error)
	Update(ctx context.Context, key string, m proto.Message, create bool, change func() error) (int64, error)
	Delete(ctx context.Context, key string) error
	Client() *clientv3.Client
	Key(key string) string
}

// store keeps the records of runs. Their ids sort by time.
type store struct {
	records Records
	tokens  *pagetoken.Codec
}

// listName is the list that page tokens belong to.
const listName = "runs"

// parseRun returns the key of a run's record.
func parseRun(name string) (string, error) {
	id, ok := strings.CutPrefix(name, runsPrefix)
	if !ok || id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) {
		return "", errs.Fields(errs.Field("name", "%q is not of the form runs/{id}", name))
	}
	return name, nil
}

func (s store) get(ctx context.Context, name string) (*experimentsv1.Run, error) {
	key, err := parseRun(name)
	if err != nil {
		return nil, err
	}
	run := &experimentsv1.Run{}
	if _, err := s.records.Get(ctx, key, run); err != nil {
		if errs.Is(err, codes.NotFound) {
			return nil, errs.NotFound("RUN_NOT_FOUND", "%s does not exist; list runs to see those that are kept", name).Resource("sebs.Run", name)
		}
		return nil, err
	}
	return run, nil
}

// create writes a new run; one that is there is kept.
func (s store) create(ctx context.Context, run *experimentsv1.Run) error {
	_, err := s.records.Create(ctx, run.GetName(), run)
	if errs.Is(err, codes.AlreadyExists) {
		return nil
	}
	return err
}

// save writes a run as it is. A run that was deleted in between stays deleted.
func (s store) save(ctx context.Context, run *experimentsv1.Run) error {
	shrink(run)
	current := &experimentsv1.Run{}
	_, err := s.records.Update(ctx, run.GetName(), current, false, func() error {
		proto.Reset(current)
		proto.Merge(current, run)
		return nil
	})
	if errs.Is(err, codes.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", run.GetName(), err)
	}
	return nil
}

// shrink cuts what the metrics service has as well, until the record fits.
func shrink(run *experimentsv1.Run) {
	for _, result := range run.GetRegressionResults() {
		if proto.Size(run) <= maxRecordBytes {
			return
		}
		if result.GetRecord().GetResult() != nil {
			result.Record.Result.OutputJson = ""
		}
	}
	for _, function := range run.GetFunctions() {
		if proto.Size(run) <= maxRecordBytes {
			return
		}
		function.PayloadJson = ""
	}
}

// list returns a page of runs, newest first.
func (s store) list(ctx context.Context, size int32, token string) (*experimentsv1.ListRunsResponse, error) {
	most, err := pagetoken.Size(size, pageDefault, pageMax)
	if err != nil {
		return nil, err
	}
	last, err := s.tokens.Decode(listName, nil, token)
	if err != nil {
		return nil, err
	}
	from, end := s.records.Key(runsPrefix), clientv3.GetPrefixRangeEnd(s.records.Key(runsPrefix))
	if last != "" {
		end = s.records.Key(last)
	}
	// Pages of raw records may be large, so etcd is asked for some at a time.
	const round = 20
	answer := &experimentsv1.ListRunsResponse{}
	for {
		page, err := s.records.Client().Get(ctx, from, clientv3.WithRange(end),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(round))
		if err != nil {
			return nil, cache.Classify("list runs", err)
		}
		for _, kv := range page.Kvs {
			if len(answer.GetRuns()) == most {
				answer.NextPageToken = s.tokens.Encode(listName, nil, answer.GetRuns()[most-1].GetName())
				return answer, nil
			}
			run := &experimentsv1.Run{}
			if err := cache.Unmarshal(kv.Value, run); err != nil {
				return nil, fmt.Errorf("list runs: %w", err)
			}
			answer.Runs = append(answer.Runs, run)
			end = string(kv.Key)
		}
		if !page.More {
			return answer, nil
		}
	}
}

// prune deletes runs that ended longer ago than keep, and returns how many.
func (s store) prune(ctx context.Context, keep time.Duration, now time.Time) (int, error) {
	var old []string
	token := ""
	for {
		page, err := s.list(ctx, 100, token)
		if err != nil {
			return 0, err
		}
		for _, run := range page.GetRuns() {
			if run.GetEndTime() != nil && run.GetEndTime().AsTime().Add(keep).Before(now) {
				old = append(old, run.GetName())
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	for i, name := range old {
		if err := s.records.Delete(ctx, name); err != nil {
			return i, err
		}
	}
	return len(old), nil
}
