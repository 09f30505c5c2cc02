package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

// maxSpoolBytes bounds the spool.
const maxSpoolBytes = 2 << 30

const (
	spoolSuffix = ".batch"
	badSuffix   = ".unreadable"
)

// spooled is a message that waits for the bus.
type spooled struct {
	// Subject and ID are those of the message.
	Subject string `json:"subject"`
	ID      string `json:"id"`
	// Data is the compressed batch.
	Data []byte `json:"data"`
}

// spool keeps messages as files, in the order in which they came.
type spool struct {
	dir string

	mu    sync.Mutex
	names []string
	bytes int64
	count int
}

func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the spool of results: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the spool of results: %w", err)
	}
	s := &spool{dir: dir}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), spoolSuffix) {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("open the spool of results: %w", err)
		}
		s.names = append(s.names, entry.Name())
		s.bytes += info.Size()
	}
	slices.Sort(s.names)
	return s, nil
}

func (s *spool) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names) == 0
}

// put writes a message so that it survives a crash of the machine.
func (s *spool) put(message spooled) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return errs.Internal(fmt.Errorf("encode a spooled batch: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+int64(len(raw)) > maxSpoolBytes {
		return errs.ResourceExhausted(0, "SPOOL_FULL",
			"the spool %s holds %d MiB already; bring the event bus back or free the spool", s.dir, s.bytes>>20)
	}
	s.count++
	name := fmt.Sprintf("%020d-%06d%s", time.Now().UnixNano(), s.count%1_000_000, spoolSuffix)
	if err := writeSynced(filepath.Join(s.dir, name), raw); err != nil {
		return errs.ResourceExhausted(0, "SPOOL_FAILED", "write to the spool %s: %v; free disk space", s.dir, err)
	}
	s.names = append(s.names, name)
	s.bytes += int64(len(raw))
	return nil
}

func writeSynced(path string, raw []byte) error {
	partial := path + ".partial"
	file, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(partial, path)
	}
	if err != nil {
		_ = os.Remove(partial)
	}
	return err
}

// oldest returns the first message; no name when there is none. A file that cannot be read is set aside and reported.
func (s *spool) oldest() (name string, message spooled, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) == 0 {
		return "", spooled{}, nil
	}
	name = s.names[0]
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err == nil {
		err = json.Unmarshal(raw, &message)
	}
	if err != nil {
		s.forget(name, int64(len(raw)))
		return name, spooled{}, errors.Join(err, os.Rename(filepath.Join(s.dir, name), filepath.Join(s.dir, name+badSuffix)))
	}
	return name, message, nil
}

// remove deletes a message that was sent.
func (s *spool) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	s.forget(name, info.Size())
	return nil
}

func (s *spool) forget(name string, size int64) {
	s.names = slices.DeleteFunc(s.names, func(other string) bool { return other == name })
	s.bytes = max(s.bytes-size, 0)
}
