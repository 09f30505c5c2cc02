package benchsource

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/sebs-suite/sebs/internal/archive"
)

func sample() fstest.MapFS {
	return fstest.MapFS{
		"config.json":                        {Data: []byte("{}")},
		"input.py":                           {Data: []byte("x")},
		"python/function.py":                 {Data: []byte("y")},
		"init.sh":                            {Data: []byte("true"), Mode: 0o755},
		"python/__pycache__/function.pyc":    {Data: []byte("left by Python")},
		"nodejs/node_modules/a/package.json": {Data: []byte("left by npm")},
		".git/HEAD":                          {Data: []byte("left by git")},
	}
}

func pack(t *testing.T, tree fs.FS) (archived []byte, digest string) {
	t.Helper()
	var out bytes.Buffer
	digest, err := Pack(t.Context(), &out, tree)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), digest
}

func TestPackLeavesOutWhatToolsLeave(t *testing.T) {
	t.Parallel()
	archived, _ := pack(t, sample())
	files, err := archive.Open(bytes.NewReader(archived), int64(len(archived)), Limits)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Path)
	}
	want := []string{"config.json", "init.sh", "input.py", "python/function.py"}
	if len(names) != len(want) {
		t.Fatalf("packed %v, want %v", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Errorf("packed %v, want %v", names, want)
		}
	}
}

func TestDigestIsTheFoldersOwn(t *testing.T) {
	t.Parallel()
	archived, digest := pack(t, sample())
	// From a disk, with other times and modes.
	dir := t.TempDir()
	files, err := archive.Open(bytes.NewReader(archived), int64(len(archived)), Limits)
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Extract(t.Context(), dir, files); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "input.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, fromDisk := pack(t, os.DirFS(dir))
	if fromDisk != digest || !bytes.Equal(again, archived) {
		t.Errorf("the folder on disk has digest %s, want %s; same bytes: %t", fromDisk, digest, bytes.Equal(again, archived))
	}
	for name, change := range map[string]func(fstest.MapFS){
		"content":    func(m fstest.MapFS) { m["input.py"] = &fstest.MapFile{Data: []byte("z")} },
		"name":       func(m fstest.MapFS) { m["output.py"] = m["input.py"]; delete(m, "input.py") },
		"executable": func(m fstest.MapFS) { m["input.py"] = &fstest.MapFile{Data: []byte("x"), Mode: 0o755} },
		"new file":   func(m fstest.MapFS) { m["python/empty"] = &fstest.MapFile{} },
	} {
		tree := sample()
		change(tree)
		if _, changed := pack(t, tree); changed == digest {
			t.Errorf("a change of the %s does not change the digest", name)
		}
	}
}

func TestLinksAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Skipf("needs symbolic links: %v", err)
	}
	if _, err := Pack(t.Context(), &bytes.Buffer{}, os.DirFS(dir)); err == nil {
		t.Error("Pack follows a symbolic link")
	}
}
