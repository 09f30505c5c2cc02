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
					if _, err := exec.LookPath("npm"); err != nil && language.GetLanguage() == typev1.Language_LANGUAGE_NODEJS {
						t.Skip("needs npm")
					}
					op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{
						Source: origin, Platform: "local", Runtime: &typev1.Runtime{Language: language.GetLanguage()}, Architecture: architecture,
					})
					p := result(t, op, err, &builderv1.Package{})
					files := b.unpack(t, p)
					extension := map[typev1.Language]string{typev1.Language_LANGUAGE_PYTHON: ".py", typev1.Language_LANGUAGE_NODEJS: ".js"}[language.GetLanguage()]
					for _, want := range []string{"handler", "function/function", "function/storage", "function/nosql", "function/sebs_core"} {
						if _, ok := files[want+extension]; !ok {
							t.Errorf("the package has no %s%s", want, extension)
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
