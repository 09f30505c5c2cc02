package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/jdk"
	"github.com/sebs-suite/sebs/runtimes"
)

func TestTags(t *testing.T) {
	t.Parallel()
	full := Labels{Platform: "aws", Benchmark: "110.dynamic-html", Language: "python", Version: "3.11", Variant: "default", Architecture: "x64", Suite: "v1.2.1"}
	with := func(change func(*Labels)) Labels {
		l := full
		change(&l)
		return l
	}
	for want, labels := range map[string]Labels{
		"function.aws.110.dynamic-html.python-3.11-x64-1.2.1":      full,
		"function.aws.110.dynamic-html.python-3.11-x64-mine-1.2.1": with(func(l *Labels) { l.Prefix = "mine" }),
		"function.aws.110.dynamic-html.python-3.11-pypy-x64-1.2.1": with(func(l *Labels) { l.Variant = "pypy" }),
		"function.aws.110.dynamic-html.python-3.11-multi-1.2.1":    with(func(l *Labels) { l.Architecture = "" }),
		"function.aws.110.dynamic-html.python-3.11-x64-devel":      with(func(l *Labels) { l.Suite = "devel" }),
	} {
		if got := FunctionTag(labels); got != want {
			t.Errorf("FunctionTag = %s, want %s", got, want)
		}
	}
	if got, want := strings.Join(BaseTags(full, "v1.1.0"), " "), "build.aws.python.3.11-1.2.1 build.aws.python.3.11-1.1.0 build.aws.python.3.11"; got != want {
		t.Errorf("BaseTags = %s, want %s", got, want)
	}
	for version, want := range map[string]string{"v0.0.0-20261125-abc+dirty": "0.0.0-20261125-abc", "devel": "devel", "v1": "1", "a/b c": "a-b-c"} {
		if got := TagVersion(version); got != want {
			t.Errorf("TagVersion(%s) = %s, want %s", version, got, want)
		}
	}
}

