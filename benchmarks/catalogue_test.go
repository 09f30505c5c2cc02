package benchmarks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/runtimes/runtimetest"
	"github.com/sebs-suite/sebs/runtimes/runtimetest/compiled"
	"github.com/sebs-suite/sebs/runtimes/runtimetest/stores"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
)

// catalogue is what the suite ships: benchmark and languages.
var catalogue = map[string][]string{
	"000.microbenchmarks/010.sleep":     {"cpp", "java", "nodejs", "python"},
	"100.webapps/110.dynamic-html":      {"java", "nodejs", "python"},
	"100.webapps/120.uploader":          {"nodejs", "python"},
	"100.webapps/130.crud-api":          {"nodejs", "python"},
	"200.multimedia/210.thumbnailer":    {"nodejs", "python"},
	"300.utilities/311.compression":     {"nodejs", "python"},
	"500.scientific/501.graph-pagerank": {"python"},
	"500.scientific/503.graph-bfs":      {"python"},
}

const bucket = "sebs-benchmarks-test"

func TestCatalogueIsComplete(t *testing.T) {
	t.Parallel()
	var found []string
	err := fs.WalkDir(Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && path.Base(name) == "config.json" {
			found = append(found, path.Dir(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(catalogue)); !slices.Equal(found, want) {
		t.Errorf("benchmarks %v, want %v", found, want)
	}
	exact := regexp.MustCompile(`^[A-Za-z0-9._-]+==\d+(\.\d+)*$`)
	for name, languages := range catalogue {
		var config struct {
			Timeout   int      `json:"timeout"`
			Memory    int      `json:"memory"`
			Languages []string `json:"languages"`
			Modules   []string `json:"modules"`
		}
		decode(t, name+"/config.json", &config)
		slices.Sort(config.Languages)
		if config.Timeout <= 0 || config.Memory < 128 || config.Modules == nil || !slices.Equal(config.Languages, languages) {
			t.Errorf("%s/config.json: %+v, want languages %v", name, config, languages)
		}
		for _, language := range languages {
			entry := map[string]string{
				"python": "function.py", "nodejs": "function.js", "java": "src/main/java/function/Function.java", "cpp": "main.cpp",
			}[language]
			if _, err := fs.Stat(Files(), path.Join(name, language, entry)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if requirements, err := fs.ReadFile(Files(), name+"/python/requirements.txt"); err == nil {
			for line := range strings.Lines(string(requirements)) {
				if !exact.MatchString(strings.TrimSpace(line)) {
					t.Errorf("%s requires %q, not an exact version", name, line)
				}
			}
		}
		if slices.Contains(languages, "nodejs") {
			var pkg struct {
				Dependencies map[string]string `json:"dependencies"`
			}
			decode(t, name+"/nodejs/package.json", &pkg)
			if pkg.Dependencies == nil {
				t.Errorf("%s/nodejs/package.json has no dependencies object", name)
			}
			for dependency, version := range pkg.Dependencies {
				if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
					t.Errorf("%s requires %s %q, not an exact version", name, dependency, version)
				}
			}
		}
	}
}

func decode(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := fs.ReadFile(Files(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// prepared is what generate_input made.
type prepared struct {
	Payload json.RawMessage `json:"payload"`
	Uploads []struct {
		Key  string `json:"key"`
		Path string `json:"path"`
	} `json:"uploads"`
	Items []struct {
		Table string         `json:"table"`
		Item  map[string]any `json:"item"`
	} `json:"items"`
	Tables map[string]struct {
		Primary   string `json:"primary_key"`
		Secondary string `json:"secondary_key"`
	} `json:"tables"`
}

// drive runs the driver of testdata and decodes its answer.
func drive(t *testing.T, command map[string]any, answer any, env ...string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3 on PATH to run input.py")
	}
	raw, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "driver.py")) //nolint:gosec // found on PATH
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	cmd.Stdin = bytes.NewReader(raw)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s", command["task"], command["input"], err, &stderr)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("%s of %s printed %q: %v", command["task"], command["input"], out, err)
	}
}

func generate(t *testing.T, benchmark, size string, env ...string) prepared {
	t.Helper()
	var p prepared
	drive(t, map[string]any{
		"task": "generate", "input": benchmark + "/input.py", "benchmark": path.Base(benchmark),
		"size": size, "bucket": bucket, "directory": t.TempDir(),
	}, &p, env...)
	return p
}

func validate(t *testing.T, benchmark, language string, payload json.RawMessage, output any, directory string) *string {
	t.Helper()
	var answer struct {
		Verdict *string `json:"verdict"`
	}
	drive(t, map[string]any{
		"task": "validate", "input": benchmark + "/input.py", "payload": payload, "output": output,
		"language": language, "directory": directory,
	}, &answer)
	return answer.Verdict
}

// TestPayloads pins the payloads other tools rely on.
func TestPayloads(t *testing.T) {
	t.Parallel()
	b := `"bucket": {"bucket": "` + bucket + `", `
	tests := []struct{ benchmark, size, want string }{
		{"000.microbenchmarks/010.sleep", "test", `{"sleep": 1}`},
		{"000.microbenchmarks/010.sleep", "large", `{"sleep": 1000}`},
		{"100.webapps/110.dynamic-html", "small", `{"username": "testname", "random_len": 1000}`},
		{"100.webapps/120.uploader", "test", `{"object": {"url": "http://suite/files/test.bin", "size": "test"}, ` + b + `"output": "120.uploader-0-output"}}`},
		{"200.multimedia/210.thumbnailer", "test", `{"object": {"key": "evening-hills.jpg", "width": 200, "height": 200}, ` + b + `"input": "210.thumbnailer-0-input", "output": "210.thumbnailer-0-output"}}`},
		{"300.utilities/311.compression", "large", `{"object": {"key": "acmart-master"}, ` + b + `"input": "311.compression-0-input", "output": "311.compression-0-output"}}`},
		{"500.scientific/501.graph-pagerank", "small", `{"size": 10000, "seed": 42}`},
		{"500.scientific/503.graph-bfs", "large", `{"size": 100000, "seed": 42}`},
	}
	for _, tt := range tests {
		t.Run(path.Base(tt.benchmark)+"/"+tt.size, func(t *testing.T) {
			t.Parallel()
			got := generate(t, tt.benchmark, tt.size, "SEBS_UPLOADER_BASE_URL=http://suite/files/")
			if compact(t, got.Payload) != compact(t, []byte(tt.want)) {
				t.Errorf("payload %s, want %s", got.Payload, tt.want)
			}
		})
	}
	t.Run("120.uploader/original", func(t *testing.T) {
		t.Parallel()
		got := generate(t, "100.webapps/120.uploader", "test", "SEBS_UPLOADER_BASE_URL=http://suite", "SEBS_UPLOADER_ORIGINAL=1")
		if !strings.Contains(string(got.Payload), "https://upload.wikimedia.org/") {
			t.Errorf("payload %s does not name the original address", got.Payload)
		}
	})
}

// compact writes JSON with sorted keys and without spaces.
func compact(t *testing.T, raw []byte) string {
	t.Helper()
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestValidatorsRefuse gives each validator an answer that is right in shape and
// wrong in substance, and one without substance.
func TestValidatorsRefuse(t *testing.T) {
	t.Parallel()
	stored := func(name, extension string) map[string]any {
		return map[string]any{"bucket": bucket, "key": name + "-0-output/x" + extension, "url": "http://suite/test.bin"}
	}
	tests := []struct {
		benchmark string
		result    any
		file      string // content of the stored object
		reason    string
	}{
		{"000.microbenchmarks/010.sleep", 2, "", "instead of 1"},
		{"100.webapps/110.dynamic-html", "<html>Hello, testname! <li>1</li></html>", "", "1 numbers instead of 10"},
		{"100.webapps/120.uploader", stored("120.uploader", ".bin"), "short", "has 5 bytes"},
		{"100.webapps/130.crud-api", []any{map[string]any{"name": "Gothic Game", "price": 41}}, "", "instead of"},
		{"200.multimedia/210.thumbnailer", stored("210.thumbnailer", ".png"), "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x00\x64", "256 × 100"},
		{"200.multimedia/210.thumbnailer", stored("210.thumbnailer", ".jpg"), "\xff\xd8\xff\xd9", "cannot be read"},
		{"300.utilities/311.compression", stored("311.compression", ".zip"), "PK", "cannot be read"},
		{"300.utilities/311.compression", stored("311.compression", ".zip"), "PK\x05\x06" + strings.Repeat("\x00", 18), "lacks"},
		{"500.scientific/501.graph-pagerank", 0.1001, "", "instead of 0.1"},
		{"500.scientific/503.graph-bfs", []any{[]int{1, 0, 2, 3, 4, 5, 6, 7, 8, 9}, []int{0, 1, 10}, make([]int, 10)}, "", "MD5"},
	}
	for _, tt := range tests {
		t.Run(path.Base(tt.benchmark)+"/"+tt.reason, func(t *testing.T) {
			t.Parallel()
			payload := generate(t, tt.benchmark, "test", "SEBS_UPLOADER_BASE_URL=http://suite").Payload
			directory := ""
			if tt.file != "" {
				directory = t.TempDir()
				fields := tt.result.(map[string]any)
				target := filepath.Join(directory, bucket, fields["key"].(string))
				if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o750), os.WriteFile(target, []byte(tt.file), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			verdict := validate(t, tt.benchmark, "python", payload, map[string]any{"result": tt.result}, directory)
			if verdict == nil || !strings.Contains(*verdict, tt.reason) {
				t.Errorf("verdict %v, want one with %q", deref(verdict), tt.reason)
			}
			if verdict := validate(t, tt.benchmark, "python", payload, map[string]any{"result": nil}, ""); verdict == nil {
				t.Error("a result of null is valid")
			}
		})
	}
}

func deref(verdict *string) string {
	if verdict == nil {
		return "valid"
	}
	return *verdict
}

// TestBenchmarks prepares, runs and validates every benchmark of the catalogue in
// every language: the functions in their bootstraps, against real stores. Size
// test also runs in the package of AWS.
func TestBenchmarks(t *testing.T) {
	t.Parallel()
	objects := stores.StartObjects(t, bucket)
	files := httptest.NewServer(UploaderHandler())
	t.Cleanup(files.Close)
	first := map[string]runtimetest.Interpreter{}
	for _, i := range runtimetest.Interpreters(t) {
		if _, ok := first[i.Language]; !ok {
			first[i.Language] = i
		}
	}
	t.Run("catalogue", func(t *testing.T) {
		for benchmark, languages := range catalogue {
			for _, language := range languages {
				t.Run(path.Base(benchmark)+"/"+language, func(t *testing.T) {
					t.Parallel()
					if slices.Contains(compiled.Languages(), language) {
						runCompiled(t, benchmark, language)
						return
					}
					interpreter, ok := first[language]
					if !ok {
						t.Skipf("needs an interpreter of %s on PATH", language)
					}
					for _, size := range []string{"test", "small", "large"} {
						if !worthRunning(benchmark, size) {
							continue
						}
						run(t, "local", benchmark, size, interpreter, objects, "SEBS_UPLOADER_BASE_URL="+files.URL)
					}
					if path.Base(benchmark) != "010.sleep" {
						run(t, "aws", benchmark, "test", interpreter, objects, "SEBS_UPLOADER_BASE_URL="+files.URL)
					}
				})
			}
		}
	})
}

// worthRunning leaves out what sleeps for minutes or repeats the size test.
func worthRunning(benchmark, size string) bool {
	switch path.Base(benchmark) {
	case "010.sleep", "210.thumbnailer", "311.compression":
		return size == "test"
	case "120.uploader":
		return size != "large"
	}
	return true
}

func run(t *testing.T, platform, benchmark, size string, interpreter runtimetest.Interpreter, objects *stores.Objects, env ...string) {
	t.Helper()
	input := generate(t, benchmark, size, env...)
	for _, upload := range input.Uploads {
		body, err := os.ReadFile(upload.Path)
		if err != nil {
			t.Fatal(err)
		}
		objects.Put(t, upload.Key, body)
	}
	functionEnv := objects.Env(platform)
	if len(input.Tables) > 0 {
		tables, names := stores.StartTables(t), map[string]string{}
		for table, keys := range input.Tables {
			names[table] = "sebs-test-" + table
			tables.Create(t, names[table], keys.Primary, keys.Secondary)
		}
		for _, item := range input.Items {
			tables.Put(t, names[item.Table], item.Item)
		}
		functionEnv = append(functionEnv, tables.Env(platform, names)...)
	}

	call(t, benchmark, size, pack(t, platform, benchmark, interpreter), input, objects, functionEnv...)
}

// runCompiled runs a benchmark of a compiled language in the package that the builder makes. Both platforms get the same one.
func runCompiled(t *testing.T, name, language string) {
	t.Helper()
	program := compiled.Programs(t, language)[0]
	shipped, err := benchmark.NewCatalogue([]benchmark.Root{{Label: "the shipped catalogue", FS: Files()}}, nil).Find(path.Base(name))
	if err != nil {
		t.Fatal(err)
	}
	version := program.Version
	if language == "java" {
		version = "11" // every JDK compiles for it
	}
	built := compiled.Build(t, "local", language, version, shipped)
	for _, size := range []string{"test", "small", "large"} {
		if worthRunning(name, size) {
			call(t, name, size, program.Prepare(t, built), generate(t, name, size), nil)
		}
	}
}

// call invokes a function cold and warm and validates its answers. objects may be nil for a benchmark without any.
func call(t *testing.T, benchmark, size string, p *runtimetest.Process, input prepared, objects *stores.Objects, functionEnv ...string) {
	t.Helper()
	p.Start(t, functionEnv...)
	for range 2 { // cold and warm
		a := p.Succeed(t, string(input.Payload))
		var output struct {
			Result      any                `json:"result"`
			Measurement map[string]float64 `json:"measurement,omitempty"`
		}
		if err := json.Unmarshal(a.Result, &output); err != nil {
			t.Fatalf("result %.300s: %v", a.Result, err)
		}
		for name, value := range output.Measurement {
			if value < 0 {
				t.Errorf("%s: measurement %s is %v", size, name, value)
			}
		}
		if verdict := validate(t, benchmark, p.Language, input.Payload, output, download(t, objects, output.Result)); verdict != nil {
			t.Errorf("%s: not valid: %s", size, *verdict)
		}
		if verdict := validate(t, benchmark, p.Language, input.Payload, output, ""); verdict != nil {
			t.Errorf("%s: not valid without a look at the store: %s", size, *verdict)
		}
	}
}

// download fetches the object that a result names into a directory as
// bucket/key and returns the directory.
func download(t *testing.T, objects *stores.Objects, result any) string {
	t.Helper()
	dir := t.TempDir()
	fields, ok := result.(map[string]any)
	if !ok {
		return dir
	}
	key, ok := fields["key"].(string)
	if !ok {
		return dir
	}
	target := filepath.Join(dir, objects.Bucket, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, objects.Get(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pack builds the benchmark's code package.
func pack(t *testing.T, platform, benchmark string, interpreter runtimetest.Interpreter) *runtimetest.Process {
	t.Helper()
	sources := map[string]string{}
	entries, err := fs.ReadDir(Files(), path.Join(benchmark, interpreter.Language))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		body, err := fs.ReadFile(Files(), path.Join(benchmark, interpreter.Language, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sources[entry.Name()] = string(body)
	}
	p := runtimetest.NewOn(t, platform, interpreter, sources)
	if _, err := os.Stat(filepath.Join(benchmark, "init.sh")); err == nil {
		bash, err := exec.LookPath("bash")
		if err != nil {
			t.Skip("needs bash on PATH to run init.sh")
		}
		script := exec.CommandContext(t.Context(), bash, filepath.Join(benchmark, "init.sh"), filepath.Join(p.Root, "function"), "false", "x64") //nolint:gosec // found on PATH
		if out, err := script.CombinedOutput(); err != nil {
			t.Fatalf("init.sh: %v\n%s", err, out)
		}
	}
	addDependencies(t, p, sources)
	return p
}

// addDependencies installs what the benchmark requires, once per machine.
func addDependencies(t *testing.T, p *runtimetest.Process, sources map[string]string) {
	t.Helper()
	key := func(content string) string {
		sum := sha256.Sum256([]byte(p.String() + "\n" + content))
		return strings.ReplaceAll(p.String(), " ", "-") + "-" + hex.EncodeToString(sum[:8])
	}
	var target, link string
	if requirements, ok := sources["requirements.txt"]; ok {
		target = stores.Install(t, key(requirements), func(dir string) *exec.Cmd {
			list := append([]string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--target", dir}, strings.Fields(requirements)...)
			return exec.CommandContext(t.Context(), p.Path, list...)
		})
		link = filepath.Join(p.Root, ".python_packages", "lib", "site-packages")
	} else if manifest, ok := sources["package.json"]; ok && !strings.Contains(manifest, `"dependencies": {}`) {
		target = filepath.Join(stores.Install(t, key(manifest), func(dir string) *exec.Cmd {
			if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			npm, err := exec.LookPath("npm")
			if err != nil {
				t.Skip("needs npm on PATH to install dependencies")
			}
			return exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir) //nolint:gosec // found on PATH
		}), "node_modules")
		link = filepath.Join(p.Root, "node_modules")
	} else {
		return
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}
