package host_test

import (
	"cmp"
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInvoke(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "echo", echo, nil)
		report := regexp.MustCompile(`(?m)^REPORT RequestId: (\S+)\tDuration: [0-9.]+ ms\tBilled Duration: (\d+) ms\tMemory Size: 512 MB\tMax Memory Used: (\d+) MB\t(Init Duration: [0-9.]+ ms\t)?$`)
		for n := range 3 {
			out := invoke(t, h, "echo", `{"n": 7}`)
			r := out.Record
			var answer struct {
				Event struct{ N int } `json:"event"`
				UID   int             `json:"uid"`
				ID    string          `json:"id"`
			}
			if err := json.Unmarshal(out.Body, &answer); err != nil || r.Failure != "" {
				t.Fatalf("answer %s, failure %q, error %v", out.Body, r.Failure, err)
			}
			if answer.Event.N != 7 || answer.ID != r.RequestID || r.Cold != (n == 0) || (r.Init > 0) != r.Cold {
				t.Errorf("answer %+v to record %+v", answer, r)
			}
			if answer.UID == 0 {
				t.Error("the function ran as root")
			}
			m := report.FindStringSubmatch(out.Tail)
			if m == nil || m[1] != r.RequestID || m[2] != strconv.FormatInt(r.BilledMS, 10) || m[3] == "0" || (m[4] != "") != r.Cold {
				t.Errorf("no right REPORT line in\n%s", out.Tail)
			}
			if !strings.Contains(out.Tail, "working on {'n': 7}") || !strings.HasPrefix(out.Tail, "START RequestId: "+r.RequestID) {
				t.Errorf("log tail is\n%s", out.Tail)
			}
		}
		records, err := h.Records("echo", host.Query{})
		if err != nil || len(records) != 3 {
			t.Fatalf("%d records, error %v", len(records), err)
		}
		lines, err := h.Logs("echo", host.Query{RequestIDs: []string{records[1].RequestID}})
		if err != nil || len(lines) != 4 {
			t.Errorf("log of the second invocation: %v, error %v", lines, err)
		}
	})
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name, code, payload string
		memory              int
		timeout             time.Duration
		failure, typ        string
		says                string // in the error message
		log                 string // in the log tail
	}{
		{name: "raises", code: "def handler(e, c):\n    print('before')\n    raise KeyError('gone')", failure: "Unhandled", typ: "KeyError", says: "gone", log: "before"},
		{name: "import", code: "import nothing_of_that_name", failure: "InitError", typ: "Runtime.ImportModuleError", says: "nothing_of_that_name"},
		{name: "syntax", code: "def handler(:", failure: "InitError", typ: "Runtime.UserCodeSyntaxError", says: "handler.py"},
		{name: "exits", code: "import os, sys\ndef handler(e, c):\n    print('last words'); sys.stdout.flush(); os._exit(3)", failure: "Unhandled", typ: "Runtime.ExitError", says: "exit status 3", log: "last words"},
		{name: "exits in init", code: "import os\nprint('loading', flush=True)\nos._exit(4)", failure: "InitError", typ: "Runtime.ExitError", says: "exit status 4", log: "loading"},
		{name: "never returns", code: "import time\ndef handler(e, c):\n    print('waiting', flush=True)\n    while True: time.sleep(1)", timeout: time.Second, failure: "Timeout", typ: "Sandbox.Timedout", says: "Task timed out after 1.00 seconds", log: "waiting"},
		{name: "out of memory", code: "def handler(e, c):\n    x = []\n    while True: x.append(b'x' * (16 << 20))", memory: 64, failure: "OutOfMemory", typ: "Runtime.OutOfMemory", says: "64 MB"},
		{name: "too large", code: "def handler(e, c):\n    return 'x' * (7 << 20)", failure: "Unhandled", typ: "Function.ResponseSizeTooLarge", says: "6291456"},
		{name: "no json", code: "def handler(e, c):\n    return {1, 2}", failure: "Unhandled", says: "set"},
	}
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				name := strings.ReplaceAll(test.name, " ", "-")
				deploy(t, h, name, test.code, func(c *host.Config) {
					c.MemoryMB = cmp.Or(test.memory, c.MemoryMB)
					c.Timeout = cmp.Or(test.timeout, c.Timeout)
				})
				for range 2 { // what is left of the first failure must not harm the next invocation
					out := invoke(t, h, name, "{}")
					r := out.Record
					if r.Failure != test.failure || (test.typ != "" && r.ErrorType != test.typ) || !strings.Contains(r.ErrorMessage, test.says) {
						t.Errorf("failure %q, type %q, message %q", r.Failure, r.ErrorType, r.ErrorMessage)
					}
					var doc struct{ ErrorType, ErrorMessage, RequestID string }
					if err := json.Unmarshal(out.Body, &doc); err != nil || doc.ErrorMessage != r.ErrorMessage || doc.RequestID != r.RequestID {
						t.Errorf("error document %s: %v", out.Body, err)
					}
					if !strings.Contains(out.Tail, test.log) || !strings.Contains(out.Tail, "REPORT RequestId: "+r.RequestID) {
						t.Errorf("log tail is\n%s", out.Tail)
					}
				}
			})
		}
	})
}

