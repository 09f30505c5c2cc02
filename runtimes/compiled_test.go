package runtimes_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sebs-suite/sebs/runtimes/runtimetest"
	"github.com/sebs-suite/sebs/runtimes/runtimetest/compiled"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
)

// The function of these tests does what the event's field kind says.
const (
	javaFunction = `package function;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

public class Function {
    public static class Bean {
        public int getAnswer() {
            return 42;
        }
    }

    static int inner(int depth) {
        return inner(depth + 1) + 1;
    }

    static Map<String, Object> fail() throws IOException {
        throw new IOException("no luck");
    }

    public Map<String, Object> handler(Map<String, Object> event) throws Exception {
        switch (String.valueOf(event.get("kind"))) {
            case "fail":
                System.out.print("about to fail");
                return fail();
            case "exit":
                System.exit(3);
                return null;
            case "nan":
                return Map.of("result", Double.NaN);
            case "bean":
                return Map.of("result", new Bean());
            case "stack":
                return Map.of("result", inner(0));
            case "memory":
                List<byte[]> all = new ArrayList<>();
                while (true) {
                    all.add(new byte[1 << 20]);
                }
            default:
                System.out.println("working on " + event.get("n"));
                Thread.sleep(20);
                return Map.of("result", event);
        }
    }
}
`
	javaBroken = `package function;

public class Broken {
    static {
        if (true) {
            throw new IllegalStateException("no luck");
        }
    }

    public Object handler(Object event) {
        return event;
    }
}
`
	cppFunction = `#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

#include <rapidjson/document.h>

#include "utils.hpp"

rapidjson::Document function(const rapidjson::Value& request) {
  rapidjson::Document answer(rapidjson::kObjectType);
  auto& memory = answer.GetAllocator();
  const std::string kind = request.HasMember("kind") ? request["kind"].GetString() : "";
  if (kind == "fail") {
    std::printf("about to fail");
    throw std::out_of_range("no luck");
  }
  if (kind == "error") {
    answer.AddMember("error", "no luck either", memory);
    return answer;
  }
  if (kind == "exit") {
    std::exit(3);
  }
  if (kind == "nan") {
    answer.AddMember("result", std::numeric_limits<double>::quiet_NaN(), memory);
    return answer;
  }
  if (kind == "text") {
    answer.AddMember("result", rapidjson::Value("\xff", memory), memory);
    return answer;
  }
  const uint64_t begin = timeSinceEpochMicrosec();
  if (request.HasMember("n")) {
    std::printf("working on %d\n", request["n"].GetInt());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  answer.AddMember("result", rapidjson::Value(request, memory), memory);
  rapidjson::Value measurement(rapidjson::kObjectType);
  measurement.AddMember("compute_time", timeSinceEpochMicrosec() - begin, memory);
  answer.AddMember("measurement", measurement, memory);
  return answer;
}
`
	javaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>f</groupId><artifactId>f</artifactId><version>1</version>
<properties><maven.compiler.release>${env.JAVA_VERSION}</maven.compiler.release></properties>
<dependencies><!-- PLATFORM_DEPENDENCIES --></dependencies><build><finalName>function</finalName><plugins>
<plugin><artifactId>maven-compiler-plugin</artifactId><version>3.13.0</version></plugin>
<plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
<plugin><artifactId>maven-surefire-plugin</artifactId><version>3.2.5</version></plugin>
<plugin><artifactId>maven-jar-plugin</artifactId><version>3.4.2</version></plugin>
<plugin><artifactId>maven-shade-plugin</artifactId><version>3.6.0</version><executions><execution><phase>package</phase>
<goals><goal>shade</goal></goals><configuration><createDependencyReducedPom>false</createDependencyReducedPom></configuration></execution></executions></plugin>
</plugins></build></project>`
)

// source is a benchmark of the function.
func source() benchmark.Benchmark {
	config := benchmark.Config{}
	for _, language := range compiled.Languages() {
		config.Languages = append(config.Languages, benchmark.Language{Name: language, Variants: []string{"default"}})
	}
	return benchmark.Benchmark{Name: "900.sample", Config: config, Source: fstest.MapFS{
		"java/pom.xml": {Data: []byte(javaPOM)}, "java/src/main/java/function/Function.java": {Data: []byte(javaFunction)},
		"java/src/main/java/function/Broken.java": {Data: []byte(javaBroken)}, "cpp/main.cpp": {Data: []byte(cppFunction)},
	}}
}

// checkFailure checks one failed invocation.
func checkFailure(t *testing.T, p *runtimetest.Process, payload, kind, message string) runtimetest.Failure {
	t.Helper()
	f := p.Fail(t, payload)
	if f.ErrorType != kind || !strings.Contains(f.ErrorMessage, message) {
		t.Errorf("%s: error %q: %q, want %q about %q", payload, f.ErrorType, f.ErrorMessage, kind, message)
	}
	return f
}

// checkLife serves what every language has to: cold and warm, wrapped payloads, large ones, ones that are not JSON.
func checkLife(t *testing.T, program compiled.Program, built compiled.Package) {
	t.Helper()
	p := start(t, program, built, "cold_start=7")
	before := time.Now()
	first, second := p.Succeed(t, `{"n": 1}`), p.Succeed(t, `{"body": "{\"n\": 2}", "headers": {}}`)
	if !*first.IsCold || *second.IsCold || len(first.ContainerID) != 8 || first.ContainerID != second.ContainerID {
		t.Errorf("is_cold %v then %v, containers %q and %q", *first.IsCold, *second.IsCold, first.ContainerID, second.ContainerID)
	}
	checkAnswer(t, first, 1, before)
	checkAnswer(t, second, 2, before)
	for _, broken := range []string{
		`{broken`, `{"n": 01}`, `{"n": .5}`, `{"n": 1.}`, `{"n": 1e}`, `{"n": -}`, `{"n": "\x"}`, `{"n": "\u12g4"}`, "{\"n\": \"\n\"}", `{"n": 1}}`, `{"n" 1}`,
		`{"n": [1,]}`, `{"n": 1,}`, `{"n": tru}`, `{"n": "`, `{n: 1}`, strings.Repeat("[", 1_000_000), strings.Repeat(`{"n":`, 5000) + "1" + strings.Repeat("}", 5000),
	} {
		if f := p.Fail(t, broken); f.ErrorType != "Runtime.UnmarshalError" || !strings.Contains(f.ErrorMessage, "not JSON") {
			t.Errorf("%.40s: error %q: %q", broken, f.ErrorType, f.ErrorMessage)
		}
	}
	if a := p.Succeed(t, ` { "n" : 4, "deep": `+strings.Repeat("[", 900)+strings.Repeat("]", 900)+`, "x": [{}, [ ], "\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"] } `); !strings.Contains(string(a.Result), `A😀`) {
		t.Errorf("escapes come back as %.300s", a.Result)
	}
	text := strings.Repeat("0123456789abcdef", 5<<16) // 5 MiB
	large := p.Succeed(t, `{"n": 3, "text": "`+text+`", "more": "ü€😀\u0001\"", "numbers": [0, -1, 1.5e3, 12345678901, null, true]}`)
	var result struct {
		Result struct {
			Text, More string
			Numbers    []any
		} `json:"result"`
	}
	if err := json.Unmarshal(large.Result, &result); err != nil {
		t.Fatal(err)
	}
	if result.Result.Text != text || result.Result.More != "ü€😀\u0001\"" || fmt.Sprint(result.Result.Numbers) != "[0 -1 1500 1.2345678901e+10 <nil> true]" {
		t.Errorf("the payload did not come back as it was sent: %q, %v", result.Result.More, result.Result.Numbers)
	}
	checkBodies(t, p)
	checkFailure(t, p, `{"Records": [{"s3": {}}]}`, map[string]string{"java": "java.lang.UnsupportedOperationException", "cpp": "Unsupported"}[p.Language], "upload notifications")
	for i := range 200 {
		if a := p.Succeed(t, `{"n": 1}`); *a.IsCold {
			t.Fatalf("call %d is cold", i)
		}
	}
	for deadline := time.Now().Add(runtimetest.Patience); !strings.Contains(p.Output.String(), "working on 2"); {
		if time.Now().After(deadline) {
			t.Fatalf("the function's output did not arrive: %q", p.Output)
		}
		time.Sleep(5 * time.Millisecond)
	}
	checkConnectionUse(t, program.Prepare(t, built))
}

