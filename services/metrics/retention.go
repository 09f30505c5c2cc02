package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// resultsPrefix and processedPrefix are where results of runs and filled result files lie in the bucket.
	resultsPrefix   = "results/"
	processedPrefix = "processed/"
	// processedRetention is how long a filled result file waits to be fetched.
	processedRetention = 24 * time.Hour
	// sweepInterval is how often old results are looked for.
	sweepInterval = 6 * time.Hour
)

// sweeper deletes the results of runs that are gone.
type sweeper struct {
	store     *objects
	runs      runSource
	retention time.Duration
	log       *slog.Logger
}

// leader elects the one process that sweeps.
type leader interface {
	LockContext(ctx context.Context, what string) (held context.Context, unlock func(), err error)
}

// run sweeps now and then until ctx ends.
func (s *sweeper) run(ctx context.Context, elect leader) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		held, unlock, err := elect.LockContext(ctx, "results-sweep")
		if err == nil {
			err = s.sweep(held, time.Now())
			unlock()
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("old results could not be deleted; trying again later", "error", err)
		}
	}
}

// storedRun is a run's objects.
type storedRun struct {
	keys   []string
	newest time.Time
}

// sweep deletes the results of runs that the experiments service no longer knows and that are older than the retention, and filled result
// files that nobody fetched. A run whose record is there keeps its results, however old.
func (s *sweeper) sweep(ctx context.Context, now time.Time) error {
	runs := make(map[string]*storedRun)
	err := s.store.list(ctx, resultsPrefix, func(key string, updated time.Time) error {
		id, _, ok := strings.Cut(strings.TrimPrefix(key, resultsPrefix), "/")
		if !ok {
			return nil
		}
		r := runs[id]
		if r == nil {
			r = &storedRun{}
			runs[id] = r
		}
		r.keys = append(r.keys, key)
		if updated.After(r.newest) {
			r.newest = updated
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range sortedNames(runs) {
		if now.Sub(runs[id].newest) < s.retention {
			continue
		}
		_, err := s.runs.GetRun(ctx, "runs/"+id)
		if err == nil {
			continue
		}
		if !errs.Is(err, codes.NotFound) {
			return fmt.Errorf("look for run %s: %w", id, err)
		}
		if err := s.delete(ctx, runs[id].keys); err != nil {
			return err
		}
		s.log.Info("old results were deleted", "run", "runs/"+id, "objects", len(runs[id].keys))
	}
	var stale []string
	err = s.store.list(ctx, processedPrefix, func(key string, updated time.Time) error {
		if now.Sub(updated) >= processedRetention {
			stale = append(stale, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.delete(ctx, stale)
}

// delete removes a run's objects, the manifest last: without the others it is found again.
func (s *sweeper) delete(ctx context.Context, keys []string) error {
	var manifests []string
	for _, key := range keys {
		if strings.HasSuffix(key, "/manifest.json") {
			manifests = append(manifests, key)
			continue
		}
		if err := s.store.Delete(ctx, key); err != nil {
			return err
		}
	}
	for _, key := range manifests {
		if err := s.store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// list hands out the objects under a prefix.
func (o *objects) list(ctx context.Context, prefix string, each func(key string, updated time.Time) error) error {
	if err := o.prepare(ctx); err != nil {
		return err
	}
	for token := ""; ; {
		page, err := o.client.ListObjects(ctx, &storagev1.ListObjectsRequest{Bucket: bucketName(), Prefix: prefix, PageToken: token})
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, errs.FromStatus(err))
		}
		for _, object := range page.GetObjects() {
			if err := each(object.GetKey(), object.GetUpdateTime().AsTime()); err != nil {
				return err
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil
		}
	}
}
