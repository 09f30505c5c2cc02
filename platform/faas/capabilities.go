package faas

import (
	"context"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ReasonNotSupported is the stable reason for a thing that a platform cannot do.
const ReasonNotSupported = "NOT_SUPPORTED_BY_PLATFORM"

// Capabilities returns what the platform can do.
func (p *Platform) Capabilities(ctx context.Context) (driver.Capabilities, error) {
	caps, err := retry(ctx, p, "Capabilities", p.driver.Capabilities)
	if err != nil {
		return driver.Capabilities{}, p.wrap(err, "read capabilities")
	}
	return caps, nil
}

// Require refuses a thing that the platform cannot do, with the reason.
func (p *Platform) Require(what string, ability driver.Ability) error {
	if ability.Supported {
		return nil
	}
	reason := ability.Reason
	if reason == "" {
		reason = "the platform does not have it"
	}
	return errs.Unimplemented(ReasonNotSupported, "platform %s does not support %s: %s", p.name, what, reason).
		With("platform", p.name)
}

func (p *Platform) requireColdStart(ctx context.Context) error {
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return err
	}
	return p.Require("enforcing cold starts", caps.ColdStartControl)
}

// CheckConfig refuses a configuration that the platform cannot run, with all
// problems at once.
func (p *Platform) CheckConfig(ctx context.Context, config driver.Config) error {
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return err
	}
	var problems []error
	add := func(field, format string, args ...any) {
		problems = append(problems, errs.Field(field, format, args...))
	}
	if !hasRuntime(caps.Runtimes, config.Runtime) {
		add("config.runtime", "%s does not run on platform %s now; it runs %s: choose one of them with --language and --language-version",
			runtimeName(config.Runtime), p.name, runtimeNames(caps.Runtimes))
	}
	if len(caps.Architectures) > 0 && !slices.Contains(caps.Architectures, config.Architecture) {
		add("config.architecture", "%q does not run on platform %s; it runs %s: choose it with --architecture",
			config.Architecture, p.name, strings.Join(caps.Architectures, ", "))
	}
	switch {
	case config.MemoryMB <= 0:
		add("config.memory_mb", "must be above 0; set --memory")
	case caps.MinMemoryMB > 0 && config.MemoryMB < caps.MinMemoryMB:
		add("config.memory_mb", "must be at least %d on platform %s, is %d; set --memory", caps.MinMemoryMB, p.name, config.MemoryMB)
	case caps.MaxMemoryMB > 0 && config.MemoryMB > caps.MaxMemoryMB:
		add("config.memory_mb", "must be at most %d on platform %s, is %d; set --memory", caps.MaxMemoryMB, p.name, config.MemoryMB)
	}
	switch {
	case config.Timeout <= 0:
		add("config.timeout", "must be above 0; set --timeout")
	case caps.MaxTimeout > 0 && config.Timeout > caps.MaxTimeout:
		add("config.timeout", "must be at most %s on platform %s, is %s; set --timeout", caps.MaxTimeout, p.name, config.Timeout)
	}
	return errs.Fields(problems...)
}

func (p *Platform) checkCode(caps driver.Capabilities, code driver.Code) error {
	if code.ImageURI != "" {
		return p.Require("container images", caps.ContainerImages)
	}
	if caps.MaxCodeBytes > 0 && code.SizeBytes > caps.MaxCodeBytes {
		return errs.Fields(errs.Field("package",
			"has %d bytes, platform %s takes at most %d; leave out dependencies or deploy a container image",
			code.SizeBytes, p.name, caps.MaxCodeBytes))
	}
	return nil
}

func hasRuntime(runtimes []driver.Runtime, want driver.Runtime) bool {
	return len(runtimes) == 0 || slices.ContainsFunc(runtimes, func(r driver.Runtime) bool {
		return r.Language == want.Language && (r.Version == "" || r.Version == want.Version) &&
			variant(r.Variant) == variant(want.Variant)
	})
}

func variant(name string) string {
	if name == "" {
		return DefaultVariant
	}
	return name
}

func runtimeName(r driver.Runtime) string {
	name := r.Language + " " + r.Version
	if variant(r.Variant) != DefaultVariant {
		name += " (" + r.Variant + ")"
	}
	return name
}

func runtimeNames(runtimes []driver.Runtime) string {
	names := make([]string, len(runtimes))
	for i, r := range runtimes {
		names[i] = runtimeName(r)
	}
	return strings.Join(names, ", ")
}
