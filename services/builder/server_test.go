package builder

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/benchmarks"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/inputs"
	"github.com/sebs-suite/sebs/services/builder/packaging"
	"github.com/sebs-suite/sebs/services/builder/pytools"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

const deployment = "platforms/local/deployments/test"

// bench is a builder with everything around it.
type bench struct {
	client  builderv1.BuilderServiceClient
	storage *memoryStorage
	records *memoryRecords
	facts   *told
}

// newBench starts a builder over the shipped catalogue and the given folders, which come first.
func newBench(t testing.TB, folders fs.FS) *bench {
	t.Helper()
	b := &bench{storage: &memoryStorage{objects: map[string][]byte{}}, records: newRecords(), facts: &told{}}
	storage := storagev1.NewStorageServiceClient(serve(t, func(s *grpc.Server) { storagev1.RegisterStorageServiceServer(s, b.storage) }))
	b.client = builderv1.NewBuilderServiceClient(serve(t, func(s *grpc.Server) { builderv1.RegisterBuilderServiceServer(s, newServer(t, b, storage, folders)) }))
	return b
}

func newServer(t testing.TB, b *bench, storage storagev1.StorageServiceClient, folders fs.FS) *Server {
	t.Helper()
	roots := []benchmark.Root{{Label: "the shipped catalogue", FS: benchmarks.Files()}}
	if folders != nil {
		roots = append([]benchmark.Root{{Label: "the test's folder", FS: folders}}, roots...)
	}
	user, err := confine.UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	table, err := runtimesdata.Load()
	if err != nil {
		t.Fatal(err)
	}
	layouts, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	var (
		dir        = t.TempDir()
		log        = slog.New(slog.DiscardHandler)
		confiner   = confine.New("", user)
		finder     = pytools.NewFinder(confiner, "")
		installers = pytools.NewInstallers(confiner, finder, httpClient(), toolsDir(t), 5*time.Minute, log)
		store      = NewStore(storage)
		web        = NewWebFiles(benchmarks.UploaderHandler(), localHost{}, "", false, log)
	)
	t.Cleanup(func() {
		if err := web.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return NewServer(Dependencies{
		Records: b.records, Operations: synchronous{}, Facts: b.facts, Storage: storage, Store: store,
		Catalogue: benchmark.NewCatalogue(roots, nil), Runtimes: table, Layouts: layouts,
		Packages: packaging.NewBuilder(packaging.Options{
			Layouts: layouts, Confiner: confiner, Python: installers, Node: packaging.NewNPM(confiner, 5*time.Minute),
			Maven: packaging.NewMaven(confiner, filepath.Join(toolsDir(t), "maven"), 10*time.Minute), CMake: packaging.NewCMake(confiner, 5*time.Minute),
			Store: store, LayersDir: dir + "/layers", Locks: b.records, ScriptTimeout: time.Minute,
		}),
		Runner: inputs.NewRunner(confiner, finder, pytools.NewSites(installers, dir+"/sites"), time.Minute, log),
		Web:    web,
		Dir:    dir, HostArchitecture: pytools.HostArchitecture(), Limits: Limits{Operation: 10 * time.Minute}, Log: log,
	})
}

// httpClient keeps no connections, which would look like leaks.
func httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
}

// toolsDir is where a uv that had to be fetched is kept between runs of the tests.
func toolsDir(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		return t.TempDir()
	}
	return filepath.Join(cache, "sebs-test")
}

