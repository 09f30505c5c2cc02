package builder

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestTrimRemovesTheLeastUsed(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	for i, name := range []string{"oldest", "middle", "newest", ".new-young", ".new-old"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, make([]byte, 100), 0o644); err != nil {
			t.Fatal(err)
		}
		age := time.Duration(10-i) * time.Hour
		if name == ".new-old" {
			age = 2 * unfinishedAfter
		}
		if err := os.Chtimes(file, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	left := filepath.Join(dir, ".new-directory")
	if err := os.MkdirAll(filepath.Join(left, "classes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(left, now.Add(-2*unfinishedAfter), now.Add(-2*unfinishedAfter)); err != nil {
		t.Fatal(err)
	}
	// What is used stays, however old it is.
	if err := used(filepath.Join(dir, "oldest")); err != nil {
		t.Fatal(err)
	}
	if err := trim(dir, 250, now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{".new-young", "newest", "oldest"}; !slices.Equal(names, want) {
		t.Errorf("left %v, want %v", names, want)
	}
	if err := trim(filepath.Join(dir, "none"), 1, now); err != nil {
		t.Errorf("trim of a directory that is not there = %v", err)
	}
}
