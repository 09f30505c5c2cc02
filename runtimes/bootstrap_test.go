package runtimes_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/runtimes/runtimetest"
)

// eachInterpreter runs a test in every language and version found, with the
// package of platform local. sources holds the function's source per language.
func eachInterpreter(t *testing.T, sources map[string]string, test func(t *testing.T, p *runtimetest.Process)) {
	t.Helper()
	eachInterpreterOn(t, "local", sources, test)
}

// eachPlatform is eachInterpreter with the packages of every platform. The
// names of its tests begin with the platform.
func eachPlatform(t *testing.T, sources map[string]string, test func(t *testing.T, p *runtimetest.Process)) {
	t.Helper()
	for _, platform := range []string{"local", "aws"} {
		t.Run(platform, func(t *testing.T) { eachInterpreterOn(t, platform, sources, test) })
	}
}

func eachInterpreterOn(t *testing.T, platform string, sources map[string]string, test func(t *testing.T, p *runtimetest.Process)) {
	t.Helper()
	all := runtimetest.Interpreters(t)
	entry := map[string]string{"nodejs": "function.js", "python": "function.py"}
	for language := range entry {
		if !slices.ContainsFunc(all, func(i runtimetest.Interpreter) bool { return i.Language == language }) {
			t.Run(language, func(t *testing.T) { t.Skipf("needs an interpreter of %s on PATH", language) })
		}
	}
	for _, i := range all {
		t.Run(i.String(), func(t *testing.T) {
			t.Parallel()
			test(t, runtimetest.NewOn(t, platform, i, map[string]string{entry[i.Language]: sources[i.Language]}))
		})
	}
}

// echo answers with the event it got and sleeps 20 ms.
var echo = map[string]string{
	"python": `
import time
def handler(event):
    print("working on", event.get("n"))
    time.sleep(0.02)
    return {"result": event}
`,
	"nodejs": `
exports.handler = async (event) => {
  console.log('working on', event.n);
  await new Promise((resolve) => setTimeout(resolve, 20));
  return { result: event };
};
`,
}

var timestampForm = regexp.MustCompile(`^\d{10}\.\d{6}$`)

