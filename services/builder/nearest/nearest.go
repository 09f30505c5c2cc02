// Package nearest finds the names that a person most likely meant when the one that was typed does not exist.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// Names returns at most limit entries of known that resemble want, best first. An entry resembles want when one
// contains the other (letter case aside) or when at most a third of the longer name, and at least two characters,
// would have to be edited. Ties are in alphabetical order; duplicates of known appear once.
func Names(want string, known []string, limit int) []string {
	type candidate struct {
		name     string
		distance int
	}
	folded := strings.ToLower(want)
	var candidates []candidate
	for _, name := range slices.Compact(slices.Sorted(slices.Values(known))) {
		other := strings.ToLower(name)
		distance := editDistance(folded, other)
		contained := folded != "" && (strings.Contains(other, folded) || strings.Contains(folded, other))
		if !contained && distance > max(2, max(len(folded), len(other))/3) {
			continue
		}
		if contained {
			distance = 0
		}
		candidates = append(candidates, candidate{name, distance})
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, c := range candidates[:min(limit, len(candidates))] {
		names = append(names, c.name)
	}
	return names
}

// Hint phrases the result of Names for the end of an error message: `did you mean A or B?`, or, when nothing
// resembles want, `known are A, B and C` with everything there is. An empty list of known names gives an empty hint.
func Hint(want string, known []string) string {
	if names := Names(want, known, 3); len(names) > 0 {
		return "did you mean " + join(names, "or") + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return "known are " + join(slices.Compact(slices.Sorted(slices.Values(known))), "and")
}

// join lists names in words: `a`, `a or b`, `a, b or c`.
func join(names []string, conjunction string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + conjunction + " " + names[last]
}

// editDistance counts the insertions, deletions and replacements of bytes that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
