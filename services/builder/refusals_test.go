package builder

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, fstest.MapFS{
		"901.empty/config.json":               {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python", "java"], "modules": []}`)},
		"902.broken/config.json":              {Data: []byte(`{"timeout": "1"}`)},
		"903.missing/config.json":             {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
		"903.missing/python/function.py":      {Data: []byte("")},
		"903.missing/python/requirements.txt": {Data: []byte("nosuchpackage-of-the-test==1.0\n")},
		"904.script/config.json":              {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
		"904.script/python/function.py":       {Data: []byte("")},
		"904.script/init.sh":                  {Data: []byte("echo out of luck >&2\nexit 7\n")},
		"906.node/config.json":                {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["nodejs"], "modules": []}`)},
		"906.node/nodejs/function.js":         {Data: []byte("")},
		"906.node/nodejs/package.json":        {Data: []byte(`{"dependencies": {"nosuchpackage-of-the-test": "1.0.0"}}`)},
		"907.node/config.json":                {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["nodejs"], "modules": []}`)},
		"907.node/nodejs/function.js":         {Data: []byte("")},
		"907.node/nodejs/package.json":        {Data: []byte(`{"dependencies": {"mustache": "77.0.0"}}`)},
		"905.local/config.json":               {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
		"905.local/python/function.py":        {Data: []byte("")},
		"905.local/python/requirements.txt":   {Data: []byte("-e /etc\n")},
	})
	origin := func(name string) *builderv1.BenchmarkSource { return &builderv1.BenchmarkSource{Benchmark: name} }
	node := &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS}
	tests := map[string]struct {
		request *builderv1.CreatePackageRequest
		code    codes.Code
		says    string
		skip    func(testing.TB)
	}{
		"unknown benchmark": {&builderv1.CreatePackageRequest{Source: origin("110.dynamic-htm"), Platform: "local"}, codes.NotFound, "did you mean 110.dynamic-html?", nil},
		"traversal":         {&builderv1.CreatePackageRequest{Source: origin("..%2f"), Platform: "local"}, codes.InvalidArgument, "is not valid", nil},
		"broken config":     {&builderv1.CreatePackageRequest{Source: origin("902.broken"), Platform: "local"}, codes.InvalidArgument, `902.broken/config.json: key "timeout" is "1"; it must be a whole number of seconds`, nil},
		"no sources":        {&builderv1.CreatePackageRequest{Source: origin("901.empty"), Platform: "local"}, codes.InvalidArgument, "folder 901.empty/python holds none of *.py", nil},
		"java":              {&builderv1.CreatePackageRequest{Source: origin("901.empty"), Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_JAVA}}, codes.InvalidArgument, "folder 901.empty/java holds no ", nil},
		"not in benchmark":  {&builderv1.CreatePackageRequest{Source: origin("501.graph-pagerank"), Platform: "local", Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_NODEJS}}, codes.InvalidArgument, "is not written in", nil},
		"version":           {&builderv1.CreatePackageRequest{Source: origin("010.sleep"), Platform: "local", Runtime: python("3.6")}, codes.InvalidArgument, "the nearest is 3.9", nil},
		"other platform":    {&builderv1.CreatePackageRequest{Source: origin("010.sleep"), Platform: "azure", Runtime: python("3.11")}, codes.Unimplemented, "platform azure", nil},
		"source not there":  {&builderv1.CreatePackageRequest{Source: &builderv1.BenchmarkSource{Benchmark: "x", Source: "sources/" + strings.Repeat("0", 64)}, Platform: "local"}, codes.NotFound, "upload it again", nil},
		"odd source":        {&builderv1.CreatePackageRequest{Source: &builderv1.BenchmarkSource{Benchmark: "x", Source: "sources/../x"}, Platform: "local"}, codes.InvalidArgument, "source.source", nil},
		"requirement":       {&builderv1.CreatePackageRequest{Source: origin("903.missing"), Platform: "local"}, codes.InvalidArgument, `requirement "nosuchpackage-of-the-test" does not exist`, needsInstaller},
		"node requirement":  {&builderv1.CreatePackageRequest{Source: origin("906.node"), Platform: "local", Runtime: node}, codes.InvalidArgument, `requirement "nosuchpackage-of-the-test`, needsNPM},
		"node version":      {&builderv1.CreatePackageRequest{Source: origin("907.node"), Platform: "local", Runtime: node}, codes.InvalidArgument, `requirement "mustache@77.0.0" does not exist`, needsNPM},
		"script":            {&builderv1.CreatePackageRequest{Source: origin("904.script"), Platform: "local"}, codes.InvalidArgument, "init.sh of 904.script failed with exit code 7; correct the script\nout of luck", nil},
		"local requirement": {&builderv1.CreatePackageRequest{Source: origin("905.local"), Platform: "local"}, codes.InvalidArgument, "names a file of the building machine", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.skip != nil {
				test.skip(t)
			}
			_, err := b.client.CreatePackage(t.Context(), test.request)
			err = errs.FromStatus(err)
			if !errs.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("CreatePackage = %v (%s); want %s, saying %q", err, errs.Code(err), test.code, test.says)
			}
		})
	}
}

func TestUploadRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	pack := func(files map[string]string, links ...string) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for name, content := range files {
			header := &zip.FileHeader{Name: name}
			if slices.Contains(links, name) {
				header.SetMode(fs.ModeSymlink | 0o777)
			}
			entry, err := w.CreateHeader(header)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(entry, content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, test := range map[string]struct {
		content []byte
		says    string
	}{
		"no archive":  {[]byte("something else"), "not a ZIP archive"},
		"no config":   {pack(map[string]string{"input.py": ""}), "config.json: cannot be read"},
		"way out":     {pack(map[string]string{"../x": ""}), `path "../x" is not allowed`},
		"absolute":    {pack(map[string]string{"/etc/x": ""}), `path "/etc/x" is not allowed`},
		"backslashes": {pack(map[string]string{`a\b`: ""}), "is not allowed"},
		"link":        {pack(map[string]string{"link": "/etc/passwd"}, "link"), "link is not a regular file"},
	} {
		_, err := b.send(t.Context(), &builderv1.SourceHeader{Benchmark: "900.sample"}, test.content)
		if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: UploadSource = %v; want InvalidArgument saying %q", name, err, test.says)
		}
	}
	if keys := b.storage.keys(); len(keys) > 0 {
		t.Errorf("refused archives were stored: %v", keys)
	}
}

func TestBenchmarksAndRuntimes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	var names []string
	for token := ""; ; {
		listed, err := b.client.ListBenchmarks(t.Context(), &builderv1.ListBenchmarksRequest{PageSize: 3, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range listed.GetBenchmarks() {
			names = append(names, path.Base(found.GetName()))
		}
		if token = listed.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "110.dynamic-html") || len(names) < 8 {
		t.Errorf("ListBenchmarks = %v", names)
	}
	got, err := b.client.GetBenchmark(t.Context(), &builderv1.GetBenchmarkRequest{Name: "benchmarks/130.crud-api"})
	if err != nil || !slices.Equal(got.GetModules(), []string{"nosql"}) || len(got.GetSourceDigest()) != 64 {
		t.Errorf("GetBenchmark = %v, %v", got, err)
	}
	runtimes, err := b.client.ListRuntimes(t.Context(), &builderv1.ListRuntimesRequest{Parent: "platforms/local"})
	if err != nil || len(runtimes.GetRuntimes()) != 13 || runtimes.GetRuntimes()[1].GetEndOfLife() == "" {
		t.Errorf("ListRuntimes = %v, %v", runtimes, err)
	}
}

// BenchmarkPackage compares the first build of a package with the one after a change of its source alone.
func BenchmarkPackage(b *testing.B) {
	needsInstaller(b)
	folder := func(source string) fstest.MapFS {
		return fstest.MapFS{
			"900.sample/config.json":             {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
			"900.sample/python/function.py":      {Data: []byte(source)},
			"900.sample/python/requirements.txt": {Data: []byte("jinja2==3.1.4\nminio==7.2.8\n")},
		}
	}
	build := func(b *testing.B, s *bench) *builderv1.Package {
		op, err := s.client.CreatePackage(b.Context(), &builderv1.CreatePackageRequest{
			Source: &builderv1.BenchmarkSource{Benchmark: "900.sample"}, Platform: "local", Runtime: python("3.11"),
		})
		return result(b, op, err, &builderv1.Package{})
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s := newBench(b, folder("x = 1\n"))
			b.StartTimer()
			build(b, s)
		}
	})
	b.Run("source only", func(b *testing.B) {
		tree := folder("x = 1\n")
		s := newBench(b, tree)
		build(b, s)
		n := 1
		for b.Loop() {
			n++
			tree["900.sample/python/function.py"] = &fstest.MapFile{Data: fmt.Appendf(nil, "x = %d\n", n)}
			if p := build(b, s); p.GetCached() || !p.GetDependenciesCached() {
				b.Fatalf("the package was cached: %t, its dependencies: %t", p.GetCached(), p.GetDependenciesCached())
			}
		}
	})
}

