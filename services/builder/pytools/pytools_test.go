package pytools

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/confine"
)

func confiner(t *testing.T) *confine.Confiner {
	t.Helper()
	user, err := confine.UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	return confine.New("", user)
}

func TestForInput(t *testing.T) {
	t.Parallel()
	c := confiner(t)
	finder := NewFinder(c, "")
	python, err := finder.ForInput(t.Context())
	if err != nil {
		t.Skipf("needs Python 3.10 or newer: %v", err)
	}
	if python.Major != 3 || python.Minor < leastMinor || !filepath.IsAbs(python.Path) {
		t.Errorf("ForInput = %+v", python)
	}
	if other, ok := finder.ForInstall(t.Context(), python.Version()); !ok || other.Version() != python.Version() {
		t.Errorf("ForInstall(%s) = %+v, %t", python.Version(), other, ok)
	}
	if explicit, err := NewFinder(c, python.Path).ForInput(t.Context()); err != nil || explicit.Path != python.Path {
		t.Errorf("ForInput with an explicit path = %+v, %v", explicit, err)
	}
}

func TestForInputWithoutPython(t *testing.T) {
	t.Parallel()
	_, err := NewFinder(confiner(t), filepath.Join(t.TempDir(), "python3")).ForInput(t.Context())
	if !errs.Is(err, codes.FailedPrecondition) || !strings.Contains(err.Error(), "Python 3.10 or newer") || !strings.Contains(err.Error(), "found: none") {
		t.Errorf("ForInput = %v", err)
	}
}

