package results

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// Changes tells Rewrite what to change. The zero value changes nothing and only compacts.
type Changes struct {
	// Row changes one row; nil leaves the rows as they are.
	Row func(row *Row)
	// Metrics replaces the provider's metrics by function; nil leaves them.
	Metrics map[string]json.RawMessage
	// Missing is how many requests the provider has no metrics of; nil leaves it.
	Missing *int64
}

// Rewrite writes the records of all segments of a run in the order of their sequence into one object, puts it in their place and deletes
// them. It returns the new manifest.
func (r *Reader) Rewrite(ctx context.Context, locks Locker, run string, changes Changes) (*Manifest, error) {
	id, err := runID(run)
	if err != nil {
		return nil, err
	}
	unlock, err := locks.Lock(ctx, lockName(id))
	if err != nil {
		return nil, fmt.Errorf("compact results of run %s: %w", id, err)
	}
	defer unlock()
	manifest, err := loadManifest(ctx, r.store, id)
	if err != nil {
		return nil, err
	}
	if changes.Metrics != nil {
		manifest.Metrics = changes.Metrics
	}
	if changes.Missing != nil {
		manifest.Missing = changes.Missing
	}
	old := manifest.Segments
	if len(old) > 1 || (len(old) == 1 && changes.Row != nil) {
		segment, err := r.merge(ctx, id, old, manifest.Generation+1, changes.Row)
		if err != nil {
			return nil, err
		}
		manifest.Segments = []Segment{segment}
		manifest.Generation++
	} else {
		old = nil
		if changes.Metrics == nil && changes.Missing == nil {
			return manifest, nil
		}
	}
	if err := saveManifest(ctx, r.store, id, manifest); err != nil {
		return nil, err
	}
	return manifest, deleteSegments(ctx, r.store, old)
}

const (
	// foldSegments is how many small segments are folded into one while a run goes on.
	foldSegments = 64
	// smallSegment is up to how many records a segment counts as small.
	smallSegment = 256 << 10
)

// Fold merges the small segments of a run into one once there are many, so that a run of days does not leave as many objects as it
// has seconds.
func (r *Reader) Fold(ctx context.Context, locks Locker, run string) error {
	id, err := runID(run)
	if err != nil {
		return err
	}
	unlock, err := locks.Lock(ctx, lockName(id))
	if err != nil {
		return fmt.Errorf("fold results of run %s: %w", id, err)
	}
	defer unlock()
	manifest, err := loadManifest(ctx, r.store, id)
	if err != nil {
		return err
	}
	var small, large []Segment
	for _, s := range manifest.Segments {
		if s.Count < smallSegment {
			small = append(small, s)
		} else {
			large = append(large, s)
		}
	}
	if len(small) < foldSegments {
		return nil
	}
	segment, err := r.merge(ctx, id, small, manifest.Generation+1, nil)
	if err != nil {
		return err
	}
	manifest.Segments = append(large, segment)
	manifest.Generation++
	if err := saveManifest(ctx, r.store, id, manifest); err != nil {
		return err
	}
	return deleteSegments(ctx, r.store, small)
}

// merge writes segments as one object.
func (r *Reader) merge(ctx context.Context, id string, segments []Segment, generation int, change func(*Row)) (_ Segment, err error) {
	file, err := os.CreateTemp(r.scratch, "compact-*.parquet")
	if err != nil {
		return Segment{}, fmt.Errorf("compact results of run %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()

	merged := Segment{Key: compactedKey(id, generation), First: segments[0].First, MinSequence: segments[0].MinSequence, Batches: make(batchSet)}
	for _, s := range segments {
		merged.First, merged.Last = min(merged.First, s.First), max(merged.Last, s.Last)
		merged.MinSequence = min(merged.MinSequence, s.MinSequence)
		merged.Count += s.Count
		merged.Batches.merge(s.Batches)
	}
	written, err := r.writeRows(ctx, file, segments, change)
	if err != nil {
		return Segment{}, err
	}
	if written != merged.Count {
		return Segment{}, fmt.Errorf("compact results of run %s: the segments hold %d records, the manifest says %d", id, written, merged.Count)
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return Segment{}, fmt.Errorf("compact results of run %s: %w", id, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Segment{}, fmt.Errorf("compact results of run %s: %w", id, err)
	}
	if err := r.store.Put(ctx, merged.Key, file, size); err != nil {
		return Segment{}, fmt.Errorf("compact results of run %s: %w", id, err)
	}
	return merged, nil
}

// WriteParquet writes all records of a run, in the order of their sequence, as one Parquet file.
func (r *Reader) WriteParquet(ctx context.Context, run string, w io.Writer) error {
	manifest, err := r.Manifest(ctx, run)
	if err != nil {
		return err
	}
	_, err = r.writeRows(ctx, w, manifest.Segments, nil)
	return err
}

func (r *Reader) writeRows(ctx context.Context, w io.Writer, segments []Segment, change func(*Row)) (int64, error) {
	out := parquet.NewGenericWriter[Row](w, writerOptions()...)
	batch := make([]Row, 0, readBatch)
	var written int64
	flush := func() error {
		n, err := out.Write(batch)
		written += int64(n)
		batch = batch[:0]
		return err
	}
	err := r.scan(ctx, segments, 0, func(_ int64, row *Row) (bool, error) {
		if change != nil {
			change(row)
		}
		batch = append(batch, *row)
		if len(batch) < readBatch {
			return true, nil
		}
		return true, flush()
	})
	if err == nil {
		err = flush()
	}
	if err = firstError(err, out.Close()); err != nil {
		return written, fmt.Errorf("write results: %w", err)
	}
	return written, nil
}