// checkBodies serves events in the form of HTTP requests, whose body may be in base64.
func checkBodies(t *testing.T, p *runtimetest.Process) {
	t.Helper()
	event := func(body string, encoded any) string {
		raw, err := json.Marshal(map[string]any{"version": "2.0", "headers": map[string]string{}, "body": body, "isBase64Encoded": encoded})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	const text = `{"n": 5, "text": "ü€😀?~"}`
	padded := base64.StdEncoding.EncodeToString([]byte(text))
	for _, payload := range []string{
		event(text, false), event(text, nil), event(text, "true"), event(padded, true), event(strings.TrimRight(padded, "="), true),
		event(base64.StdEncoding.EncodeToString([]byte(text+" ")), true), event(base64.StdEncoding.EncodeToString([]byte(text+"  ")), true),
	} {
		var got struct {
			Result struct {
				N    int
				Text string
			} `json:"result"`
		}
		if err := json.Unmarshal(p.Succeed(t, payload).Result, &got); err != nil || got.Result.N != 5 || got.Result.Text != "ü€😀?~" {
			t.Errorf("event %s: the function saw %+v, %v", payload, got, err)
		}
	}
	kind := map[string]string{"java": "java.lang.IllegalArgumentException", "cpp": "Runtime.UnmarshalError"}[p.Language]
	for _, body := range []string{text, "e30=e30=", "e", "e30==", "e3==0", "====", "=", "e30\n", "e3-_"} {
		checkFailure(t, p, event(body, true), kind, "the request's body is not base64")
	}
	for _, document := range []string{"", "{broken", `{"n": 1} 2`, "{}\x00{", "{\"text\": \"\xff\"}", strings.Repeat("[", 100_000)} {
		checkFailure(t, p, event(base64.StdEncoding.EncodeToString([]byte(document)), true), kind, "the request's body is not JSON")
	}
	for _, body := range []string{"", "{broken", padded} {
		checkFailure(t, p, event(body, false), kind, "the request's body is not JSON")
	}
}

func start(t *testing.T, program compiled.Program, built compiled.Package, env ...string) *runtimetest.Process {
	t.Helper()
	p := program.Prepare(t, built)
	p.Start(t, env...)
	return p
}

func TestJava(t *testing.T) {
	t.Parallel()
	programs := compiled.Programs(t, "java")
	// The package that is uploaded to AWS, for the oldest version: every other one runs it too.
	built := compiled.Build(t, "aws", "java", "11", source())
	for _, program := range programs {
		t.Run(program.Version, func(t *testing.T) {
			t.Parallel()
			checkLife(t, program, built)
			checkJavaFailures(t, program, built)
			checkJavaInit(t, program, built)
		})
	}
}

func checkJavaFailures(t *testing.T, program compiled.Program, built compiled.Package) {
	t.Helper()
	p := start(t, program, built)
	f := checkFailure(t, p, `{"kind": "fail"}`, "java.io.IOException", "no luck")
	if stack := strings.Join(f.StackTrace, "\n"); !strings.Contains(stack, "function.Function.fail(Function.java:") || strings.Contains(stack, "bootstrap.") {
		t.Errorf("stack of the function's own code:\n%s", stack)
	}
	if a := p.Succeed(t, `{"n": 1}`); *a.IsCold {
		t.Error("the request after a failed one is cold")
	}
	if log := p.Output.String(); !strings.Contains(log, "about to fail") || !strings.Contains(log, "[ERROR] java.io.IOException: no luck") {
		t.Errorf("the log lacks the function's output or the error: %q", log)
	}
	checkFailure(t, p, `{"kind": "nan"}`, "java.lang.IllegalArgumentException", "NaN has no form in JSON")
	checkFailure(t, p, `[1]`, "Runtime.UnmarshalError", "java.util.Map")
	checkFailure(t, p, `{"kind": "stack"}`, "java.lang.StackOverflowError", "")
	if a := p.Succeed(t, `{"kind": "bean"}`); string(a.Result) != `{"result":{"answer":42}}` {
		t.Errorf("an object of the benchmark's own class becomes %s", a.Result)
	}
	checkFailure(t, p, `{"kind": "memory"}`, "java.lang.OutOfMemoryError", "heap")
	if code := p.Exit(t); code == 0 {
		t.Error("exit code 0 without memory")
	}
	p = start(t, program, built)
	checkFailure(t, p, `{"kind": "exit"}`, "Runtime.ExitError", "ended the process")
	if code := p.Exit(t); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

func checkJavaInit(t *testing.T, program compiled.Program, built compiled.Package) {
	t.Helper()
	for handler, want := range map[string][2]string{
		"::":                       {"Runtime.MalformedHandlerName", "<Class>::<method>"},
		"function.Nothing::x":      {"Runtime.ImportModuleError", "function.Nothing is not in the package"},
		"function.Function::other": {"Runtime.HandlerNotFound", "other"},
		"function.Broken::handler": {"java.lang.IllegalStateException", "no luck"},
		"org.serverlessbench.bootstrap.Bootstrap::main": {"Runtime.ImportModuleError", "is not in the package"},
	} {
		p := start(t, program, built, "_HANDLER="+handler)
		d := p.Await(t)
		if d.Path != "init/error" {
			t.Fatalf("%s: sent to %s: %s", handler, d.Path, d.Body)
		}
		if f := runtimetest.DecodeFailure(t, d); f.ErrorType != want[0] || !strings.Contains(f.ErrorMessage, want[1]) {
			t.Errorf("%s: error %q: %q, want %q about %q", handler, f.ErrorType, f.ErrorMessage, want[0], want[1])
		}
		if code := p.Exit(t); code == 0 {
			t.Errorf("%s: exit code 0 after a failed start", handler)
		}
	}
}

func TestCPP(t *testing.T) {
	t.Parallel()
	program := compiled.Programs(t, "cpp")[0]
	built := compiled.Build(t, "aws", "cpp", "all", source())
	checkLife(t, program, built)
	p := start(t, program, built)
	checkFailure(t, p, `{"kind": "fail"}`, "std::out_of_range", "no luck")
	if a := p.Succeed(t, `{"n": 1}`); *a.IsCold || !strings.Contains(string(a.Result), `"measurement":{"compute_time":2`) {
		t.Errorf("after a failed request: %+v, %s", a, a.Result)
	}
	checkFailure(t, p, `{"kind": "error"}`, "FunctionError", "no luck either")
	checkFailure(t, p, `{"kind": "nan"}`, "Runtime.MarshalError", "not JSON")
	checkFailure(t, p, `{"kind": "text"}`, "Runtime.MarshalError", "UTF-8")
	if log := p.Output.String(); !strings.Contains(log, "about to fail") || !strings.Contains(log, "[ERROR] std::out_of_range: no luck") {
		t.Errorf("the log lacks the function's output or the error: %q", log)
	}
	ended := start(t, program, built)
	ended.Hand(t, `{"kind": "exit"}`)
	if code := ended.Exit(t); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}
