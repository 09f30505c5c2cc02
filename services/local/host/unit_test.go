package host

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

func TestReport(t *testing.T) {
	t.Parallel()
	r := Record{RequestID: "id", Duration: 1234560 * time.Nanosecond, MemoryMB: 128, MaxMemoryMB: 16.2}
	r.BilledMS = billed(r.Duration, r.Init)
	if got, want := r.Report(), "REPORT RequestId: id\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 17 MB\t"; got != want {
		t.Errorf("warm: %q", got)
	}
	r.Cold, r.Init = true, 100*time.Millisecond
	r.BilledMS = billed(r.Duration, r.Init)
	if got := r.Report(); !strings.Contains(got, "Billed Duration: 102 ms\t") || !strings.HasSuffix(got, "\tInit Duration: 100.00 ms\t") {
		t.Errorf("cold: %q", got)
	}
	r.Failure, r.ErrorType = FailureUnhandled, "KeyError"
	if got := r.Report(); !strings.HasSuffix(got, "Status: error\tError Type: KeyError\t") {
		t.Errorf("failed: %q", got)
	}
	if billed(0, 0) != 0 || billed(time.Nanosecond, 0) != 1 || billed(time.Millisecond, 0) != 1 {
		t.Error("billed time is not rounded up to milliseconds")
	}
}

func texts(lines []LogLine) string {
	var out []string
	for _, l := range lines {
		out = append(out, l.RequestID+":"+l.Text)
	}
	return strings.Join(out, "|")
}

