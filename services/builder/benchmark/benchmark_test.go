package benchmark

import (
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

func TestParseConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want Config
	}{
		"both forms of languages": {
			`{"timeout": 45, "memory": 512, "languages": ["python", {"language": "nodejs", "variants": ["default", "bun"]}, {"language": "cpp"}],
			  "modules": ["storage"], "cpp_dependencies": ["sdk", "opencv"], "unknown": {"is": "ignored"}}`,
			Config{
				Timeout: 45 * time.Second, MemoryMB: 512,
				Languages:       []Language{{"python", []string{"default"}}, {"nodejs", []string{"default", "bun"}}, {"cpp", []string{"default"}}},
				Modules:         []string{"storage"},
				CPPDependencies: []string{"sdk", "opencv"},
			},
		},
		"a byte order mark, no modules, whole floats": {
			"\xef\xbb\xbf" + `{"timeout": 10.0, "memory": 128, "languages": ["python"], "modules": []}`,
			Config{Timeout: 10 * time.Second, MemoryMB: 128, Languages: []Language{{"python", []string{"default"}}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseConfig("config.json", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		says []string
	}{
		"syntax":        {`{"timeout": 10,}`, []string{"x/config.json: is not a JSON object", "correct the file"}},
		"an array":      {`[]`, []string{"the file holds a array"}},
		"null":          {`null`, []string{"the file holds null"}},
		"two documents": {`{} {}`, []string{"something follows the object"}},
		"nothing": {`{}`, []string{
			`key "timeout" is missing; add it as a whole number of seconds`, `key "memory" is missing`, `key "languages" is missing`, `key "modules" is missing`,
		}},
		"numbers": {`{"timeout": 0, "memory": 1.5, "languages": ["python"], "modules": []}`, []string{
			`key "timeout" is 0; it must be between 1 and 86400 seconds`, `key "memory" is 1.5; it must be a whole number of MB`,
		}},
		"null number": {`{"timeout": null, "memory": 128, "languages": ["python"], "modules": []}`, []string{`key "timeout" is null`}},
		"languages":   {`{"timeout": 1, "memory": 1, "languages": ["pyton", 3, {"variants": []}, {"language": "nodejs", "variants": ["deno"]}, {"language": "java", "variants": []}], "modules": []}`, []string{`languages[0] is "pyton", which is unknown; did you mean python?`, "languages[1] is 3", "languages[2] is", `variant "deno", which is unknown; known are default, bun, llrt`, "languages[4] (java) lists no variants"}},
		"twice":       {`{"timeout": 1, "memory": 1, "languages": ["python", "python"], "modules": []}`, []string{`languages[1] repeats "python"`}},
		"modules":     {`{"timeout": 1, "memory": 1, "languages": ["python"], "modules": ["storag"]}`, []string{`key "modules" holds "storag", which is unknown; did you mean storage?`}},
		"a word":      {`{"timeout": 1, "memory": 1, "languages": ["python"], "modules": "storage"}`, []string{`key "modules" is "storage"; it must be a list`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseConfig("x/config.json", []byte(test.text))
			if !errs.Is(err, codes.InvalidArgument) || errs.Reason(err) != ReasonConfig {
				t.Fatalf("ParseConfig = %v, want InvalidArgument", err)
			}
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("the error does not say %q: %v", says, err)
				}
			}
		})
	}
}

func TestCheckLanguage(t *testing.T) {
	t.Parallel()
	config := Config{Languages: []Language{{"python", []string{"default"}}, {"nodejs", []string{"default", "bun"}}}}
	for _, c := range []struct {
		language, variant, says string
	}{
		{"python", "default", ""},
		{"nodejs", "bun", ""},
		{"java", "default", `is not written in "java"; choose one of python, nodejs`},
		{"python", "pypy", `has no variant "pypy" of python; its config.json lists default`},
	} {
		err := config.CheckLanguage("010.sleep", c.language, c.variant)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("CheckLanguage(%s, %s) = %v, want %q", c.language, c.variant, err, c.says)
		}
	}
}

const minimal = `{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`

func TestFind(t *testing.T) {
	t.Parallel()
	first := fstest.MapFS{
		"mine/010.sleep/config.json":               {Data: []byte(`{"timeout": 77, "memory": 128, "languages": ["python"], "modules": []}`)},
		"mine/300.group/readme.md":                 {Data: []byte("")},
		"110.dynamic-html/python/function.py":      {Data: []byte("a folder of that name without config.json")},
		"node_modules/210.thumbnailer/config.json": {Data: []byte(minimal)},
		".hidden/210.thumbnailer/config.json":      {Data: []byte(minimal)},
		"a/b/c/d/e/210.thumbnailer/config.json":    {Data: []byte(minimal)},
	}
	shipped := fstest.MapFS{
		"000.micro/010.sleep/config.json":          {Data: []byte(minimal)},
		"100.webapps/110.dynamic-html/config.json": {Data: []byte(minimal)},
		"100.webapps/120.broken/config.json":       {Data: []byte(`{`)},
	}
	data := fstest.MapFS{"100.webapps/110.dynamic-html/page.txt": {Data: []byte("x")}}
	c := NewCatalogue([]Root{{"first", first}, {"shipped", shipped}}, []Root{{"data", data}})
	sleep, err := c.Find("010.sleep")
	if err != nil || sleep.Root != "first" || sleep.Config.Timeout != 77*time.Second || sleep.Path != "mine/010.sleep" {
		t.Errorf("Find(010.sleep) = %+v, %v; want the one of the first root", sleep, err)
	}
	html, err := c.Find("110.dynamic-html")
	if err != nil || html.Root != "shipped" || html.DataPath != "100.webapps/110.dynamic-html" || html.Data == nil || html.DataDir != "" {
		t.Errorf("Find(110.dynamic-html) = %+v, %v; want the shipped one with data", html, err)
	}
	for name, says := range map[string]string{
		"210.thumbnailer":  "did you mean",
		"dynamic-html":     "did you mean 110.dynamic-html?",
		"../../etc/passwd": "is not valid",
		"":                 "is not valid",
		"120.broken":       "shipped/100.webapps/120.broken/config.json: is not a JSON object",
	} {
		_, err := c.Find(name)
		if err == nil || !strings.Contains(err.Error(), says) && name != "210.thumbnailer" {
			t.Errorf("Find(%q) = %v, want an error saying %q", name, err, says)
		}
	}
	found, faults, err := c.List()
	if err != nil || len(faults) != 1 || len(found) != 2 || found[0].Root != "first" {
		t.Errorf("List = %v, %v, %v; want two benchmarks and one fault", found, faults, err)
	}
}

func TestDirRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "100.x", "110.y")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(minimal), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := DirRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewCatalogue([]Root{root}, []Root{root}).Find("110.y")
	if err != nil || b.DataDir != folder {
		t.Errorf("Find = %+v, %v; want data in %s", b, err, folder)
	}
	for _, wrong := range []string{filepath.Join(dir, "none"), filepath.Join(folder, "config.json")} {
		if _, err := DirRoot(wrong); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("DirRoot(%s) = %v, want InvalidArgument", wrong, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(`{"timeout": 1e3, "memory": 128, "languages": [{"language": "nodejs", "variants": ["bun"]}], "modules": ["nosql"], "cpp_dependencies": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("config.json", data)
		if err == nil && (c.Timeout <= 0 || c.MemoryMB <= 0 || len(c.Languages) == 0) {
			t.Errorf("accepted %q as %+v", data, c)
		}
	})
}
