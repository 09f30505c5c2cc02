package archive

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
)

var limits = Limits{Files: 100, Bytes: 1 << 20}

func write(t testing.TB, files []File) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(t.Context(), &out, files); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t testing.TB, raw []byte) []File {
	t.Helper()
	files, err := Open(bytes.NewReader(raw), int64(len(raw)), limits)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestArchiveDependsOnContentAlone(t *testing.T) {
	t.Parallel()
	build := func(when time.Time, mode fs.FileMode) fstest.MapFS {
		return fstest.MapFS{
			"b/function.py": {Data: []byte("x = 1\n"), ModTime: when, Mode: mode},
			"a.txt":         {Data: bytes.Repeat([]byte("long "), 1000), ModTime: when, Mode: mode},
			"run.sh":        {Data: []byte("true\n"), ModTime: when, Mode: 0o444},
		}
	}
	var archives [][]byte
	for _, tree := range []fs.FS{build(time.Unix(0, 0), 0o600), build(time.Now(), 0o664)} {
		files, err := Tree(tree, limits, nil)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, write(t, files))
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("times and permissions change the archive")
	}
}

func TestExtractGivesBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{
		"deep/er/file": {Data: []byte("content"), Mode: 0o644},
		"empty":        {Mode: 0o644},
		"program":      {Data: []byte("#!"), Mode: 0o755},
		"init.sh":      {Data: []byte("true"), Mode: 0o444},
	}
	files, err := Tree(tree, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Extract(t.Context(), dir, open(t, write(t, files))); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		got[filepath.ToSlash(strings.TrimPrefix(name, dir))] = fmt.Sprintf("%o %s", info.Mode().Perm(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/deep/er/file": "644 content", "/empty": "644 ", "/program": "755 #!", "/init.sh": "755 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("extracted (-want +got):\n%s", diff)
	}
}

func TestEntriesAreTakenOver(t *testing.T) {
	t.Parallel()
	first := open(t, write(t, []File{Bytes("a", bytes.Repeat([]byte("x"), 10_000))}))
	raw := write(t, []File{first[0].At("layer/a"), Bytes("b", []byte("b"))})
	files := open(t, raw)
	if len(files) != 2 || files[1].Path != "layer/a" {
		t.Fatalf("files = %v", files)
	}
	content, err := files[1].Read(1 << 20)
	if err != nil || len(content) != 10_000 {
		t.Errorf("content of %d bytes, %v; want 10000", len(content), err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	build := func(change func(*zip.Writer)) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		change(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	entry := func(name string, mode fs.FileMode) func(*zip.Writer) {
		return func(w *zip.Writer) {
			header := &zip.FileHeader{Name: name}
			header.SetMode(mode)
			if _, err := w.CreateHeader(header); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := func(w *zip.Writer) {
		for i := range limits.Files + 1 {
			entry(fmt.Sprint(i), 0o644)(w)
		}
	}
	big := func(w *zip.Writer) {
		file, err := w.Create("big")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(make([]byte, limits.Bytes+1)); err != nil {
			t.Fatal(err)
		}
	}
	twice := func(w *zip.Writer) { entry("a", 0o644)(w); entry("a", 0o644)(w) }
	for name, test := range map[string]struct {
		raw  []byte
		says string
	}{
		"no archive": {[]byte("PK no"), "not a ZIP archive"},
		"parent":     {build(entry("../a", 0o644)), "not allowed"},
		"inner":      {build(entry("a/../../b", 0o644)), "not allowed"},
		"absolute":   {build(entry("/a", 0o644)), "not allowed"},
		"drive":      {build(entry("C:a", 0o644)), "not allowed"},
		"backslash":  {build(entry(`a\..\b`, 0o644)), "not allowed"},
		"link":       {build(entry("a", fs.ModeSymlink|0o777)), "not a regular file"},
		"device":     {build(entry("a", fs.ModeDevice|0o666)), "not a regular file"},
		"twice":      {build(twice), "stands twice"},
		"many":       {build(many), "more than 100 files"},
		"big":        {build(big), "more than 1 MB"},
	} {
		_, err := Open(bytes.NewReader(test.raw), int64(len(test.raw)), limits)
		if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: Open = %v; want InvalidArgument saying %q", name, err, test.says)
		}
	}
}

func TestExtractKeepsToAnnouncedSize(t *testing.T) {
	t.Parallel()
	file := Bytes("a", []byte("longer than announced"))
	file.Size = 5
	if err := Extract(t.Context(), t.TempDir(), []File{file}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("Extract = %v, want InvalidArgument", err)
	}
}

func TestTreeRefusesLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "real"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "inside")); err != nil {
		t.Skipf("needs symbolic links: %v", err)
	}
	if _, err := Tree(os.DirFS(dir), limits, nil); err == nil {
		t.Error("Tree takes a symbolic link")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	files, err := BuildTree(root, limits, nil)
	if err != nil || len(files) != 2 {
		t.Errorf("BuildTree = %v, %v; want the file and its copy", files, err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "outside")); err != nil {
		t.Fatal(err)
	}
	if _, err := BuildTree(root, limits, nil); err == nil {
		t.Error("BuildTree follows a link out of the directory")
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(write(f, []File{Bytes("a/b", []byte("content"))}))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		files, err := Open(bytes.NewReader(raw), int64(len(raw)), limits)
		if err != nil {
			return
		}
		for _, file := range files {
			if err := CheckPath(file.Path); err != nil {
				t.Error(err)
			}
			if r, err := file.Open(); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(r, limits.Bytes))
				_ = r.Close()
			}
		}
	})
}
