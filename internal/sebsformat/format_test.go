package sebsformat

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPythonFloat(t *testing.T) {
	t.Parallel()
	for f, want := range map[float64]string{
		0: "0.0", 1: "1.0", 0.1: "0.1", 1e15: "1000000000000000.0", 1e16: "1e+16", 0.0001: "0.0001", 0.00001: "1e-05",
		1795417819.379742: "1795417819.379742", -2.5e-7: "-2.5e-07", 123456789012345680: "1.2345678901234568e+17",
	} {
		if got := PythonFloat(f); got != want {
			t.Errorf("PythonFloat(%g) = %s, want %s", f, got, want)
		}
	}
}

func TestWriterEscapesAsPython(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := newJSONWriter(&out, 2)
	w.value(map[string]any{"b": "ä€😀\x7f\u2028\"\\/\n", "a": []any{}, "c": map[string]any{}, "d": json.Number("1E2")})
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	want := `{
  "a": [],
  "b": "\u00e4\u20ac\ud83d\ude00\u007f\u2028\"\\/\n",
  "c": {},
  "d": 100.0
}`
	if out.String() != want {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
}

func TestAddNeverOverwrites(t *testing.T) {
	t.Parallel()
	var e Experiment
	for _, want := range []struct{ id, key string }{{"a", "a"}, {"", "failed-1"}, {"a", "a#2"}, {"a", "a#3"}, {"", "failed-4"}} {
		if got := e.Add("f", &Invocation{RequestID: want.id}); got != want.key {
			t.Errorf("Add(%q) = %q, want %q", want.id, got, want.key)
		}
	}
	if len(e.Invocations["f"]) != 5 {
		t.Errorf("%d entries", len(e.Invocations["f"]))
	}
}

func TestWriterRefusesDisorder(t *testing.T) {
	t.Parallel()
	w := NewWriter(&bytes.Buffer{})
	if err := w.Invocation("a", &Invocation{}); err == nil {
		t.Error("an invocation without a function was accepted")
	}
	if err := w.Function("g"); err != nil {
		t.Fatal(err)
	}
	if err := w.Invocation("b", &Invocation{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Invocation("a", &Invocation{}); err == nil {
		t.Error("a key in descending order was accepted")
	}
	if err := w.Function("f"); err == nil {
		t.Error("a function in descending order was accepted")
	}
}

func TestSecretsAreNotWritten(t *testing.T) {
	t.Parallel()
	e := &Experiment{}
	e.Config.Deployment = map[string]any{
		"name":        "azure",
		"credentials": map[string]any{"subscription_id": "sub", "password": "s3cr3t", "appId": "s3cr3t"},
		"resources": map[string]any{
			"storage_accounts": []any{map[string]any{"account_name": "a", "connection_string": "s3cr3t"}},
			"cosmosdb_account": map[string]any{"credential": "s3cr3t", "url": "u"},
			"storage":          map[string]any{"access_key": "s3cr3t", "secret_key": ""},
			"docker_password":  "s3cr3t",
		},
	}
	var out bytes.Buffer
	if err := Write(&out, e); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "s3cr3t") {
		t.Errorf("a secret was written:\n%s", out.String())
	}
	for _, want := range []string{`"subscription_id": "sub"`, `"connection_string": "[REDACTED]"`, `"secret_key": ""`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing in:\n%s", want, out.String())
		}
	}
}

func TestReadAcceptsOlderForms(t *testing.T) {
	t.Parallel()
	const file = `{"_invocations":{"f":{},"g":{"r":{"billing":{"_billed_time":103,"_gb_seconds":0.02575,"_memory":256},"output":{},
		"provider_times":{"execution":102310.0,"initialization":0},"request_id":"r","stats":{"cold_start":true,"failure":false,"memory_used":71},
		"times":{"benchmark":1,"client":2,"client_begin":"2026-05-02 10:00:00","client_end":"2026-05-02 10:00:00.5","initialization":0}}}},
		"metrics":{"g":{"a":1}},"begin_time":1,"end_time":2.5,"result_bucket":"b","note":[1],
		"config":{"deployment":{"name":"aws","region":"us-east-1","resources":{"resources_id":"x1","benchmarks":"b1","storage_buckets":{"deployment":"d1"}}},
		"experiments":{"architecture":"x64","container_deployment":true,"type":"perf-cost","runtime":{"language":"python","version":"3.11"}}}}`
	e, err := Read(strings.NewReader(file), ReadOptions{Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Invocations["f"]; !ok || len(e.Invocations) != 2 {
		t.Errorf("functions = %v", e.Invocations)
	}
	inv := e.Invocations["g"]["r"]
	if *inv.ProviderTimes.ExecutionMicros != 102310 || inv.ProviderTimes.InitializationMicros != nil || *inv.Billing.GBSeconds != 0.02575 {
		t.Errorf("invocation = %+v", inv)
	}
	if inv.Times.ClientEnd.Sub(inv.Times.ClientBegin) != 500*time.Millisecond || inv.Times.HTTPStartupSeconds != nil {
		t.Errorf("times = %+v", inv.Times)
	}
	if string(e.Metrics["g"]) != `{"a":1}` || *e.ResultBucket != "b" || e.EndSeconds != 2.5 || string(e.Extra["note"]) != "[1]" {
		t.Errorf("header = %+v", e.Header)
	}
	c := e.Config
	if c.Experiments.SystemVariant != "container" || c.ResourcesID() != "x1" || c.Buckets()["deployment"] != "d1" || c.Buckets()["benchmarks"] != "b1" {
		t.Errorf("config = %+v", c)
	}
	if c.Experiments.Runtime.Variant != "default" || c.Experiments.Extra["type"] != "perf-cost" {
		t.Errorf("experiments = %+v", c.Experiments)
	}
}

func TestReadNamesWhereAFileIsWrong(t *testing.T) {
	t.Parallel()
	const inv = `{"billing":{},"output":{},"provider_times":{},"request_id":"r","stats":{},"times":{"client_begin":"2026-05-02 10:00:00","client_end":"2026-05-02 10:00:00"}}`
	wrap := func(inv string) string {
		return `{"_invocations":{"f":{"r":` + inv + `}},"begin_time":1,"end_time":2,"config":{"experiments":{}}}`
	}
	if _, err := Read(strings.NewReader(wrap(inv)), ReadOptions{}); err != nil {
		t.Fatalf("the smallest file is refused: %v", err)
	}
	for name, c := range map[string]struct{ file, path string }{
		"empty":          {"", ""},
		"truncated":      {`{"_invocations":{"f":{`, ""},
		"list":           {`[]`, ""},
		"no invocations": {`{"begin_time":1,"end_time":2,"config":{"experiments":{}}}`, "_invocations"},
		"no begin":       {`{"_invocations":{},"end_time":2,"config":{"experiments":{}}}`, "begin_time"},
		"no experiments": {`{"_invocations":{},"begin_time":1,"end_time":2,"config":{}}`, "config.experiments"},
		"bool as text":   {`{"_invocations":{},"begin_time":1,"end_time":2,"config":{"experiments":{"update_code":"x"}}}`, "config.experiments.update_code"},
		"no times":       {wrap(strings.Replace(inv, `"times"`, `"clock"`, 1)), "_invocations.f.r.times"},
		"no billing":     {wrap(strings.Replace(inv, `"billing"`, `"bill"`, 1)), "_invocations.f.r.billing"},
		"bad date":       {wrap(strings.Replace(inv, "2026-05-02 10:00:00", "yesterday", 1)), "_invocations.f.r.times.client_begin"},
		"stats as list":  {wrap(strings.Replace(inv, `"stats":{}`, `"stats":[]`, 1)), "_invocations.f.r.stats"},
		"trailing":       {wrap(inv) + "{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Read(strings.NewReader(c.file), ReadOptions{})
			var wrong *FormatError
			if !errors.As(err, &wrong) {
				t.Fatalf("error = %v", err)
			}
			if c.path != "" && !strings.HasPrefix(wrong.Path, c.path) {
				t.Errorf("path = %q, error %v", wrong.Path, err)
			}
		})
	}
}

func TestTimesThatAZoneSkipsSurvive(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("needs the time zone database")
	}
	for _, text := range []string{"2026-03-29 02:30:00.123456", "2026-10-25 02:30:00.000000", "2026-07-01 12:00:00.500000"} {
		parsed, err := ParseTime(text, zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := FormatTime(parsed); got != text {
			t.Errorf("%s prints as %s", text, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f, "experiments-503-local.json"))
	f.Add(sample(f, "perf-cost-warm_results.json"))
	f.Add([]byte(`{"_invocations":{},"begin_time":1,"end_time":2,"config":{"experiments":{}}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		e, err := Read(bytes.NewReader(file), ReadOptions{Zone: time.UTC})
		if err != nil {
			return
		}
		var first bytes.Buffer
		if err := Write(&first, e); err != nil {
			t.Fatalf("a file that was read cannot be written: %v", err)
		}
		again, err := Read(bytes.NewReader(first.Bytes()), ReadOptions{Zone: time.UTC})
		if err != nil {
			t.Fatalf("a written file cannot be read: %v\n%s", err, first.Bytes())
		}
		var second bytes.Buffer
		if err := Write(&second, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("writing is not stable:\n%s\n%s", first.Bytes(), second.Bytes())
		}
	})
}

func FuzzReadPerfCost(f *testing.F) {
	f.Add(sample(f, "perf-cost-result.csv"))
	f.Fuzz(func(t *testing.T, file []byte) {
		var rows int
		if ReadPerfCost(bytes.NewReader(file), func(PerfCostRow) error { rows++; return nil }) != nil {
			return
		}
		if lines := bytes.Count(file, []byte("\n")) + 1; rows > lines {
			t.Errorf("%d rows in %d lines", rows, lines)
		}
	})
}

func FuzzReadLocalDeployment(f *testing.F) {
	f.Add(sample(f, "local-start-out.json"))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := ReadLocalDeployment(bytes.NewReader(file))
		if err != nil {
			return
		}
		if err := WriteLocalDeployment(&bytes.Buffer{}, d); err != nil {
			t.Errorf("a file that was read cannot be written: %v", err)
		}
	})
}
