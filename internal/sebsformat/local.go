package sebsformat

import (
	"encoding/json"
	"fmt"
	"io"
)

// LocalDeployment is the file that `local start` writes and `local stop` reads.
type LocalDeployment struct {
	Functions []LocalFunction
	// Inputs holds one payload per benchmark, as generated.
	Inputs []json.RawMessage
	// Storage is the flat configuration of the object store; nil when the benchmark needs none. Its secrets are redacted on writing.
	Storage map[string]any
	// MemoryMeasurements is nil unless memory is measured.
	MemoryMeasurements *MemoryMeasurements
	// Extra keeps further top-level keys, such as the id of the background suite.
	Extra map[string]any
}

// LocalFunction is one running function of a local deployment.
type LocalFunction struct {
	Name      string
	Benchmark string
	Hash      string
	Config    FunctionConfig
	// InstanceID identifies the sandbox.
	InstanceID string
	// URL is host:port without a scheme.
	URL  string
	Port int
	// Triggers holds SeBS trigger objects.
	Triggers []any
}

// FunctionConfig is the configuration of a deployed function.
type FunctionConfig struct {
	Architecture string
	MemoryMB     int64
	Runtime      Runtime
	// TimeoutSeconds is the function's time limit.
	TimeoutSeconds int64
}

// MemoryMeasurements tells where a running memory measurement writes.
type MemoryMeasurements struct {
	File string
	PIDs []int64
}

// WriteLocalDeployment writes the file of `local start`, with sorted keys and indent 2.
func WriteLocalDeployment(w io.Writer, d *LocalDeployment) error {
	functions := make([]any, len(d.Functions))
	for i, f := range d.Functions {
		functions[i] = map[string]any{
			"name": f.Name, "benchmark": f.Benchmark, "hash": f.Hash, "instance_id": f.InstanceID, "url": f.URL, "port": f.Port,
			"triggers": append([]any{}, f.Triggers...),
			"config": map[string]any{
				"architecture": f.Config.Architecture, "memory": f.Config.MemoryMB, "timeout": f.Config.TimeoutSeconds,
				"runtime": runtimeTree(f.Config.Runtime),
			},
		}
	}
	inputs := make([]any, len(d.Inputs))
	for i, input := range d.Inputs {
		inputs[i] = input
	}
	tree := map[string]any{"functions": functions, "inputs": inputs}
	if d.Storage != nil {
		tree["storage"] = Redact(d.Storage)
	}
	if m := d.MemoryMeasurements; m != nil {
		tree["memory_measurements"] = map[string]any{"file": m.File, "pids": append([]int64{}, m.PIDs...)}
	}
	for key, value := range Redact(d.Extra) {
		if _, known := tree[key]; !known {
			tree[key] = value
		}
	}
	return writeTree(w, tree, resultIndent)
}

func writeTree(w io.Writer, tree map[string]any, indent int) error {
	out := newJSONWriter(w, indent)
	out.value(tree)
	return out.flush()
}

// ReadLocalDeployment reads a file of `local start`.
func ReadLocalDeployment(r io.Reader) (*LocalDeployment, error) {
	fields, err := readObject(r)
	if err != nil {
		return nil, err
	}
	found := &problems{}
	o := newObject("", fields, found)
	d := &LocalDeployment{Storage: o.tree("storage")}
	for _, f := range o.objects("functions") {
		function := LocalFunction{
			Name: f.required("name", "the file must come from `local start`"), Benchmark: f.text("benchmark", ""), Hash: f.text("hash", ""),
			InstanceID: f.text("instance_id", ""), URL: f.text("url", ""), Port: f.integer("port", 0), Triggers: f.list("triggers"),
		}
		if c := f.object("config"); c != nil {
			function.Config = FunctionConfig{
				Architecture: c.text("architecture", ""), MemoryMB: int64(c.natural("memory", 0, 0)),
				TimeoutSeconds: int64(c.natural("timeout", 0, 0)),
			}
			if runtime := c.object("runtime"); runtime != nil {
				function.Config.Runtime = readRuntime(runtime)
			}
		}
		d.Functions = append(d.Functions, function)
	}
	for i, input := range o.list("inputs") {
		raw, err := json.Marshal(input)
		if err != nil {
			return nil, fmt.Errorf("inputs[%d]: %w", i, err)
		}
		d.Inputs = append(d.Inputs, raw)
	}
	if m := o.object("memory_measurements"); m != nil {
		d.MemoryMeasurements = &MemoryMeasurements{File: m.text("file", "")}
		for _, pid := range m.integers("pids") {
			d.MemoryMeasurements.PIDs = append(d.MemoryMeasurements.PIDs, int64(pid))
		}
	}
	if !o.has("functions") {
		found.add("functions", "is missing; the file must come from `local start`")
	}
	if rest := o.rest(); len(rest) > 0 {
		d.Extra = rest
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return d, nil
}

func readRuntime(o *object) Runtime {
	return Runtime{
		Language: o.text("language", ""), Version: o.scalarText("version", ""), Variant: o.text("language-variant", "default"),
	}
}

func readObject(r io.Reader) (map[string]any, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	tree, err := decodeTree(raw)
	if err != nil {
		return nil, malformed("", "not JSON: %v", err)
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil, malformed("", "the file must hold a JSON object")
	}
	return fields, nil
}

// MemoryProfile is the memory of one sandbox over time.
type MemoryProfile struct {
	InstanceID string
	// SamplesBytes holds one figure per measurement.
	SamplesBytes []int64
}

const (
	memoryIndent = 6
	bytesPerMB   = 1e6
)

// WriteMemoryStatistics writes the file of `local stop`: mean, maximum, count and profile per sandbox (MB are 10^6 bytes), and how often
// a measurement took longer than its interval, when that happened.
func WriteMemoryStatistics(w io.Writer, profiles []MemoryProfile, precisionErrors int) error {
	out := newJSONWriter(w, memoryIndent)
	out.beginObject()
	for _, p := range profiles {
		var sum float64
		var largest int64
		for _, b := range p.SamplesBytes {
			sum += float64(b)
			largest = max(largest, b)
		}
		mean := 0.0
		if len(p.SamplesBytes) > 0 {
			mean = sum / float64(len(p.SamplesBytes))
		}
		out.key(p.InstanceID)
		out.beginObject()
		out.key("mean mem. usage")
		out.string(PythonFloat(mean/bytesPerMB) + " MB")
		out.key("max mem. usage")
		out.string(PythonFloat(float64(largest)/bytesPerMB) + " MB")
		out.key("number of measurements")
		out.value(len(p.SamplesBytes))
		out.key("full profile (in bytes)")
		out.value(append([]int64{}, p.SamplesBytes...))
		out.endObject()
	}
	if precisionErrors > 0 {
		out.key("precision_errors")
		out.value(precisionErrors)
	}
	out.endObject()
	return out.flush()
}
