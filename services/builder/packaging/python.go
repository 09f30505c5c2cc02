package packaging

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

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
	_, err := b.python.Install(ctx, list, pytools.Target{Dir: target, Version: p.Choice.Version, Architecture: p.Choice.Architecture})
	return err
}
