package faas_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
)

func open(t *testing.T, name string) *faas.Platform {
	t.Helper()
	p, err := faas.New(name, faastest.NewMemory(), faas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestDefaultNames(t *testing.T) {
	t.Parallel()
	in := faas.NameInput{
		Deployment: "ab12cd34", Benchmark: "110.dynamic-html",
		Runtime: driver.Runtime{Language: "python", Version: "3.11"}, Architecture: "x64",
	}
	with := func(change func(*faas.NameInput)) faas.NameInput {
		out := in
		change(&out)
		return out
	}
	container := with(func(n *faas.NameInput) { n.Container = true })
	variant := with(func(n *faas.NameInput) { n.Runtime.Variant = "pypy" })
	spelled := with(func(n *faas.NameInput) { n.Runtime.Variant = "default" })
	gen2 := with(func(n *faas.NameInput) { n.Flavor = faas.FlavorGen2; n.Runtime.Variant = "pypy" })
	for _, c := range []struct {
		name, platform string
		in             faas.NameInput
		want           string
		legacy         []string
	}{
		{"aws", "aws", in, "sebs_ab12cd34_110_python_3_11_x64", nil},
		{"aws container", "aws", container, "sebs_ab12cd34_110_python_3_11_x64_docker", nil},
		{"aws variant", "aws", variant, "sebs_ab12cd34_110_python_3_11_x64_pypy", []string{"sebs_ab12cd34_110_python_3_11_x64"}},
		{"aws default spelled out", "aws", spelled, "sebs_ab12cd34_110_python_3_11_x64", nil},
		{"azure", "azure", in, "sebs-ab12cd34-110-dynamic-html-python-3-11-x64", []string{"sebs-ab12cd34-110-dynamic-html-python-3-11"}},
		{"gcp", "gcp", in, "sebs_ab12cd34_110_python_3_11_x64_gen1", nil},
		{"gcp gen2 variant", "gcp", gen2, "sebs_ab12cd34_110_python_3_11_x64_pypy_gen2", []string{"sebs_ab12cd34_110_python_3_11_x64_gen2"}},
		{"gcp container", "gcp", container, "sebs-ab12cd34-110-python-3-11-x64-docker", nil},
		{"openwhisk", "openwhisk", in, "sebs-ab12cd34-110.dynamic-html-python-3.11-x64", []string{"sebs-ab12cd34-110.dynamic-html-python-3.11"}},
		{"local", "local", variant, "sebs-ab12cd34-110.dynamic-html-python-3.11-x64-pypy",
			[]string{"sebs-ab12cd34-110.dynamic-html-python-3.11", "sebd-110.dynamic-html-python-3.11"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := open(t, c.platform)
			got, err := p.FunctionName("", c.in)
			if err != nil || got != c.want {
				t.Errorf("name %q (%v), want %q", got, err, c.want)
			}
			if legacy := p.Naming().Legacy(c.in); !slices.Equal(legacy, c.legacy) {
				t.Errorf("legacy %q, want %q", legacy, c.legacy)
			}
		})
	}
}

func TestRequestedNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		platform, requested, want, problem string
	}{
		{"aws", "my-fn.v1", "my_fn_v1", ""},
		{"azure", "my_fn.v1", "my-fn-v1", ""},
		{"local", "my_fn.v1", "my_fn.v1", ""},
		{"aws", strings.Repeat("a", 64), strings.Repeat("a", 64), ""},
		{"aws", strings.Repeat("a", 65), "", "has 65 characters, the platform allows 64"},
		{"azure", strings.Repeat("a", 61), "", "allows 60"},
		{"gcp", strings.Repeat("a", 64), "", "allows 63"},
		{"gcp", "1fn", "", "must consist of a letter"},
		{"azure", "fn-", "", "must consist of"},
		{"local", "../etc", "", "must consist of"},
		{"local", "a b", "", "must consist of"},
		{"aws", "fn$", "", "must consist of letters, digits and underscores"},
	} {
		got, err := open(t, c.platform).FunctionName(c.requested, faas.NameInput{})
		if c.problem == "" {
			if err != nil || got != c.want {
				t.Errorf("%s: %q became %q (%v), want %q", c.platform, c.requested, got, err, c.want)
			}
			continue
		}
		if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %q: error %v, want one with %q", c.platform, c.requested, err, c.problem)
		}
	}
}

func FuzzFunctionName(f *testing.F) {
	f.Add("my-function", "110.dynamic-html", "pypy")
	f.Add("../x", "", "")
	f.Add("", "504.dna-visualisation", "")
	f.Fuzz(func(t *testing.T, requested, benchmark, variant string) {
		for _, name := range faas.Known() {
			p, err := faas.New(name, faastest.NewMemory(), faas.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.FunctionName(requested, faas.NameInput{
				Deployment: "local-0a1b2c3d", Benchmark: benchmark, Architecture: "x64",
				Runtime: driver.Runtime{Language: "python", Version: "3.12", Variant: variant},
			})
			if err != nil {
				continue
			}
			if len(got) > p.Naming().MaxLength || strings.ContainsAny(got, "/\\ \n\x00") {
				t.Errorf("%s accepts %q", name, got)
			}
			if again := p.Naming().Format(got); again != got && name != "gcp" {
				t.Errorf("%s: formatting %q again gives %q", name, got, again)
			}
		}
	})
}
