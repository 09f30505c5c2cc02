package objects

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/posix"
)

// staleUpload is how long an upload in parts may lie unfinished before it is dropped when the store opens. Its sender
// is long gone by then, and nobody would ever remove the parts.
const staleUpload = 24 * time.Hour

// dropStale removes the parts of uploads that were left unfinished before a point in time, and returns how many
// uploads there were.
func dropStale(root string, before time.Time) (int, error) {
	uploads, err := filepath.Glob(filepath.Join(root, "*", posix.MetaTmpMultipartDir, "*", "*"))
	if err != nil {
		return 0, fmt.Errorf("look for unfinished uploads: %w", err)
	}
	dropped := 0
	var problems []error
	for _, dir := range uploads {
		info, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) || (err == nil && !info.ModTime().Before(before)) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("drop an unfinished upload: %w", err))
			continue
		}
		dropped++
		_ = os.Remove(filepath.Dir(dir)) // stays when the object has other uploads
	}
	return dropped, errors.Join(problems...)
}
