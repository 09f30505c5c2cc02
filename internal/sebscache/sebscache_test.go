package sebscache

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
)

const localFile = `{
  "resources": {
    "resources_id": "local-1a2b3c4d",
    "storage_buckets": {"benchmarks": "sebs-benchmarks-local-1a2b3c4d", "deployment": null},
    "storage": {"address": "172.17.0.2:9000", "access_key": "visible", "secret_key": "hidden-key"},
    "allocated_ports": [9000]
  }
}`

const benchmarkFile = `{
  "local": {
    "python": {
      "code_package": {"default": {"3.11": {"x64": {"size": 4096, "hash": "abc", "location": "somewhere", "date": {"created": "x", "modified": "y"}}}}},
      "containers": {},
      "functions": {
        "sebd-130.crud-api-python-3.11": {
          "name": "sebd-130.crud-api-python-3.11", "hash": "abc", "benchmark": "130.crud-api",
          "config": {"timeout": 30, "memory": 128.0, "architecture": "x64",
                     "runtime": {"language": "python", "version": "3.11", "language-variant": "default"}},
          "triggers": [{"type": "HTTP", "url": "172.17.0.3:9000"}],
          "instance_id": "deadbeef", "url": "172.17.0.3:9000", "port": 9000, "secret_key": "hidden-key",
          "storage": {"secret_key": "hidden-key"}
        }
      }
    }
  },
  "aws": {"nodejs": {"functions": {"old": {"hash": "h", "config": {}, "triggers": [{"type": "Library", "name": "old"}], "arn": "arn:aws:lambda:x"}}},
          "nosql": {"tables": {"shopping_cart": "real"}}},
  "gcp": {"nosql": {"database": "d", "kinds": ["shopping_cart"]}},
  "minio": {"storage": {"buckets": {"input": ["i-0"], "output": ["o-0", "o-1"], "input_uploaded": true}}},
  "scylladb": {"nosql": {"tables": {"shopping_cart": "sebs-benchmarks-local-1a2b3c4d-130.crud-api-shopping_cart"}}}
}`

func sample() fstest.MapFS {
	return fstest.MapFS{
		"local.json":                 {Data: []byte(localFile)},
		"aws.json":                   {Data: []byte(`{"region": "us-east-1", "credentials": {"account_id": "123"}, "resources": {"resources_id": "9f"}}`)},
		"130.crud-api/config.json":   {Data: []byte(benchmarkFile)},
		"130.crud-api/local/x.zip":   {Data: []byte("zip")},
		"999.nothing/config.json":    {Data: []byte(`{}`)},
		"without/anything/readme.md": {Data: []byte("")},
	}
}

func TestReadLocal(t *testing.T) {
	t.Parallel()
	got, err := Read(sample(), "local")
	if err != nil {
		t.Fatal(err)
	}
	want := Cache{
		Platform: "local", ResourcesID: "local-1a2b3c4d", Buckets: map[string]string{"benchmarks": "sebs-benchmarks-local-1a2b3c4d"},
		Benchmarks: []Benchmark{{
			Name: "130.crud-api", InputPrefixes: []string{"i-0"}, OutputPrefixes: []string{"o-0", "o-1"}, InputUploaded: true,
			Tables: map[string]string{"shopping_cart": "sebs-benchmarks-local-1a2b3c4d-130.crud-api-shopping_cart"},
			Functions: []Function{{
				Name: "sebd-130.crud-api-python-3.11", Benchmark: "130.crud-api", Hash: "abc", Language: "python", Version: "3.11", Variant: "default",
				Architecture: "x64", TimeoutSeconds: 30, MemoryMB: 128,
				Triggers:   []Trigger{{Type: "HTTP", URL: "172.17.0.3:9000", Attributes: map[string]string{}}},
				Attributes: map[string]string{"instance_id": "deadbeef", "url": "172.17.0.3:9000", "port": "9000"},
			}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), "hidden-key") {
		t.Error("a secret was read")
	}
}

func TestReadOtherPlatforms(t *testing.T) {
	t.Parallel()
	aws, err := Read(sample(), "aws")
	if err != nil {
		t.Fatal(err)
	}
	if aws.Region != "us-east-1" || aws.Account != "123" || aws.ResourcesID != "9f" {
		t.Errorf("aws = %+v", aws)
	}
	function := aws.Benchmarks[0].Functions[0]
	if function.Name != "old" || function.Language != "nodejs" || function.Attributes["arn"] != "arn:aws:lambda:x" || function.Triggers[0].Attributes["name"] != "old" {
		t.Errorf("function = %+v", function)
	}
	gcp, err := Read(sample(), "gcp")
	if err != nil || gcp.Benchmarks[0].Tables["shopping_cart"] != "shopping_cart" {
		t.Errorf("gcp = %+v, %v", gcp, err)
	}
	azure, err := Read(sample(), "azure")
	if err != nil || azure.ResourcesID != "" || len(azure.Benchmarks) != 0 {
		t.Errorf("azure = %+v, %v; want an empty cache", azure, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file, content, says string
	}{
		"platform":       {"local.json", `{"resources": [1]}`, `local.json: key "resources" holds a array`},
		"syntax":         {"local.json", `{`, "local.json: unexpected end"},
		"benchmark":      {"130.crud-api/config.json", `{"local": {"python": {"functions": []}}}`, "130.crud-api/config.json: local.python"},
		"memory":         {"130.crud-api/config.json", `{"local": {"python": {"functions": {"f": {"config": {"memory": 1.5}}}}}}`, "config.memory is 1.5"},
		"trigger":        {"130.crud-api/config.json", `{"local": {"python": {"functions": {"f": {"triggers": [{}]}}}}}`, "triggers[0] has no type"},
		"object storage": {"130.crud-api/config.json", `{"minio": {"storage": {"buckets": 1}}}`, "storage: key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := sample()
			tree[test.file] = &fstest.MapFile{Data: []byte(test.content)}
			_, err := Read(tree, "local")
			if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Read = %v; want InvalidArgument saying %q", err, test.says)
			}
		})
	}
	if _, err := ReadDir(t.TempDir()+"/none", "local"); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("ReadDir of no directory = %v", err)
	}
	if _, err := Read(sample(), "loacl"); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("Read of an unknown platform = %v", err)
	}
}

func FuzzParseBenchmark(f *testing.F) {
	f.Add([]byte(benchmarkFile), "local")
	f.Add([]byte(`{"aws": {"python": {"functions": {"f": null}}}}`), "aws")
	f.Add([]byte(`{"gcp": null, "minio": {"storage": null}}`), "gcp")
	f.Fuzz(func(t *testing.T, raw []byte, platform string) {
		b, found, err := ParseBenchmark("b", platform, raw)
		if err != nil {
			return
		}
		if !found && len(b.Functions) > 0 {
			t.Error("functions of a platform that was not found")
		}
		for _, function := range b.Functions {
			if function.Language == "" && function.Name == "" {
				t.Errorf("function without name: %+v", function)
			}
			for key := range function.Attributes {
				if secretive(key) {
					t.Errorf("attribute %q may be a secret", key)
				}
			}
		}
	})
}
