package packaging

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sebs-suite/sebs/benchmarks"
	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"
)

// compiler returns a builder that compiles in a directory of its own.
func compiler(t *testing.T) *Builder {
	t.Helper()
	layouts, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	user, err := confine.UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	// Confined programs run as another user and have to get there.
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above
			t.Fatal(err)
		}
	}
	confiner := confine.New(base, user)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	return NewBuilder(Options{
		Layouts: layouts, Confiner: confiner, ScriptTimeout: time.Minute,
		Maven: NewMaven(confiner, filepath.Join(cache, "sebs-test-maven"), 10*time.Minute), CMake: NewCMake(confiner, 5*time.Minute),
	})
}

// tools skips where a program of a language is not installed.
func tools(t *testing.T, language string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs time: it runs a compiler")
	}
	for _, program := range map[string][]string{"java": {"mvn", "javac"}, "cpp": {"cmake", "g++", "make"}}[language] {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s on PATH", program)
		}
	}
}

func shipped(t *testing.T, name string) benchmark.Benchmark {
	t.Helper()
	b, err := benchmark.NewCatalogue([]benchmark.Root{{Label: "the shipped catalogue", FS: benchmarks.Files()}}, nil).Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ownChoice(platform, language, version string) runtimesdata.Choice {
	c := choice(language, version)
	c.Platform = platform
	return c
}

// built builds a package.
func built(t *testing.T, b *Builder, source benchmark.Benchmark, c runtimesdata.Choice) (*Plan, Built, []byte, error) {
	t.Helper()
	p, err := b.Plan(t.Context(), source, c)
	if err != nil {
		return nil, Built{}, nil, err
	}
	var out bytes.Buffer
	made, err := b.Build(t.Context(), p, &out, func(string, string) {})
	return p, made, out.Bytes(), err
}

func entriesOf(t *testing.T, raw []byte) map[string]*zip.File {
	t.Helper()
	reader, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]*zip.File{}
	for _, file := range reader.File {
		entries[file.Name] = file
	}
	return entries
}

// TestCompiledPackagesDependOnSourcesAlone builds twice, each time in another directory, and expects the same bytes.
func TestCompiledPackagesDependOnSourcesAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, language, version string
		want                    []string
	}{
		{"110.dynamic-html", "java", "11", []string{
			"function/Function.class", "org/serverlessbench/Handler.class", "templates/template.mustache.html",
			"com/github/mustachejava/MustacheFactory.class", "com/amazonaws/services/lambda/runtime/RequestHandler.class",
		}},
		{"010.sleep", "cpp", "all", []string{"bootstrap", "bin/function", "lib/ld-linux-x86-64.so.2", "lib/libc.so.6", "lib/libcurl.so.4", "lib/libgcc_s.so.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.language, func(t *testing.T) {
			t.Parallel()
			tools(t, tt.language)
			source := shipped(t, tt.name)
			var sums []string
			for range 2 {
				plan, made, raw, err := built(t, compiler(t), source, ownChoice("aws", tt.language, tt.version))
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(raw)
				if made.SHA256 != hex.EncodeToString(sum[:]) || made.SizeBytes != int64(len(raw)) || made.Installer == "" {
					t.Errorf("%+v does not describe an archive of %d bytes", made, len(raw))
				}
				sums = append(sums, plan.Digest+" "+made.SHA256)
				entries := entriesOf(t, raw)
				for _, want := range tt.want {
					if entries[want] == nil {
						t.Errorf("the package has no %s", want)
					}
				}
				for name, entry := range entries {
					if executable := entry.Mode()&0o111 != 0; executable != (tt.language == "cpp") {
						t.Errorf("%s has mode %s", name, entry.Mode())
					}
				}
				t.Logf("%d files, %d bytes, %d unpacked, by %s", len(entries), made.SizeBytes, made.UnpackedBytes, made.Installer)
			}
			if sums[0] != sums[1] {
				t.Errorf("two builds of the same sources differ: %s and %s", sums[0], sums[1])
			}
		})
	}
}

const plainPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>f</groupId><artifactId>f</artifactId><version>1</version>
<properties><maven.compiler.release>${env.JAVA_VERSION}</maven.compiler.release></properties>
<dependencies>EXTRA<!-- PLATFORM_DEPENDENCIES --></dependencies><build><finalName>NAME</finalName><plugins>
<plugin><artifactId>maven-compiler-plugin</artifactId><version>3.13.0</version></plugin>
<plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
<plugin><artifactId>maven-surefire-plugin</artifactId><version>3.2.5</version></plugin>
<plugin><artifactId>maven-jar-plugin</artifactId><version>3.4.2</version></plugin>
</plugins></build></project>`

const plainJava = "package function;\nimport java.util.Map;\npublic class Function { public Map<String, Object> handler(Map<String, Object> e) { return e; } }\n"

const plainCPP = "#include <rapidjson/document.h>\nrapidjson::Document function(const rapidjson::Value&) { return rapidjson::Document(rapidjson::kObjectType); }\n"

// source is a benchmark in Java and C++ with the given files.
func source(files map[string]string, change func(*benchmark.Config)) benchmark.Benchmark {
	tree := fstest.MapFS{}
	for name, content := range files {
		tree[name] = &fstest.MapFile{Data: []byte(content)}
	}
	config := benchmark.Config{Languages: []benchmark.Language{{Name: "java", Variants: []string{"default"}}, {Name: "cpp", Variants: []string{"default"}}}}
	if change != nil {
		change(&config)
	}
	return benchmark.Benchmark{Name: "900.sample", Source: tree, Config: config}
}

// TestNamesOfCPPSources builds from files whose names mean something to CMake, and refuses those that it trips over.
func TestNamesOfCPPSources(t *testing.T) {
	t.Parallel()
	t.Run("built", func(t *testing.T) {
		t.Parallel()
		tools(t, "cpp")
		const name = "a b #%*~,()!`?+=^{}@x@&'<ü>"
		files := map[string]string{
			"cpp/main.cpp":         "#include \"value.hpp\"\n" + strings.Replace(plainCPP, "{ return", "{ value(); return", 1),
			"cpp/" + name + ".hpp": "int value();\n",
			"cpp/" + name + ".cpp": "#include \"value.hpp\"\nint value() { return 1; }\n",
			// Folders below come from scripts alone.
			"init.sh": `for file in "$1"/*.hpp; do mkdir "${file%.hpp}" && mv "$file" "${file%.hpp}/value.hpp"; done` + "\n",
		}
		if _, _, _, err := built(t, compiler(t), source(files, nil), ownChoice("local", "cpp", "all")); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"${HOME}.cpp", "$<CONFIG>.cpp", "a;b.cpp", "a]b.cpp", "a[b.cpp", "a|b.cpp", `a"b.cpp`, "a\nb.cpp", "a\tb.cpp", "a;b.hpp", "a\u0085b.cpp"} {
		t.Run("refused", func(t *testing.T) {
			t.Parallel()
			b := compiler(t)
			p := plan(t, source(map[string]string{"cpp/main.cpp": plainCPP, "cpp/" + name: "\n"}, nil), ownChoice("local", "cpp", "all"))
			_, done, err := b.Project(context.WithoutCancel(t.Context()), p, func(string, string) {})
			if err == nil {
				t.Fatalf("%q is a name for CMake: %v", name, done())
			}
			if want := fmt.Sprintf("%q of 900.sample", "src/"+name); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rename") {
				t.Errorf("error %q does not say %q", err, want)
			}
		})
	}
}

