package images

import (
	"regexp"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
)

// ReasonName stands in the errors of names that registries do not take.
const ReasonName = "IMAGE_NAME_INVALID"

// Limits of the OCI distribution specification, and of registries in practice for repositories.
const (
	maxTag        = 128
	maxRepository = 255
)

var (
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	registryPattern   = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?$`)
	notInTag          = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// Name is an image's name in its parts.
type Name struct {
	// Registry is the host with its port; empty for images that the Docker Engine keeps.
	Registry string
	// Repository is the path in the registry.
	Repository string
	Tag        string
}

// Place is the repository with its registry.
func (n Name) Place() string {
	if n.Registry == "" {
		return n.Repository
	}
	return n.Registry + "/" + n.Repository
}

// URI is the whole name with the tag.
func (n Name) URI() string { return n.Place() + ":" + n.Tag }

// Check reports every part that a registry would refuse.
func (n Name) Check() error {
	var problems []error
	if n.Registry != "" && !registryPattern.MatchString(n.Registry) {
		problems = append(problems, errs.Field("registry", "%q is no host with an optional port, such as registry.example.org:5000; leave out the scheme and the path", n.Registry))
	}
	if len(n.Repository) > maxRepository || !repositoryPattern.MatchString(n.Repository) {
		problems = append(problems, errs.Field("repository", "%q is no repository; use lower-case letters and digits, in parts joined by `.`, `_`, `-` or `/`, at most %d characters", n.Repository, maxRepository))
	}
	if err := CheckTag("tag", n.Tag); err != nil {
		problems = append(problems, err)
	}
	return errs.Fields(problems...)
}

// CheckTag refuses what is no tag. It returns a violation of the field.
func CheckTag(field, tag string) error {
	if len(tag) > maxTag {
		return errs.Field(field, "%q has %d characters, a tag has at most %d; shorten the prefix (--image-tag-prefix)", tag, len(tag), maxTag)
	}
	if !tagPattern.MatchString(tag) {
		return errs.Field(field, "%q is no tag; use letters, digits, `_`, `.` and `-`, and do not begin with `.` or `-`", tag)
	}
	return nil
}

// Labels are what a tag is made of.
type Labels struct {
	Platform, Benchmark, Language, Version string
	// Variant is the language variant; empty and `default` leave no trace.
	Variant string
	// Architecture is x64, arm64, or empty for an index of several.
	Architecture string
	// Prefix is the user's; empty leaves no trace.
	Prefix string
	// Suite is the version of the suite.
	Suite string
}

// FunctionTag is SeBS's tag of a function's image, `function.<platform>.<benchmark>.<language>-<version>-<architecture>`
// with the prefix and the suite's version behind it. A variant, which SeBS forgets, stands behind the version.
func FunctionTag(l Labels) string {
	parts := []string{"function." + l.Platform + "." + l.Benchmark + "." + l.Language, l.Version}
	if l.Variant != "" && l.Variant != "default" {
		parts = append(parts, l.Variant)
	}
	if l.Architecture == "" {
		l.Architecture = "multi"
	}
	parts = append(parts, l.Architecture)
	if l.Prefix != "" {
		parts = append(parts, l.Prefix)
	}
	return strings.Join(append(parts, TagVersion(l.Suite)), "-")
}

// BaseTags are SeBS's tags of the image that functions of a runtime are built on, best first: of the suite's version, of
// the previous version when one is given, and without one.
func BaseTags(l Labels, previous string) []string {
	unsuffixed := "build." + l.Platform + "." + l.Language + "." + l.Version
	tags := []string{unsuffixed + "-" + TagVersion(l.Suite)}
	if previous != "" {
		tags = append(tags, unsuffixed+"-"+TagVersion(previous))
	}
	return append(tags, unsuffixed)
}

// TagVersion is a version in a form that tags take: without the leading v, and without what builds add behind a plus.
func TagVersion(version string) string {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "+")
	return strings.Trim(notInTag.ReplaceAllString(version, "-"), "-.")
}