func TestLogOfASandbox(t *testing.T) {
	t.Parallel()
	l := newBoxLog()
	write := func(s string) {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("loading\nhalf a")
	a := l.begin("A")
	write("one\r\n")
	l.end(a, time.Now(), "END A")
	b := l.begin("B") // begins before the output of A is complete
	write("late of A\n")
	b.add(time.Now(), "START B")
	l.Cut()
	write("two")
	l.end(b, time.Now(), "END B")
	l.Cut()
	want := "A:loading|A:half a|A:one|A:late of A|A:END A|B:START B|B:two|B:END B"
	if got := texts(l.peek()); got != want {
		t.Errorf("log is %s", got)
	}
	if got := l.drain(time.Now(), false); len(got) != 0 {
		t.Errorf("written away too early: %v", got)
	}
	later := time.Now().Add(2 * logSettles)
	if got := texts(l.drain(later, false)); got != want {
		t.Errorf("written away: %s", got)
	}
	write("afterthought\n")
	if got := texts(l.drain(later, true)); got != "B:afterthought" {
		t.Errorf("afterthought: %s", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	l := newBoxLog()
	e := l.begin("A")
	line := []byte(strings.Repeat("x", 999) + "\n")
	for range 10_000 {
		_, _ = l.Write(line)
	}
	_, _ = l.Write(bytes.Repeat([]byte("y"), 1<<20)) // one endless line
	_, _ = l.Write([]byte("\xff\xfe invalid\nend\n"))
	lines := e.kept()
	size := 0
	for _, k := range lines {
		size += len(k.Text) + 1
	}
	if size > logBytesPerInvocation+200 || !strings.Contains(lines[0].Text, "bytes of output before this line were dropped") {
		t.Errorf("%d bytes kept, beginning with %q", size, lines[0].Text)
	}
	if got := e.tail(100); len(got) > 100 || !strings.HasSuffix(got, "end\n") {
		t.Errorf("tail %q", got)
	}
}

func FuzzBoxLog(f *testing.F) {
	f.Add([]byte("a\nb"), 1)
	f.Add(bytes.Repeat([]byte("z"), 40_000), 20_000)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		l := newBoxLog()
		e := l.begin("A")
		if at < 0 || at > len(text) {
			at = 0
		}
		for _, part := range [][]byte{text[:at], text[at:]} {
			if n, err := l.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		l.Cut()
		for _, line := range e.kept() {
			if strings.Contains(line.Text, "\n") || len(line.Text) > 3*maxLineBytes {
				t.Errorf("line of %d bytes: %.50q", len(line.Text), line.Text)
			}
		}
	})
}

func TestRing(t *testing.T) {
	t.Parallel()
	r := ring{complete: true}
	for n := range ringRecords + 5 {
		r.add(Record{BilledMS: int64(n)})
	}
	next := int64(5)
	r.each(func(rec *Record) {
		if rec.BilledMS != next {
			t.Fatalf("record %d comes as %d", rec.BilledMS, next)
		}
		next++
	})
	if r.complete || next != ringRecords+5 {
		t.Errorf("complete %v, next %d", r.complete, next)
	}
}

func TestJournalTurnsOver(t *testing.T) {
	t.Parallel()
	j := &journal{path: filepath.Join(t.TempDir(), "j"), limit: 300}
	for n := range 100 {
		if err := j.append(map[string]int{"n": n}); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var lines []string
	if err := j.each(func(l []byte) bool { lines = append(lines, string(l)); return true }); err != nil {
		t.Fatal(err)
	}
	if lines[len(lines)-1] != `{"n":99}` || len(lines) == 100 || len(lines) < 30 {
		t.Errorf("%d lines, the last is %s", len(lines), lines[len(lines)-1])
	}
	info, err := os.Stat(j.path)
	if err != nil || info.Size() > 300 || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, error %v", info, err)
	}
	j.close()
	if err := errors.Join(os.Remove(j.path), j.append(1), j.flush()); err != nil || exists(j.path) {
		t.Errorf("a closed journal writes: %v", err)
	}
}

// archive builds a zip with explicit modes.
func archive(t testing.TB, entries ...zip.FileHeader) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, e := range entries {
		content := e.Comment
		e.Comment = ""
		w, err := z.CreateHeader(&e)
		if err == nil && !strings.HasSuffix(e.Name, "/") {
			_, err = io.WriteString(w, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, content string, mode fs.FileMode) zip.FileHeader {
	h := zip.FileHeader{Name: name, Comment: content, Modified: time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)}
	h.SetMode(mode)
	return h
}

func newStore(t testing.TB) *codeStore {
	t.Helper()
	s, err := newCodeStore(filepath.Join(t.TempDir(), "code"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	raw := archive(t, file("a/b/c.py", "text", 0o600), file("bootstrap", "#!", 0o700), file("bin/link", "../bootstrap", fs.ModeSymlink|0o777), file("empty/", "", fs.ModeDir|0o700))
	digest, err := s.put(t.Context(), "", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"": 0o755, "a": 0o755, "a/b": 0o755, "a/b/c.py": 0o644, "bootstrap": 0o755, "empty": 0o755} {
		info, err := os.Stat(filepath.Join(s.path(digest), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q has mode %v, error %v", name, info, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(s.path(digest), "bin", "link")); err != nil || string(got) != "#!" {
		t.Errorf("link leads to %q, error %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(s.path(digest), "a/b/c.py")); err != nil || info.ModTime().Year() != 2020 {
		t.Errorf("time of a file: %v, error %v", info, err)
	}
	// Known code is not read again.
	if again, err := s.put(t.Context(), digest, strings.NewReader("not even a zip")); err != nil || again != digest {
		t.Errorf("known code: %s, error %v", again, err)
	}
	s.remove(digest)
	if s.has(digest) {
		t.Error("removed code is there")
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, raw := range map[string][]byte{
		"no zip":        []byte("PK nonsense"),
		"empty":         nil,
		"climbs":        archive(t, file("a/../../b", "", 0o644)),
		"absolute":      archive(t, file("/etc/x", "", 0o644)),
		"backslash":     archive(t, file(`a\..\b`, "", 0o644)),
		"link out":      archive(t, file("l", "../../etc/passwd", fs.ModeSymlink|0o777)),
		"absolute link": archive(t, file("l", "/etc/passwd", fs.ModeSymlink|0o777)),
		"through link":  archive(t, file("d/x", "", 0o644), file("l", "d", fs.ModeSymlink|0o777), file("l/x", "", 0o644)),
		"twice":         archive(t, file("a", "1", 0o644), file("a", "2", 0o644)),
		"device":        archive(t, file("dev", "", fs.ModeDevice|0o644)),
		"file and dir":  archive(t, file("a", "", 0o644), file("a/b", "", 0o644)),
	} {
		if _, err := s.put(t.Context(), "", bytes.NewReader(raw)); errs.Reason(err) != "ARCHIVE_INVALID" {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.put(ctx, "", bytes.NewReader(archive(t, file("a", "", 0o644)))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, file("a/b.py", "text", 0o644), file("l", "a", fs.ModeSymlink|0o777)))
	f.Add(archive(f, file("../x", "", 0o644)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		target := filepath.Join(dir, "target")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpack(t.Context(), bytes.NewReader(raw), int64(len(raw)), target)
		outside, err := os.ReadDir(dir)
		if err != nil || len(outside) != 1 {
			t.Fatalf("something was written outside: %v, error %v", outside, err)
		}
	})
}

func TestConfigDefaultsAndRefusals(t *testing.T) {
	t.Parallel()
	c := Config{}
	if err := c.complete(); err != nil || c.MemoryMB != 128 || c.Timeout != time.Minute || c.Handler != "handler.handler" || c.Architecture != Architecture() {
		t.Errorf("defaults %+v, error %v", c, err)
	}
	bad := Config{MemoryMB: 1, Timeout: time.Hour, Architecture: "sparc", Handler: "a b", MaxConcurrency: -1, KeepAlive: -1, Variant: "bun", Environment: map[string]string{"A=B": ""}}
	err := bad.complete()
	for _, field := range []string{"memory_mb", "timeout_seconds", "architecture", "handler", "max_concurrency", "keep_alive", "variant", "environment"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
	for name, ok := range map[string]bool{"a": true, "sebs-1.f_x": true, "": false, ".": false, "..": false, "-a": false, "a/b": false, "a b": false, strings.Repeat("a", 141): false} {
		if (checkName(name) == nil) != ok {
			t.Errorf("name %q: %v", name, checkName(name))
		}
	}
}

func FuzzObjectEvents(f *testing.F) {
	f.Add([]byte(`{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a%2Fb+c"}}}]}`))
	f.Add([]byte(`{"Records":[{"eventName":"ObjectCreated:","s3":{"object":{"key":"%zz"}}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := &Host{ready: map[string]*function{}}
		if ids, err := h.ObjectEvents(raw); len(ids) > 0 || (err != nil && errs.Reason(err) != "EVENT_INVALID") {
			t.Errorf("%q: %v, %v", raw, ids, err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"name":"f","language":"python","timeout_ms":1000,"memory_mb":128,"handler":"a.b"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "function.json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := load(dir)
		if err == nil && (checkName(d.Name) != nil || d.Config.MemoryMB < MinMemoryMB) {
			t.Errorf("%q became %+v", raw, d)
		}
	})
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	if got := excerpt([]byte("a\xff")); got != `"a\xff"` {
		t.Error(got)
	}
	if got := excerpt(bytes.Repeat([]byte("a"), 1000)); len(got) > 140 || !strings.HasSuffix(got, "…") {
		t.Error(got)
	}
	if fmt.Sprint(message("b", "a b/c", 1)["Records"]) == "" {
		t.Error("no message")
	}
}