// fakeWheel is a wheel with a program that says it is uv.
func fakeWheel(t *testing.T, program string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	entry, err := w.Create("uv-" + uvVersion + ".data/scripts/uv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := entry.Write([]byte(program)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// index serves one file in the JSON or the HTML form.
func index(t *testing.T, file string, content []byte, html bool) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch {
		case strings.HasPrefix(r.URL.Path, "/files/"):
			_, err = w.Write(content)
		case r.URL.Path != "/simple/uv/":
			http.NotFound(w, r)
		case html:
			_, err = fmt.Fprintf(w, `<html><a href="../../files/other.whl#sha256=1">other</a><a href="../../files/%s#sha256=2">x</a></html>`, file)
		default:
			_, err = fmt.Fprintf(w, `{"files": [{"filename": "other", "url": "x"}, {"filename": %q, "url": "../../files/%s"}]}`, file, file)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestFindFile(t *testing.T) {
	t.Parallel()
	for _, html := range []bool{false, true} {
		server := index(t, "uv.whl", []byte("content"), html)
		got, err := findFile(t.Context(), server.Client(), server.URL+"/simple/", "uv", "uv.whl")
		if err != nil || got != server.URL+"/files/uv.whl" {
			t.Errorf("findFile (HTML: %t) = %s, %v", html, got, err)
		}
		if _, err := findFile(t.Context(), server.Client(), server.URL+"/simple", "uv", "missing.whl"); err == nil || !strings.Contains(err.Error(), "no file missing.whl") {
			t.Errorf("findFile of a missing file = %v", err)
		}
		if _, err := findFile(t.Context(), server.Client(), server.URL+"/simple", "other", "uv.whl"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("findFile of a missing project = %v", err)
		}
	}
}

func TestFetchRefusesAnotherDigest(t *testing.T) {
	t.Parallel()
	pinned, ok := uvWheels[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		t.Skip("needs a platform with a pinned wheel")
	}
	server := index(t, pinned.file, fakeWheel(t, "#!/bin/sh\n"), false)
	dir := t.TempDir()
	_, err := fetchUV(t.Context(), server.Client(), server.URL+"/simple", dir)
	if err == nil || !strings.Contains(err.Error(), "expected "+pinned.sha256) {
		t.Errorf("fetchUV = %v, want that the digest differs", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("fetchUV left %v (%v)", entries, err)
	}
}

func TestUnpackExecutable(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("needs a Unix system")
	}
	target := filepath.Join(t.TempDir(), "tools", "uv")
	if err := unpackExecutable(fakeWheel(t, "#!/bin/sh\necho uv 1.2.3 '(a build)'\n"), target); err != nil {
		t.Fatal(err)
	}
	c := confiner(t)
	installers := NewInstallers(c, NewFinder(c, ""), http.DefaultClient, t.TempDir(), time.Minute, slog.New(slog.DiscardHandler))
	got, err := installers.uvAt(t.Context(), target)
	if err != nil || got.String() != "uv 1.2.3" {
		t.Errorf("uvAt = %v, %v", got, err)
	}
}

func TestPasswordOfTheIndexStaysOut(t *testing.T) {
	t.Parallel()
	_, err := get(t.Context(), http.DefaultClient, "http://user:hidden@127.0.0.1:1/simple/uv/", "")
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("get = %v, want an error without the password", err)
	}
}

func TestPinsAreWellFormed(t *testing.T) {
	t.Parallel()
	for platform, pinned := range uvWheels {
		if raw, err := hex.DecodeString(pinned.sha256); err != nil || len(raw) != sha256.Size || !strings.HasPrefix(pinned.file, "uv-"+uvVersion+"-") {
			t.Errorf("%s: %+v", platform, pinned)
		}
	}
}

func TestNoInstaller(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
	t.Setenv("UV_DEFAULT_INDEX", "")
	t.Setenv("UV_INDEX_URL", "")
	c := confiner(t)
	installers := NewInstallers(c, NewFinder(c, filepath.Join(t.TempDir(), "python3")), http.DefaultClient, t.TempDir(), time.Minute, slog.New(slog.DiscardHandler))
	_, err := installers.Find(t.Context())
	if !errs.Is(err, codes.FailedPrecondition) {
		t.Fatalf("Find = %v", err)
	}
	for _, says := range []string{"uv (it is not on PATH)", "uv " + uvVersion + " from the Python index", "python3 -m pip (there is no python3)"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q: %v", says, err)
		}
	}
}

func TestExplainInstall(t *testing.T) {
	t.Parallel()
	failed := &confine.FailureError{Program: "uv", ExitCode: 1, Cause: errors.New("exit status 1")}
	for name, test := range map[string]struct {
		log, requirement string
	}{
		"uv":         {"cause: Because nosuch was not found in the package registry and you require nosuch, we can", "nosuch"},
		"uv version": {"Because there is no version of jinja2==99 and you require jinja2==99, we can", "jinja2==99"},
		"pip":        {"ERROR: No matching distribution found for nosuch==1.0\n", "nosuch==1.0"},
		"other":      {"error: something else", ""},
	} {
		err := explainInstall(fmt.Errorf("run: %w", failed), Installer{Name: "uv", Version: "1"}, test.log)
		if got := errs.Metadata(err, "requirement"); got != test.requirement || !strings.Contains(errs.Metadata(err, "log"), test.log[:10]) {
			t.Errorf("%s: requirement %q in %v, want %q", name, got, err, test.requirement)
		}
	}
	if err := explainInstall(context.Canceled, Installer{}, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("explainInstall changes %v", err)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	target := Target{Dir: "/t", Version: "3.9", Architecture: "arm64"}
	if HostArchitecture() == "arm64" {
		target.Architecture = "x64"
	}
	machine := machines[target.Architecture]
	uv := uvArguments(Installer{path: "/uv"}, "r.txt", target)
	if !slices.Contains(uv, machine+"-manylinux_2_28") || !slices.Contains(uv, ":all:") {
		t.Errorf("arguments of uv for another architecture = %v", uv)
	}
	pip := pipArguments(Python{Path: "/python", Major: 3, Minor: 11}, "r.txt", target)
	if !slices.Contains(pip, "manylinux2014_"+machine) || !slices.Contains(pip, "3.9") || !slices.Contains(pip, ":all:") {
		t.Errorf("arguments of pip for another architecture = %v", pip)
	}
	target.OldLibc = true
	if uv := uvArguments(Installer{path: "/uv"}, "r.txt", target); !slices.Contains(uv, machine+"-manylinux2014") {
		t.Errorf("arguments of uv for an old C library = %v", uv)
	}
	pip = pipArguments(Python{Path: "/python", Major: 3, Minor: 9}, "r.txt", target)
	if !slices.Contains(pip, "manylinux_2_17_"+machine) || slices.Contains(pip, "manylinux_2_28_"+machine) || slices.Contains(pip, "manylinux_2_27_"+machine) {
		t.Errorf("arguments of pip for an old C library = %v", pip)
	}
	if pip := pipArguments(Python{Path: "/python", Major: 3, Minor: 9}, "r.txt", Target{Dir: "/t", Version: "3.9"}); slices.Contains(pip, "--platform") {
		t.Errorf("arguments of pip for this machine = %v", pip)
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	log := strings.Repeat("a line of the log\n", 1000) + "the last line"
	got := LogTail(log)
	if len(got) > maxLogBytes+10 || !strings.HasPrefix(got, "…\na line") || !strings.HasSuffix(got, "the last line") {
		t.Errorf("LogTail = %d bytes from %q", len(got), got[:30])
	}
}

func FuzzFindLink(f *testing.F) {
	f.Add([]byte(`{"files": [{"filename": "a.whl", "url": "u"}]}`), "a.whl")
	f.Add([]byte(`<a href="x/a.whl#sha256=0">`), "a.whl")
	f.Fuzz(func(t *testing.T, body []byte, file string) {
		if link, err := findLink(body, file); err == nil && link == "" && !bytes.Contains(body, []byte("files")) && file != "." {
			t.Errorf("findLink gives nothing for %q", file)
		}
	})
}