// needsInstaller skips a test on a machine that can install nothing.
func needsInstaller(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("uv"); err == nil {
		return
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "https://pypi.org/simple/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := httpClient().Do(request)
	if err != nil {
		t.Skipf("needs a Python package index: %v", err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

func needsNPM(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("needs npm")
	}
	needsInstaller(t)
}

func needsPython(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs Python 3.10 or newer")
	}
}

func result[M proto.Message](t testing.TB, op *longrunningpb.Operation, err error, into M) M {
	t.Helper()
	if err != nil {
		t.Fatal(errs.FromStatus(err))
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
	return into
}

func python(version string) *typev1.Runtime {
	return &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: version}
}

// unpack reads a package's archive.
func (b *bench) unpack(t testing.TB, p *builderv1.Package) map[string]string {
	t.Helper()
	content, err := b.storage.object(p.GetBucket(), p.GetObjectKey())
	if err != nil {
		t.Fatal(err)
	}
	reader, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, file := range reader.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[file.Name] = string(text)
	}
	return files
}

func hasPrefix(files map[string]string, prefix string) bool {
	for name := range files {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func TestSleepAndDynamicHTML(t *testing.T) {
	t.Parallel()
	needsPython(t)
	needsInstaller(t)
	b := newBench(t, nil)
	for _, name := range []string{"010.sleep", "110.dynamic-html"} {
		op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{Source: &builderv1.BenchmarkSource{Benchmark: name}, Platform: "local", Runtime: python("3.11")})
		p := result(t, op, err, &builderv1.Package{})
		files := b.unpack(t, p)
		for _, want := range []string{"handler.py", "requirements.txt", "function/function.py", "function/storage.py", "function/sebs_core.py"} {
			if _, ok := files[want]; !ok {
				t.Errorf("%s: the package has no %s", name, want)
			}
		}
		if p.GetHandler() != "handler.handler" || p.GetTimeoutSeconds() == 0 || p.GetMemoryMb() == 0 || p.GetCached() {
			t.Errorf("%s: package = %v", name, p)
		}
		if got, want := hasPrefix(files, ".python_packages/lib/site-packages/jinja2/"), name == "110.dynamic-html"; got != want {
			t.Errorf("%s: the package has jinja2: %t, want %t", name, got, want)
		}
		if name == "110.dynamic-html" && !hasPrefix(files, "function/templates/") {
			t.Errorf("%s: init.sh added no templates", name)
		}
		op, err = b.client.PrepareInput(t.Context(), &builderv1.PrepareInputRequest{Parent: deployment, Source: &builderv1.BenchmarkSource{Benchmark: name}, Size: "test"})
		input := result(t, op, err, &builderv1.BenchmarkInput{})
		var payload map[string]any
		if err := json.Unmarshal([]byte(input.GetPayloadJson()), &payload); err != nil || len(payload) == 0 {
			t.Errorf("%s: payload = %q (%v)", name, input.GetPayloadJson(), err)
		}
	}
}

func TestPackageIsFoundAgain(t *testing.T) {
	t.Parallel()
	needsInstaller(t)
	b := newBench(t, nil)
	request := &builderv1.CreatePackageRequest{Source: &builderv1.BenchmarkSource{Benchmark: "110.dynamic-html"}, Platform: "local", Runtime: python("3.11")}
	op, err := b.client.CreatePackage(t.Context(), request)
	first := result(t, op, err, &builderv1.Package{})
	op, err = b.client.CreatePackage(t.Context(), request)
	second := result(t, op, err, &builderv1.Package{})
	if !second.GetCached() || second.GetDigest() != first.GetDigest() {
		t.Errorf("second build = %v, want the first one's package", second)
	}
	// What the store no longer has is built again, from the layer that is kept.
	if _, err := b.storage.DeleteObject(t.Context(), &storagev1.DeleteObjectRequest{Bucket: first.GetBucket(), Key: first.GetObjectKey()}); err != nil {
		t.Fatal(err)
	}
	op, err = b.client.CreatePackage(t.Context(), request)
	third := result(t, op, err, &builderv1.Package{})
	if third.GetCached() || !third.GetDependenciesCached() || third.GetArchiveSha256() != first.GetArchiveSha256() {
		t.Errorf("build after the archive was lost = %v, want a new archive with the same bytes as %v", third, first)
	}
	listed, err := b.client.ListPackages(t.Context(), &builderv1.ListPackagesRequest{Benchmark: "110.dynamic-html"})
	if err != nil || len(listed.GetPackages()) != 1 {
		t.Errorf("ListPackages = %v, %v; want one package", listed, err)
	}
	if _, err := b.client.DeletePackage(t.Context(), &builderv1.DeletePackageRequest{Name: first.GetName()}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.GetPackage(t.Context(), &builderv1.GetPackageRequest{Name: first.GetName()}); !errs.Is(errs.FromStatus(err), codes.NotFound) {
		t.Errorf("GetPackage after DeletePackage = %v, want NotFound", err)
	}
}

// uploadFolder sends a folder as a client would.
func (b *bench) uploadFolder(t testing.TB, name string, kind builderv1.SourceKind, tree fs.FS) (*builderv1.Source, string) {
	t.Helper()
	var packed bytes.Buffer
	digest, err := benchsource.Pack(t.Context(), &packed, tree)
	if err != nil {
		t.Fatal(err)
	}
	uploaded, err := b.send(t.Context(), &builderv1.SourceHeader{Benchmark: name, Kind: kind}, packed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return uploaded, digest
}

func (b *bench) send(ctx context.Context, header *builderv1.SourceHeader, content []byte) (*builderv1.Source, error) {
	stream, err := b.client.UploadSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Header{Header: header}}); err != nil {
		return nil, err
	}
	for chunk := range slices.Chunk(content, 1000) {
		if err := stream.Send(&builderv1.UploadSourceRequest{Part: &builderv1.UploadSourceRequest_Chunk{Chunk: chunk}}); err != nil {
			break
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer, errs.FromStatus(err)
}

// sebsFolder is a folder as SeBS has them: older style, with everything that a folder may contain.
func sebsFolder() fstest.MapFS {
	return fstest.MapFS{
		"config.json": {Data: []byte(`{"timeout": 45, "memory": 256, "languages": ["python", {"language": "nodejs", "variants": ["default"]}], "modules": ["storage", "nosql"], "extra": 1}`)},
		"input.py": {Data: []byte(`
import os
def buckets_count():
    return (1, 1)
def allocate_nosql() -> dict:
    return {"carts": {"primary_key": "cart_id", "secondary_key": "product_id"}}
def generate_input(data_dir, size, benchmarks_bucket, input_buckets, output_buckets, upload_func, nosql_func):
    for name in sorted(os.listdir(data_dir)):
        upload_func(0, name, os.path.join(data_dir, name))
    nosql_func("900.sample", "carts", {"price": 2}, ("cart_id", "c"), ("product_id", "p"))
    return {"bucket": {"bucket": benchmarks_bucket, "input": input_buckets[0], "output": output_buckets[0]}, "size": size}
def validate_output(data_dir, input_config, output, language, storage):
    storage.download(input_config["bucket"]["bucket"], input_config["bucket"]["input"] + "/a.txt", "/tmp/../" + os.path.abspath("got.txt"))
    content = open("got.txt").read()
    return None if output["content"] == content else f"expected {content!r}"
`)},
		"init.sh":                         {Data: []byte("set -e\ncp -r \"$(dirname \"$0\")/templates\" \"$1/templates\"\necho \"$2 $3\" > \"$1/arguments\"\n")},
		"templates/page.html":             {Data: []byte("<html/>")},
		"python/function.py":              {Data: []byte("from . import storage\ndef handler(event):\n    return {'result': 1}\n")},
		"python/storage.py":               {Data: []byte("# the benchmark's own\n")},
		"python/requirements.txt":         {Data: []byte("nosuchpackage-for-the-base-file==1\n")},
		"python/requirements.txt.3.10":    {Data: []byte("markupsafe==3.0.2")},
		"python/requirements.txt.arm.3.9": {Data: []byte("markupsafe==3.0.2\njinja2==3.1.4\n")},
		"python/init.sh":                  {Data: []byte("ls \"$1\" > \"$1/second\"\n")},
		"python/package.sh":               {Data: []byte("rm -r $1/markupsafe-*.dist-info\necho \"$PLATFORM $PYTHON_VERSION $TARGET_ARCHITECTURE $APP\" > $1/environment\n")},
		"python/data/ignored.txt":         {Data: []byte("not copied")},
		"nodejs/function.js":              {Data: []byte("exports.handler = async () => ({result: 1});\n")},
		"nodejs/package.json":             {Data: []byte(`{"name": "f", "dependencies": {"mustache": "4.2.0"}}`)},
		"nodejs/package.json.22":          {Data: []byte(`{"name": "f22", "dependencies": {}}`)},
	}
}

func TestUploadedFolder(t *testing.T) {
	t.Parallel()
	needsPython(t)
	needsInstaller(t)
	b := newBench(t, nil)
	uploaded, digest := b.uploadFolder(t, "900.sample", builderv1.SourceKind_SOURCE_KIND_BENCHMARK, sebsFolder())
	if uploaded.GetDigest() != digest || uploaded.GetName() != "sources/"+digest {
		t.Errorf("UploadSource = %v, want digest %s", uploaded, digest)
	}
	data, _ := b.uploadFolder(t, "900.sample", builderv1.SourceKind_SOURCE_KIND_DATA, fstest.MapFS{"a.txt": {Data: []byte("aaa")}, "b.txt": {Data: []byte("b")}})
	origin := &builderv1.BenchmarkSource{Benchmark: "900.sample", Source: uploaded.GetName(), Data: data.GetName()}

	t.Run("python 3.10", func(t *testing.T) { checkPython310(t, b, origin) })
	t.Run("python 3.9 on arm64", func(t *testing.T) {
		op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{Source: origin, Platform: "local", Runtime: python("3.9"), Architecture: typev1.Architecture_ARCHITECTURE_ARM64})
		files := b.unpack(t, result(t, op, err, &builderv1.Package{}))
		native := ".python_packages/lib/site-packages/markupsafe/_speedups.cpython-39-aarch64-linux-gnu.so"
		if _, ok := files[native]; !ok || !hasPrefix(files, ".python_packages/lib/site-packages/jinja2/") {
			t.Errorf("the package lacks %s or jinja2 of requirements.txt.arm.3.9", native)
		}
	})
	t.Run("nodejs", func(t *testing.T) { checkNode(t, b, origin) })
	t.Run("input", func(t *testing.T) { checkInput(t, b, origin) })
}

func checkPython310(t *testing.T, b *bench, origin *builderv1.BenchmarkSource) {
	op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{Source: origin, Platform: "local", Runtime: python("3.10"), Architecture: typev1.Architecture_ARCHITECTURE_X64})
	p := result(t, op, err, &builderv1.Package{})
	files := b.unpack(t, p)
	const site = ".python_packages/lib/site-packages/"
	for name, want := range map[string]string{
		"function/storage.py":            "# the benchmark's own\n",
		"function/templates/page.html":   "<html/>",
		"function/arguments":             "false x64\n",
		"requirements.txt":               "markupsafe==3.0.2\n",
		"function/requirements.txt.3.10": "markupsafe==3.0.2",
		site + "environment":             "LOCAL 3.10 x64 900.sample\n",
		"function/second":                "arguments\nfunction.py\nrequirements.txt\nrequirements.txt.3.10\nrequirements.txt.arm.3.9\nsecond\nstorage.py\ntemplates\n",
	} {
		if got, ok := files[name]; !ok || got != want {
			t.Errorf("%s = %q (%t), want %q", name, got, ok, want)
		}
	}
	if hasPrefix(files, site+"markupsafe-") || !hasPrefix(files, site+"markupsafe/_speedups.cpython-310-x86_64") {
		t.Error("package.sh did not run over the dependencies, or they are for another Python")
	}
	for _, absent := range []string{"function/data/ignored.txt", "function/init.sh", "function/package.sh"} {
		if _, ok := files[absent]; ok {
			t.Errorf("the package has %s", absent)
		}
	}
	if p.GetTimeoutSeconds() != 45 || p.GetMemoryMb() != 256 || len(b.facts.facts) == 0 {
		t.Errorf("package = %v with %d events", p, len(b.facts.facts))
	}
}

func checkNode(t *testing.T, b *bench, origin *builderv1.BenchmarkSource) {
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("needs npm")
	}
	for version, want := range map[string]struct {
		manifest  string
		installed bool
	}{
		"20": {`{"name": "f", "dependencies": {"mustache": "4.2.0"}}`, true},
		"22": {`{"name": "f22", "dependencies": {}}`, false},
	} {
		op, err := b.client.CreatePackage(t.Context(), &builderv1.CreatePackageRequest{
			Source: origin, Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS, Version: version},
		})
		files := b.unpack(t, result(t, op, err, &builderv1.Package{}))
		if files["package.json"] != want.manifest || hasPrefix(files, "node_modules/mustache/") != want.installed {
			t.Errorf("nodejs %s: package.json = %s, mustache installed: %t", version, files["package.json"], hasPrefix(files, "node_modules/mustache/"))
		}
		if _, ok := files["function/templates/page.html"]; !ok || files["handler.js"] == "" || hasPrefix(files, "node_modules/.bin") {
			t.Errorf("nodejs %s: the package has not the files it should have", version)
		}
	}
}

