package packaging

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// installPython installs requirements into target. The requirement files lie in a directory of their own.
func (b *Builder) installPython(ctx context.Context, dir, target string, deps dependencies, p *Plan) error {
	lists := filepath.Join(dir, "requirements")
	if err := os.Mkdir(lists, 0o755); err != nil {
		return fmt.Errorf("write requirements: %w", err)
	}
	for name, content := range deps.Included {
		if err := os.WriteFile(filepath.Join(lists, name), content, 0o644); err != nil {
			return fmt.Errorf("write requirements: %w", err)
		}
	}
	list := filepath.Join(lists, "effective-requirements.txt")
	if err := os.WriteFile(list, deps.Manifest, 0o644); err != nil {
		return fmt.Errorf("write requirements: %w", err)
	}
	_, err := b.python.Install(ctx, list, pytools.Target{
		Dir: target, Version: p.Choice.Version, Architecture: p.Choice.Architecture, OldLibc: p.oldLibc(),
	})
	return err
}

// oldLibc tells whether the runtime of the choice is one that AWS runs on Amazon Linux 2: newer ones are on Amazon Linux
// 2023, https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
func (p *Plan) oldLibc() bool {
	return p.Choice.Platform == "aws" && p.Choice.Language == benchmark.Python && p.Choice.SystemVariant == "package" &&
		slices.Contains([]string{"3.8", "3.9", "3.10", "3.11"}, p.Choice.Version)
}