func TestCompiledPackagesExplainFaults(t *testing.T) {
	t.Parallel()
	pom := func(name, extra string) string {
		return strings.NewReplacer("NAME", name, "EXTRA", extra).Replace(plainPOM)
	}
	java := func(pom, function string) map[string]string {
		return map[string]string{"java/pom.xml": pom, "java/" + javaEntry: function}
	}
	tests := []struct {
		name, language, version string
		files                   map[string]string
		change                  func(*benchmark.Config)
		want                    []string
	}{
		{"no pom", "java", "17", map[string]string{"java/" + javaEntry: plainJava}, nil, []string{"900.sample/java", "pom.xml", pomPlaceholder}},
		{"no function", "java", "17", map[string]string{"java/pom.xml": pom("function", "")}, nil, []string{javaEntry}},
		{"no placeholder", "java", "17", java(strings.ReplaceAll(pom("function", ""), pomPlaceholder, ""), plainJava), nil, []string{pomPlaceholder, "<dependencies>"}},
		{"module", "java", "17", java(pom("function", ""), plainJava), func(c *benchmark.Config) { c.Modules = []string{"storage"} }, []string{`"storage"`, "functions in java"}},
		{"does not compile", "java", "11", java(pom("function", ""), strings.ReplaceAll(plainJava, "return e", "return x")), nil, []string{"Function.java", "cannot find symbol"}},
		{"another name", "java", "11", java(pom("other", ""), plainJava), nil, []string{builtJAR, "finalName"}},
		{"unknown version", "java", "99", java(pom("function", ""), plainJava), nil, []string{"Java 99", "openjdk-99-jdk"}},
		{"no main", "cpp", "all", map[string]string{"cpp/other.cpp": "\n"}, nil, []string{"main.cpp", "rapidjson::Document function"}},
		{"module", "cpp", "all", map[string]string{"cpp/main.cpp": plainCPP}, func(c *benchmark.Config) { c.Modules = []string{"nosql"} }, []string{`"nosql"`, "functions in cpp"}},
		{"library", "cpp", "all", map[string]string{"cpp/main.cpp": plainCPP}, func(c *benchmark.Config) { c.CPPDependencies = []string{"rapidjson", "torch"} }, []string{`"torch"`, "rapidjson"}},
		{"does not compile", "cpp", "all", map[string]string{"cpp/main.cpp": plainCPP + "int x = y;\n"}, nil, []string{"src/main.cpp", "'y' was not declared"}},
		{"no such function", "cpp", "all", map[string]string{"cpp/main.cpp": "\n"}, nil, []string{"undefined reference", "function(rapidjson"}},
	}
	for _, tt := range tests {
		t.Run(tt.language+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			tools(t, tt.language)
			b := compiler(t)
			_, _, _, err := built(t, b, source(tt.files, tt.change), ownChoice("local", tt.language, tt.version))
			if err == nil {
				t.Fatal("it is built")
			}
			for _, want := range tt.want {
				// Compilers quote as the locale says.
				if text := strings.NewReplacer("‘", "'", "’", "'").Replace(err.Error()); !strings.Contains(text, want) {
					t.Errorf("error %q does not say %q", text, want)
				}
			}
			if strings.Contains(err.Error(), "sebs-work-") {
				t.Errorf("error %q names a directory that is gone", err)
			}
		})
	}
}

func TestMissingCompilersAreNamed(t *testing.T) {
	for language, want := range map[string]string{"java": "apt-get install maven", "cpp": "apt-get install cmake"} {
		t.Run(language, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			files := map[string]string{"java/pom.xml": plainPOM, "java/" + javaEntry: plainJava, "cpp/main.cpp": plainCPP}
			version := map[string]string{"java": "17", "cpp": "all"}[language]
			if _, err := compiler(t).Plan(t.Context(), source(files, nil), ownChoice("aws", language, version)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		})
	}
}

func TestPlanDigestCoversCompiledSources(t *testing.T) {
	t.Parallel()
	base := map[string]string{"java/pom.xml": plainPOM, "java/" + javaEntry: plainJava, "cpp/main.cpp": plainCPP}
	digest := func(language, name, content string, change func(*benchmark.Config)) string {
		files := maps.Clone(base)
		if name != "" {
			files[name] = content
		}
		return plan(t, source(files, change), ownChoice("aws", language, map[string]string{"java": "17", "cpp": "all"}[language])).Digest
	}
	for language, names := range map[string][]string{
		"java": {"java/pom.xml", "java/" + javaEntry, "java/src/main/resources/x", "java/package.sh", "java/init.sh"},
		"cpp":  {"cpp/main.cpp", "cpp/more.hpp", "init.sh"},
	} {
		seen := map[string]string{digest(language, "", "", nil): "nothing"}
		for _, name := range names {
			changed := digest(language, name, "changed\n", nil)
			if before, ok := seen[changed]; ok {
				t.Errorf("a change of %s gives the digest of a change of %s", name, before)
			}
			seen[changed] = name
		}
		library := digest(language, "", "", func(c *benchmark.Config) { c.CPPDependencies = []string{"rapidjson"} })
		if same := seen[library] == "nothing"; same == (language == "cpp") {
			t.Errorf("%s: libraries of C++ change the digest: %v", language, !same)
		}
	}
}

