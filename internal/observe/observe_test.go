package observe_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/sebs-suite/sebs/internal/observe"
)

func TestLinesCarryRequestAndTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := observe.NewLogger(&out, observe.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(observe.WithRequestID(t.Context(), "r-1"), span)
	log.With("a", 1).WithGroup("g").InfoContext(ctx, "m", "b", 2)
	log.DebugContext(ctx, "not shown")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	group, _ := line["g"].(map[string]any)
	if line["a"] != 1.0 || group["b"] != 2.0 || group["request_id"] != "r-1" || group["trace_id"] != span.TraceID().String() {
		t.Errorf("wrote %s", out.String())
	}
}

func TestBadLogConfiguration(t *testing.T) {
	t.Parallel()
	for _, cfg := range []observe.LogConfig{{Level: "loud", Format: "text"}, {Level: "info", Format: "xml"}, {}} {
		if err := cfg.Validate(); err == nil {
			t.Errorf("%+v is good", cfg)
		}
		if _, err := observe.NewLogger(&bytes.Buffer{}, cfg); err == nil {
			t.Errorf("%+v makes a logger", cfg)
		}
	}
}

func TestRegistriesAreIndependent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "b"} {
		r, err := observe.NewRegistry(name)
		if err != nil {
			t.Fatal(err)
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range families {
			names = append(names, f.GetName())
		}
		if !strings.Contains(strings.Join(names, " "), "sebs_build_info") {
			t.Errorf("metrics of %s: %v", name, names)
		}
	}
}

func TestTracingWithoutACollectorHandsTracesOn(t *testing.T) {
	t.Parallel()
	tracing, err := observe.NewTracing(t.Context(), "test", observe.TraceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx, span := tracing.Provider.Tracer("t").Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), "s")
	defer span.End()
	if got := trace.SpanContextFromContext(ctx).TraceID(); got != parent.TraceID() {
		t.Errorf("the trace %s became %s", parent.TraceID(), got)
	}
	if err := tracing.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// A collector that is away must not hold up the start nor the end.
	away, err := observe.NewTracing(t.Context(), "test", observe.TraceConfig{Endpoint: "127.0.0.1:1", Insecure: true, SampleRatio: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := away.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
