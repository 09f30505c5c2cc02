package experiments

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func TestVersionsAreOrderedByTheirNumbers(t *testing.T) {
	t.Parallel()
	versions := []string{"3.13", "3.9", "18", "3.11", "8", "3.10"}
	slices.SortFunc(versions, compareVersions)
	if got := strings.Join(versions, " "); got != "3.9 3.10 3.11 3.13 8 18" {
		t.Errorf("sorted as %s", got)
	}
}

func TestTheNewestRuntimeIsTaken(t *testing.T) {
	t.Parallel()
	host := &localv1.Host{}
	if _, err := newest(host, typev1.Language_LANGUAGE_PYTHON); err == nil || !strings.Contains(err.Error(), "it can run: nothing") {
		t.Errorf("a host without runtimes: %v", err)
	}
	for _, version := range []string{"20", "18"} {
		host.Runtimes = append(host.Runtimes, &localv1.HostRuntime{Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS, Version: version}})
	}
	if got, err := newest(host, typev1.Language_LANGUAGE_NODEJS); err != nil || got != "20" {
		t.Errorf("took %s, %v", got, err)
	}
	if _, err := newest(host, typev1.Language_LANGUAGE_PYTHON); err == nil || !strings.Contains(err.Error(), "no python") || !strings.Contains(err.Error(), "nodejs 18, nodejs 20") {
		t.Errorf("a host without python: %v", err)
	}
}

func TestTestsThatCannotSucceedAreLeftOut(t *testing.T) {
	t.Parallel()
	const (
		x64, arm          = typev1.Architecture_ARCHITECTURE_X64, typev1.Architecture_ARCHITECTURE_ARM64
		asPackage, image  = typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE, typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER
		gen1              = typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN1
		python, cpp, node = typev1.Language_LANGUAGE_PYTHON, typev1.Language_LANGUAGE_CPP, typev1.Language_LANGUAGE_NODEJS
	)
	tests := []struct {
		platform, benchmark string
		language            typev1.Language
		version             string
		architecture        typev1.Architecture
		variant             typev1.SystemVariant
		skipped             bool
	}{
		{"aws", "110.dynamic-html", python, "3.11", arm, asPackage, false},
		{"aws", "411.image-recognition", python, "3.11", x64, asPackage, true},
		{"aws", "411.image-recognition", python, "3.12", x64, asPackage, false},
		{"aws", "411.image-recognition", python, "3.11", x64, image, false},
		{"aws", "411.image-recognition", python, "3.11", arm, image, true},
		{"aws", "411.image-recognition", cpp, "all", x64, asPackage, true},
		{"gcp", "411.image-recognition", python, "3.10", x64, gen1, true},
		{"gcp", "411.image-recognition", python, "3.10", x64, image, false},
		{"local", "411.image-recognition", python, "3.11", x64, asPackage, false},
		{"aws", "010.sleep", cpp, "all", arm, asPackage, true},
		{"aws", "010.sleep", node, "20", arm, asPackage, false},
	}
	for _, one := range tests {
		reason := skipReason(one.platform, &typev1.Runtime{Language: one.language, Version: one.version}, test{
			source: &builderv1.BenchmarkSource{Benchmark: one.benchmark}, architecture: one.architecture, variant: one.variant,
		})
		if (reason != "") != one.skipped {
			t.Errorf("%v: left out because of %q", one, reason)
		}
	}
}

func TestALargeRunFitsItsRecord(t *testing.T) {
	t.Parallel()
	run := &experimentsv1.Run{}
	for range 20 {
		run.RegressionResults = append(run.GetRegressionResults(), &experimentsv1.RegressionResult{Record: &typev1.InvocationRecord{
			Result: &typev1.ExecutionResult{RequestId: "r", OutputJson: strings.Repeat("x", 200<<10)},
		}})
		run.Functions = append(run.GetFunctions(), &experimentsv1.RunFunction{PayloadJson: strings.Repeat("p", 200<<10)})
	}
	shrink(run)
	if size := proto.Size(run); size > maxRecordBytes {
		t.Errorf("the record has %d bytes", size)
	}
	if run.GetRegressionResults()[0].GetRecord().GetResult().GetRequestId() != "r" {
		t.Error("more than answers and payloads was cut")
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for size := int64(1); size < 12; size++ {
		next := int64(5)
		for _, part := range (span{from: 5, count: 10}).split(size) {
			if part.from != next || part.count > size || part.count < 1 {
				t.Fatalf("parts of %d: %v follows %d", size, part, next)
			}
			next += part.count
		}
		if next != 15 {
			t.Errorf("parts of %d end at %d", size, next)
		}
	}
	got := map[int64]*typev1.InvocationRecord{1: {}, 4: {}, 5: {}}
	if gaps := (span{from: 0, count: 8}).missing(got); !slices.Equal(gaps, []span{{0, 1}, {2, 2}, {6, 2}}) {
		t.Errorf("the gaps are %v", gaps)
	}
	if parts := (span{}).split(3); parts != nil {
		t.Errorf("an empty span has the parts %v", parts)
	}
}
