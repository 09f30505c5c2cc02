package host

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// journal is a file of JSON lines with a size limit: when the file is full it becomes the old one, and the old one before
// it is dropped. So at most twice the limit is on disk.
type journal struct {
	path  string
	limit int64

	mu      sync.Mutex
	pending bytes.Buffer
	size    int64
	opened  bool
	closed  bool
}

// close drops what is pending and takes nothing more: the file is going to be deleted.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.pending.Reset()
}

// journalBuffer is how much is held back before it is written even without a flush.
const journalBuffer = 256 << 10

// append adds a value. It reaches the disk with the next flush.
func (j *journal) append(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode journal entry: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.pending.Write(raw)
	j.pending.WriteByte('\n')
	if j.pending.Len() >= journalBuffer {
		return j.flushLocked()
	}
	return nil
}

func (j *journal) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flushLocked()
}

func (j *journal) flushLocked() error {
	if j.pending.Len() == 0 {
		return nil
	}
	if !j.opened {
		if info, err := os.Stat(j.path); err == nil {
			j.size = info.Size()
		}
		j.opened = true
	}
	if j.size > 0 && j.size+int64(j.pending.Len()) > j.limit {
		if err := os.Rename(j.path, j.path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("turn over journal: %w", err)
		}
		j.size = 0
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return j.lose(fmt.Errorf("open journal: %w", err))
	}
	n, err := f.Write(j.pending.Bytes())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	j.size += int64(n)
	if err != nil {
		return j.lose(fmt.Errorf("write journal: %w", err))
	}
	j.pending.Reset()
	return nil
}

// lose drops what is pending when it has grown too far: a full disk must not fill the memory as well.
func (j *journal) lose(err error) error {
	if j.pending.Len() > 4*journalBuffer {
		j.pending.Reset()
	}
	return err
}

// each calls f for every line, oldest first, until f returns false. Lines that a crash cut off are left out.
func (j *journal) each(f func(line []byte) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.flushLocked(); err != nil {
		return err
	}
	for _, path := range []string{j.path + ".old", j.path} {
		more, err := eachLine(path, f)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func eachLine(path string, f func([]byte) bool) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("open journal: %w", err)
	}
	defer func() { _ = file.Close() }()
	s := bufio.NewScanner(file)
	s.Buffer(make([]byte, 64<<10), 4<<20)
	for s.Scan() {
		if !f(s.Bytes()) {
			return false, nil
		}
	}
	if err := s.Err(); err != nil {
		return false, fmt.Errorf("read journal: %w", err)
	}
	return true, nil
}
