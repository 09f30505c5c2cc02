package builder

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/internal/errs"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// programs are what building in a language takes.
var programs = map[typev1.Language][]string{
	typev1.Language_LANGUAGE_NODEJS: {"npm"},
	typev1.Language_LANGUAGE_JAVA:   {"mvn", "javac"},
	typev1.Language_LANGUAGE_CPP:    {"cmake", "g++", "make"},
}

// shippedFiles are in every package of a language.
var shippedFiles = map[typev1.Language][]string{
	typev1.Language_LANGUAGE_PYTHON: {"handler.py", "function/function.py", "function/storage.py", "function/nosql.py", "function/sebs_core.py"},
	typev1.Language_LANGUAGE_NODEJS: {"handler.js", "function/function.js", "function/storage.js", "function/nosql.js", "function/sebs_core.js"},
	typev1.Language_LANGUAGE_JAVA:   {"function/Function.class", "org/serverlessbench/Handler.class", "org/serverlessbench/Core.class"},
	typev1.Language_LANGUAGE_CPP:    {"bootstrap", "bin/function", "lib/ld-linux-x86-64.so.2"},
}

// TestShippedCatalogue builds every benchmark of the catalogue in every language and prepares its input.
func TestShippedCatalogue(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs time: it installs the dependencies of every benchmark")
	}
	needsPython(t)
	needsInstaller(t)
	b := newBench(t, nil)
	listed, err := b.client.ListBenchmarks(t.Context(), &builderv1.ListBenchmarksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range listed.GetBenchmarks() {
		origin := &builderv1.BenchmarkSource{Benchmark: found.GetBenchmark()}
		for _, language := range found.GetLanguages() {
			for _, architecture := range []typev1.Architecture{typev1.Architecture_ARCHITECTURE_X64, typev1.Architecture_ARCHITECTURE_ARM64} {
				name := fmt.Sprintf("%s/%s/%s", found.GetBenchmark(), language.GetLanguage(), architecture)
				t.Run(name, func(t *testing.T) {
					for _, program := range programs[language.GetLanguage()] {
						if _, err := exec.LookPath(program); err != nil {
							t.Skipf("needs %s", program)
						}
					}
					runtime := &typev1.Runtime{Language: language.GetLanguage()}
					switch language.GetLanguage() {
					case typev1.Language_LANGUAGE_JAVA:
						runtime.Version = "11" // every JDK compiles for it
					case typev1.Language_LANGUAGE_CPP:
						if architecture != typev1.Architecture_ARCHITECTURE_X64 {
							t.Skip("C++ functions are built for x64 only")
						}
					case typev1.Language_LANGUAGE_UNSPECIFIED, typev1.Language_LANGUAGE_PYTHON, typev1.Language_LANGUAGE_NODEJS:
					}
					op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{
						Source: origin, Platform: "local", Runtime: runtime, Architecture: architecture,
					})
					p := result(t, op, err, &builderv1.Package{})
					files := b.unpack(t, p)
					for _, want := range shippedFiles[language.GetLanguage()] {
						if _, ok := files[want]; !ok {
							t.Errorf("the package has no %s", want)
						}
					}
					t.Logf("%s in %d ms with %q: %d files, %d bytes", p.GetRuntime(), p.GetBuildMs(), p.GetInstaller(), len(files), p.GetSizeBytes())
				})
			}
		}
		t.Run(found.GetBenchmark()+"/input", func(t *testing.T) {
			op, err := b.client.PrepareInput(t.Context(), &builderv1.PrepareInputRequest{Parent: deployment, Source: origin, Size: "test"})
			if err != nil && strings.Contains(err.Error(), "data") {
				t.Skipf("needs input data: %v", errs.FromStatus(err))
			}
			input := result(t, op, err, &builderv1.BenchmarkInput{})
			t.Logf("%d objects, tables %v, payload of %d bytes", input.GetUploadedCount(), input.GetTables(), len(input.GetPayloadJson()))
		})
	}
}