func TestFloodOfOutput(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "flood", "import sys\ndef handler(e, c):\n    line = 'x' * 1023 + '\\n'\n    for _ in range(100 << 10): sys.stdout.write(line)\n    print('the end')\n    return 1", func(c *host.Config) {
			c.MemoryMB, c.Timeout = 2048, time.Minute
		})
		out := invoke(t, h, "flood", "{}")
		if out.Record.Failure != "" || len(out.Tail) > host.TailBytes || !strings.Contains(out.Tail, "the end") {
			t.Errorf("failure %q (%s), tail of %d bytes: …%s", out.Record.Failure, out.Record.ErrorMessage, len(out.Tail), out.Tail[max(0, len(out.Tail)-300):])
		}
		lines, err := h.Logs("flood", host.Query{})
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, l := range lines {
			size += len(l.Text)
		}
		if size > 256<<10 || !strings.Contains(lines[0].Text, "bytes of output before this line were dropped") {
			t.Errorf("%d bytes of log are kept, the first line is %q", size, lines[0].Text)
		}
	})
}

func TestThrottleAndScaleOut(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "slow", "import time\ndef handler(e, c):\n    time.sleep(e['s'])\n    return c.aws_request_id", func(c *host.Config) { c.MaxConcurrency = 2; c.MemoryMB = 1769 })
		invoke(t, h, "slow", `{"s": 0}`)
		var wg sync.WaitGroup
		outs := make([]*host.Outcome, 2)
		both := func(payload string) {
			for n := range outs {
				wg.Go(func() { outs[n] = invoke(t, h, "slow", payload) })
			}
		}
		both(`{"s": 1}`)
		wg.Wait()
		if outs[0].Record.Cold == outs[1].Record.Cold || outs[0].Record.Sandbox == outs[1].Record.Sandbox {
			t.Errorf("of two concurrent invocations one must be cold: %+v, %+v", outs[0].Record, outs[1].Record)
		}
		both(`{"s": 4}`)
		eventually(t, "two busy sandboxes", func() bool {
			all, err := h.Sandboxes(t.Context(), "slow")
			return err == nil && len(all) == 2 && all[0].Busy && all[1].Busy
		})
		_, err := h.Invoke(t.Context(), host.Call{Function: "slow", Payload: []byte(`{"s": 0}`)})
		if errs.Reason(err) != "THROTTLED" || !errs.Is(err, codes.ResourceExhausted) {
			t.Errorf("third concurrent invocation: %v", err)
		}
		// An event waits instead.
		id, err := h.InvokeEvent(host.Call{Function: "slow", Payload: []byte(`{"s": 0}`)})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		eventually(t, "the answer of the event", func() bool {
			body, err := h.Answer("slow", id)
			return err == nil && string(body) == `"`+id+`"`
		})
		records, err := h.Records("slow", host.Query{RequestIDs: []string{id}})
		if err != nil || len(records) != 1 || !records[0].Event || records[0].Cold {
			t.Errorf("records of the event: %+v, %v", records, err)
		}
	})
}

func TestColdStartEnforcementAndKeepAlive(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "f", "import os\ndef handler(e, c):\n    return os.environ.get('ForceColdStart', '')", nil)
		first := invoke(t, h, "f", "{}")
		c := host.Config{Runtime: python, MemoryMB: 256, Timeout: 20 * time.Second, Environment: map[string]string{"ForceColdStart": "1"}}
		if _, err := h.Configure(t.Context(), "f", c); err != nil {
			t.Fatal(err)
		}
		second := invoke(t, h, "f", "{}")
		if !second.Record.Cold || string(second.Body) != `"1"` || second.Record.Version != first.Record.Version+1 || second.Record.MemoryMB != 256 {
			t.Errorf("after a change of the configuration: %s, %+v", second.Body, second.Record)
		}
		if warm := invoke(t, h, "f", "{}"); warm.Record.Cold {
			t.Error("the third invocation must be warm")
		}
		c.KeepAlive = time.Millisecond
		if _, err := h.Configure(t.Context(), "f", c); err != nil {
			t.Fatal(err)
		}
		invoke(t, h, "f", "{}")
		eventually(t, "eviction", func() bool {
			all, err := h.Sandboxes(t.Context(), "f")
			return err == nil && len(all) == 0
		})
		if out := invoke(t, h, "f", "{}"); !out.Record.Cold {
			t.Error("after eviction the invocation must be cold")
		}
	})
}

