package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// maxUnpacked bounds what is unpacked of one file.
const maxUnpacked = 64 << 20

// zstdFrame starts a frame of compressed data, as batches of results and columns of their files are.
var zstdFrame = []byte("\x28\xb5\x2f\xfd")

// search finds secrets in files: as they are, in base64, in zip archives and in zstd frames, wherever in a file these begin.
type search struct {
	secrets [][]byte
	decoder *zstd.Decoder
	files   int
}

func newSearch(t *testing.T, secrets []string) *search {
	t.Helper()
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(decoder.Close)
	s := &search{decoder: decoder}
	for _, secret := range secrets {
		s.secrets = append(s.secrets, []byte(secret), []byte(base64.StdEncoding.EncodeToString([]byte(secret))))
	}
	return s
}

// holds tells whether data holds a secret.
func (s *search) holds(data []byte) bool {
	if slices.ContainsFunc(s.secrets, func(secret []byte) bool { return bytes.Contains(data, secret) }) {
		return true
	}
	if bytes.HasPrefix(data, []byte("PK")) && s.zipped(data) {
		return true
	}
	for rest := data; ; rest = rest[1:] {
		at := bytes.Index(rest, zstdFrame)
		if at < 0 {
			return false
		}
		rest = rest[at:]
		if err := s.decoder.Reset(bytes.NewReader(rest)); err != nil {
			continue
		}
		// What follows the frame is no frame, so that reading ends with an error.
		plain, _ := io.ReadAll(io.LimitReader(s.decoder, maxUnpacked))
		if slices.ContainsFunc(s.secrets, func(secret []byte) bool { return bytes.Contains(plain, secret) }) {
			return true
		}
	}
}

func (s *search) zipped(data []byte) bool {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return false
	}
	for _, file := range archive.File {
		r, err := file.Open()
		if err != nil {
			continue
		}
		plain, _ := io.ReadAll(io.LimitReader(r, maxUnpacked))
		_ = r.Close()
		if s.holds(plain) {
			return true
		}
	}
	return false
}

// below lists the files that hold a secret. Files that go away meanwhile are passed over.
func (s *search) below(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go while a suite runs
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		s.files++
		if s.holds(data) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSearchFindsSecrets(t *testing.T) {
	const secret = "a-secret-that-is-looked-for"
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	f, err := w.Create("file")
	if err == nil {
		_, err = f.Write([]byte(strings.Repeat("x", 1000) + secret))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	compressed := encoder.EncodeAll([]byte(strings.Repeat("x", 1000)+secret+strings.Repeat("y", 1000)), nil)
	for name, data := range map[string][]byte{
		"plain": []byte("before " + secret + " after"), "base64": []byte(base64.StdEncoding.EncodeToString([]byte(secret))),
		"zip": archive.Bytes(), "zstd": slices.Concat([]byte("header "), compressed, []byte(" more")),
	} {
		dir := t.TempDir()
		for file, content := range map[string][]byte{"good": []byte("nothing"), name: data} {
			if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if found := newSearch(t, []string{secret}).below(t, dir); len(found) != 1 || filepath.Base(found[0]) != name {
			t.Errorf("%s: found in %q", name, found)
		}
	}
}

// noSecretsAreLeft searches everything that the suite wrote for keys and tokens: the data of etcd and NATS, objects, logs,
// result files and every run as it is exported. The suite runs on meanwhile.
func (c *cloud) noSecretsAreLeft(t *testing.T) {
	secrets := c.Secrets()
	if len(secrets) < 3 {
		t.Fatalf("only %d secrets are known, those of functions are missing", len(secrets))
	}
	exported := c.exportRuns(t)
	if exported == 0 {
		t.Error("there are no runs to search in")
	}
	s := newSearch(t, secrets)
	for _, path := range s.below(t, c.dir) {
		t.Errorf("%s holds a secret key or session token", path)
	}
	for _, part := range []string{"etcd", "nats"} {
		if !hasDirectory(t, c.state, part) {
			t.Errorf("the data of %s is not where it is searched", part)
		}
	}
	t.Logf("%d files, with %d exported runs, hold none of %d secrets", s.files, exported, len(secrets))
}

// exportRuns writes the results of every run in clear, and tells how many there are.
func (c *cloud) exportRuns(t *testing.T) int {
	t.Helper()
	text := c.run(t, "runs", "run", "list", "--output", "json", "--progress", "quiet")
	var list struct{ Runs []struct{ Name string } }
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for i, run := range list.Runs {
		name := fmt.Sprintf("export-%d", i)
		c.run(t, name, "run", "export", strings.TrimPrefix(run.Name, "runs/"), "--format", "jsonl", "--file", filepath.Join(c.dir, name+".jsonl"))
	}
	return len(list.Runs)
}

// hasDirectory tells whether a directory of a name lies somewhere below another one.
func hasDirectory(t *testing.T, dir, name string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == name {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
