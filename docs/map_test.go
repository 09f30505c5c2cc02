package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	_ "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

var name = regexp.MustCompile("`(sebs\\.[a-z]+\\.v1\\.[A-Za-z0-9_.]+)`")

// classes are the classes of the reference package; each has a section of its own.
var classes = []string{
	"config.Credentials", "config.Resources", "config.Config", "container.DockerContainer", "function.ExecutionBilling",
	"function.ExecutionResult", "function.ExecutionStats", "function.ExecutionTimes", "function.Function", "function.FunctionConfig",
	"function.ProviderTimes", "function.Runtime", "function.Trigger", "nosql.NoSQLStorage", "resources.SystemResources",
	"storage.PersistentStorage", "system.System",
}

func TestEveryNameOfTheMapExists(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("sebs-faas-map.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, class := range classes {
		if !strings.Contains(text, "## `"+class+"`") {
			t.Errorf("class %s has no section", class)
		}
	}
	rows := 0
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		rows++
		names := name.FindAllStringSubmatch(line, -1)
		if len(names) == 0 && !strings.Contains(line, "`sebs ") && !strings.Contains(line, "`--") {
			t.Errorf("no home: %s", line)
		}
		for _, n := range names {
			if _, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(n[1])); err != nil {
				t.Errorf("%s: %v", n[1], err)
			}
		}
	}
	if rows < 150 {
		t.Errorf("%d operations; the reference package has more than 150", rows)
	}
}
