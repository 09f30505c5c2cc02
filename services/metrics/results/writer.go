package results

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Locker lets one holder at a time change a run's manifest, in the whole system.
type Locker interface {
	Lock(ctx context.Context, what string) (unlock func(), err error)
}

// Batch numbers of one invoker, both ends included.
type batchRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// batchSet holds which batches a segment has, by invoker.
type batchSet map[string][]batchRange

func (s batchSet) has(invoker string, batch int64) bool {
	for _, r := range s[invoker] {
		if r.From <= batch && batch <= r.To {
			return true
		}
	}
	return false
}

func (s batchSet) add(invoker string, from, to int64) {
	ranges := s[invoker]
	if n := len(ranges); n > 0 && ranges[n-1].To+1 == from {
		ranges[n-1].To = to
		return
	}
	s[invoker] = append(ranges, batchRange{From: from, To: to})
}

func (s batchSet) merge(other batchSet) {
	for invoker, ranges := range other {
		merged := append(slices.Clone(s[invoker]), ranges...)
		slices.SortFunc(merged, func(a, b batchRange) int { return cmp.Compare(a.From, b.From) })
		s[invoker] = nil
		for _, r := range merged {
			s.add(invoker, r.From, r.To)
		}
	}
}

// Writer gathers batches of the result stream and writes them as segments. Add and Commit belong to one goroutine.
type Writer struct {
	store Store
	locks Locker

	stream      int64
	runs        map[string][]*pendingBatch
	first, last uint64
	records     int
	bytes       int

	// changed is closed and replaced whenever records were committed.
	mu      sync.Mutex
	changed chan struct{}
}

type pendingBatch struct {
	invoker string
	number  int64
	records []*typev1.InvocationRecord
}

// NewWriter returns a writer to the store.
func NewWriter(store Store, locks Locker) *Writer {
	return &Writer{store: store, locks: locks, runs: make(map[string][]*pendingBatch), changed: make(chan struct{})}
}

// Reset forgets what was not committed and takes what the given stream (its time of creation in seconds) delivers from now on.
func (w *Writer) Reset(stream int64) {
	clear(w.runs)
	w.stream, w.first, w.last, w.records, w.bytes = stream, 0, 0, 0, 0
}

// Pending returns how many records wait to be committed and about how many bytes they take.
func (w *Writer) Pending() (records, size int) { return w.records, w.bytes }

// Add takes the batch that the stream holds at a position. Positions ascend.
func (w *Writer) Add(position uint64, batch *typev1.InvocationBatch, size int) error {
	id, err := runID(batch.GetRun())
	if err != nil {
		return err
	}
	w.Skip(position)
	w.runs[id] = append(w.runs[id], &pendingBatch{
		invoker: batch.GetInvoker(), number: batch.GetBatch(), records: batch.GetRecords(),
	})
	w.records += len(batch.GetRecords())
	w.bytes += size
	return nil
}

// Skip takes note of a position that holds nothing to keep.
func (w *Writer) Skip(position uint64) {
	if w.first == 0 {
		w.first = position
	}
	w.last = position
}

// Committed tells what a Commit wrote.
type Committed struct {
	// Last is the last position of the stream that is in the store now; 0 when there was nothing to write.
	Last uint64
	// Records counts what was written, without batches that were there already.
	Records int64
	// Crowded are the runs that have many small segments; see Reader.Fold.
	Crowded []string
}

// Commit writes what was added since the last Commit, one segment per run. After an error everything is still there for another try.
func (w *Writer) Commit(ctx context.Context) (done Committed, err error) {
	if w.first == 0 {
		return Committed{}, nil
	}
	ids := make([]string, 0, len(w.runs))
	for id := range w.runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		written, crowded, err := w.commitRun(ctx, id, w.runs[id])
		if err != nil {
			return Committed{}, err
		}
		done.Records += written
		if crowded {
			done.Crowded = append(done.Crowded, "runs/"+id)
		}
	}
	done.Last = w.last
	clear(w.runs)
	w.first, w.last, w.records, w.bytes = 0, 0, 0, 0
	w.notify()
	return done, nil
}

func (w *Writer) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next commit.
func (w *Writer) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func lockName(id string) string { return "results/" + id }

func (w *Writer) commitRun(ctx context.Context, id string, batches []*pendingBatch) (written int64, crowded bool, err error) {
	unlock, err := w.locks.Lock(ctx, lockName(id))
	if err != nil {
		return 0, false, fmt.Errorf("store results of run %s: %w", id, err)
	}
	defer unlock()
	manifest, err := loadManifest(ctx, w.store, id)
	if err != nil {
		return 0, false, err
	}
	segment := Segment{
		Key: segmentKey(id, w.stream, w.first, w.last), First: w.first, Last: w.last, Batches: make(batchSet),
	}
	rows := make([]Row, 0, w.records)
	for _, batch := range batches {
		// A publisher that did not hear the answer sends the batch once more, and the stream delivers again after a crash.
		if segment.Batches.has(batch.invoker, batch.number) || manifest.has(batch.invoker, batch.number) {
			continue
		}
		segment.Batches.add(batch.invoker, batch.number, batch.number)
		for _, record := range batch.records {
			row := FromRecord(record)
			row.Run = manifest.Run
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return 0, false, nil
	}
	segment.Count = int64(len(rows))
	var content bytes.Buffer
	if err := encodeRows(&content, rows); err != nil {
		return 0, false, err
	}
	segment.MinSequence = rows[0].Sequence
	if err := w.store.Put(ctx, segment.Key, bytes.NewReader(content.Bytes()), int64(content.Len())); err != nil {
		return 0, false, fmt.Errorf("store results of run %s: %w", id, err)
	}
	manifest.Segments = append(manifest.Segments, segment)
	return segment.Count, len(manifest.Segments) >= foldSegments, saveManifest(ctx, w.store, id, manifest)
}

func deleteSegments(ctx context.Context, store Store, segments []Segment) error {
	for _, s := range segments {
		if err := store.Delete(ctx, s.Key); err != nil {
			return fmt.Errorf("delete results %s: %w", s.Key, err)
		}
	}
	return nil
}
