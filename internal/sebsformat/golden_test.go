package sebsformat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// shape lists every key path with the type of its value; numbers are told apart as Python does.
func shape(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		into[path] = "object"
		for k, e := range v {
			shape(path+"."+k, e, into)
		}
	case []any:
		into[path] = "list"
		for i, e := range v {
			shape(fmt.Sprintf("%s[%d]", path, i), e, into)
		}
	case json.Number:
		into[path] = "int"
		if strings.ContainsAny(v.String(), ".eE") {
			into[path] = "float"
		}
	default:
		into[path] = fmt.Sprintf("%T", v)
	}
}

func shapeOf(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	tree, err := decodeTree(raw)
	if err != nil {
		t.Fatal(err)
	}
	paths := make(map[string]string)
	shape("", tree, paths)
	return paths
}

func TestResultFilesAreWrittenAsTheyWereRead(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"experiments-503-local.json", "perf-cost-warm_results.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original := sample(t, name)
			e, err := Read(bytes.NewReader(original), ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := Write(&out, e); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shapeOf(t, original), shapeOf(t, out.Bytes())); diff != "" {
				t.Errorf("keys or types differ (-original +written):\n%s", diff)
			}
			// The text itself is the same too, but for the redaction mark.
			want := strings.ReplaceAll(strings.TrimRight(string(original), "\n"), `"REDACTED"`, `"[REDACTED]"`)
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Errorf("text differs (-original +written):\n%s", diff)
			}
		})
	}
}

func TestReadKeepsFigures(t *testing.T) {
	t.Parallel()
	e, err := Read(bytes.NewReader(sample(t, "experiments-503-local.json")), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inv := e.Invocations["sebd-503.graph-bfs-python-3.11"]["f96a8ed2-c8b7-45b9-b341-ef4e8f839230"]
	if inv == nil {
		t.Fatal("invocation not found")
	}
	if inv.Times.ClientMicros != 36479 || inv.Times.BenchmarkMicros != 32289 || *inv.Times.HTTPStartupSeconds != 0.00282 {
		t.Errorf("times = %+v", inv.Times)
	}
	if inv.ProviderTimes.ExecutionMicros != nil || inv.Billing.GBSeconds != nil || inv.Stats.MemoryUsedMB != nil {
		t.Errorf("unknown figures must be absent: %+v", inv)
	}
	if got := inv.Times.ClientEnd.Sub(inv.Times.ClientBegin).Microseconds(); got != inv.Times.ClientMicros {
		t.Errorf("client_end - client_begin = %d, client = %d", got, inv.Times.ClientMicros)
	}
	if e.Config.Platform() != "local" || e.Config.Experiments.Runtime.Version != "3.11" {
		t.Errorf("config = %+v", e.Config)
	}
}

func TestPerfCostCSVIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	original := sample(t, "perf-cost-result.csv")
	var out bytes.Buffer
	w, err := NewPerfCostWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := ReadPerfCost(bytes.NewReader(original), w.Write); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(original), out.String()); diff != "" {
		t.Errorf("differs (-original +written):\n%s", diff)
	}
}

func TestLocalDeploymentIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	original := sample(t, "local-start-out.json")
	d, err := ReadLocalDeployment(bytes.NewReader(original))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteLocalDeployment(&out, d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shapeOf(t, original), shapeOf(t, out.Bytes())); diff != "" {
		t.Errorf("keys or types differ (-original +written):\n%s", diff)
	}
}

func TestMemoryStatistics(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := WriteMemoryStatistics(&out, []MemoryProfile{{InstanceID: "c1", SamplesBytes: []int64{31_000_000, 33_000_000}}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
      "c1": {
            "mean mem. usage": "32.0 MB",
            "max mem. usage": "33.0 MB",
            "number of measurements": 2,
            "full profile (in bytes)": [
                  31000000,
                  33000000
            ]
      },
      "precision_errors": 3
}`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

func TestPerfCostFileNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, runType string
		memory        int64
		bad           bool
	}{
		{name: "cold_results.json", runType: "cold"},
		{name: "warm_results_256.json", runType: "warm", memory: 256},
		{name: "burst_results_128-processed.json", runType: "burst", memory: 128},
		{name: "sequential_results-processed.json", runType: "sequential"},
		{name: "out.log", bad: true},
		{name: "warm_results_lots.json", bad: true},
		{name: "experiments.json", bad: true},
	} {
		runType, memory, err := ParsePerfCostFileName(c.name)
		if (err != nil) != c.bad || runType != c.runType || memory != c.memory {
			t.Errorf("ParsePerfCostFileName(%q) = %q, %d, %v", c.name, runType, memory, err)
		}
	}
	if got := PerfCostFileName("cold", 512); got != "cold_results_512.json" {
		t.Errorf("PerfCostFileName = %q", got)
	}
}
