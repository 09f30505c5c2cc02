package packaging

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
)

// ReasonTooLarge stands in the error of a package that its platform does not take.
const ReasonTooLarge = "PACKAGE_TOO_LARGE"

// unpackedLimits are how many bytes the files of a package may have together, by platform. What a platform takes is known
// before anything is uploaded to it. (That AWS Lambda takes archives of more than 50 MB from a bucket only is the matter
// of who uploads.)
//
//   - aws: 250 MB, which its API counts as 262144000 bytes,
//     https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
var unpackedLimits = map[string]int64{"aws": 262_144_000}

// namedParts is how many of a package's largest parts the error names.
const namedParts = 3

// checkSize refuses a package that its platform will not take. Images have limits of their own.
func (p *Plan) checkSize(entries map[string]archive.File) error {
	limit, ok := unpackedLimits[p.Choice.Platform]
	if !ok || p.Choice.SystemVariant != "package" {
		return nil
	}
	var total int64
	parts := map[string]int64{}
	for name, file := range entries {
		total += file.Size
		parts[p.partOf(name)] += file.Size
	}
	if total <= limit {
		return nil
	}
	largest := slices.SortedFunc(maps.Keys(parts), func(a, b string) int { return cmp.Or(cmp.Compare(parts[b], parts[a]), strings.Compare(a, b)) })
	var named []string
	for _, part := range largest[:min(namedParts, len(largest))] {
		named = append(named, fmt.Sprintf("%s %s", part, megabytes(parts[part])))
	}
	return errs.FailedPrecondition(ReasonTooLarge,
		"the package of %s for %s has %s unpacked, and %s takes at most %s; deploy it as a container image (--system-variant container), or let it depend on less (largest: %s)",
		p.Benchmark.Name, p.Choice.Language, megabytes(total), p.Choice.Platform, megabytes(limit), strings.Join(named, ", ")).
		With("benchmark", p.Benchmark.Name).With("unpacked_bytes", fmt.Sprint(total)).With("limit_bytes", fmt.Sprint(limit))
}

// partOf names what a file of the package belongs to: an installed dependency, or a file or folder at the root.
func (p *Plan) partOf(name string) string {
	if rest, ok := strings.CutPrefix(name, p.Layout.DependencyDir+"/"); ok && p.Layout.DependencyDir != "" {
		name = rest
	}
	part, _, _ := strings.Cut(name, "/")
	return part
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
