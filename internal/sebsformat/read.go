package sebsformat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// FormatError tells where a file does not have SeBS's form.
type FormatError struct {
	// Path is the key path, such as config.experiments.runtime.
	Path string
	// Problem says what is wrong there.
	Problem string
}

// Error names the key path and the problem.
func (e *FormatError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return e.Path + ": " + e.Problem
}

func malformed(path, format string, args ...any) error {
	return &FormatError{Path: path, Problem: fmt.Sprintf(format, args...)}
}

// ReadOptions says how to read a result file.
type ReadOptions struct {
	// Zone is the time zone that the naive times of the file are in; nil means the machine's own.
	Zone *time.Location
}

func (o ReadOptions) zone() *time.Location {
	if o.Zone == nil {
		return time.Local
	}
	return o.Zone
}

// Read reads a result file as a whole. Both `_metrics` and `metrics` are accepted.
func Read(r io.Reader, opts ReadOptions) (*Experiment, error) {
	e := &Experiment{Invocations: make(map[string]map[string]*Invocation)}
	w := newWalker(r, opts, func(function, key string, inv *Invocation) error {
		e.Invocations[function][key] = inv
		return nil
	})
	// A function without invocations is kept too.
	w.function = func(name string) {
		if e.Invocations[name] == nil {
			e.Invocations[name] = make(map[string]*Invocation)
		}
	}
	if err := w.file(); err != nil {
		return nil, err
	}
	e.Header = *w.header
	return e, nil
}

// Walk reads a result file in constant memory: each is called for every invocation in the order of the file; the rest of the file is
// returned. Errors of each are returned as they are.
func Walk(r io.Reader, opts ReadOptions, each func(function, key string, inv *Invocation) error) (*Header, error) {
	w := newWalker(r, opts, each)
	if err := w.file(); err != nil {
		return nil, err
	}
	return w.header, nil
}

func newWalker(r io.Reader, opts ReadOptions, each func(function, key string, inv *Invocation) error) *walker {
	w := &walker{
		dec: json.NewDecoder(r), zone: opts.zone(), each: each, function: func(string) {}, header: &Header{}, seen: make(map[string]bool),
	}
	w.dec.UseNumber()
	return w
}

type walker struct {
	dec  *json.Decoder
	zone *time.Location
	each func(function, key string, inv *Invocation) error
	// function is told every function before its invocations.
	function func(name string)
	header   *Header
	seen     map[string]bool
}

func (w *walker) syntax(path string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed(path, "the file ends too early (byte %d); it is not a complete result file", w.dec.InputOffset())
	}
	return malformed(path, "not JSON at byte %d: %v", w.dec.InputOffset(), err)
}

// object walks the members of the object that comes next.
func (w *walker) object(path string, member func(key string) error) error {
	token, err := w.dec.Token()
	if err != nil {
		return w.syntax(path, err)
	}
	if token != json.Delim('{') {
		return malformed(path, "must be an object")
	}
	for w.dec.More() {
		token, err := w.dec.Token()
		if err != nil {
			return w.syntax(path, err)
		}
		key, ok := token.(string)
		if !ok {
			return malformed(path, "must have string keys")
		}
		if err := member(key); err != nil {
			return err
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return w.syntax(path, err)
	}
	return nil
}

func (w *walker) decode(path string, into any) error {
	err := w.dec.Decode(into)
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return malformed(join(path, wrongType.Field), "must be %s, not %s", typeName(wrongType.Type.Kind().String()), wrongType.Value)
	}
	if err != nil {
		return w.syntax(path, err)
	}
	return nil
}

func typeName(kind string) string {
	switch kind {
	case "int64", "float64":
		return "a number"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	case "slice":
		return "a list"
	default:
		return "an object"
	}
}

func join(path, field string) string {
	switch {
	case field == "":
		return path
	case path == "":
		return field
	default:
		return path + "." + field
	}
}

func (w *walker) file() error {
	if err := w.object("", w.topLevel); err != nil {
		return err
	}
	for _, required := range []string{"_invocations", "begin_time", "end_time", "config"} {
		if !w.seen[required] {
			return malformed(required, "is missing; a file written by `benchmark invoke` has it")
		}
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("", "there is more after the end of the JSON document (byte %d)", w.dec.InputOffset())
	}
	return nil
}

func (w *walker) topLevel(key string) error {
	w.seen[key] = true
	h := w.header
	switch key {
	case "_invocations":
		return w.invocations()
	case "_metrics", "metrics":
		return w.decode(key, &h.Metrics)
	case "begin_time":
		return w.seconds(key, &h.BeginSeconds)
	case "end_time":
		return w.seconds(key, &h.EndSeconds)
	case "result_bucket":
		return w.decode(key, &h.ResultBucket)
	case "config":
		return w.config()
	case "statistics":
		return w.statistics()
	default:
		var raw json.RawMessage
		if err := w.decode(key, &raw); err != nil {
			return err
		}
		if h.Extra == nil {
			h.Extra = make(map[string]json.RawMessage)
		}
		h.Extra[key] = raw
		return nil
	}
}

