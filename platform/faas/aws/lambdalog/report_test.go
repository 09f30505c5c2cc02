package lambdalog_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var update = flag.Bool("update", false, "write the golden files anew")

const requestID = "8f507cfc-1d5a-4697-b07a-ac58fc914c95"

func ptr[T any](v T) *T { return &v }

func ms(v float64) *time.Duration { return ptr(time.Duration(v*1e6+0.5) * time.Nanosecond) }

func TestParseReport(t *testing.T) {
	t.Parallel()
	cold := lambdalog.Report{
		RequestID: requestID, Duration: ms(15.74), Billed: ms(147), MemoryMB: ptr(128), MaxMemoryUsedMB: ptr(56.0), Init: ms(130.49),
	}
	traced := cold
	traced.TraceID, traced.SegmentID, traced.Sampled = "1-5e34a614-10bd0a1fb44f07bc535a1abc", "07f52f6d1d6f8512", ptr(true)
	const line = "REPORT RequestId: " + requestID + "\tDuration: 15.74 ms\tBilled Duration: 147 ms\tMemory Size: 128 MB\tMax Memory Used: 56 MB\tInit Duration: 130.49 ms\t"
	const xray = "XRAY TraceId: 1-5e34a614-10bd0a1fb44f07bc535a1abc\tSegmentId: 07f52f6d1d6f8512\tSampled: true\t"
	for name, c := range map[string]struct {
		text string
		want lambdalog.Report
	}{
		"cold":                          {line, cold},
		"trace in the next line":        {line + "\n" + xray + "\n", traced},
		"trace in the same line":        {line + xray, traced},
		"trace with lines of a browser": {line + "\r\n" + xray + "\r\n", traced},
		"any order and unknown fields": {
			"REPORT RequestId: " + requestID + "\tInit Duration: 130.49 ms\tTenant: a: b\tMax Memory Used: 56 MB\tMemory Size: 128 MB\tBilled Duration: 147 ms\tnothing\tDuration: 15.74 ms",
			cold,
		},
		"blanks for tabs": {strings.ReplaceAll(line, "\t", "    "), cold},
		"after a stamp":   {"2026-05-02T10:00:00.000Z " + line, cold},
		"warm": {
			"REPORT RequestId: " + requestID + "\tDuration: 1.2 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 57 MB",
			lambdalog.Report{RequestID: requestID, Duration: ms(1.2), Billed: ms(2), MemoryMB: ptr(128), MaxMemoryUsedMB: ptr(57.0)},
		},
		"zero stays zero": {
			"REPORT RequestId: " + requestID + "\tDuration: 0.00 ms\tBilled Duration: 0 ms",
			lambdalog.Report{RequestID: requestID, Duration: ms(0), Billed: ms(0)},
		},
		"restored": {
			"REPORT RequestId: " + requestID + "\tDuration: 29.44 ms\tBilled Duration: 83 ms\tMemory Size: 1024 MB\tMax Memory Used: 109 MB\tRestore Duration: 616.43 ms\tBilled Restore Duration: 53 ms",
			lambdalog.Report{
				RequestID: requestID, Duration: ms(29.44), Billed: ms(83), MemoryMB: ptr(1024), MaxMemoryUsedMB: ptr(109.0),
				Restore: ms(616.43), BilledRestore: ms(53),
			},
		},
		"timeout": {
			"REPORT RequestId: " + requestID + "\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 32 MB\tStatus: timeout",
			lambdalog.Report{
				RequestID: requestID, Duration: ms(3000), Billed: ms(3000), MemoryMB: ptr(128), MaxMemoryUsedMB: ptr(32.0), Status: "timeout",
			},
		},
		"error": {
			"REPORT RequestId: " + requestID + "\tDuration: 9.00 ms\tStatus: error\tError Type: Runtime.ExitError",
			lambdalog.Report{RequestID: requestID, Duration: ms(9), Status: "error", ErrorType: "Runtime.ExitError"},
		},
		"only a name": {"REPORT RequestId: " + requestID, lambdalog.Report{RequestID: requestID}},
		"JSON": {
			`{"time":"2026-05-02T10:00:00.123Z","type":"platform.report","record":{"requestId":"` + requestID + `","metrics":{"durationMs":15.74,"billedDurationMs":147,"memorySizeMB":128,"maxMemoryUsedMB":56,"initDurationMs":130.49},"tracing":{"spanId":"4f5a","type":"X-Amzn-Trace-Id","value":"Root=1-62e900b2;Parent=76a;Sampled=0"},"status":"success"}}`,
			lambdalog.Report{
				RequestID: requestID, Duration: ms(15.74), Billed: ms(147), MemoryMB: ptr(128), MaxMemoryUsedMB: ptr(56.0), Init: ms(130.49),
				Status: "success", TraceID: "1-62e900b2", SegmentID: "76a", Sampled: ptr(false), Time: time.Date(2026, 5, 2, 10, 0, 0, 123e6, time.UTC),
			},
		},
		"JSON restored and failed": {
			`{"time":"2026-05-02T10:00:00Z","type":"platform.report","record":{"requestId":"` + requestID + `","metrics":{"durationMs":1,"restoreDurationMs":200.5,"billedRestoreDurationMs":20},"status":"error","errorType":"Runtime.Unknown"}}`,
			lambdalog.Report{
				RequestID: requestID, Duration: ms(1), Restore: ms(200.5), BilledRestore: ms(20), Status: "error", ErrorType: "Runtime.Unknown",
				Time: time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := lambdalog.ParseReport(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("the report differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseReportFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, names string }{
		"unit":          {"REPORT RequestId: a\tDuration: 15 s", "Duration"},
		"no number":     {"REPORT RequestId: a\tBilled Duration: many ms", "Billed Duration"},
		"not finite":    {"REPORT RequestId: a\tInit Duration: NaN ms", "Init Duration"},
		"negative":      {"REPORT RequestId: a\tDuration: -1 ms", "Duration"},
		"too long":      {"REPORT RequestId: a\tRestore Duration: 1e300 ms", "Restore Duration"},
		"memory":        {"REPORT RequestId: a\tMemory Size: 128.5 MB", "Memory Size"},
		"truth":         {"REPORT RequestId: a\tSampled: perhaps", "Sampled"},
		"JSON figure":   {`{"type":"platform.report","record":{"requestId":"a","metrics":{"durationMs":-1}}}`, "durationMs"},
		"JSON memory":   {`{"type":"platform.report","record":{"requestId":"a","metrics":{"memorySizeMB":0.5}}}`, "memorySizeMB"},
		"JSON cut off":  {`{"type":"platform.report","record":{"requestId":"a","metrics":{"dur`, "JSON format"},
		"JSON of texts": {`{"type":"platform.report","record":{"requestId":"a","metrics":{"durationMs":"1"}}}`, "JSON format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := lambdalog.ParseReport(c.text)
			if err == nil || errors.Is(err, lambdalog.ErrNoReport) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("the error is %v and has to name %s", err, c.names)
			}
		})
	}
	for name, text := range map[string]string{
		"empty":              "",
		"start":              "START RequestId: a Version: $LATEST",
		"no request":         "REPORT RequestId:\tDuration: 1 ms",
		"restoration alone":  "RESTORE_REPORT Restore Duration: 724.51 ms",
		"another JSON":       `{"time":"2026-05-02T10:00:00Z","type":"platform.start","record":{"requestId":"a"}}`,
		"quoted in JSON":     `{"level":"INFO","message":"REPORT RequestId: a\tDuration: 1 ms"}`,
		"speaks of a report": "waits for its platform.report",
	} {
		if report, err := lambdalog.ParseReport(text); !errors.Is(err, lambdalog.ErrNoReport) {
			t.Errorf("%s: got %+v and %v instead of no report", name, report, err)
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 2, 10, 0, 1, 0, time.UTC)
	for name, c := range map[string]struct {
		report lambdalog.Report
		at     time.Time
		want   driver.InvocationRecord
	}{
		"warm": {
			lambdalog.Report{RequestID: "a", Duration: ms(250), Billed: ms(250), MemoryMB: ptr(128), MaxMemoryUsedMB: ptr(40.0)}, at,
			driver.InvocationRecord{
				RequestID: "a", Time: at.Add(-250 * time.Millisecond), Duration: ms(250), Billed: ms(250), MemoryMB: ptr(128),
				MemoryUsedMB: ptr(40.0), Cold: ptr(false),
			},
		},
		"cold": {
			lambdalog.Report{RequestID: "a", Init: ms(100)}, at,
			driver.InvocationRecord{RequestID: "a", Time: at, Init: ms(100), Cold: ptr(true)},
		},
		"restored, at the report's own time": {
			lambdalog.Report{RequestID: "a", Restore: ms(30), Status: "success", Time: at}, time.Time{},
			driver.InvocationRecord{RequestID: "a", Time: at, Init: ms(30), Cold: ptr(true)},
		},
		"failed without a time": {
			lambdalog.Report{RequestID: "a", Duration: ms(1), Status: "error", ErrorType: "Runtime.ExitError"}, time.Time{},
			driver.InvocationRecord{RequestID: "a", Duration: ms(1), Cold: ptr(false), Error: "Runtime.ExitError"},
		},
		"timeout": {
			lambdalog.Report{RequestID: "a", Status: "timeout"}, time.Time{},
			driver.InvocationRecord{RequestID: "a", Cold: ptr(false), Error: "timeout"},
		},
	} {
		if diff := cmp.Diff(c.want, c.report.Record(c.at)); diff != "" {
			t.Errorf("%s: the record differs (-want +got):\n%s", name, diff)
		}
	}
}

// TestGoldenTails reads whole log tails in the forms that AWS documents.
func TestGoldenTails(t *testing.T) {
	t.Parallel()
	tails, err := filepath.Glob(filepath.Join("testdata", "*.log"))
	if err != nil || len(tails) == 0 {
		t.Fatalf("no tails: %v", err)
	}
	for _, tail := range tails {
		t.Run(filepath.Base(tail), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(tail)
			if err != nil {
				t.Fatal(err)
			}
			report, err := lambdalog.FindReport(string(text), requestID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(report, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := strings.TrimSuffix(tail, ".log") + ".golden.json"
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the report differs (-want +got):\n%s", diff)
			}
			if _, err := lambdalog.FindReport(string(text), "00000000-0000-4000-8000-000000000000"); !errors.Is(err, lambdalog.ErrNoReport) {
				t.Errorf("a request that is not in the tail gives %v", err)
			}
		})
	}
}

func FuzzParseReport(f *testing.F) {
	tails, err := filepath.Glob(filepath.Join("testdata", "*.log"))
	if err != nil {
		f.Fatal(err)
	}
	for _, tail := range tails {
		text, err := os.ReadFile(tail)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("REPORT RequestId: a\tDuration: 1e308 ms\tMemory Size: 99999999999 MB")
	f.Add(`{"type":"platform.report","record":{"requestId":"a","metrics":{"durationMs":1e308,"memorySizeMB":1e308}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		report, err := lambdalog.ParseReport(text)
		if errors.Is(err, lambdalog.ErrNoReport) {
			if report != (lambdalog.Report{}) {
				t.Errorf("no report, and yet %+v", report)
			}
			return
		}
		if err == nil && report.RequestID == "" {
			t.Error("a report of no request")
		}
		for _, d := range []*time.Duration{report.Duration, report.Billed, report.Init, report.Restore, report.BilledRestore} {
			if d != nil && (*d < 0 || *d > 24*time.Hour) {
				t.Errorf("a duration of %s", *d)
			}
		}
		if record := report.Record(time.Time{}); *record.Cold != (record.Init != nil) {
			t.Errorf("the record %+v is cold without an initialization, or warm with one", record)
		}
		again, err2 := lambdalog.FindReport(text, report.RequestID)
		if diff := cmp.Diff(report, again); diff != "" || (err == nil) != (err2 == nil) {
			t.Errorf("the same text gives another report by its id:\n%s", diff)
		}
	})
}
