package deployer

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	name, err := parseFunction("name", "platforms/local/deployments/local-1/functions/f.1-x_y")
	if err != nil || name.key() != "functions/local/local-1/f.1-x_y" || name.String() != "platforms/local/deployments/local-1/functions/f.1-x_y" {
		t.Errorf("%v (%v)", name, err)
	}
	fn, kind, err := parseTrigger("name", name.String()+"/triggers/HTTP")
	if err != nil || fn != name || kind != "http" {
		t.Errorf("%v %v (%v)", fn, kind, err)
	}
	for _, bad := range []string{
		"", "platforms/local", "platforms/local/deployments/", "platforms/local/deployments/..", "platforms/local/deployments/-",
		"platforms/local/deployments/a/b", "platforms/lo cal/deployments/a", "/platforms/local/deployments/a", "platforms/local/deployments/a.",
	} {
		if got, err := parseDeployment("name", bad, false); err == nil {
			t.Errorf("%q is taken as %v", bad, got)
		}
	}
	if _, err := parseDeployment("name", "platforms/-/deployments/-", true); err != nil {
		t.Error(err)
	}
}

func FuzzParseFunction(f *testing.F) {
	f.Add("platforms/local/deployments/local-1/functions/f")
	f.Add("platforms/local/deployments/../functions/..")
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseFunction("name", text)
		if err != nil {
			return
		}
		if name.String() != text {
			t.Errorf("%q is read as %q", text, name)
		}
		if key := name.key(); strings.Contains(key, "..") && strings.Contains(key, "/../") || strings.Count(key, "/") != 3 {
			t.Errorf("%q has the key %q", text, key)
		}
	})
}

func FuzzPaginate(f *testing.F) {
	f.Add(int32(2), "")
	f.Add(int32(0), "bm90IGEgdG9rZW4")
	f.Fuzz(func(t *testing.T, size int32, token string) {
		items := make([]string, 25)
		for i := range items {
			items[i] = fmt.Sprintf("item-%02d", i)
		}
		name := func(s string) string { return s }
		// A token from outside never makes it fail, and its own ones lead to the end.
		if page, _, err := paginate(items, name, "filter", size, token); err == nil && len(page) > len(items) {
			t.Errorf("a page of %d", len(page))
		}
		var got []string
		for token = ""; ; {
			page, next, err := paginate(items, name, "filter", size, token)
			if err != nil {
				if size >= 0 {
					t.Error(err)
				}
				return
			}
			got = append(got, page...)
			if token = next; token == "" {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(items, " ") {
			t.Errorf("pages of %d give %v", size, got)
		}
	})
}