func TestPillowIsInstalledForInput(t *testing.T) {
	t.Parallel()
	needsPython(t)
	needsInstaller(t)
	b := newBench(t, fstest.MapFS{
		"908.picture/config.json": {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
		"908.picture/input.py": {Data: []byte(`
from PIL import Image

def generate_input(data_dir, size, bucket, ins, outs, upload, nosql):
    return {"size": Image.new("RGB", (3, 4)).size}
`)},
	})
	op, err := b.client.PrepareInput(t.Context(), &builderv1.PrepareInputRequest{Parent: deployment, Source: &builderv1.BenchmarkSource{Benchmark: "908.picture"}, Size: "test"})
	input := result(t, op, err, &builderv1.BenchmarkInput{})
	if input.GetPayloadJson() != `{"size": [3, 4]}` {
		t.Errorf("payload = %s", input.GetPayloadJson())
	}
}

func TestOneBuildAtATime(t *testing.T) {
	t.Parallel()
	needsInstaller(t)
	b := newBench(t, nil)
	const callers = 12
	built := make(chan *builderv1.Package, callers)
	group, ctx := errgroup.WithContext(t.Context())
	for range callers {
		group.Go(func() error {
			op, err := b.client.CreatePackage(ctx, &builderv1.CreatePackageRequest{
				Source: &builderv1.BenchmarkSource{Benchmark: "110.dynamic-html"}, Platform: "local", Runtime: python("3.12"),
			})
			if err != nil {
				return err
			}
			p := &builderv1.Package{}
			built <- p
			return op.GetResponse().UnmarshalTo(p)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	close(built)
	fresh := 0
	for p := range built {
		if !p.GetCached() {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d callers got %d builds, want one", callers, fresh)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	needsPython(t)
	b := &bench{storage: &memoryStorage{objects: map[string][]byte{}}, records: newRecords(), facts: &told{}}
	storage := storagev1.NewStorageServiceClient(serve(t, func(s *grpc.Server) { storagev1.RegisterStorageServiceServer(s, b.storage) }))
	server := newServer(t, b, storage, nil)
	origin := &builderv1.BenchmarkSource{Benchmark: "010.sleep"}
	for _, request := range []proto.Message{
		&builderv1.CreatePackageRequest{Source: origin, Platform: "local"},
		&builderv1.PrepareInputRequest{Parent: deployment, Source: origin, Size: "test"},
	} {
		packed, err := anypb.New(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.resume(t.Context(), new(operations.Handle), packed); err != nil {
			t.Errorf("resume %T = %v", request, err)
		}
	}
	packed, err := anypb.New(&builderv1.GetPackageRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.resume(t.Context(), new(operations.Handle), packed); !errs.Is(err, codes.Internal) {
		t.Errorf("resume of what is no operation = %v, want Internal", err)
	}
}
