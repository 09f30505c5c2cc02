package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// houseInterval is how often the disk is tidied.
const houseInterval = 10 * time.Minute

// unfinishedAfter is how old a file must be that was never finished.
const unfinishedAfter = 24 * time.Hour

// keepHouse removes what nobody needs on this process's disk, now and from time to time, until ctx ends.
func (s *Server) keepHouse(ctx context.Context) error {
	ticker := time.NewTicker(houseInterval)
	defer ticker.Stop()
	for {
		if err := s.tidy(time.Now()); err != nil {
			s.log.WarnContext(ctx, "the builder's disk could not be tidied", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tidy removes unfinished files, and of layers, sources and base images those that were not used for the longest time, until the
// rest fits. A file that is open stays readable for who has it open.
func (s *Server) tidy(now time.Time) error {
	var problems []error
	if s.sweep != nil {
		problems = append(problems, s.sweep())
	}
	for _, name := range []string{"layers", "sources", "packages", "images", "bases"} {
		problems = append(problems, trim(filepath.Join(s.dir, name), s.limits.CacheBytes, now))
	}
	return errors.Join(problems...)
}

// trim removes the oldest files of a directory until the rest is not larger than limit bytes.
func trim(dir string, limit int64, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tidy %s: %w", dir, err)
	}
	var (
		kept     []fs.FileInfo
		total    int64
		problems []error
	)
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		// Files, and the directories in which the runtime of Java images is compiled.
		if strings.HasPrefix(info.Name(), ".new-") {
			if now.Sub(info.ModTime()) > unfinishedAfter {
				problems = append(problems, os.RemoveAll(filepath.Join(dir, info.Name())))
			}
			continue
		}
		if !info.Mode().IsRegular() {
			continue
		}
		kept, total = append(kept, info), total+info.Size()
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range kept {
		if total <= limit {
			break
		}
		problems = append(problems, os.Remove(filepath.Join(dir, info.Name())))
		total -= info.Size()
	}
	return errors.Join(problems...)
}

// used marks a file as used just now, for trim.
func used(name string) error {
	now := time.Now()
	return os.Chtimes(name, now, now)
}
