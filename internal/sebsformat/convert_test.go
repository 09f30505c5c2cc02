package sebsformat

import (
	"bytes"
	"testing"
	"time"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func TestInvocationsSurviveTheMessages(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"experiments-503-local.json", "perf-cost-warm_results.json"} {
		e, err := Read(bytes.NewReader(sample(t, file)), ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, entries := range e.Invocations {
			for key, inv := range entries {
				var before, after bytes.Buffer
				if err := MarshalInvocation(&before, inv); err != nil {
					t.Fatal(err)
				}
				if err := MarshalInvocation(&after, FromResult(ToResult(inv), nil)); err != nil {
					t.Fatal(err)
				}
				if before.String() != after.String() {
					t.Errorf("%s changes:\n%s\n%s", key, before.String(), after.String())
				}
			}
		}
	}
}

func TestFromResultOfAFailure(t *testing.T) {
	t.Parallel()
	inv := FromResult(&typev1.ExecutionResult{RequestId: "failed-3", Stats: &typev1.ExecutionStats{Failure: true}}, time.UTC)
	if inv.RequestID != "" || !inv.Stats.Failure || inv.Output != nil || inv.Billing.GBSeconds != nil || inv.Times.HTTPStartupSeconds != nil {
		t.Errorf("invocation = %+v", inv)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"python", "nodejs", "java", "cpp"} {
		if l, ok := ParseLanguage(word); !ok || LanguageName(l) != word {
			t.Errorf("language %s = %v, %v", word, l, ok)
		}
	}
	for _, word := range []string{"x64", "arm64"} {
		if a, ok := ParseArchitecture(word); !ok || ArchitectureName(a) != word {
			t.Errorf("architecture %s = %v, %v", word, a, ok)
		}
	}
	for _, word := range []string{"package", "container", "function-gen1", "function-gen2"} {
		if v, ok := ParseSystemVariant(word); !ok || SystemVariantName(v) != word {
			t.Errorf("system variant %s = %v, %v", word, v, ok)
		}
	}
	if _, ok := ParseLanguage("cobol"); ok {
		t.Error("cobol is known")
	}
}
