package invoker

import (
	"strings"
	"testing"
)

func FuzzParseTrigger(f *testing.F) {
	f.Add("platforms/local/deployments/d/functions/f/triggers/http")
	f.Add("platforms//deployments/../functions/f/triggers/http")
	f.Add("platforms/local/deployments/d/functions/f\n/triggers/http")
	f.Fuzz(func(t *testing.T, name string) {
		parsed, err := parseTrigger(name)
		if err != nil {
			return
		}
		if parsed.String() != name {
			t.Errorf("%q was read as %v", name, parsed)
		}
		key := functionKey(parsed)
		if strings.Count(key, "/") != 3 || strings.Contains(key, "/../") || strings.HasSuffix(key, "/..") || strings.ContainsAny(key, "\x00\n") {
			t.Errorf("%q leads to the key %q", name, key)
		}
	})
}

func FuzzNamesInSubjects(f *testing.F) {
	for _, seed := range []string{"runs/a", "runs/", "runs/*", "runs/a.b", "invocations/0a-b", "invocations/>", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkRun(name) == nil && strings.ContainsAny(name, ".*> \t\r\n") {
			t.Errorf("%q is accepted as a run", name)
		}
		if id, err := parseInvocation(name); err == nil && (id == "" || strings.ContainsAny(id, ".*>/ \t\r\n")) {
			t.Errorf("%q is accepted as an invocation", name)
		}
	})
}
