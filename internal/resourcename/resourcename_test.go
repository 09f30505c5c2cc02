package resourcename_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/resourcename"
)

func TestParseAndFormat(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]resourcename.Name{
		"platforms/local":                                     {Platform: "local"},
		"platforms/local/deployments/ab12":                    {Platform: "local", Deployment: "ab12"},
		"platforms/aws/deployments/x/functions/f-1":           {Platform: "aws", Deployment: "x", Function: "f-1"},
		"platforms/a/deployments/b/functions/c/triggers/http": {Platform: "a", Deployment: "b", Function: "c", Trigger: "http"},
	} {
		got, err := resourcename.Parse("name", text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("Parse(%q) = %+v (%s), %v", text, got, got, err)
		}
		if parent := got.Parent(); parent.String() != "" && !strings.HasPrefix(text, parent.String()+"/") {
			t.Errorf("the parent of %q is %q", text, parent)
		}
	}
}

func TestMalformedNames(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "platforms", "platforms/", "platform/x", "platforms/a/functions/b", "platforms/../deployments/x", "platforms/a b",
		"platforms/a/deployments/b/functions/c/triggers/d/more/e", "/platforms/a", "platforms/a/", "platforms/" + strings.Repeat("x", 256),
	} {
		_, err := resourcename.Parse("name", text)
		if !errs.Is(err, codes.InvalidArgument) || len(errs.Violations(err)) != 1 || errs.Violations(err)[0].Field != "name" {
			t.Errorf("Parse(%q): %v", text, err)
		}
	}
	if _, err := resourcename.ParseFunction("function", "platforms/a/deployments/b"); err == nil ||
		!strings.Contains(err.Error(), "functions/{function}") {
		t.Errorf("a deployment for a function: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("platforms/a/deployments/b/functions/c/triggers/d")
	f.Add("platforms//")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := resourcename.Parse("name", text)
		if err == nil && n.String() != text {
			t.Errorf("%q was read as %q", text, n)
		}
	})
}