func (w *walker) seconds(key string, into *float64) error {
	if err := w.decode(key, into); err != nil {
		return err
	}
	if math.IsNaN(*into) || math.IsInf(*into, 0) {
		return malformed(key, "must be seconds since 1970")
	}
	return nil
}

func (w *walker) invocations() error {
	return w.object("_invocations", func(function string) error {
		path := "_invocations." + function
		w.function(function)
		return w.object(path, func(key string) error {
			inv, err := w.invocation(path + "." + key)
			if err != nil {
				return err
			}
			return w.each(function, key, inv)
		})
	})
}

// wireInvocation has the file's keys; pointers tell absent objects.
type wireInvocation struct {
	Billing *struct {
		BilledTime *json.Number `json:"_billed_time"`
		GBSeconds  *json.Number `json:"_gb_seconds"`
		Memory     *json.Number `json:"_memory"`
	} `json:"billing"`
	Output        *json.RawMessage `json:"output"`
	ProviderTimes *struct {
		Execution      json.Number `json:"execution"`
		Initialization json.Number `json:"initialization"`
	} `json:"provider_times"`
	RequestID *string `json:"request_id"`
	Stats     *struct {
		ColdStart  bool     `json:"cold_start"`
		Failure    bool     `json:"failure"`
		MemoryUsed *float64 `json:"memory_used"`
	} `json:"stats"`
	Times *struct {
		Benchmark           json.Number `json:"benchmark"`
		Client              json.Number `json:"client"`
		ClientBegin         string      `json:"client_begin"`
		ClientEnd           string      `json:"client_end"`
		HTTPFirstByteReturn *float64    `json:"http_first_byte_return"`
		HTTPStartup         *float64    `json:"http_startup"`
		Initialization      json.Number `json:"initialization"`
	} `json:"times"`
}

func (w *walker) invocation(path string) (*Invocation, error) {
	var wire wireInvocation
	if err := w.decode(path, &wire); err != nil {
		return nil, err
	}
	return wire.convert(path, w.zone)
}

// ReadInvocation reads one invocation object.
func ReadInvocation(raw []byte, opts ReadOptions) (*Invocation, error) {
	w := &walker{dec: json.NewDecoder(bytes.NewReader(raw)), zone: opts.zone()}
	w.dec.UseNumber()
	return w.invocation("")
}

func (wire *wireInvocation) convert(path string, zone *time.Location) (*Invocation, error) {
	for _, part := range []struct {
		name    string
		present bool
	}{
		{"billing", wire.Billing != nil}, {"provider_times", wire.ProviderTimes != nil},
		{"stats", wire.Stats != nil}, {"times", wire.Times != nil},
	} {
		if !part.present {
			return nil, malformed(join(path, part.name), "is missing")
		}
	}
	n := numbers{path: path}
	inv := &Invocation{
		Billing: Billing{
			BilledTimeMS: n.optionalInt("billing._billed_time", wire.Billing.BilledTime),
			MemoryMB:     n.optionalInt("billing._memory", wire.Billing.Memory),
			GBSeconds:    n.optionalFloat("billing._gb_seconds", wire.Billing.GBSeconds),
		},
		ProviderTimes: ProviderTimes{
			ExecutionMicros:      n.nonZero("provider_times.execution", wire.ProviderTimes.Execution),
			InitializationMicros: n.nonZero("provider_times.initialization", wire.ProviderTimes.Initialization),
		},
		Stats: Stats{ColdStart: wire.Stats.ColdStart, Failure: wire.Stats.Failure, MemoryUsedMB: wire.Stats.MemoryUsed},
		Times: Times{
			BenchmarkMicros:            n.int("times.benchmark", wire.Times.Benchmark),
			ClientMicros:               n.int("times.client", wire.Times.Client),
			HTTPFirstByteReturnSeconds: wire.Times.HTTPFirstByteReturn,
			HTTPStartupSeconds:         wire.Times.HTTPStartup,
			InitializationMicros:       n.int("times.initialization", wire.Times.Initialization),
			ClientBegin:                n.time("times.client_begin", wire.Times.ClientBegin, zone),
			ClientEnd:                  n.time("times.client_end", wire.Times.ClientEnd, zone),
		},
	}
	if wire.RequestID != nil {
		inv.RequestID = *wire.RequestID
	}
	if wire.Output != nil {
		inv.Output = *wire.Output
	}
	// SeBS writes 0 for unknown GB-seconds; a real figure always comes with a billed time.
	if inv.Billing.BilledTimeMS == nil && inv.Billing.GBSeconds != nil && *inv.Billing.GBSeconds == 0 {
		inv.Billing.GBSeconds = nil
	}
	return inv, n.err
}

