package runtimes

import "slices"

// versions are the versions of each language that its bootstrap is written for and tested on.
var versions = map[string][]string{
	"python": {"3.9", "3.10", "3.11", "3.12", "3.13"},
	"nodejs": {"18", "20", "22", "24"},
	"java":   {"11", "17", "21"},
}

// Versions lists the versions of a language that its bootstrap runs on, oldest first; nil for a language that brings a
// bootstrap of its own in the package.
func Versions(language string) []string { return slices.Clone(versions[language]) }

// Runs tells whether the bootstrap of a language runs on a version of it. A language without a bootstrap here sets no
// condition.
func Runs(language, version string) bool {
	known, ok := versions[language]
	return !ok || slices.Contains(known, version)
}
