//go:build unix

package builder

import (
	"cmp"
	"os"
	"syscall"
	"testing"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// TestPackagesAreTheSameEverywhere builds the packages for AWS twice: in other directories, at another time, under another
// umask, with nothing kept of the first build. They have to be equal byte by byte, or a code digest would say nothing.
// It is not parallel, because the umask is the whole process's.
func TestPackagesAreTheSameEverywhere(t *testing.T) {
	needsInstaller(t)
	needsNPM(t)
	type order struct {
		benchmark string
		language  typev1.Language
		version   string
	}
	first := map[string]*builderv1.Package{}
	for _, umask := range []int{0o022, 0o077} {
		previous := syscall.Umask(umask)
		t.Cleanup(func() { syscall.Umask(previous) })
		dir, err := os.MkdirTemp("", "elsewhere-*")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		// Scripts run as another user, who has to come to his own folder.
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // empty, and other users may look
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", dir)
		b := newBench(t, nil)
		for _, o := range []order{
			{"110.dynamic-html", typev1.Language_LANGUAGE_PYTHON, "3.11"},
			{"210.thumbnailer", typev1.Language_LANGUAGE_PYTHON, "3.9"},
			{"501.graph-pagerank", typev1.Language_LANGUAGE_PYTHON, "3.11"}, // which brings a script
			{"130.crud-api", typev1.Language_LANGUAGE_NODEJS, "22"},
			{"210.thumbnailer", typev1.Language_LANGUAGE_NODEJS, "20"},
		} {
			for _, architecture := range []typev1.Architecture{typev1.Architecture_ARCHITECTURE_X64, typev1.Architecture_ARCHITECTURE_ARM64} {
				op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{
					Source: &builderv1.BenchmarkSource{Benchmark: o.benchmark}, Platform: "aws", Architecture: architecture,
					Runtime: &typev1.Runtime{Language: o.language, Version: o.version},
				})
				p := result(t, op, err, &builderv1.Package{})
				name := o.benchmark + " " + o.language.String() + " " + architecture.String()
				before := first[name]
				if before == nil {
					first[name] = p
					continue
				}
				if p.GetDigest() != before.GetDigest() || p.GetArchiveSha256() != before.GetArchiveSha256() || p.GetSizeBytes() != before.GetSizeBytes() {
					t.Errorf("%s: package %s with archive %s (%d bytes), before %s with %s (%d bytes)", name,
						p.GetDigest(), p.GetArchiveSha256(), p.GetSizeBytes(), before.GetDigest(), before.GetArchiveSha256(), before.GetSizeBytes())
				}
				if cmp.Or(p.GetCached(), p.GetDependenciesCached()) {
					t.Errorf("%s: something was kept of the first build", name)
				}
			}
		}
	}
}