// numbers converts literals and keeps the first problem. Whole-number fields also take floats with a zero fraction, which
// other tools write.
type numbers struct {
	path string
	err  error
}

func (n *numbers) fail(field, problem string) {
	if n.err == nil {
		n.err = malformed(join(n.path, field), "%s", problem)
	}
}

func (n *numbers) int(field string, literal json.Number) int64 {
	if literal == "" {
		return 0
	}
	if i, err := literal.Int64(); err == nil {
		return i
	}
	f, err := literal.Float64()
	if err != nil || math.Abs(f) > math.MaxInt64/2 {
		n.fail(field, "must be a whole number, not "+literal.String())
		return 0
	}
	return int64(math.Round(f))
}

func (n *numbers) nonZero(field string, literal json.Number) *int64 {
	if i := n.int(field, literal); i != 0 {
		return &i
	}
	return nil
}

func (n *numbers) optionalInt(field string, literal *json.Number) *int64 {
	if literal == nil {
		return nil
	}
	i := n.int(field, *literal)
	return &i
}

func (n *numbers) optionalFloat(field string, literal *json.Number) *float64 {
	if literal == nil {
		return nil
	}
	f, err := literal.Float64()
	if err != nil {
		n.fail(field, "must be a number, not "+literal.String())
		return nil
	}
	return &f
}

func (n *numbers) time(field, text string, zone *time.Location) time.Time {
	if text == "" {
		n.fail(field, "is missing")
		return time.Time{}
	}
	t, err := ParseTime(text, zone)
	if err != nil {
		n.fail(field, err.Error())
	}
	return t
}

func (w *walker) statistics() error {
	var wire struct {
		ColdCount        int64             `json:"cold_count"`
		Failures         []string          `json:"failures"`
		FailuresCount    int64             `json:"failures_count"`
		Incorrect        []*wireInvocation `json:"incorrect"`
		IncorrectCount   int64             `json:"incorrect_count"`
		SamplesGenerated int64             `json:"samples_generated"`
	}
	if err := w.decode("statistics", &wire); err != nil {
		return err
	}
	s := &PerfCostStatistics{
		ColdCount: wire.ColdCount, Failures: wire.Failures, FailuresCount: wire.FailuresCount,
		IncorrectCount: wire.IncorrectCount, SamplesGenerated: wire.SamplesGenerated,
	}
	for i, raw := range wire.Incorrect {
		path := fmt.Sprintf("statistics.incorrect[%d]", i)
		if raw == nil {
			return malformed(path, "must be an object")
		}
		inv, err := raw.convert(path, w.zone)
		if err != nil {
			return err
		}
		s.Incorrect = append(s.Incorrect, inv)
	}
	w.header.Statistics = s
	return nil
}

func (w *walker) config() error {
	var wire struct {
		Deployment  map[string]any `json:"deployment"`
		Experiments map[string]any `json:"experiments"`
	}
	if err := w.decode("config", &wire); err != nil {
		return err
	}
	if wire.Experiments == nil {
		return malformed("config.experiments", "is missing")
	}
	experiments, err := experimentsFromTree(wire.Experiments)
	if err != nil {
		return err
	}
	w.header.Config = Config{Deployment: wire.Deployment, Experiments: *experiments}
	return nil
}

// experimentsFromTree reads config.experiments, with the legacy container_deployment in the place of system_variant.
func experimentsFromTree(tree map[string]any) (*ExperimentsConfig, error) {
	o := newObject("config.experiments", tree, &problems{})
	c := &ExperimentsConfig{
		Architecture:    o.text("architecture", ""),
		DownloadResults: o.boolean("download_results", false),
		UpdateCode:      o.boolean("update_code", false),
		UpdateStorage:   o.boolean("update_storage", false),
		SystemVariant:   o.text("system_variant", ""),
		Experiments:     o.tree("experiments"),
		Flags:           o.flags("flags"),
	}
	if runtime := o.object("runtime"); runtime != nil {
		c.Runtime = Runtime{
			Language: runtime.text("language", ""),
			Version:  runtime.text("version", ""),
			Variant:  runtime.text("language-variant", "default"),
		}
	}
	if o.has("container_deployment") {
		if container := o.boolean("container_deployment", false); c.SystemVariant == "" {
			c.SystemVariant = "package"
			if container {
				c.SystemVariant = "container"
			}
		}
	}
	for key, value := range o.rest() {
		if c.Extra == nil {
			c.Extra = make(map[string]any)
		}
		c.Extra[key] = value
	}
	return c, o.problems.err()
}
