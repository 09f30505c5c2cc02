// Package runtimesdata knows which language runtimes each platform offers, and until when their makers mend them.
//
// The knowledge is the file runtimes.json beside this one: a new version is a line of data, not of code.
package runtimesdata

import (
	"bytes"
	_ "embed" // the data file
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/nearest"
)

//go:embed runtimes.json
var data []byte

// Reasons that stand in the errors of this package.
const (
	ReasonPlatformUnknown     = "PLATFORM_UNKNOWN"
	ReasonLanguageUnknown     = "LANGUAGE_UNKNOWN"
	ReasonVersionUnknown      = "LANGUAGE_VERSION_UNKNOWN"
	ReasonArchitectureUnknown = "ARCHITECTURE_UNKNOWN"
	ReasonNotSupported        = "NOT_SUPPORTED_BY_PLATFORM"
)

// Architectures are the names of processor architectures in SeBS files.
var Architectures = []string{"x64", "arm64"}

// Table is the content of the data file.
type Table struct {
	languages map[string]map[string]string
	platforms map[string]platform
}

type platform struct {
	SystemVariants []string            `json:"system_variants"`
	Languages      map[string]language `json:"languages"`
}

type language struct {
	Versions      []string `json:"versions"`
	Architectures []string `json:"architectures"`
	Variants      []string `json:"variants"`
}

// Runtime is one version of a language on a platform.
type Runtime struct {
	// Language and Version are as in SeBS files, such as python and 3.11.
	Language, Version string
	// Architectures are those that the platform runs the version on.
	Architectures []string
	// EndOfLife is the day after which the language's makers no longer mend the version, as YYYY-MM-DD; empty when
	// none is announced.
	EndOfLife string
}

// Load reads the data that is part of the program.
func Load() (*Table, error) { return parse(data) }

