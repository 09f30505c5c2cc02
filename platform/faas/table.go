package faas

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ReasonUnknownPlatform and ReasonPlatformNotAvailable are the stable reasons for
// a platform that does not exist and for one that this process has no driver for.
const (
	ReasonUnknownPlatform      = "PLATFORM_UNKNOWN"
	ReasonPlatformNotAvailable = "PLATFORM_NOT_AVAILABLE"
)

// Known lists the names of all platforms of the suite in alphabetical order.
func Known() []string { return []string{"aws", "azure", "gcp", "local", "openwhisk"} }

// OpenFunc makes a driver for a scope.
type OpenFunc func(ctx context.Context, scope driver.Scope) (driver.Driver, error)

// Table maps a platform's name to what opens its driver. A process that should be
// small has only the drivers it needs.
type Table map[string]OpenFunc

// Check refuses a platform that does not exist and one that the table lacks.
func (t Table) Check(platform string) error {
	if !slices.Contains(Known(), platform) {
		return errs.InvalidArgument(ReasonUnknownPlatform,
			"platform %q is not known; the platforms are %s", platform, strings.Join(Known(), ", ")).
			With("platform", platform)
	}
	if t[platform] == nil {
		return errs.Unimplemented(ReasonPlatformNotAvailable,
			"platform %s is not available in this process; it has %s", platform, strings.Join(t.names(), ", ")).
			With("platform", platform)
	}
	return nil
}

func (t Table) names() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	slices.Sort(names)
	return names
}

// Open makes the platform with a driver of its own. The caller closes it.
func (t Table) Open(ctx context.Context, platform string, scope driver.Scope, options Options) (*Platform, error) {
	if err := t.Check(platform); err != nil {
		return nil, err
	}
	d, err := t[platform](ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("open platform %s: %w", platform, err)
	}
	return New(platform, d, options)
}