func TestJavaPackageScript(t *testing.T) {
	t.Parallel()
	tools(t, "java")
	files := map[string]string{
		"java/pom.xml": strings.NewReplacer("NAME", "function", "EXTRA", "").Replace(plainPOM), "java/" + javaEntry: plainJava,
		"java/package.sh": "test \"$1\" = . && test -f function.jar && test \"$PLATFORM\" = LOCAL && cd target/classes && \"$JAVA_HOME/bin/jar\" uf ../../function.jar function\n",
	}
	_, _, raw, err := built(t, compiler(t), source(files, nil), ownChoice("local", "java", "11"))
	if err != nil {
		t.Fatal(err)
	}
	if entries := entriesOf(t, raw); entries["function/Function.class"] == nil {
		t.Errorf("the package holds %v", slices.Sorted(maps.Keys(entries)))
	}
}

func TestWhatABuildMakesIsAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Mkdir(filepath.Join(dir, "directory"), 0o700), os.Symlink("file", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"file": true, "directory": false, "link": false, "absent": false} {
		if err := regular(&workshop{root: root}, name); (err == nil) != want {
			t.Errorf("regular(%s) = %v", name, err)
		}
	}
}

func TestLastingEntries(t *testing.T) {
	t.Parallel()
	listed := []archive.File{
		archive.Bytes("META-INF/MANIFEST.MF", []byte("Manifest-Version: 1.0\r\nBuilt-By: somebody\r\nCreated-By: a very\r\n  long name\r\nMulti-Release: true\r\n\r\n")),
		archive.Bytes("META-INF/maven/g/a/pom.properties", []byte("#Generated\n#Mon Jan 01\nversion=1\nartifactId=a\n")),
		{Path: "a.sh", Executable: true, Size: 1, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }},
	}
	entries, err := lasting(listed)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"META-INF/MANIFEST.MF":              "Manifest-Version: 1.0\r\nMulti-Release: true\r\n\r\n",
		"META-INF/maven/g/a/pom.properties": "artifactId=a\nversion=1\n",
		"a.sh":                              "x",
	}
	if diff := cmp.Diff(want, contents(t, entries)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if entries["a.sh"].Executable {
		t.Error("a mode of the JAR file is kept")
	}
}

func TestParseLDD(t *testing.T) {
	t.Parallel()
	got, err := parseLDD("\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n\tstatically linked\n")
	want := map[string]string{"libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6", "ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := parseLDD("\tlibx.so.1 => not found\n"); err == nil || !strings.Contains(err.Error(), "libx.so.1") {
		t.Errorf("a missing library gives %v", err)
	}
	if _, err := systemLibrary(filepath.Join(t.TempDir(), "none.so")); err == nil {
		t.Error("a library that does not exist is packaged")
	}
	outside := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := systemLibrary(outside); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a library outside of the system's directories gives %v", err)
	}
}

// TestProject checks what a Dockerfile gets.
func TestProject(t *testing.T) {
	t.Parallel()
	b := compiler(t)
	p, err := NewPlan(t.Context(), b.layouts, shipped(t, "010.sleep"), ownChoice("aws", "cpp", "all"))
	if err != nil {
		t.Fatal(err)
	}
	project, done, err := b.Project(context.WithoutCancel(t.Context()), p, func(string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := done(); err != nil {
			t.Error(err)
		}
	}()
	want := []string{"CMakeLists.txt", "bootstrap", "runtime/core.cpp", "runtime/core.hpp", "runtime/handler.cpp", "runtime/utils.hpp", "src/main.cpp"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(project))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lists, err := project["CMakeLists.txt"].Read(maxTextBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\"runtime/core.cpp\"\n  \"runtime/handler.cpp\"\n  \"src/main.cpp\")", "  \"src\"\n  \"runtime\")", "-ffile-prefix-map"} {
		if !strings.Contains(string(lists), want) {
			t.Errorf("CMakeLists.txt does not say %q:\n%s", want, lists)
		}
	}
}
