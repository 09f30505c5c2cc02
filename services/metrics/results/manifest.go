package results

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Store is an object store. Put replaces an object as a whole; Get of an unknown key is NOT_FOUND.
type Store interface {
	Put(ctx context.Context, key string, content io.ReadSeeker, size int64) error
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	Delete(ctx context.Context, key string) error
	// Ref returns the address under which others find the object.
	Ref(key string) string
}

// Segment is one Parquet object of a run.
type Segment struct {
	Key string `json:"key"`
	// First and Last bound the range of the result stream that the segment was made of.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Count is the number of records.
	Count int64 `json:"count"`
	// MinSequence is the smallest sequence in the segment, so that a reader opens it when it is needed and not before.
	MinSequence int64 `json:"min_sequence"`
	// Batches tells which batches of which invoker the segment holds, so that one that was published twice is stored once.
	Batches batchSet `json:"batches,omitempty"`
}

// Manifest lists what makes up a run.
type Manifest struct {
	// Format is the version of the layout.
	Format   int       `json:"format"`
	Run      string    `json:"run"`
	Segments []Segment `json:"segments"`
	// Generation counts compactions and refills, so that each gets a key of its own.
	Generation int `json:"generation"`
	// Metrics holds what the platform tells beyond single invocations, by function.
	Metrics map[string]json.RawMessage `json:"metrics,omitempty"`
	// Missing counts the requests that the platform has no metrics of; absent before metrics were downloaded.
	Missing *int64 `json:"missing,omitempty"`
}

const manifestFormat = 1

// Count returns the number of records.
func (m *Manifest) Count() int64 {
	var n int64
	for _, s := range m.Segments {
		n += s.Count
	}
	return n
}

// has tells whether a batch is in the run already.
func (m *Manifest) has(invoker string, batch int64) bool {
	return slices.ContainsFunc(m.Segments, func(s Segment) bool { return s.Batches.has(invoker, batch) })
}

const prefix = "results/"

// runID takes the id out of runs/<id> and refuses what cannot be part of a key.
func runID(run string) (string, error) {
	id := strings.TrimPrefix(run, "runs/")
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\\ \x00") {
		return "", errs.InvalidArgument("RUN_NAME_INVALID", "run %q: the name has the form runs/<id>", run)
	}
	return id, nil
}

func manifestKey(id string) string { return prefix + id + "/manifest.json" }

// segmentKey names a segment by the stream (its time of creation tells streams of the same name apart) and its range, so that the same
// range gives the same object.
func segmentKey(id string, stream int64, first, last uint64) string {
	return fmt.Sprintf("%s%s/%x-%016d-%016d.parquet", prefix, id, stream, first, last)
}

func compactedKey(id string, generation int) string {
	return fmt.Sprintf("%s%s/all-%04d.parquet", prefix, id, generation)
}

// loadManifest returns the manifest of a run; an empty one for a run that has no results yet.
func loadManifest(ctx context.Context, store Store, id string) (*Manifest, error) {
	r, err := store.Get(ctx, manifestKey(id))
	if errs.Is(err, codes.NotFound) {
		return &Manifest{Format: manifestFormat, Run: "runs/" + id}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest of run %s: %w", id, err)
	}
	raw, err := io.ReadAll(r)
	if err = firstError(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read manifest of run %s: %w", id, err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, errs.DataLoss("RESULTS_MANIFEST_DAMAGED", "the manifest of run %s cannot be read: %v", id, err)
	}
	if m.Format != manifestFormat {
		return nil, errs.FailedPrecondition("RESULTS_FORMAT_UNKNOWN",
			"the results of run %s have format %d, this version reads format %d; use a newer version", id, m.Format, manifestFormat)
	}
	return m, nil
}

func saveManifest(ctx context.Context, store Store, id string, m *Manifest) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest of run %s: %w", id, err)
	}
	if err := store.Put(ctx, manifestKey(id), bytes.NewReader(raw), int64(len(raw))); err != nil {
		return fmt.Errorf("write manifest of run %s: %w", id, err)
	}
	return nil
}

func firstError(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}