func checkInput(t *testing.T, b *bench, origin *builderv1.BenchmarkSource) {
	prepare := func(size string, update bool) *builderv1.BenchmarkInput {
		op, err := b.client.PrepareInput(t.Context(), &builderv1.PrepareInputRequest{Parent: deployment, Source: origin, Size: size, ReplaceExisting: &update})
		return result(t, op, err, &builderv1.BenchmarkInput{})
	}
	input := prepare("small", false)
	want := `{"bucket": {"bucket": "sebs-benchmarks-test", "input": "900.sample-0-input", "output": "900.sample-0-output"}, "size": "small"}`
	if input.GetPayloadJson() != want || input.GetUploadedCount() != 2 || !input.GetUsesObjects() || !input.GetUsesTables() {
		t.Errorf("PrepareInput = %v, want payload %s", input, want)
	}
	if got := input.GetTables()["carts"]; got != "sebs-benchmarks-test-900.sample-carts" || len(b.storage.items) != 1 {
		t.Errorf("table = %q with %d items", got, len(b.storage.items))
	}
	if again := prepare("small", false); again.GetUploadedCount() != 0 || again.GetSkippedCount() != 2 {
		t.Errorf("second PrepareInput uploaded %d and skipped %d, want 0 and 2", again.GetUploadedCount(), again.GetSkippedCount())
	}
	if again := prepare("small", true); again.GetUploadedCount() != 2 {
		t.Errorf("PrepareInput that replaces uploaded %d, want 2", again.GetUploadedCount())
	}
	for output, valid := range map[string]bool{`{"content": "aaa"}`: true, `{"content": "x"}`: false} {
		got, err := b.client.ValidateOutput(t.Context(), &builderv1.ValidateOutputRequest{
			Parent: deployment, Source: origin, PayloadJson: input.GetPayloadJson(), OutputJson: output, Language: typev1.Language_LANGUAGE_PYTHON,
		})
		if err != nil || got.GetValid() != valid || valid != (got.GetReason() == "") {
			t.Errorf("ValidateOutput(%s) = %v, %v", output, got, err)
		}
	}
}
