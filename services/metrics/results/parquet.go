package results

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/parquet-go/parquet-go"
)

const (
	// rowsPerGroup bounds what a reader has to hold of one column.
	rowsPerGroup = 128 << 10
	// readBatch is how many rows are handed out at once.
	readBatch = 512
)

func writerOptions() []parquet.WriterOption {
	return []parquet.WriterOption{
		parquet.Compression(&parquet.Snappy),
		parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.CreatedBy("sebs", "1", ""),
	}
}

// compareRows orders rows by sequence, attempt and start.
func compareRows(a, b *Row) int {
	switch {
	case a.Sequence != b.Sequence:
		return compareInts(a.Sequence, b.Sequence)
	case a.Attempt != b.Attempt:
		return compareInts(int64(a.Attempt), int64(b.Attempt))
	case a.StartedUnixNS != b.StartedUnixNS:
		return compareInts(a.StartedUnixNS, b.StartedUnixNS)
	case a.RequestID < b.RequestID:
		return -1
	case a.RequestID > b.RequestID:
		return 1
	default:
		return 0
	}
}

func compareInts(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

// encodeRows writes rows, in the order of their sequence, as one Parquet file. It sorts rows in place.
func encodeRows(w io.Writer, rows []Row) error {
	ordered := true
	for i := 1; i < len(rows) && ordered; i++ {
		ordered = compareRows(&rows[i-1], &rows[i]) <= 0
	}
	if !ordered {
		slices.SortStableFunc(rows, func(a, b Row) int { return compareRows(&a, &b) })
	}
	out := parquet.NewGenericWriter[Row](w, writerOptions()...)
	if _, err := out.Write(rows); err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	return nil
}

// segmentFile is a segment copied to a scratch file, so that its columns can be read without holding it in memory.
type segmentFile struct {
	file    *os.File
	parquet *parquet.File
}

// fetch copies an object to a scratch file and opens it.
func fetch(ctx context.Context, store Store, key, scratch string) (_ *segmentFile, err error) {
	in, err := store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read results %s: %w", key, err)
	}
	defer func() { err = firstError(err, in.Close()) }()
	file, err := os.CreateTemp(scratch, "segment-*.parquet")
	if err != nil {
		return nil, fmt.Errorf("make scratch file for results: %w", err)
	}
	s := &segmentFile{file: file}
	size, err := io.Copy(file, in)
	if err == nil {
		s.parquet, err = parquet.OpenFile(file, size, parquet.SkipBloomFilters(true))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read results %s: %w", key, err), s.close())
	}
	return s, nil
}

func (s *segmentFile) close() error {
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// rowReader reads a segment row by row.
type rowReader struct {
	segment *segmentFile
	reader  *parquet.GenericReader[Row]
	buffer  []Row
	next    int
	filled  int
	done    bool
}

func newRowReader(s *segmentFile) *rowReader {
	return &rowReader{segment: s, reader: parquet.NewGenericReader[Row](s.parquet), buffer: make([]Row, readBatch)}
}

// peek returns the current row, nil at the end. It is valid until advance is called.
func (r *rowReader) peek() (*Row, error) {
	for r.next == r.filled {
		if r.done {
			return nil, nil
		}
		// The reader reuses pointers of the rows it is given; rows that were handed out must keep theirs.
		clear(r.buffer)
		n, err := r.reader.Read(r.buffer)
		switch {
		case errors.Is(err, io.EOF):
			r.done = true
		case err != nil:
			return nil, fmt.Errorf("read results: %w", err)
		}
		r.next, r.filled = 0, n
	}
	return &r.buffer[r.next], nil
}

func (r *rowReader) advance() { r.next++ }

func (r *rowReader) skipTo(row int64) error {
	if err := r.reader.SeekToRow(row); err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	r.next, r.filled, r.done = 0, 0, false
	return nil
}

func (r *rowReader) close() error {
	return errors.Join(r.reader.Close(), r.segment.close())
}
