package nearest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	t.Parallel()
	catalogue := []string{"010.sleep", "110.dynamic-html", "120.uploader", "210.thumbnailer", "311.compression", "501.graph-pagerank", "503.graph-bfs"}
	tests := map[string]struct {
		want string
		give []string
	}{
		"a typing mistake":      {"110.dynamic-htlm", []string{"110.dynamic-html"}},
		"the name alone":        {"thumbnailer", []string{"210.thumbnailer"}},
		"the number alone":      {"311", []string{"311.compression"}},
		"another case":          {"010.SLEEP", []string{"010.sleep"}},
		"a word of several":     {"graph", []string{"501.graph-pagerank", "503.graph-bfs"}},
		"nothing that is alike": {"kubernetes", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.give, Names(test.want, catalogue, 3)); diff != "" {
				t.Errorf("Names(%q) (-want +got):\n%s", test.want, diff)
			}
		})
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	versions := []string{"3.9", "3.11", "3.10"}
	for want, hint := range map[string]string{
		"3.12":  "did you mean 3.10, 3.11 or 3.9?",
		"jdk17": "known are 3.10, 3.11 and 3.9",
	} {
		if got := Hint(want, versions); got != hint {
			t.Errorf("Hint(%q) = %q, want %q", want, got, hint)
		}
	}
	if got := Hint("x", nil); got != "" {
		t.Errorf("Hint without known names = %q, want none", got)
	}
}
