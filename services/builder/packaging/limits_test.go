package packaging

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
)

func TestSizeLimits(t *testing.T) {
	t.Parallel()
	const packages = ".python_packages/lib/site-packages/"
	plan := Plan{Benchmark: benchmark.Benchmark{Name: "411.image-recognition"}, Layout: runtimes.Layout{DependencyDir: strings.TrimSuffix(packages, "/")}}
	plan.Choice.Platform, plan.Choice.Language, plan.Choice.SystemVariant = "aws", "python", "package"
	entries := map[string]archive.File{}
	for name, size := range map[string]int64{
		"handler.py": 1000, "function/model.pth": 30_000_000, packages + "torch/lib/libtorch.so": 150_000_000,
		packages + "torch/__init__.py": 70_000, packages + "numpy/core.so": 40_000_000, packages + "six.py": 10_000,
	} {
		entries[name] = archive.File{Path: name, Size: size}
	}
	if err := plan.checkSize(entries); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	entries["function/data.bin"] = archive.File{Size: 262_144_000 - 220_081_000}
	if err := plan.checkSize(entries); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	entries["function/one.bin"] = archive.File{Size: 1}
	err := plan.checkSize(entries)
	if errs.Code(err) != codes.FailedPrecondition || errs.Reason(err) != ReasonTooLarge {
		t.Fatalf("over the limit: %v", err)
	}
	for _, part := range []string{"262.1 MB unpacked", "container image", "--system-variant container", "largest: torch 150.1 MB, function 72.1 MB, numpy 40.0 MB"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	plan.Choice.SystemVariant = "container"
	if err := plan.checkSize(entries); err != nil {
		t.Errorf("an image: %v", err)
	}
	plan.Choice.SystemVariant, plan.Choice.Platform = "package", "local"
	if err := plan.checkSize(entries); err != nil {
		t.Errorf("on another platform: %v", err)
	}
}

// TestOldLibc shows for which runtimes packages have to run with Amazon Linux 2.
func TestOldLibc(t *testing.T) {
	t.Parallel()
	digests := map[string]string{}
	for runtime, want := range map[string]bool{
		"aws python 3.9 package": true, "aws python 3.11 package": true, "aws python 3.12 package": false,
		"aws python 3.11 container": false, "local python 3.11 package": false, "aws nodejs 20 package": false,
	} {
		fields := strings.Fields(runtime)
		var p Plan
		p.Choice.Platform, p.Choice.Language, p.Choice.Version, p.Choice.SystemVariant = fields[0], fields[1], fields[2], fields[3]
		if got := p.oldLibc(); got != want {
			t.Errorf("%s: %v", runtime, got)
		}
		digest, err := p.layerDigest(layerInputs{})
		if err != nil {
			t.Fatal(err)
		}
		digests[runtime] = digest
	}
	if digests["aws python 3.11 package"] == digests["local python 3.11 package"] {
		t.Error("dependencies for an old C library and for a new one are one layer")
	}
	if digests["aws python 3.11 container"] != digests["local python 3.11 package"] {
		t.Error("the same dependencies are two layers")
	}
}

func TestTrueRecords(t *testing.T) {
	t.Parallel()
	record := func(script string) []archive.File {
		text := "bin/tool,sha256=" + script + ",300\npkg/__init__.py,sha256=a,1\n\"pkg/a,b.py\",sha256=b,2\n" +
			"pkg/__pycache__/x.cpython-311.pyc,,\n../../bin/tool,sha256=" + script + ",300\npkg-1.dist-info/RECORD,,\n"
		return []archive.File{
			archive.Bytes("site/pkg/__init__.py", nil), archive.Bytes("site/pkg/a,b.py", nil),
			archive.Bytes("site/pkg-1.dist-info/RECORD", []byte(text)), archive.Bytes("site/RECORD", []byte("bin/x,,\n")),
		}
	}
	want := "pkg/__init__.py,sha256=a,1\n\"pkg/a,b.py\",sha256=b,2\npkg-1.dist-info/RECORD,,\n"
	for _, script := range []string{"one", "two"} {
		files, err := trueRecords(record(script))
		if err != nil {
			t.Fatal(err)
		}
		for i, keep := range map[int]string{2: want, 3: "bin/x,,\n"} {
			got, err := files[i].Read(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(keep, string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", files[i].Path, diff)
			}
		}
	}
}