func TestColdThenWarm(t *testing.T) {
	t.Parallel()
	eachPlatform(t, echo, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t, "cold_start=7")
		before := time.Now()
		first, second := p.Succeed(t, `{"n": 1}`), p.Succeed(t, `{"body": "{\"n\": 2}", "headers": {}}`)

		if !*first.IsCold || *second.IsCold {
			t.Errorf("is_cold %v then %v, want true then false", *first.IsCold, *second.IsCold)
		}
		if len(first.ContainerID) != 8 || first.ContainerID != second.ContainerID {
			t.Errorf("container ids %q and %q, want the same eight characters", first.ContainerID, second.ContainerID)
		}
		if first.RequestID != "request-1" || second.RequestID != "request-2" {
			t.Errorf("request ids %q and %q", first.RequestID, second.RequestID)
		}
		for n, a := range []runtimetest.Answer{first, second} {
			checkAnswer(t, a, n+1, before)
		}
		for deadline := time.Now().Add(runtimetest.Patience); !strings.Contains(p.Output.String(), "working on 2"); {
			if time.Now().After(deadline) {
				t.Fatalf("the function's output did not arrive: %q", p.Output)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func checkAnswer(t *testing.T, a runtimetest.Answer, n int, before time.Time) {
	t.Helper()
	if a.ResultsTime == nil || *a.ResultsTime != 0 || a.ColdStartVar == nil || *a.ColdStartVar != "7" {
		t.Errorf("results_time %v, cold_start_var %v, want 0 and 7", a.ResultsTime, a.ColdStartVar)
	}
	if !timestampForm.MatchString(a.Begin) || !timestampForm.MatchString(a.End) {
		t.Fatalf("begin %q, end %q: not seconds with microseconds", a.Begin, a.End)
	}
	begin, _ := strconv.ParseFloat(a.Begin, 64)
	end, _ := strconv.ParseFloat(a.End, 64)
	// Timers may end a little early; begin may be rounded down to a millisecond.
	if end-begin < 0.015 {
		t.Errorf("begin to end is %.6f s, less than the function's sleep", end-begin)
	}
	if start := float64(before.UnixMilli()) / 1000; begin < start-0.002 {
		t.Errorf("begin %.6f is before the test began at %.6f", begin, start)
	}
	var result struct {
		Result map[string]any `json:"result"`
	}
	if err := json.Unmarshal(a.Result, &result); err != nil {
		t.Fatal(err)
	}
	if result.Result["n"] != float64(n) {
		t.Errorf("the function saw n=%v, want %d", result.Result["n"], n)
	}
	if result.Result["request-id"] != a.RequestID {
		t.Errorf("the event's request-id is %v, want %s", result.Result["request-id"], a.RequestID)
	}
	if income, ok := result.Result["income-timestamp"].(float64); !ok || income > begin+0.002 {
		t.Errorf("income-timestamp %v is not before begin %v", result.Result["income-timestamp"], begin)
	}
}

func TestFailingFunction(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": `
def inner(event):
    return event["missing"]
def handler(event):
    if event.get("fail"):
        print("about to fail")
        return inner(event)
    return {"result": 1}
`,
		"nodejs": `
function inner() { throw new RangeError('no missing'); }
exports.handler = async (event) => {
  if (event.fail) { console.log('about to fail'); inner(); }
  return { result: 1 };
};
`,
	}
	eachPlatform(t, sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		f := p.Fail(t, `{"fail": true}`)
		wantType := map[string]string{"python": "KeyError", "nodejs": "RangeError"}[p.Language]
		if f.ErrorType != wantType || !strings.Contains(f.ErrorMessage, "missing") {
			t.Errorf("error %q: %q, want a %s about missing", f.ErrorType, f.ErrorMessage, wantType)
		}
		if stack := strings.Join(f.StackTrace, "\n"); !strings.Contains(stack, "inner") || strings.Contains(stack, "bootstrap.") {
			t.Errorf("stack of the function's own code:\n%s", stack)
		}
		// The sandbox goes on and is warm: the failed request was its first.
		if a := p.Succeed(t, `{}`); *a.IsCold {
			t.Error("the request after a failed one is cold")
		}
		if log := p.Output.String(); !strings.Contains(log, "about to fail") || !strings.Contains(log, wantType) {
			t.Errorf("the log lacks the function's output or the error: %q", log)
		}
		if f := p.Fail(t, `{broken`); f.ErrorType != "Runtime.UnmarshalError" {
			t.Errorf("a payload that is not JSON gives %q: %q", f.ErrorType, f.ErrorMessage)
		}
	})
}

func TestInitErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		sources map[string]string
		handler string
		kind    map[string]string
		message string
	}{
		{
			name:    "raises",
			sources: map[string]string{"python": "raise RuntimeError('no luck')", "nodejs": "throw new TypeError('no luck');"},
			kind:    map[string]string{"python": "RuntimeError", "nodejs": "TypeError"},
			message: "no luck",
		},
		{
			name:    "missing dependency",
			sources: map[string]string{"python": "import sebs_nowhere", "nodejs": "require('sebs_nowhere');"},
			kind:    map[string]string{"python": "Runtime.ImportModuleError", "nodejs": "Runtime.ImportModuleError"},
			message: "sebs_nowhere",
		},
		{
			name:    "syntax",
			sources: map[string]string{"python": "def handler(:", "nodejs": "exports.handler = async ( => {"},
			kind:    map[string]string{"python": "Runtime.UserCodeSyntaxError", "nodejs": "Runtime.UserCodeSyntaxError"},
			message: "",
		},
		{
			name:    "no such function",
			sources: echo,
			handler: "handler.other",
			kind:    map[string]string{"python": "Runtime.HandlerNotFound", "nodejs": "Runtime.HandlerNotFound"},
			message: "other",
		},
		{
			name:    "malformed handler",
			sources: echo,
			handler: "handler",
			kind:    map[string]string{"python": "Runtime.MalformedHandlerName", "nodejs": "Runtime.MalformedHandlerName"},
			message: "handler",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachInterpreter(t, tt.sources, func(t *testing.T, p *runtimetest.Process) {
				if tt.handler != "" {
					p.Start(t, "_HANDLER="+tt.handler)
				} else {
					p.Start(t)
				}
				d := p.Await(t)
				if d.Path != "init/error" {
					t.Fatalf("sent to %s: %s", d.Path, d.Body)
				}
				f := runtimetest.DecodeFailure(t, d)
				if f.ErrorType != tt.kind[p.Language] || !strings.Contains(f.ErrorMessage, tt.message) {
					t.Errorf("error %q: %q, want %q about %q", f.ErrorType, f.ErrorMessage, tt.kind[p.Language], tt.message)
				}
				if code := p.Exit(t); code == 0 {
					t.Error("exit code 0 after a failed start")
				}
			})
		})
	}
}

func TestResultThatIsNotJSON(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": `
def handler(event):
    values = {"set": {1, 2}, "nan": float("nan"), "bytes": b"x", "key": {(1, 2): 3}}
    loop = []
    loop.append(loop)
    values["loop"] = loop
    return {"result": values[event["kind"]]}
`,
		"nodejs": `
exports.handler = async (event) => {
  const loop = {};
  loop.self = loop;
  return { result: { bigint: 1n, loop }[event.kind] };
};
`,
	}
	kinds := map[string][]string{"python": {"set", "nan", "bytes", "key", "loop"}, "nodejs": {"bigint", "loop"}}
	eachInterpreter(t, sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		for _, kind := range kinds[p.Language] {
			f := p.Fail(t, fmt.Sprintf(`{"kind": %q}`, kind))
			if f.ErrorType != "Runtime.MarshalError" || !strings.Contains(f.ErrorMessage, "not JSON") {
				t.Errorf("%s: error %q: %q", kind, f.ErrorType, f.ErrorMessage)
			}
		}
	})
}

func TestLargePayload(t *testing.T) {
	t.Parallel()
	eachInterpreter(t, echo, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		text := strings.Repeat("0123456789abcdef", 6<<16) // 6 MiB
		a := p.Succeed(t, `{"n": 1, "text": "`+text+`", "more": "ü€😀"}`)
		var result struct {
			Result struct{ Text, More string } `json:"result"`
		}
		if err := json.Unmarshal(a.Result, &result); err != nil {
			t.Fatal(err)
		}
		if result.Result.Text != text || result.Result.More != "ü€😀" {
			t.Error("the payload did not come back as it was sent")
		}
	})
}

func TestFunctionThatEndsTheProcess(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": "import sys\ndef handler(event):\n    sys.exit(3)\n",
		"nodejs": "exports.handler = async () => { setTimeout(() => { throw new Error('late'); }, 1); await new Promise(() => {}); };\n",
	}
	eachInterpreter(t, sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		f := p.Fail(t, `{}`)
		want := map[string]string{"python": "Runtime.ExitError", "nodejs": "Runtime.UncaughtException"}[p.Language]
		if f.ErrorType != want {
			t.Errorf("error %q: %q, want %s", f.ErrorType, f.ErrorMessage, want)
		}
		if code := p.Exit(t); code == 0 {
			t.Error("exit code 0")
		}
	})
}

// chunks records what each read of a connection brought.
type chunks struct {
	net.Conn
	mu   sync.Mutex
	read [][]byte
}

func (c *chunks) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = append(c.read, bytes.Clone(b[:n]))
	return n, err
}

// TestConnectionUse checks on the wire what keeps a call below a millisecond:
// one connection for all requests and one write per message. It also answers
// in chunks, closes the connection between invocations once, which a bootstrap
// has to survive, and at last for good, which ends the process.
func TestConnectionUse(t *testing.T) {
	t.Parallel()
	eachInterpreter(t, echo, checkConnectionUse)
}

func checkConnectionUse(t *testing.T, p *runtimetest.Process) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t, "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	for connection := range 2 {
		raw, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn := &chunks{Conn: raw}
		if err := conn.SetDeadline(time.Now().Add(runtimetest.Patience)); err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReaderSize(conn, 1<<16)
		for i := range 3 {
			id := fmt.Sprintf("c%d-%d", connection, i)
			serveOnce(t, conn, reader, id)
		}
		if connection == 1 {
			// Nobody listens any more when the connection goes.
			_ = listener.Close()
		}
		_ = conn.Close()
		posts := 0
		for _, chunk := range conn.read {
			head, body, whole := bytes.Cut(chunk, []byte("\r\n\r\n"))
			if bytes.HasPrefix(head, []byte("POST")) {
				posts++
				if !whole || len(body) == 0 {
					t.Errorf("a message came in several writes; the first: %q", chunk)
				}
			}
		}
		if posts != 3 {
			t.Errorf("%d messages began with a read of their own, want 3", posts)
		}
	}
	if code := p.Exit(t); code == 0 {
		t.Error("exit code 0 after the host went away")
	}
}

// serveOnce hands out one invocation on a raw connection and takes its answer.
func serveOnce(t *testing.T, conn io.Writer, reader *bufio.Reader, id string) {
	t.Helper()
	request, err := http.ReadRequest(reader)
	if err != nil {
		t.Fatalf("%s: read the request for work: %v", id, err)
	}
	if request.Method != http.MethodGet {
		t.Fatalf("%s: %s %s, want a request for work", id, request.Method, request.URL)
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %s\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n4\r\n{\"n\"\r\n4\r\n: 1}\r\n0\r\n\r\n", id)
	if err != nil {
		t.Fatal(err)
	}
	request, err = http.ReadRequest(reader)
	if err != nil {
		t.Fatalf("%s: read the response: %v", id, err)
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := runtimetest.APIPrefix + "invocation/" + id + "/response"; request.URL.Path != want {
		t.Fatalf("answer sent to %s: %s, want %s", request.URL.Path, body, want)
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}
