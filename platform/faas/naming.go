package faas

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Flavors of deployment that a function's name carries on Google Cloud.
const (
	FlavorGen1      = "gen1"
	FlavorGen2      = "gen2"
	FlavorContainer = "container"
)

// NameInput is what a function's default name is made of.
type NameInput struct {
	// Deployment is the resource id.
	Deployment string
	// Benchmark is the benchmark's full name, such as "110.dynamic-html".
	Benchmark string
	// Runtime is the function's language.
	Runtime driver.Runtime
	// Architecture is "x64" or "arm64".
	Architecture string
	// Container tells that the function is deployed as an image.
	Container bool
	// Flavor is the kind of function where a platform has several: on Google
	// Cloud gen1, gen2 or container. Empty is gen1 there, nothing elsewhere.
	Flavor string
}

// number is the part of the benchmark's name before the first dot.
func (in NameInput) number() string {
	number, _, _ := strings.Cut(in.Benchmark, ".")
	return number
}

// variantSuffix is empty for the default variant, so that such a function keeps
// the name that SeBS gave it.
func (in NameInput) variantSuffix() string {
	if in.Runtime.Variant == "" || in.Runtime.Variant == DefaultVariant {
		return ""
	}
	return "-" + in.Runtime.Variant
}

// DefaultVariant is the language variant that names leave out.
const DefaultVariant = "default"

// NamingRule is how a platform names functions.
type NamingRule struct {
	// MaxLength is the platform's limit in characters.
	MaxLength int
	// allowed is what a name may look like after Format.
	allowed *regexp.Regexp
	// shape describes allowed to a person.
	shape string
	// format replaces characters that the platform refuses.
	format func(string) string
	// build makes the raw default name.
	build func(NameInput) string
	// legacy makes the names that SeBS gave the same function.
	legacy func(NameInput) []string
}

// namingRules returns the rule of a platform.
func namingRules(platform string) (NamingRule, bool) {
	switch platform {
	case "aws":
		return awsNaming(), true
	case "azure":
		return azureNaming(), true
	case "gcp":
		return gcpNaming(), true
	case "openwhisk":
		return plainNaming(256, longName, openWhiskLegacy), true
	case "local":
		return plainNaming(128, longName, localLegacy), true
	}
	return NamingRule{}, false
}

func awsNaming() NamingRule {
	build := func(in NameInput) string {
		name := fmt.Sprintf("sebs-%s-%s-%s-%s-%s", in.Deployment, in.number(), in.Runtime.Language, in.Runtime.Version, in.Architecture)
		if in.Container {
			name += "-docker"
		}
		return name
	}
	return NamingRule{
		MaxLength: 64,
		allowed:   regexp.MustCompile(`^[A-Za-z0-9_]+$`),
		shape:     "letters, digits and underscores",
		format:    strings.NewReplacer("-", "_", ".", "_").Replace,
		build:     func(in NameInput) string { return build(in) + in.variantSuffix() },
		legacy:    func(in NameInput) []string { return []string{build(in)} },
	}
}

func azureNaming() NamingRule {
	return NamingRule{
		MaxLength: 60,
		allowed:   regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])$`),
		shape:     "two or more letters, digits and hyphens, with neither end a hyphen",
		format:    strings.NewReplacer(".", "-", "_", "-").Replace,
		build:     longName,
		legacy:    openWhiskLegacy,
	}
}

func gcpNaming() NamingRule {
	build := func(in NameInput) string {
		flavor := in.Flavor
		switch {
		case in.Container || flavor == FlavorContainer:
			flavor = "docker"
		case flavor == "":
			flavor = FlavorGen1
		}
		return fmt.Sprintf("sebs-%s-%s-%s-%s-%s-%s", in.Deployment, in.number(), in.Runtime.Language, in.Runtime.Version, in.Architecture, flavor)
	}
	return NamingRule{
		MaxLength: 63,
		allowed:   regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?$`),
		shape:     "a letter followed by letters, digits, hyphens and underscores, with a letter or digit at the end",
		format: func(name string) string {
			// A Cloud Run service takes hyphens only, a Cloud Function both.
			if strings.HasSuffix(name, "-docker") {
				return strings.ReplaceAll(name, ".", "-")
			}
			return strings.NewReplacer("-", "_", ".", "_").Replace(name)
		},
		// The flavor stays at the end, where Format and a reader look for it.
		build: func(in NameInput) string {
			name, suffix := build(in), in.variantSuffix()
			if suffix == "" {
				return name
			}
			cut := strings.LastIndexByte(name, '-')
			return name[:cut] + suffix + name[cut:]
		},
		legacy: func(in NameInput) []string { return []string{build(in)} },
	}
}

func plainNaming(limit int, build func(NameInput) string, legacy func(NameInput) []string) NamingRule {
	return NamingRule{
		MaxLength: limit,
		allowed:   regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`),
		shape:     "letters, digits, dots, hyphens and underscores, with a letter or digit at both ends",
		format:    func(name string) string { return name },
		build:     build,
		legacy:    legacy,
	}
}

// longName is SeBS's name with the full benchmark, plus architecture and variant,
// which SeBS left out so that variants replaced each other.
func longName(in NameInput) string {
	return fmt.Sprintf("sebs-%s-%s-%s-%s-%s", in.Deployment, in.Benchmark, in.Runtime.Language, in.Runtime.Version, in.Architecture) + in.variantSuffix()
}

func openWhiskLegacy(in NameInput) []string {
	return []string{fmt.Sprintf("sebs-%s-%s-%s-%s", in.Deployment, in.Benchmark, in.Runtime.Language, in.Runtime.Version)}
}

func localLegacy(in NameInput) []string {
	return append(openWhiskLegacy(in), fmt.Sprintf("sebd-%s-%s-%s", in.Benchmark, in.Runtime.Language, in.Runtime.Version))
}

// Format replaces the characters that the platform refuses in a name.
func (r NamingRule) Format(name string) string { return r.format(name) }

// Check refuses a formatted name that the platform would not take.
func (r NamingRule) Check(name string) error {
	switch {
	case name == "":
		return errs.Fields(errs.Field("function", "must not be empty"))
	case len(name) > r.MaxLength:
		return errs.Fields(errs.Field("function",
			"name %q has %d characters, the platform allows %d; set a shorter one with --function-name", name, len(name), r.MaxLength))
	case !r.allowed.MatchString(name):
		return errs.Fields(errs.Field("function",
			"name %q must consist of %s; set another one with --function-name", name, r.shape))
	}
	return nil
}

// Default returns the function's default name, formatted and checked.
func (r NamingRule) Default(in NameInput) (string, error) {
	name := r.format(r.build(in))
	if err := r.Check(name); err != nil {
		return "", err
	}
	return name, nil
}

// Legacy returns the names that SeBS gives the same function and that differ from
// the default name. A function found under one of them is adopted.
func (r NamingRule) Legacy(in NameInput) []string {
	own := r.format(r.build(in))
	var names []string
	for _, name := range r.legacy(in) {
		if name = r.format(name); name != own && r.Check(name) == nil {
			names = append(names, name)
		}
	}
	return names
}
