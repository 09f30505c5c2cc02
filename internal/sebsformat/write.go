package sebsformat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const resultIndent = 2

// Write writes the experiment in SeBS's form: sorted keys, indent 2, secrets redacted, no newline at the end, as json.dump leaves it.
func Write(w io.Writer, e *Experiment) error {
	out := NewWriter(w)
	for _, function := range sortedKeys(e.Invocations) {
		entries := e.Invocations[function]
		if err := out.Function(function); err != nil {
			return err
		}
		for _, key := range sortedKeys(entries) {
			if err := out.Invocation(key, entries[key]); err != nil {
				return err
			}
		}
	}
	return out.Finish(&e.Header)
}

// Writer writes a result file invocation by invocation, in constant memory. Functions, and the keys within one, must come in
// ascending order; Finish writes the rest.
type Writer struct {
	json         *jsonWriter
	started      bool
	inFunction   bool
	lastFunction string
	lastKey      string
	hasKey       bool
}

// NewWriter starts a result file on w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{json: newJSONWriter(w, resultIndent)}
}

func (w *Writer) start() {
	if w.started {
		return
	}
	w.started = true
	w.json.beginObject()
	w.json.key("_invocations")
	w.json.beginObject()
}

// Function starts the invocations of the next function.
func (w *Writer) Function(name string) error {
	w.start()
	if w.inFunction {
		if name <= w.lastFunction {
			return fmt.Errorf("write result file: function %q comes after %q; functions must be in ascending order", name, w.lastFunction)
		}
		w.json.endObject()
	}
	w.inFunction, w.lastFunction, w.hasKey = true, name, false
	w.json.key(name)
	w.json.beginObject()
	return w.json.err
}

// Invocation writes one invocation of the current function.
func (w *Writer) Invocation(key string, inv *Invocation) error {
	if !w.inFunction {
		return errors.New("write result file: Invocation called before Function")
	}
	if w.hasKey && key <= w.lastKey {
		return fmt.Errorf("write result file: key %q comes after %q; keys must be in ascending order", key, w.lastKey)
	}
	w.hasKey, w.lastKey = true, key
	w.json.key(key)
	w.json.invocation(inv)
	if w.json.err != nil {
		return fmt.Errorf("write invocation %s: %w", key, w.json.err)
	}
	return nil
}

// Finish writes everything but the invocations and flushes.
func (w *Writer) Finish(h *Header) error {
	w.start()
	if w.inFunction {
		w.json.endObject()
	}
	w.json.endObject()
	fields := map[string]any{
		"_metrics":      rawMap(h.Metrics),
		"begin_time":    h.BeginSeconds,
		"config":        configTree(&h.Config),
		"end_time":      h.EndSeconds,
		"result_bucket": optional(h.ResultBucket),
	}
	for key, value := range h.Extra {
		// A key that sorts before _invocations would break the order of a streamed file.
		if _, known := fields[key]; !known && key != "_invocations" && key != "statistics" {
			fields[key] = value
		}
	}
	if h.Statistics != nil {
		fields["statistics"] = h.Statistics
	}
	for _, key := range sortedKeys(fields) {
		w.json.key(key)
		if statistics, ok := fields[key].(*PerfCostStatistics); ok {
			w.json.perfCostStatistics(statistics)
			continue
		}
		w.json.value(fields[key])
	}
	w.json.endObject()
	if err := w.json.flush(); err != nil {
		return fmt.Errorf("write result file: %w", err)
	}
	return nil
}

// MarshalInvocation returns one invocation object in SeBS's form, as regression files and perf-cost's `incorrect` hold it.
func MarshalInvocation(w io.Writer, inv *Invocation) error {
	out := newJSONWriter(w, resultIndent)
	out.invocation(inv)
	return out.flush()
}