func TestWarmAndMeasure(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "f", echo, nil)
		m, err := h.StartMeasurement([]string{"f"}, 5*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Warm(t.Context(), "f", 2); err != nil {
			t.Fatal(err)
		}
		if out := invoke(t, h, "f", "{}"); out.Record.Cold {
			t.Error("the function was warmed")
		}
		eventually(t, "memory of two sandboxes", func() bool {
			all, err := h.Sandboxes(t.Context(), "f")
			return err == nil && len(all) == 2 && all[0].MemoryBytes > 1<<20 && all[1].MemoryBytes > 1<<20
		})
		time.Sleep(50 * time.Millisecond) // samples gather
		got, err := h.StopMeasurement(m.ID)
		if err != nil || len(got.Profiles) != 2 || got.Profiles[0].Function != "f" || len(got.Profiles[0].Samples) == 0 {
			t.Errorf("measurement %+v, error %v", got, err)
		}
		if _, err := h.StopMeasurement(m.ID); !errs.Is(err, codes.NotFound) {
			t.Errorf("second stop: %v", err)
		}
	})
}

func TestRestartKeepsFunctions(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	open := kinds["process"]
	h := hostIn(t, dir, open, nil)
	deploy(t, h, "kept", "import os\ndef handler(e, c):\n    return os.environ['TOKEN']", func(c *host.Config) {
		c.Secrets = map[string]secret.String{"TOKEN": secret.New("s3cret")}
		c.Labels = map[string]string{"deployment": "d1"}
	})
	deploy(t, h, "gone", echo, nil)
	if err := h.Delete("gone"); err != nil {
		t.Fatal(err)
	}
	first := invoke(t, h, "kept", "{}")
	closeHost(t, h)

	h = hostIn(t, dir, open, nil)
	if _, _, err := h.Get("gone"); !errs.Is(err, codes.NotFound) {
		t.Errorf("deleted function: %v", err)
	}
	def, _, err := h.Get("kept")
	if err != nil || def.Config.Labels["deployment"] != "d1" || def.Version != 1 {
		t.Fatalf("definition %+v, error %v", def, err)
	}
	records, err := h.Records("kept", host.Query{RequestIDs: []string{first.Record.RequestID}})
	if err != nil || len(records) != 1 || records[0].BilledMS != first.Record.BilledMS {
		t.Errorf("records after restart: %+v, error %v", records, err)
	}
	lines, err := h.Logs("kept", host.Query{RequestIDs: []string{first.Record.RequestID}})
	if err != nil || len(lines) < 3 {
		t.Errorf("log after restart: %v, error %v", lines, err)
	}
	// A new version that names the secret without its value keeps it.
	if _, err := h.Configure(t.Context(), "kept", host.Config{Runtime: python, Secrets: map[string]secret.String{"TOKEN": {}}}); err != nil {
		t.Fatal(err)
	}
	if out := invoke(t, h, "kept", "{}"); string(out.Body) != `"s3cret"` {
		t.Errorf("answer %s", out.Body)
	}
}

func TestCloseEndsRunningFunctions(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		deploy(t, h, "f", "import time\ndef handler(e, c):\n    time.sleep(1000)", nil)
		done := make(chan *host.Outcome)
		go func() {
			out, err := h.Invoke(context.Background(), host.Call{Function: "f"})
			if err != nil {
				t.Error(err)
			}
			done <- out
		}()
		eventually(t, "a busy sandbox", func() bool {
			all, err := h.Sandboxes(t.Context(), "f")
			return err == nil && len(all) == 1 && all[0].Busy
		})
		closeHost(t, h)
		if out := <-done; out == nil || out.Record.ErrorType != "Sandbox.Stopped" {
			t.Errorf("outcome %+v", out)
		}
		if _, err := h.Invoke(context.Background(), host.Call{Function: "f"}); !errs.Is(err, codes.Unavailable) {
			t.Errorf("invocation of a closed host: %v", err)
		}
	})
}

func TestSecondHostIsRefused(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	h := hostIn(t, dir, kinds["process"], nil)
	_, err := host.New(host.Options{StateDir: dir, Kinds: h.Kinds(), Log: logger(t)})
	if errs.Reason(err) != "STATE_DIRECTORY_IN_USE" {
		t.Errorf("second host: %v", err)
	}
}

