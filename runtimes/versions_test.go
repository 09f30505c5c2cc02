package runtimes_test

import (
	"testing"

	"github.com/sebs-suite/sebs/runtimes"
)

func TestVersionsOfBootstraps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		language, version string
		want              bool
	}{
		"an old python":      {"python", "3.8", false},
		"the oldest python":  {"python", "3.9", true},
		"the newest python":  {"python", "3.13", true},
		"a python to come":   {"python", "3.14", false},
		"the oldest node":    {"nodejs", "18", true},
		"an odd node":        {"nodejs", "21", false},
		"its own bootstrap":  {"cpp", "all", true},
		"no such version":    {"python", "", false},
		"a longer python":    {"python", "3.1", false},
		"a python two":       {"python", "2.7", false},
		"the newest node":    {"nodejs", "24", true},
		"a node of the past": {"nodejs", "16", false},
	} {
		if got := runtimes.Runs(c.language, c.version); got != c.want {
			t.Errorf("%s: Runs(%q, %q) = %v", name, c.language, c.version, got)
		}
	}
	list := runtimes.Versions("python")
	list[0] = "changed"
	if runtimes.Versions("python")[0] != "3.9" {
		t.Error("callers can change the list")
	}
	if runtimes.Versions("cpp") != nil {
		t.Error("cpp has versions though its bootstrap is in the package")
	}
}
