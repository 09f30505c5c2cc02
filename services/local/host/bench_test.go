package host_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/services/local/front"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/runtimeapi"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// quiet takes output and forgets it.
type quiet struct{}

func (quiet) Write(p []byte) (int, error) { return len(p), nil }
func (quiet) Cut()                        {}

const idle = "def handler(event, context):\n    return event\n"

// timed runs f and reports the median in milliseconds. What after does is not counted.
func timed(b *testing.B, f, after func()) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		f()
		times = append(times, time.Since(start))
		if after != nil {
			b.StopTimer()
			after()
			b.StartTimer()
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
}

// BenchmarkWarm compares an invocation through the platform with the same runtime driven directly: what lies between both is
// the platform's overhead.
func BenchmarkWarm(b *testing.B) {
	payload := []byte(`{"n": 1}`)
	b.Run("runtime directly", func(b *testing.B) {
		dir := stateDir(b)
		k := newProcessKind(b, dir)
		listener, err := runtimeapi.Listen(b.Context(), "127.0.0.1")
		if err != nil {
			b.Fatal(err)
		}
		api := runtimeapi.New(listener, nil)
		defer func() { _ = api.Close() }()
		task := unzip(b, dir)
		instance, err := k.Start(b.Context(), sandbox.Spec{
			ID: "direct", Function: "f", Runtime: python, TaskRoot: task, RuntimeRoot: writeRuntimes(b, filepath.Join(dir, "runtimes")),
			RuntimeAPI: "127.0.0.1:" + strconv.Itoa(api.Port()), MemoryMB: 2048, Output: quiet{},
		})
		if err != nil {
			b.Fatal(err)
		}
		<-api.Ready()
		timed(b, func() {
			_, how := api.Invoke(runtimeapi.Invocation{RequestID: "r", Deadline: time.Now().Add(time.Minute), Payload: payload}, instance.Done())
			if how != runtimeapi.Answered {
				b.Fatal("no answer")
			}
		}, nil)
		if err := instance.Kill(context.Background()); err != nil {
			b.Fatal(err)
		}
	})
	warm := func(b *testing.B) *host.Host {
		h := newHost(b, kinds["process"], nil)
		deploy(b, h, "f", idle, func(c *host.Config) { c.MemoryMB = 2048 })
		if _, err := h.Invoke(b.Context(), host.Call{Function: "f"}); err != nil {
			b.Fatal(err)
		}
		return h
	}
	b.Run("host", func(b *testing.B) {
		h := warm(b)
		timed(b, func() {
			if out, err := h.Invoke(b.Context(), host.Call{Function: "f", Payload: payload}); err != nil || out.Record.Cold {
				b.Fatal(err)
			}
		}, nil)
	})
	b.Run("http", func(b *testing.B) {
		h := warm(b)
		f, err := front.Listen(b.Context(), front.Options{Address: "127.0.0.1:0", Log: logger(b)})
		if err != nil {
			b.Fatal(err)
		}
		f.Serve(h)
		defer func() { _ = f.Shutdown(context.Background()) }()
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		url := f.FunctionURL("f")
		timed(b, func() {
			response, err := client.Post(url, "application/json", bytes.NewReader(payload))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				b.Fatal(response.Status)
			}
		}, nil)
	})
}

// unzip makes a task directory with the idle function, without the host's code store.
func unzip(b *testing.B, dir string) string {
	b.Helper()
	h := newHost(b, kinds["process"], nil)
	deploy(b, h, "f", idle, nil)
	found, err := filepath.Glob(filepath.Join(h.StateDir(), "code", "*"))
	if err != nil || len(found) != 1 {
		b.Fatalf("code directories %v, error %v", found, err)
	}
	return found[0]
}

// BenchmarkCold compares cold invocations with the bare start of the same interpreter, as a process and as a container.
func BenchmarkCold(b *testing.B) {
	for name, open := range kinds {
		b.Run(name, func(b *testing.B) {
			h := newHost(b, open, nil)
			deploy(b, h, "f", idle, func(c *host.Config) { c.KeepAlive = time.Millisecond })
			timed(b, func() {
				out, err := h.Invoke(b.Context(), host.Call{Function: "f"})
				if err != nil || !out.Record.Cold {
					b.Fatalf("outcome %+v, error %v", out, err)
				}
			}, func() {
				eventually(b, "eviction", func() bool {
					all, err := h.Sandboxes(b.Context(), "f")
					return err == nil && len(all) == 0
				})
			})
		})
	}
	b.Run("docker run", func(b *testing.B) {
		k := newDockerKind(b, stateDir(b))
		image := ""
		for _, o := range k.Runtimes(b.Context()) {
			if o.Language == "python" {
				image = o.Provider
				break
			}
		}
		timed(b, func() {
			if out, err := exec.CommandContext(b.Context(), "docker", "run", "--rm", image, "python3", "-c", "1").CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}, nil)
	})
}