// TestCPUShare lets a function burn processor time. A loaded machine gives it less, never more.
func TestCPUShare(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		if reason := h.Kinds()[0].Capabilities().CPULimit; reason != "" {
			t.Skipf("needs control groups for processor time: %s", reason)
		}
		deploy(t, h, "burn", "import time\ndef handler(e, c):\n    t, p = time.monotonic(), time.process_time()\n    while time.monotonic() - t < 2: pass\n    return (time.process_time() - p) / (time.monotonic() - t)", func(c *host.Config) { c.MemoryMB = 177 })
		for n := range 2 {
			out := invoke(t, h, "burn", "{}")
			share, err := strconv.ParseFloat(string(out.Body), 64)
			if err != nil {
				t.Fatalf("answer %s", out.Body)
			}
			if n > 0 && share > 0.3 { // the share of a container may be set a moment after the first invocation has begun
				t.Errorf("with 177 of 1769 MB the function got %.2f processors", share)
			}
		}
	})
}

func TestNoEgress(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(t testing.TB, dir string) host.Kind { return openDocker(t, dir, true) }, nil)
	deploy(t, h, "out", "import socket\ndef handler(e, c):\n    try:\n        socket.create_connection((e['host'], 80), timeout=3)\n    except OSError:\n        return 'held back'", nil)
	// Where there is no way out at all, the test says little; the invocation itself shows that the Runtime API is within reach.
	if out := invoke(t, h, "out", `{"host": "192.0.2.77"}`); string(out.Body) != `"held back"` {
		t.Errorf("answer %s, failure %s", out.Body, out.Record.ErrorMessage)
	}
}

// TestNodejs runs the other language on both kinds.
func TestNodejs(t *testing.T) {
	eachKind(t, func(t *testing.T, newHost func(func(*host.Options)) *host.Host) {
		h := newHost(nil)
		nodejs := sandbox.Runtime{Language: "nodejs"}
		if err := h.Kinds()[0].Available(t.Context(), nodejs, ""); err != nil {
			t.Skipf("needs Node.js: %v", err)
		}
		// Large steps: a process that creeps up to its limit lives on for long by giving up pages of its own program.
		code := "exports.handler = async (event, context) => { console.log('hi'); if (event.grow) { const x = []; for (;;) x.push(Buffer.alloc(32 << 20, 1)); } return {n: event.n, id: context.awsRequestId}; }"
		c := host.Config{Runtime: nodejs, MemoryMB: 256, Timeout: 20 * time.Second}
		if _, err := h.Deploy(t.Context(), host.Spec{Name: "node", Config: c}, zipOf(t, map[string]string{"handler.js": code})); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			out := invoke(t, h, "node", `{"n": 5}`)
			if out.Record.Failure != "" || !strings.Contains(string(out.Body), `"n":5`) || !strings.Contains(out.Tail, "hi") {
				t.Errorf("answer %s, record %+v, log\n%s", out.Body, out.Record, out.Tail)
			}
		}
		if out := invoke(t, h, "node", `{"grow": true}`); out.Record.Failure != host.FailureOutOfMemory {
			t.Errorf("record %+v", out.Record)
		}
	})
}

func TestHostLimitEvictsIdleSandboxes(t *testing.T) {
	t.Parallel()
	h := newHost(t, kinds["process"], func(o *host.Options) { o.MaxSandboxes = 1 })
	deploy(t, h, "a", echo, nil)
	deploy(t, h, "b", echo, nil)
	for _, name := range []string{"a", "b", "a"} {
		if out := invoke(t, h, name, "{}"); out.Record.Failure != "" || !out.Record.Cold {
			t.Errorf("%s: %+v", name, out.Record)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	h := newHost(t, kinds["process"], nil)
	deploy(t, h, "f", "def handler(e, c):\n    return e['n']", func(c *host.Config) { c.MaxConcurrency = 4; c.MemoryMB = 1769 })
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 50 {
				want := strconv.Itoa(worker*1000 + n)
				out, err := h.Invoke(t.Context(), host.Call{Function: "f", Payload: []byte(`{"n": ` + want + `}`)})
				if err != nil || string(out.Body) != want {
					t.Errorf("invocation %s: %+v, error %v", want, out, err)
					return
				}
			}
		})
	}
	// Changes while invocations run: each version's sandboxes serve their own.
	for range 3 {
		if _, err := h.Configure(t.Context(), "f", host.Config{Runtime: python, MaxConcurrency: 8, MemoryMB: 1769}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	records, err := h.Records("f", host.Query{})
	if err != nil || len(records) != 200 {
		t.Errorf("%d records, error %v", len(records), err)
	}
}
