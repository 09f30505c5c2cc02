package pagetoken_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/pagetoken"
)

func TestTokensOfTheSameRequestOnly(t *testing.T) {
	t.Parallel()
	c := pagetoken.New([]byte("0123456789abcdef0123456789abcdef"))
	filter := []string{"platform=local", "x"}
	token := c.Encode("functions", filter, "a/b\x00c")
	if got, err := c.Decode("functions", filter, token); err != nil || got != "a/b\x00c" {
		t.Fatalf("decoded %q, %v", got, err)
	}
	if got, err := c.Decode("functions", filter, ""); err != nil || got != "" {
		t.Errorf("the first page: %q, %v", got, err)
	}
	other := pagetoken.New([]byte("another key"))
	for name, decode := range map[string]func() (string, error){
		"other filter": func() (string, error) { return c.Decode("functions", []string{"platform=localx", ""}, token) },
		"other split":  func() (string, error) { return c.Decode("functions", []string{"platform=local" + "x"}, token) },
		"other list":   func() (string, error) { return c.Decode("packages", filter, token) },
		"other key":    func() (string, error) { return other.Decode("functions", filter, token) },
		"cut":          func() (string, error) { return c.Decode("functions", filter, token[:len(token)-1]) },
		"by hand":      func() (string, error) { return c.Decode("functions", filter, "YWJj") },
	} {
		if _, err := decode(); !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		asked int32
		want  int
		ok    bool
	}{{0, 100, true}, {5, 5, true}, {5000, 1000, true}, {-1, 0, false}} {
		got, err := pagetoken.Size(c.asked, 100, 1000)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("Size(%d) = %d, %v", c.asked, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := pagetoken.New([]byte("key"))
	f.Add(c.Encode("list", nil, "position"))
	f.Add("")
	f.Add("****")
	f.Fuzz(func(t *testing.T, token string) {
		position, err := c.Decode("list", nil, token)
		if err == nil && token != "" && c.Encode("list", nil, position) != token {
			t.Errorf("token %q was accepted for position %q", token, position)
		}
	})
}