func (w *jsonWriter) invocation(inv *Invocation) {
	w.beginObject()
	w.key("billing")
	w.beginObject()
	w.key("_billed_time")
	w.value(optional(inv.Billing.BilledTimeMS))
	w.key("_gb_seconds")
	if inv.Billing.GBSeconds == nil {
		w.value(0)
	} else {
		w.value(*inv.Billing.GBSeconds)
	}
	w.key("_memory")
	w.value(optional(inv.Billing.MemoryMB))
	w.endObject()
	w.key("output")
	w.outputObject(inv.Output)
	w.key("provider_times")
	w.beginObject()
	w.key("execution")
	w.value(orZero(inv.ProviderTimes.ExecutionMicros))
	w.key("initialization")
	w.value(orZero(inv.ProviderTimes.InitializationMicros))
	w.endObject()
	w.key("request_id")
	w.string(inv.RequestID)
	w.key("stats")
	w.beginObject()
	w.key("cold_start")
	w.value(inv.Stats.ColdStart)
	w.key("failure")
	w.value(inv.Stats.Failure)
	w.key("memory_used")
	w.value(optional(inv.Stats.MemoryUsedMB))
	w.endObject()
	w.key("times")
	w.times(&inv.Times)
	w.endObject()
}

// outputObject writes an absent output as an empty object, as SeBS does for a failed call.
func (w *jsonWriter) outputObject(raw json.RawMessage) {
	if isAbsent(raw) {
		w.beginObject()
		w.endObject()
		return
	}
	w.rawMessage(raw)
}

func (w *jsonWriter) times(t *Times) {
	w.beginObject()
	w.key("benchmark")
	w.value(t.BenchmarkMicros)
	w.key("client")
	w.value(t.ClientMicros)
	w.key("client_begin")
	w.string(FormatTime(t.ClientBegin))
	w.key("client_end")
	w.string(FormatTime(t.ClientEnd))
	if t.HTTPFirstByteReturnSeconds != nil {
		w.key("http_first_byte_return")
		w.value(*t.HTTPFirstByteReturnSeconds)
	}
	if t.HTTPStartupSeconds != nil {
		w.key("http_startup")
		w.value(*t.HTTPStartupSeconds)
	}
	w.key("initialization")
	w.value(t.InitializationMicros)
	w.endObject()
}

func (w *jsonWriter) perfCostStatistics(s *PerfCostStatistics) {
	w.beginObject()
	w.key("cold_count")
	w.value(s.ColdCount)
	w.key("failures")
	w.value(append([]string{}, s.Failures...))
	w.key("failures_count")
	w.value(s.FailuresCount)
	w.key("incorrect")
	w.open("[")
	for _, inv := range s.Incorrect {
		w.element()
		w.invocation(inv)
	}
	w.close("]")
	w.key("incorrect_count")
	w.value(s.IncorrectCount)
	w.key("samples_generated")
	w.value(s.SamplesGenerated)
	w.endObject()
}

func configTree(c *Config) map[string]any {
	e := &c.Experiments
	experiments := map[string]any{
		"architecture":     e.Architecture,
		"download_results": e.DownloadResults,
		"experiments":      orEmpty(e.Experiments),
		"flags":            flagTree(e.Flags),
		"runtime":          runtimeTree(e.Runtime),
		"system_variant":   e.SystemVariant,
		"update_code":      e.UpdateCode,
		"update_storage":   e.UpdateStorage,
	}
	for key, value := range e.Extra {
		if _, known := experiments[key]; !known {
			experiments[key] = value
		}
	}
	return map[string]any{"deployment": Redact(orEmpty(c.Deployment)), "experiments": experiments}
}

func runtimeTree(r Runtime) map[string]any {
	variant := r.Variant
	if variant == "" {
		variant = "default"
	}
	return map[string]any{"language": r.Language, "language-variant": variant, "version": r.Version}
}

func flagTree(flags map[string]bool) map[string]any {
	tree := make(map[string]any, len(flags))
	for key, value := range flags {
		tree[key] = value
	}
	return tree
}

func rawMap(m map[string]json.RawMessage) map[string]any {
	tree := make(map[string]any, len(m))
	for key, value := range m {
		tree[key] = value
	}
	return tree
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

func orZero(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}
