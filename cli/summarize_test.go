package cli

import (
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ problems, want []string }{
		"nothing":              {nil, nil},
		"one":                  {[]string{"invocation 3 (abc): boom"}, []string{"invocation 3: boom"}},
		"not of an invocation": {[]string{"and 4 more problems"}, []string{"and 4 more problems"}},
		"the same in two": {
			[]string{"invocation 1 (a): boom", "invocation 2 (b): bang", "invocation 3: boom"},
			[]string{"invocations 1, 3: boom", "invocation 2: bang"},
		},
		"the same in many": {
			[]string{
				"invocation 0 (a): boom", "invocation 1 (a): boom", "invocation 2 (a): boom", "invocation 3 (a): boom",
				"invocation 4 (a): boom", "invocation 5 (a): boom", "invocation 6 (a): boom",
			},
			[]string{"invocations 0, 1, 2, 3, 4 and 2 more: boom"},
		},
	} {
		if got := summarize(c.problems); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
