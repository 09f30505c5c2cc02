package runtimesdata

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
)

func load(t *testing.T) *Table {
	t.Helper()
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestResolveFillsDefaults(t *testing.T) {
	t.Parallel()
	got, err := load(t).Resolve(Choice{Platform: "local"}, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	want := Choice{"local", "python", "3.13", "default", "arm64", "package"}
	if got != want {
		t.Errorf("Resolve = %+v, want %+v", got, want)
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	table := load(t)
	tests := map[string]struct {
		choice Choice
		code   codes.Code
		reason string
		says   string
	}{
		"platform":       {Choice{Platform: "loacl"}, codes.InvalidArgument, ReasonPlatformUnknown, "did you mean local?"},
		"language":       {Choice{Platform: "local", Language: "pyton"}, codes.InvalidArgument, ReasonLanguageUnknown, "did you mean python?"},
		"no C++ there":   {Choice{Platform: "openwhisk", Language: "cpp"}, codes.Unimplemented, ReasonNotSupported, "platform openwhisk does not run cpp; it runs java, nodejs, python"},
		"version":        {Choice{Platform: "local", Language: "python", Version: "3.8"}, codes.InvalidArgument, ReasonVersionUnknown, "the nearest is 3.9"},
		"newer version":  {Choice{Platform: "local", Language: "python", Version: "3.20"}, codes.InvalidArgument, ReasonVersionUnknown, "the nearest is 3.13"},
		"odd version":    {Choice{Platform: "local", Language: "nodejs", Version: "21"}, codes.InvalidArgument, ReasonVersionUnknown, "the nearest is 22"},
		"architecture":   {Choice{Platform: "local", Architecture: "arm"}, codes.InvalidArgument, ReasonArchitectureUnknown, "did you mean arm64?"},
		"no arm there":   {Choice{Platform: "gcp", Architecture: "arm64"}, codes.Unimplemented, ReasonNotSupported, "platform gcp does not run python on arm64"},
		"variant":        {Choice{Platform: "local", Language: "nodejs", Variant: "bun"}, codes.Unimplemented, ReasonNotSupported, "no runtime for variant bun of nodejs"},
		"system variant": {Choice{Platform: "local", SystemVariant: "function-gen1"}, codes.Unimplemented, ReasonNotSupported, "does not deploy functions as function-gen1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := table.Resolve(test.choice, "x64")
			if errs.Code(err) != test.code || errs.Reason(err) != test.reason || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Resolve(%+v) = %v (%s, %s); want %s, %s, saying %q", test.choice, err, errs.Code(err), errs.Reason(err), test.code, test.reason, test.says)
			}
		})
	}
}

func TestRuntimes(t *testing.T) {
	t.Parallel()
	runtimes, err := load(t).Runtimes("local")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range runtimes {
		names = append(names, r.Language+r.Version)
	}
	if got, want := strings.Join(names, " "), "cppall java21 java17 java11 nodejs24 nodejs22 nodejs20 nodejs18 python3.13 python3.12 python3.11 python3.10 python3.9"; got != want {
		t.Errorf("Runtimes = %s, want %s", got, want)
	}
}

func TestEndOfLife(t *testing.T) {
	t.Parallel()
	table := load(t)
	last := time.Date(2027, 10, 31, 23, 0, 0, 0, time.UTC)
	if day, over := table.EndOfLife("python", "3.11", last); day != "2027-10-31" || over {
		t.Errorf("EndOfLife on the last day = %s, %t; want 2027-10-31, false", day, over)
	}
	if _, over := table.EndOfLife("python", "3.11", last.Add(2*time.Hour)); !over {
		t.Error("EndOfLife after the last day = false, want true")
	}
}

func TestDataIsChecked(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"a date":         `{"languages": {"python": {"3.9": "October"}}, "platforms": {}}`,
		"a version":      `{"languages": {"python": {}}, "platforms": {"local": {"languages": {"python": {"versions": ["3.9"]}}}}}`,
		"an unknown key": `{"language": {}}`,
	} {
		if _, err := parse([]byte(raw)); err == nil {
			t.Errorf("parse accepts a fault in %s", name)
		}
	}
}
