package runtimes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLoadDescribesEveryEmbeddedFile(t *testing.T) {
	t.Parallel()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	used, languages := map[string]bool{}, map[string]bool{}
	for _, platform := range []string{"local", "aws"} {
		for _, language := range c.Languages(platform) {
			l, err := c.Layout(platform, language)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Digest) != 64 {
				t.Errorf("%s on %s: digest %q is not SHA-256 in hex", language, platform, l.Digest)
			}
			languages[language] = true
			for _, f := range l.Files {
				used[f.Source] = true
			}
		}
	}
	for language := range languages {
		b, err := c.Bootstrap(language)
		// Packages in C++ bring it.
		if errors.Is(err, ErrUnknown) != (language == "cpp") {
			t.Fatal(err)
		}
		if err == nil && len(b.Digest) != 64 {
			t.Errorf("bootstrap of %s: digest %q is not SHA-256 in hex", language, b.Digest)
		}
		for _, f := range b.Files {
			used[f.Source] = true
		}
		sources, err := c.Sources(language)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			if !used[source] {
				t.Errorf("%s is embedded and belongs to no layout or bootstrap", source)
			}
		}
	}
	for _, platform := range []string{"local", "aws"} {
		if got := c.Languages(platform); !slices.Contains(got, "nodejs") || !slices.Contains(got, "python") {
			t.Errorf("languages on %s: %v, want nodejs and python among them", platform, got)
		}
	}
}

func TestUnknownNamesSayWhatThereIs(t *testing.T) {
	t.Parallel()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	_, layoutErr := c.Layout("local", "cobol")
	_, bootstrapErr := c.Bootstrap("cobol")
	l, err := c.Layout("local", "python")
	if err != nil {
		t.Fatal(err)
	}
	_, moduleErr := l.ModulePackages("queue")
	for err, hint := range map[error]string{layoutErr: "local/python", bootstrapErr: "nodejs", moduleErr: "nosql, storage"} {
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), hint) {
			t.Errorf("error %v: want ErrUnknown naming %q", err, hint)
		}
	}
}

func TestDigestFollowsTheDescription(t *testing.T) {
	t.Parallel()
	const tree = `{"layouts": [{"platform": "p", "language": "python", "handler": "HANDLER", "modules": {},
		"files": [{"source": "SOURCE", "path": "handler.py"}]}]}`
	digest := func(handler, source string) string {
		c, err := parse([]byte(strings.NewReplacer("HANDLER", handler, "SOURCE", source).Replace(tree)))
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.Layout("p", "python")
		if err != nil {
			t.Fatal(err)
		}
		return l.Digest
	}
	same := digest("a.b", "python/bootstrap.py")
	if same != digest("a.b", "python/bootstrap.py") {
		t.Error("equal layouts have different digests")
	}
	if same == digest("a.c", "python/bootstrap.py") || same == digest("a.b", "nodejs/bootstrap.js") {
		t.Error("different layouts share a digest")
	}
}

func TestParseRefusesMissingFiles(t *testing.T) {
	t.Parallel()
	_, err := parse([]byte(`{"bootstraps": [{"language": "python", "entry": "x", "files": [{"source": "python/none.py", "path": "x"}]}]}`))
	if err == nil || !strings.Contains(err.Error(), "python/none.py") {
		t.Errorf("error %v does not name the missing file", err)
	}
}

func TestWriteStaysInside(t *testing.T) {
	t.Parallel()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := c.Write([]File{{Source: "python/bootstrap.py", Path: "../out.py"}}, dir); err == nil {
		t.Error("a path above the directory was written")
	}
	b, err := c.Bootstrap("nodejs")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(b.Files, dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, b.Entry))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o004 == 0 {
		t.Errorf("mode %v: another user cannot read the bootstrap", info.Mode())
	}
}
