package credentials_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestConfigurationThenEnvironmentThenError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "aws", "default.yaml"), "ACCESS_KEY: from-file\nsecret_key: hunter2\n", 0o600)
	write(t, filepath.Join(dir, "aws", "team.json"), `{"access_key": "team"}`, 0o600)
	r := credentials.NewResolver(credentials.Config{
		"aws": {"conf": {"access_key": secret.New("from-configuration")}},
	}, func(name string) string {
		if name == credentials.DirVariable {
			return dir
		}
		return ""
	})
	for _, c := range []struct{ platform, name, want, source string }{
		{"aws", "conf", "from-configuration", "configuration"},
		{"aws", "", "from-file", filepath.Join(dir, "aws", "default.yaml")},
		{"aws", "team", "team", filepath.Join(dir, "aws", "team.json")},
	} {
		got, err := r.Resolve(c.platform, c.name)
		if err != nil {
			t.Fatal(err)
		}
		key, err := got.Require("access_key")
		if err != nil || key.Reveal() != c.want || got.Source != c.source {
			t.Errorf("%s/%s: %q from %s, %v", c.platform, c.name, key.Reveal(), got.Source, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, c.want) && c.want != "team" || strings.Contains(text, "hunter2") {
			t.Errorf("a credential prints: %s", text)
		}
		if _, err := got.Require("nothing"); errs.Reason(err) != credentials.ReasonKeyMissing {
			t.Errorf("a key that is missing: %v", err)
		}
	}
	if _, err := r.Resolve("gcp", ""); errs.Reason(err) != credentials.ReasonNotOnService || !strings.Contains(err.Error(), credentials.DirVariable) {
		t.Errorf("a credential that is nowhere: %v", err)
	}
}

func TestNothingIsCached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "aws", "default.yaml")
	write(t, path, "k: first", 0o600)
	r := credentials.NewResolver(nil, func(string) string { return dir })
	for _, want := range []string{"first", "second"} {
		write(t, path, "k: "+want, 0o600)
		got, err := r.Resolve("aws", "")
		if err != nil || got.Value("k").Reveal() != want {
			t.Errorf("read %q, %v; want %s", got.Value("k").Reveal(), err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve("aws", ""); !errs.Is(err, codes.FailedPrecondition) {
		t.Errorf("after the file was removed: %v", err)
	}
}

func TestBadFilesAndNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := credentials.NewResolver(nil, func(string) string { return dir })
	write(t, filepath.Join(dir, "aws", "open.yaml"), "k: hunter2", 0o644)
	write(t, filepath.Join(dir, "aws", "list.yaml"), "- hunter2", 0o600)
	write(t, filepath.Join(dir, "aws", "large.yaml"), "k: "+strings.Repeat("x", 1<<17), 0o600)
	for _, name := range []string{"open", "list", "large"} {
		_, err := r.Resolve("aws", name)
		if errs.Reason(err) != credentials.ReasonMalformed || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"../aws/open", "A", "a b", "/etc/passwd", strings.Repeat("x", 64)} {
		if _, err := r.Resolve("aws", name); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("name %q: %v", name, err)
		}
		if _, err := r.Resolve(name, ""); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("platform %q: %v", name, err)
		}
	}
}
