package packaging

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"
)

func choice(language, version string) runtimesdata.Choice {
	return runtimesdata.Choice{Platform: "local", Language: language, Version: version, Variant: "default", Architecture: "x64", SystemVariant: "package"}
}

func folder(files map[string]string) benchmark.Benchmark {
	tree := fstest.MapFS{"python/function.py": {Data: []byte("x = 1\n")}, "nodejs/function.js": {Data: []byte("x")}}
	for name, content := range files {
		tree[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return benchmark.Benchmark{Name: "900.sample", Source: tree, Config: benchmark.Config{
		Languages: []benchmark.Language{{Name: "python", Variants: []string{"default", "pypy"}}, {Name: "nodejs", Variants: []string{"default", "bun"}}},
	}}
}

func plan(t testing.TB, b benchmark.Benchmark, c runtimesdata.Choice) *Plan {
	t.Helper()
	layouts, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(t.Context(), layouts, b, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDigestCoversInputs(t *testing.T) {
	t.Parallel()
	base := map[string]string{"python/requirements.txt": "a==1\n", "init.sh": "true\n", "templates/t.html": "t", "input.py": "i", "nodejs/package.json": "{}"}
	digest := func(name, content string, c runtimesdata.Choice) string {
		files := map[string]string{}
		for key, value := range base {
			files[key] = value
		}
		if name != "" {
			files[name] = content
		}
		return plan(t, folder(files), c).Digest
	}
	python := choice("python", "3.11")
	first := digest("", "", python)
	if again := digest("", "", python); again != first {
		t.Errorf("the digest changes by itself: %s, %s", first, again)
	}
	seen := map[string]string{first: "nothing"}
	for name, content := range map[string]string{
		"python/function.py": "x = 2\n", "python/requirements.txt": "a==2\n", "python/requirements.txt.3.12": "", "python/package.sh": "true",
		"init.sh": "false\n", "python/init.sh": "true", "templates/t.html": "u", "templates/new.html": "t",
	} {
		changed := digest(name, content, python)
		if before, ok := seen[changed]; ok {
			t.Errorf("a change of %s gives the digest of a change of %s", name, before)
		}
		seen[changed] = name
	}
	for _, c := range []func(*runtimesdata.Choice){
		func(c *runtimesdata.Choice) { c.Version = "3.12" },
		func(c *runtimesdata.Choice) { c.Architecture = "arm64" },
		func(c *runtimesdata.Choice) { c.Language = "nodejs" },
	} {
		other := python
		c(&other)
		if changed := digest("", "", other); seen[changed] != "" {
			t.Errorf("%+v gives the digest of a change of %s", other, seen[changed])
		}
	}
	if changed := digest("nodejs/function.js", "y", python); changed != first {
		t.Error("a change of another language changes the digest")
	}
	// Without a script nothing but the language's folder reaches the package.
	delete(base, "init.sh")
	if digest("templates/t.html", "u", python) != digest("input.py", "j", python) {
		t.Error("files that cannot reach the package change the digest")
	}
}

func TestPythonDependencies(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"requirements.txt":         []byte("base"),
		"requirements.txt.3.9":     []byte("for39\n"),
		"requirements.txt.arm.3.9": []byte("# nothing but this\n\nforarm"),
	}
	platform := []runtimes.Package{{Name: "boto3", Version: "1.28.3"}, {Name: "minio", Version: "7.0"}}
	for name, test := range map[string]struct {
		version, architecture string
		packages              []runtimes.Package
		want                  string
	}{
		"base":                   {"3.11", "x64", nil, "base\n"},
		"version":                {"3.9", "x64", nil, "for39\n"},
		"arm":                    {"3.9", "arm64", nil, "# nothing but this\n\nforarm\n"},
		"arm without own file":   {"3.11", "arm64", nil, "base\n"},
		"platform packages":      {"3.11", "x64", platform, "base\nboto3==1.28.3\nminio==7.0\n"},
		"platform packages, arm": {"3.9", "arm64", platform, "# nothing but this\n\nforarm\nboto3==1.28.3\nminio==7.0\n"},
	} {
		got, err := pythonDependencies(files, test.packages, test.version, test.architecture)
		if err != nil || string(got.Manifest) != test.want || !got.Any {
			t.Errorf("%s: %q, %t, %v; want %q", name, got.Manifest, got.Any, err, test.want)
		}
	}
	none, err := pythonDependencies(map[string][]byte{"requirements.txt": []byte("# only\n\n")}, nil, "3.11", "x64")
	if err != nil || none.Any {
		t.Errorf("a file without requirements: %+v, %v", none, err)
	}
	included, err := pythonDependencies(map[string][]byte{"requirements.txt": []byte("-r requirements.txt.more\n"), "requirements.txt.more": []byte("a\n")}, nil, "3.11", "x64")
	if err != nil || len(included.Included) != 2 {
		t.Errorf("a file that includes another: %+v, %v", included, err)
	}
	for _, line := range []string{"-e .", "./local", "/etc/x", "pkg @ file:///etc/x", "-r ../../x", "-r /etc/x", "--find-links /etc"} {
		if _, err := pythonDependencies(map[string][]byte{"requirements.txt": []byte(line + "\n")}, nil, "3.11", "x64"); err == nil {
			t.Errorf("requirement %q is accepted", line)
		}
	}
}

func TestNodeDependencies(t *testing.T) {
	t.Parallel()
	lock := []byte(`{"lockfileVersion": 3}`)
	plain, err := nodeDependencies(map[string][]byte{"package.json": []byte(`{"dependencies": {"a": "1"}}`), "package-lock.json": lock}, nil)
	if err != nil || string(plain.Lock) != string(lock) || !plain.Any || string(plain.Manifest) != `{"dependencies": {"a": "1"}}` {
		t.Errorf("package.json with a lock file: %+v, %v", plain, err)
	}
	added, err := nodeDependencies(map[string][]byte{"package.json": []byte(`{"name": "f"}`), "package-lock.json": lock}, []runtimes.Package{{Name: "uuid", Version: "3.4.0"}})
	if err != nil || added.Lock != nil || !added.Any || !strings.Contains(string(added.Manifest), `"uuid": "3.4.0"`) || !strings.Contains(string(added.Manifest), `"name": "f"`) {
		t.Errorf("package.json with platform packages: %s, %v", added.Manifest, err)
	}
	none, err := nodeDependencies(map[string][]byte{}, nil)
	if err != nil || none.Any {
		t.Errorf("without package.json: %+v, %v", none, err)
	}
	for _, text := range []string{`[]`, `{`, `null`, `{"dependencies": []}`, `{"dependencies": {"a": "file:../x"}}`, `{"dependencies": {"a": "link:/etc"}}`} {
		if _, err := nodeDependencies(map[string][]byte{"package.json": []byte(text)}, nil); err == nil {
			t.Errorf("package.json %s is accepted", text)
		}
	}
}

// contents reads the sources of a plan.
func contents(t *testing.T, sources map[string]archive.File) map[string]string {
	t.Helper()
	read, err := texts(sources, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for name, content := range read {
		text[name] = string(content)
	}
	return text
}

func TestVersionedPackageJSON(t *testing.T) {
	t.Parallel()
	files := map[string]string{"nodejs/package.json": "base", "nodejs/package.json.20": "twenty", "nodejs/package-lock.json": "lock", "nodejs/lib/x.js": "not copied"}
	want := map[string]string{"function.js": "x", "package.json": "twenty"}
	if diff := cmp.Diff(want, contents(t, plan(t, folder(files), choice("nodejs", "20")).sources)); diff != "" {
		t.Errorf("nodejs 20 (-want +got):\n%s", diff)
	}
	want = map[string]string{"function.js": "x", "package.json": "base", "package-lock.json": "lock"}
	if diff := cmp.Diff(want, contents(t, plan(t, folder(files), choice("nodejs", "22")).sources)); diff != "" {
		t.Errorf("nodejs 22 (-want +got):\n%s", diff)
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	bun := choice("nodejs", "20")
	bun.Variant = "bun"
	overlay := folder(map[string]string{"nodejs/package.json": "base", "nodejs/util.js": "u", "nodejs/bun/function.js": "bun", "nodejs/bun/package.json.20": "bun20", "nodejs/bun/notes.txt": "n"})
	want := map[string]string{"function.js": "bun", "util.js": "u", "package.json": "bun20"}
	if diff := cmp.Diff(want, contents(t, plan(t, overlay, bun).sources)); diff != "" {
		t.Errorf("overlay (-want +got):\n%s", diff)
	}
	patched := folder(map[string]string{"nodejs/function.js": "one\ntwo\nthree\n", "nodejs/bun/patch.diff": "--- a/function.js\n+++ b/function.js\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"})
	want = map[string]string{"function.js": "one\nTWO\nthree\n"}
	if diff := cmp.Diff(want, contents(t, plan(t, patched, bun).sources)); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	layouts, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan(t.Context(), layouts, folder(nil), bun); err == nil || !strings.Contains(err.Error(), "folder 900.sample/nodejs/bun does not exist") {
		t.Errorf("a variant without folder = %v", err)
	}
	llrt := bun
	llrt.Variant = "llrt"
	if _, err := NewPlan(t.Context(), layouts, folder(nil), llrt); errs.Reason(err) != "LANGUAGE_VARIANT_UNKNOWN" {
		t.Errorf("a variant that config.json does not list = %v", err)
	}
}

func TestApplyPatch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before map[string]string
		diff   string
		after  map[string]string
		fails  string
	}{
		"several hunks and files": {
			map[string]string{"a": "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "b": "x\n"},
			"diff --git a/a b/a\n--- a/a\t2026\n+++ b/a\t2026\n@@ -1,2 +1,3 @@\n+0\n 1\n 2\n@@ -8,2 +9 @@ context\n 8\n-9\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n",
			map[string]string{"a": "0\n1\n2\n3\n4\n5\n6\n7\n8\n", "b": "y\n"}, "",
		},
		"a new and a removed file": {
			map[string]string{"old": "x\n"},
			"--- /dev/null\n+++ b/new\n@@ -0,0 +1,2 @@\n+1\n+2\n--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
			map[string]string{"new": "1\n2\n"}, "",
		},
		"no newline at the end": {
			map[string]string{"a": "1\n2"},
			"--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n+3\n\\ No newline at end of file\n",
			map[string]string{"a": "1\n3"}, "",
		},
		"an insertion after a line": {
			map[string]string{"a": "1\n2\n"}, "--- a/a\n+++ b/a\n@@ -1,0 +2 @@\n+1.5\n",
			map[string]string{"a": "1\n1.5\n2\n"}, "",
		},
		"another text":   {map[string]string{"a": "1\n"}, "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-2\n+3\n", nil, "does not fit a"},
		"another length": {map[string]string{"a": "1\n"}, "--- a/a\n+++ b/a\n@@ -7 +7 @@\n-2\n+3\n", nil, "does not fit a"},
		"cut off":        {map[string]string{"a": "1\n2\n"}, "--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n-1\n", nil, "does not fit a"},
		"another file":   {map[string]string{"a": "1\n"}, "--- a/b\n+++ b/b\n@@ -1 +1 @@\n-2\n+3\n", nil, "changes b, which is not among the sources"},
		"way out":        {map[string]string{}, "--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+3\n", nil, "is not allowed"},
		"no diff":        {map[string]string{}, "something\n", nil, "changes no file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sources := map[string]archive.File{}
			for file, content := range test.before {
				sources[file] = archive.Bytes(file, []byte(content))
			}
			err := applyPatch(sources, []byte(test.diff))
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("applyPatch = %v, want an error saying %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.after, contents(t, sources)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzApplyPatch(f *testing.F) {
	f.Add("--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n", "1\n2\n")
	f.Add("--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n", "")
	f.Fuzz(func(t *testing.T, diff, content string) {
		sources := map[string]archive.File{"a": archive.Bytes("a", []byte(content))}
		if err := applyPatch(sources, []byte(diff)); err != nil {
			return
		}
		for name := range sources {
			if err := archive.CheckPath(name); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzNodeDependencies(f *testing.F) {
	f.Add([]byte(`{"dependencies": {"a": "1"}}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		got, err := nodeDependencies(map[string][]byte{"package.json": manifest}, []runtimes.Package{{Name: "a", Version: "2"}})
		if err == nil && !got.Any {
			t.Error("the platform's packages were lost")
		}
	})
}