func parse(raw []byte) (*Table, error) {
	var file struct {
		Languages map[string]map[string]string `json:"languages"`
		Platforms map[string]platform          `json:"platforms"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("read runtimes.json: %w", err)
	}
	for name, versions := range file.Languages {
		for version, day := range versions {
			if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
				return nil, fmt.Errorf("read runtimes.json: end of life of %s %s: %w", name, version, err)
			}
		}
	}
	for name, p := range file.Platforms {
		for languageName, l := range p.Languages {
			for _, version := range l.Versions {
				if _, ok := file.Languages[languageName][version]; !ok {
					return nil, fmt.Errorf("read runtimes.json: platform %s names %s %s, which stands under no language", name, languageName, version)
				}
			}
		}
	}
	return &Table{languages: file.Languages, platforms: file.Platforms}, nil
}

// Choice is a runtime that somebody asks for. Empty fields other than Platform stand for a default.
type Choice struct {
	Platform, Language, Version, Variant, Architecture, SystemVariant string
}

// Resolve fills the empty fields of a choice (python; the newest version; variant default; hostArchitecture, if the
// platform has it, else its first; the platform's first system variant) and refuses what the platform does not offer,
// naming what was meant most likely.
func (t *Table) Resolve(c Choice, hostArchitecture string) (Choice, error) {
	p, ok := t.platforms[c.Platform]
	if !ok {
		return Choice{}, errs.InvalidArgument(ReasonPlatformUnknown, "platform %q does not exist; %s", c.Platform, nearest.Hint(c.Platform, keys(t.platforms))).With("platform", c.Platform)
	}
	if c.Language == "" {
		c.Language = "python"
	}
	l, ok := p.Languages[c.Language]
	if !ok {
		return Choice{}, t.unknownLanguage(c, p)
	}
	if c.Version == "" {
		c.Version = newest(l.Versions)
	}
	if !slices.Contains(l.Versions, c.Version) {
		return Choice{}, errs.InvalidArgument(ReasonVersionUnknown, "platform %s has no %s %s; the nearest is %s, known are %s",
			c.Platform, c.Language, c.Version, nearestVersion(c.Version, l.Versions), strings.Join(l.Versions, ", ")).
			With("platform", c.Platform).With("version", c.Version)
	}
	if err := c.resolveArchitecture(l, hostArchitecture); err != nil {
		return Choice{}, err
	}
	return c, c.resolveVariants(p, l)
}

func (t *Table) unknownLanguage(c Choice, p platform) error {
	if _, known := t.languages[c.Language]; known {
		return errs.Unimplemented(ReasonNotSupported, "platform %s does not run %s; it runs %s", c.Platform, c.Language, strings.Join(keys(p.Languages), ", ")).
			With("platform", c.Platform).With("language", c.Language)
	}
	return errs.InvalidArgument(ReasonLanguageUnknown, "language %q does not exist; %s", c.Language, nearest.Hint(c.Language, keys(t.languages))).
		With("language", c.Language)
}

func (c *Choice) resolveArchitecture(l language, host string) error {
	if c.Architecture == "" {
		c.Architecture = l.Architectures[0]
		if slices.Contains(l.Architectures, host) {
			c.Architecture = host
		}
	}
	switch {
	case slices.Contains(l.Architectures, c.Architecture):
		return nil
	case slices.Contains(Architectures, c.Architecture):
		return errs.Unimplemented(ReasonNotSupported, "platform %s does not run %s on %s; it runs it on %s", c.Platform, c.Language, c.Architecture, strings.Join(l.Architectures, ", ")).
			With("platform", c.Platform).With("architecture", c.Architecture)
	}
	return errs.InvalidArgument(ReasonArchitectureUnknown, "architecture %q does not exist; %s", c.Architecture, nearest.Hint(c.Architecture, Architectures)).
		With("architecture", c.Architecture)
}

func (c *Choice) resolveVariants(p platform, l language) error {
	if c.Variant == "" {
		c.Variant = "default"
	}
	if !slices.Contains(l.Variants, c.Variant) {
		return errs.Unimplemented(ReasonNotSupported, "platform %s has no runtime for variant %s of %s, so that functions of it could be built but never run; use --language-variant %s",
			c.Platform, c.Variant, c.Language, strings.Join(l.Variants, ", ")).With("platform", c.Platform).With("variant", c.Variant)
	}
	if c.SystemVariant == "" {
		c.SystemVariant = p.SystemVariants[0]
	}
	if !slices.Contains(p.SystemVariants, c.SystemVariant) {
		return errs.Unimplemented(ReasonNotSupported, "platform %s does not deploy functions as %s; use --system-variant %s",
			c.Platform, c.SystemVariant, strings.Join(p.SystemVariants, " or ")).With("platform", c.Platform).With("system_variant", c.SystemVariant)
	}
	return nil
}

// Runtimes lists what a platform runs: languages in alphabetical order, the newest version of each first.
func (t *Table) Runtimes(platformName string) ([]Runtime, error) {
	p, ok := t.platforms[platformName]
	if !ok {
		return nil, errs.NotFound(ReasonPlatformUnknown, "platform %q does not exist; %s", platformName, nearest.Hint(platformName, keys(t.platforms))).With("platform", platformName)
	}
	var runtimes []Runtime
	for _, name := range keys(p.Languages) {
		l := p.Languages[name]
		versions := slices.SortedFunc(slices.Values(l.Versions), func(a, b string) int { return -compareVersions(a, b) })
		for _, version := range versions {
			runtimes = append(runtimes, Runtime{Language: name, Version: version, Architectures: slices.Clone(l.Architectures), EndOfLife: t.languages[name][version]})
		}
	}
	return runtimes, nil
}

// Architectures lists those that a platform runs a language on.
func (t *Table) Architectures(platformName, languageName string) ([]string, error) {
	l, ok := t.platforms[platformName].Languages[languageName]
	if !ok {
		return nil, errs.Unimplemented(ReasonNotSupported, "platform %s does not run %s", platformName, languageName).With("platform", platformName).With("language", languageName)
	}
	return slices.Clone(l.Architectures), nil
}

// EndOfLife returns the last day on which a version is mended and whether that day lies before now.
func (t *Table) EndOfLife(languageName, version string, now time.Time) (day string, over bool) {
	day = t.languages[languageName][version]
	end, err := time.Parse(time.DateOnly, day)
	return day, err == nil && now.After(end.AddDate(0, 0, 1))
}

func keys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func newest(versions []string) string {
	return slices.MaxFunc(versions, compareVersions)
}

// compareVersions orders `3.9` before `3.10` and words before numbers.
func compareVersions(a, b string) int {
	return slices.Compare(parts(a), parts(b))
}

func parts(version string) []int {
	var numbers []int
	for part := range strings.SplitSeq(version, ".") {
		number, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		numbers = append(numbers, number)
	}
	return numbers
}

// nearestVersion returns the known version that differs least from the wanted one, the newer of two.
func nearestVersion(want string, known []string) string {
	wanted := parts(want)
	distance := func(version string) int {
		total, weight := 0, 1_000_000
		for i, number := range parts(version) {
			difference := number
			if i < len(wanted) {
				difference -= min(wanted[i], 1_000)
			}
			total += max(difference, -difference) * weight
			weight /= 1_000
		}
		return total
	}
	best := newest(known)
	for _, version := range known {
		if d, b := distance(version), distance(best); d < b || d == b && compareVersions(version, best) > 0 {
			best = version
		}
	}
	return best
}
