package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"
)

// Reader reads runs out of a store. It is safe for concurrent use.
type Reader struct {
	store Store
	// scratch is a folder for temporary copies of segments.
	scratch string
}

// NewReader returns a reader that keeps temporary copies in the given folder, which it creates.
func NewReader(store Store, scratch string) (*Reader, error) {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("make scratch folder for results: %w", err)
	}
	return &Reader{store: store, scratch: scratch}, nil
}

// Manifest returns what makes up a run; an empty manifest for a run without results.
func (r *Reader) Manifest(ctx context.Context, run string) (*Manifest, error) {
	id, err := runID(run)
	if err != nil {
		return nil, err
	}
	return loadManifest(ctx, r.store, id)
}

// Scan hands out the rows of a run in the order of their sequence, from the given position on. A row is valid until each returns. each
// returns false to stop.
func (r *Reader) Scan(ctx context.Context, run string, from int64, each func(position int64, row *Row) (bool, error)) error {
	manifest, err := r.Manifest(ctx, run)
	if err != nil {
		return err
	}
	return r.scan(ctx, manifest.Segments, from, each)
}

// merger hands out the rows of several segments in order. Every segment is in order; one is opened when the rows have come to its
// first sequence, so that few are open at a time.
type merger struct {
	reader *Reader
	// closed are the segments that are not open yet, by their first sequence.
	closed []Segment
	open   []*rowReader
}

func (m *merger) openNext(ctx context.Context) error {
	file, err := fetch(ctx, m.reader.store, m.closed[0].Key, m.reader.scratch)
	if err != nil {
		return err
	}
	m.closed = m.closed[1:]
	m.open = append(m.open, newRowReader(file))
	return nil
}

// next returns the smallest row and its reader, nil at the end.
func (m *merger) next(ctx context.Context) (best *Row, from *rowReader, err error) {
	for {
		best, from, err = m.smallest()
		if err != nil {
			return nil, nil, err
		}
		if len(m.closed) == 0 || (best != nil && best.Sequence < m.closed[0].MinSequence) {
			return best, from, nil
		}
		if err := m.openNext(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// smallest returns the first of the rows that come next in the open segments and closes those that have none left.
func (m *merger) smallest() (best *Row, from *rowReader, err error) {
	kept := m.open[:0]
	for i, reader := range m.open {
		row, err := reader.peek()
		if err == nil && row == nil {
			if err := reader.close(); err != nil {
				m.open = append(kept, m.open[i+1:]...)
				return nil, nil, err
			}
			continue
		}
		kept = append(kept, reader)
		if err != nil {
			m.open = append(kept, m.open[i+1:]...)
			return nil, nil, err
		}
		if best == nil || compareRows(row, best) < 0 {
			best, from = row, reader
		}
	}
	m.open = kept
	return best, from, nil
}

func (m *merger) close() error {
	var problems []error
	for _, reader := range m.open {
		problems = append(problems, reader.close())
	}
	return errors.Join(problems...)
}

func (r *Reader) scan(ctx context.Context, segments []Segment, from int64, each func(int64, *Row) (bool, error)) (err error) {
	m := &merger{reader: r, closed: slices.Clone(segments)}
	slices.SortStableFunc(m.closed, func(a, b Segment) int { return cmp.Compare(a.MinSequence, b.MinSequence) })
	defer func() { err = errors.Join(err, m.close()) }()
	position := int64(0)
	if len(segments) == 1 && from > 0 {
		if from >= segments[0].Count {
			return nil
		}
		if err := m.openNext(ctx); err != nil {
			return err
		}
		if err := m.open[0].skipTo(from); err != nil {
			return err
		}
		position = from
	}
	for ; ; position++ {
		if position%readBatch == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row, reader, err := m.next(ctx)
		if err != nil || row == nil {
			return err
		}
		if position >= from {
			more, err := each(position, row)
			if err != nil || !more {
				return err
			}
		}
		reader.advance()
	}
}

// Columns reads some columns of a run, row group by row group, without building rows. Row groups are shared out among the visitors,
// which work side by side, in a fixed way, so that each gets the same rows every time. A visitor gets the values of each column for
// the same rows; columns are in the order of names. The values are valid until it returns.
func (r *Reader) Columns(ctx context.Context, run string, names []string, visitors []func(columns [][]parquet.Value) error) error {
	manifest, err := r.Manifest(ctx, run)
	if err != nil {
		return err
	}
	next := 0
	for _, s := range manifest.Segments {
		groups, err := r.segmentColumns(ctx, s, names, visitors, next)
		if err != nil {
			return err
		}
		next += groups
	}
	return nil
}

// segmentColumns reads one segment; first is the number of its first row group within the run. It returns how many row groups it has.
func (r *Reader) segmentColumns(ctx context.Context, s Segment, names []string, visitors []func([][]parquet.Value) error, first int) (_ int, err error) {
	file, err := fetch(ctx, r.store, s.Key, r.scratch)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.close()) }()
	indexes := make([]int, len(names))
	for i, name := range names {
		leaf, ok := file.parquet.Schema().Lookup(name)
		if !ok {
			return 0, fmt.Errorf("read results %s: there is no column %s", s.Key, name)
		}
		indexes[i] = leaf.ColumnIndex
	}
	groups := file.parquet.RowGroups()
	work, ctx := errgroup.WithContext(ctx)
	for k, visit := range visitors {
		work.Go(func() error {
			for i, group := range groups {
				if (first+i)%len(visitors) != k {
					continue
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := visitGroup(group, indexes, visit); err != nil {
					return fmt.Errorf("read results %s: %w", s.Key, err)
				}
			}
			return nil
		})
	}
	return len(groups), work.Wait()
}

// columnChunkRows is how many rows are visited at once.
const columnChunkRows = 4096

func visitGroup(group parquet.RowGroup, indexes []int, visit func([][]parquet.Value) error) (err error) {
	chunks := group.ColumnChunks()
	readers := make([]parquet.ColumnChunkValueReader, len(indexes))
	columns := make([][]parquet.Value, len(indexes))
	buffers := make([][]parquet.Value, len(indexes))
	for i, index := range indexes {
		readers[i] = parquet.NewColumnChunkValueReader(chunks[index])
		buffers[i] = make([]parquet.Value, columnChunkRows)
	}
	defer func() {
		for _, reader := range readers {
			err = errors.Join(err, reader.Close())
		}
	}()
	for left := group.NumRows(); left > 0; {
		n := int(min(left, columnChunkRows))
		for i, reader := range readers {
			if err := readFull(reader, buffers[i][:n]); err != nil {
				return err
			}
			columns[i] = buffers[i][:n]
		}
		if err := visit(columns); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func readFull(reader parquet.ValueReader, into []parquet.Value) error {
	for n := 0; n < len(into); {
		m, err := reader.ReadValues(into[n:])
		n += m
		if n == len(into) {
			return nil
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return io.ErrNoProgress
		}
	}
	return nil
}
