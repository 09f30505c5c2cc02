package host_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/benchmarks"
	"github.com/sebs-suite/sebs/runtimes/runtimetest/compiled"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// TestCompiledPackages runs the very packages that AWS gets in every kind of sandbox that can run them, cold and warm.
func TestCompiledPackages(t *testing.T) {
	t.Parallel()
	shipped, err := benchmark.NewCatalogue([]benchmark.Root{{Label: "the shipped catalogue", FS: benchmarks.Files()}}, nil).Find("010.sleep")
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range compiled.Languages() {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			version := compiled.Programs(t, language)[0].Version
			target := version
			if language == "java" {
				target = "11" // every JDK compiles for it
			}
			built := compiled.Build(t, "aws", language, target, shipped)
			for name, open := range kinds {
				t.Run(name, func(t *testing.T) {
					dir := stateDir(t)
					h := hostIn(t, dir, open, nil)
					runtime := sandbox.Runtime{Language: language, Version: version}
					if err := h.Kinds()[0].Available(t.Context(), runtime, ""); err != nil {
						t.Skipf("needs %s: %v", runtime, err)
					}
					checkCompiled(t, h, runtime, built)
				})
			}
		})
	}
}

func checkCompiled(t *testing.T, h *host.Host, runtime sandbox.Runtime, built compiled.Package) {
	t.Helper()
	config := host.Config{Runtime: runtime, Handler: built.Handler, MemoryMB: 128, Timeout: time.Minute, Environment: map[string]string{"cold_start": "7"}}
	if _, err := h.Deploy(t.Context(), host.Spec{Name: "sleeper", Config: config}, bytes.NewReader(built.Archive)); err != nil {
		t.Fatal(err)
	}
	for _, cold := range []bool{true, false} {
		out := invoke(t, h, "sleeper", `{"sleep": 0.01}`)
		var response struct {
			StatusCode int    `json:"statusCode"`
			Body       string `json:"body"`
		}
		if err := json.Unmarshal(out.Body, &response); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("answer %.500s: %v", out.Body, err)
		}
		var answer struct {
			IsCold       bool   `json:"is_cold"`
			ColdStartVar string `json:"cold_start_var"`
			RequestID    string `json:"request_id"`
			Result       struct {
				Result float64 `json:"result"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(response.Body), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.IsCold != cold || out.Record.Cold != cold || answer.ColdStartVar != "7" || answer.Result.Result != 0.01 || answer.RequestID != out.Record.RequestID {
			t.Errorf("answer %s of a call that is cold: %v; record %+v", response.Body, cold, out.Record)
		}
	}
	out := invoke(t, h, "sleeper", `{"sleep": {}}`)
	if text := string(out.Body); runtime.Language == "java" && !strings.Contains(text, "java.lang.ClassCastException") {
		t.Errorf("a call that fails answers %s", text)
	}
}