func TestNameCheck(t *testing.T) {
	t.Parallel()
	good := []Name{
		{"127.0.0.1:5000", "sebs/benchmarks", "latest"}, {"registry.example.org", "a", "_x"}, {"", "sebs/functions", "a.b-c"},
		{"[::1]:5000", "a__b/c-d", "1"}, {"123456789012.dkr.ecr.us-east-1.amazonaws.com", "sebs-benchmarks-abcd1234", "t"},
	}
	for _, name := range good {
		if err := name.Check(); err != nil {
			t.Errorf("%s is refused: %v", name.URI(), err)
		}
	}
	bad := map[string]Name{
		"registry: https://":   {"https://r.example.org", "a", "t"},
		"registry: host/path":  {"r.example.org/x", "a", "t"},
		"repository: Upper":    {"r.example.org", "Upper", "t"},
		"repository: empty":    {"r.example.org", "", "t"},
		"repository: slash":    {"r.example.org", "a/", "t"},
		"tag: leading dash":    {"r.example.org", "a", "-t"},
		"tag: too long":        {"r.example.org", "a", strings.Repeat("t", 129)},
		"tag: plus":            {"r.example.org", "a", "1.0+x"},
		"repository: too long": {"r.example.org", strings.Repeat("a", 256), "t"},
	}
	for what, name := range bad {
		field, _, _ := strings.Cut(what, ":")
		err := name.Check()
		violations := errs.Violations(err)
		if len(violations) != 1 || violations[0].Field != field {
			t.Errorf("%s: Check = %v, want one violation of %s", what, err, field)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("110.dynamic-html", "3.11", "mine", "v1.2.1")
	f.Add("a b", "../..", "+", "")
	f.Fuzz(func(t *testing.T, benchmark, version, prefix, suite string) {
		tag := FunctionTag(Labels{Platform: "aws", Benchmark: benchmark, Language: "python", Version: version, Prefix: prefix, Suite: suite})
		name := Name{Registry: "r.example.org", Repository: "a", Tag: tag}
		if name.Check() != nil {
			return
		}
		if strings.ContainsAny(name.URI(), " @+\n") || len(tag) > maxTag {
			t.Errorf("%q passes", name.URI())
		}
	})
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	bases, err := NewBases(map[string]string{"aws.python.3.10": "r/p:{version}-{architecture}", "aws.nodejs": "r/n", "aws.nodejs.20.arm64": "r/arm"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		runtime Runtime
		want    string
	}{
		{Runtime{"aws", "python", "3.11", "x64"}, "own public.ecr.aws/lambda/python:3.11"},
		{Runtime{"aws", "python", "3.10", "arm64"}, "r/p:3.10-arm64"},
		{Runtime{"aws", "nodejs", "20", "x64"}, "r/n"},
		{Runtime{"aws", "nodejs", "20", "arm64"}, "r/arm"},
		{Runtime{"local", "python", "3.11", "x64"}, "own docker-daemon:sebs/run.local.python.3.11 docker.io/library/python:3.11-slim"},
		{Runtime{"gcp", "python", "3.11", "x64"}, "own"},
	} {
		if got := strings.Join(bases.Candidates(test.runtime, []string{"own"}), " "); got != test.want {
			t.Errorf("Candidates(%v) = %s, want %s", test.runtime, got, test.want)
		}
	}
	for reference, want := range map[string]string{"a:5000/b": "a:5000/b", "a:5000/b:t": "a:5000/b", "b@sha256:0": "b", "a/b:t@sha256:0": "a/b"} {
		if got := repositoryOf(reference); got != want {
			t.Errorf("repositoryOf(%s) = %s, want %s", reference, got, want)
		}
	}
}

func content(handler string) Content {
	return Content{
		Language: "python", Architecture: "arm64", Handler: handler, DependencyDir: ".python_packages/lib/site-packages",
		Files: []archive.File{
			archive.Bytes("handler.py", []byte("handler = None\n")), archive.Bytes("function/function.py", []byte("x\n")),
			archive.Bytes(".python_packages/lib/site-packages/a/b.py", []byte("y\n")),
			{Path: "function/run.sh", Executable: true, Size: 1, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("z")), nil }},
		},
		Labels: map[string]string{"sebs.benchmark": "901.picture"},
	}
}

func assemble(t *testing.T, base v1.Image, c Content) v1.Image {
	t.Helper()
	catalog, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got, err := Assemble(t.Context(), base, catalog, c, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err := errors.Join(err, got.Close()); err != nil || len(left) == 0 {
			t.Errorf("close: %v; %d files before", err, len(left))
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%d files are left, %v", len(left), err)
		}
	})
	return got.Image
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	img := assemble(t, empty.Image, content("handler.handler"))
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	if file.Architecture != "arm64" || file.OS != "linux" || c.WorkingDir != "/var/task" || strings.Join(c.Cmd, " ") != "handler.handler" ||
		strings.Join(c.Entrypoint, " ") != "python3 /var/runtime/python/bootstrap.py" || !file.Created.Equal(epoch) {
		t.Errorf("configuration = %+v", file)
	}
	for _, variable := range []string{"LAMBDA_TASK_ROOT=/var/task", "_HANDLER=handler.handler", searchPath} {
		if !strings.Contains(strings.Join(c.Env, "\n"), variable) {
			t.Errorf("environment %q lacks %s", c.Env, variable)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"var/ var/runtime/ var/runtime/python/ var/runtime/python/bootstrap.py",
		"var/ var/task/ var/task/.python_packages/ var/task/.python_packages/lib/ var/task/.python_packages/lib/site-packages/ var/task/.python_packages/lib/site-packages/a/ var/task/.python_packages/lib/site-packages/a/b.py",
		"var/ var/task/ var/task/function/ var/task/function/function.py var/task/function/run.sh var/task/handler.py",
	}
	if len(layers) != len(want) {
		t.Fatalf("%d layers, want %d", len(layers), len(want))
	}
	for i, layer := range layers {
		if got := entries(t, layer); got != want[i] {
			t.Errorf("layer %d = %s, want %s", i, got, want[i])
		}
	}
}

// entries lists a layer and checks what holds for all of it.
func entries(t *testing.T, layer v1.Layer) string {
	t.Helper()
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var names []string
	for reader := tar.NewReader(r); ; {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir || strings.HasSuffix(h.Name, ".sh") {
			mode = 0o755
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode != mode || !h.ModTime.Equal(epoch) || h.Uname != "" {
			t.Errorf("entry %+v", h)
		}
	}
}

func TestAssembleIsDeterministic(t *testing.T) {
	t.Parallel()
	digest := func(img v1.Image) string {
		t.Helper()
		hash, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	c := content("handler.handler")
	first := digest(assemble(t, empty.Image, c))
	for i, j := 0, len(c.Files)-1; i < j; i, j = i+1, j-1 {
		c.Files[i], c.Files[j] = c.Files[j], c.Files[i]
	}
	if second := digest(assemble(t, empty.Image, c)); second != first {
		t.Errorf("equal inputs in another order gave %s, then %s", first, second)
	}
	if other := digest(assemble(t, empty.Image, content("other.handler"))); other == first {
		t.Error("another handler gave the same image")
	}
}

func TestRuntimeOfTheBaseIsKept(t *testing.T) {
	t.Parallel()
	aws, err := mutate.Config(mutate.MediaType(empty.Image, types.OCIManifestSchema1), v1.Config{Entrypoint: []string{"/lambda-entrypoint.sh"}, Env: []string{"PATH=/var/lang/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	img := assemble(t, aws, content("handler.handler"))
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Config.Entrypoint; len(got) != 1 || got[0] != "/lambda-entrypoint.sh" {
		t.Errorf("entry point = %q", got)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 2 || manifest.Layers[0].MediaType != types.OCILayer {
		t.Errorf("layers = %v, want two of an OCI image", manifest.Layers)
	}
	if strings.Contains(strings.Join(file.Config.Env, " "), "_HANDLER") || file.Config.Env[0] != "PATH=/var/lang/bin" {
		t.Errorf("environment = %q", file.Config.Env)
	}

	cpp := content("handler.handler")
	cpp.Language = "cpp"
	if file, err = assemble(t, empty.Image, cpp).ConfigFile(); err != nil || file.Config.Entrypoint[0] != "/var/task/bootstrap" {
		t.Errorf("entry point of cpp = %q, %v", file.Config.Entrypoint, err)
	}
	cpp.Files = append(cpp.Files, archive.Bytes("bin/function", nil), archive.Bytes("lib/ld-linux-x86-64.so.2", nil))
	want := "/var/task/lib/ld-linux-x86-64.so.2 --library-path /var/task/lib /var/task/bin/function"
	if file, err = assemble(t, empty.Image, cpp).ConfigFile(); err != nil || strings.Join(file.Config.Entrypoint, " ") != want {
		t.Errorf("entry point of cpp with its loader = %q, %v", file.Config.Entrypoint, err)
	}
}

func TestJavaRuntimeIsCompiled(t *testing.T) {
	t.Parallel()
	if _, ok := jdk.Compiling(jdk.Find(os.Getenv, "/"), oldestJava); !ok {
		t.Skip("needs a JDK of version 11 or newer")
	}
	java := content("org.serverlessbench.Handler::handleRequest")
	java.Language, java.DependencyDir = "java", "."
	img := assemble(t, empty.Image, java)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(t, layers[0]); !strings.Contains(got, "var/runtime/java/classes/org/serverlessbench/bootstrap/Bootstrap.class") {
		t.Errorf("runtime = %s", got)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(file.Config.Entrypoint, " "); !strings.HasSuffix(got, "-cp /var/runtime/java/classes org.serverlessbench.bootstrap.Bootstrap") {
		t.Errorf("entry point = %s", got)
	}
}

func TestTarEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := writeTar(ctx, new(bytes.Buffer), "var", []archive.File{archive.Bytes("a", nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("writeTar = %v", err)
	}
}
