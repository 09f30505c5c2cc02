// Package compiled builds and starts functions in compiled languages, Java and
// C++, for tests: with the builder's packages and the local platform's command
// lines, in the bare Runtime API host of package runtimetest.
package compiled

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/jdk"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/runtimes/runtimetest"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/packaging"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Languages are the languages of this package.
func Languages() []string { return []string{"cpp", "java"} }

// memoryMB is what functions get.
const memoryMB = 128

// Package is a code package, built and unpacked.
type Package struct {
	// Archive is the file that platforms take.
	Archive []byte
	// Root is the directory it is unpacked in, Handler its handler string.
	Root, Handler string
}

// Build builds and unpacks a package. It skips the test where a compiler is not
// installed, and short runs.
func Build(t *testing.T, platform, language, version string, source benchmark.Benchmark) Package {
	t.Helper()
	if testing.Short() {
		t.Skip("needs time: it runs a compiler")
	}
	for _, program := range map[string][]string{"java": {"mvn", "javac"}, "cpp": {"cmake", "g++", "make"}}[language] {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s on PATH", program)
		}
	}
	catalog, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	confiner := confine.New(t.TempDir(), nil)
	b := packaging.NewBuilder(packaging.Options{
		Layouts: catalog, Confiner: confiner, ScriptTimeout: time.Minute,
		Maven: packaging.NewMaven(confiner, filepath.Join(cache, "sebs-test-maven"), 10*time.Minute), CMake: packaging.NewCMake(confiner, 5*time.Minute),
	})
	plan, err := b.Plan(t.Context(), source, runtimesdata.Choice{
		Platform: platform, Language: language, Version: version, Variant: "default", Architecture: "x64", SystemVariant: "package",
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := b.Build(t.Context(), plan, &out, func(string, string) {}); err != nil {
		t.Fatal(err)
	}
	files, err := archive.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), packaging.Limits)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := archive.Extract(t.Context(), root, files); err != nil {
		t.Fatal(err)
	}
	return Package{Archive: out.Bytes(), Root: root, Handler: plan.Layout.Handler}
}

// Program starts packages of a language.
type Program struct {
	// Language and Version are what it runs.
	Language, Version string

	program     sandbox.Program
	interpreter string
	runtimeRoot string
}

// Programs are what this machine runs a language with, one per version that
// the suite supports. It skips the test where there is none.
func Programs(t *testing.T, language string) []Program {
	t.Helper()
	program, err := sandbox.ProgramFor(sandbox.Runtime{Language: language})
	if err != nil {
		t.Fatal(err)
	}
	if language == "cpp" {
		if !sandbox.RunsNative() {
			t.Skip("needs Linux on x64")
		}
		return []Program{{Language: language, Version: "all", program: program}}
	}
	if _, err := sandbox.JavaCompiler(); err != nil {
		t.Skipf("needs a JDK: %v", err)
	}
	catalog, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := catalog.Bootstrap(language)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := catalog.Write(bootstrap.Files, filepath.Join(root, language)); err != nil {
		t.Fatal(err)
	}
	if err := program.Prepare(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	var found []Program
	for _, i := range jdk.Find(os.Getenv, home) {
		version := strconv.Itoa(i.Major)
		if slices.Contains(runtimes.Versions(language), version) {
			found = append(found, Program{Language: language, Version: version, program: program, interpreter: i.Java(), runtimeRoot: root})
		}
	}
	if len(found) == 0 {
		t.Skipf("needs one of the versions %v of Java", runtimes.Versions(language))
	}
	return found
}

// Prepare prepares a process for a package. Its answers are HTTP responses, as
// on AWS, whatever the platform.
func (p Program) Prepare(t *testing.T, built Package) *runtimetest.Process {
	t.Helper()
	command := p.program.Command(p.interpreter, p.runtimeRoot, built.Root, memoryMB)
	i := runtimetest.Interpreter{Language: p.Language, Path: command[0], Version: p.Version}
	return runtimetest.Prepare(t, "aws", i, built.Root, built.Handler, command[1:]...)
}
