package sebsformat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Platforms that a user configuration can name.
var platforms = []string{"aws", "azure", "gcp", "local", "openwhisk"}

// UserConfig is a SeBS user configuration (config.json), or the same in YAML.
type UserConfig struct {
	// Platform is deployment.name, or what the options said.
	Platform string
	// Region and ResourcesID are those of the platform's block; empty where it has none.
	Region      string
	ResourcesID string
	// Buckets by role: deployment, benchmarks, experiments.
	Buckets map[string]string
	// Experiments is the block of that name.
	Experiments UserExperiments
	// The block of the platform; the others are nil.
	AWS       *AWSConfig
	Azure     *AzureConfig
	GCP       *GCPConfig
	OpenWhisk *OpenWhiskConfig
	Local     *LocalConfig
	// Warnings tell what was ignored or understood in an older spelling.
	Warnings []string
}

// UserExperiments is the `experiments` block. Pointers are nil where the file says nothing.
type UserExperiments struct {
	UpdateCode      *bool
	UpdateStorage   *bool
	DownloadResults *bool
	Architecture    string
	SystemVariant   string
	// Runtime has an empty language where the file has no runtime.
	Runtime Runtime
	Flags   map[string]bool
	// Benchmark and Type are informational.
	Benchmark, Type string
	// Blocks holds the blocks of experiments as they stand in the file, by name; result files repeat them.
	Blocks map[string]any

	PerfCost           *PerfCostConfig
	NetworkPingPong    *NetworkPingPongConfig
	InvocationOverhead *InvocationOverheadConfig
	EvictionModel      *EvictionModelConfig
}

// PerfCostConfig is the `perf-cost` block.
type PerfCostConfig struct {
	Benchmark string
	// Experiments are the run types: cold, warm, burst, sequential.
	Experiments           []string
	InputSize             string
	Repetitions           int
	ConcurrentInvocations int
	// MemorySizesMB is empty to keep the function's own memory.
	MemorySizesMB []int
}

// NetworkPingPongConfig is the `network-ping-pong` block.
type NetworkPingPongConfig struct {
	Invocations, Repetitions, Threads int
}

// InvocationOverheadConfig is the `invocation-overhead` block.
type InvocationOverheadConfig struct {
	Repetitions, N int
	// Type is payload or code.
	Type string
	// Payload and Code are linear spaces of sizes in bytes.
	Payload, Code SizeRange
}

// SizeRange is a linear space of sizes in bytes.
type SizeRange struct {
	BeginBytes, EndBytes, Points int
}

// EvictionModelConfig is the `eviction-model` block.
type EvictionModelConfig struct {
	Invocations, Repetitions, FunctionCopyIdx, SleepSeconds, ClientPort int
}

// UserConfigOptions says how to read a user configuration.
type UserConfigOptions struct {
	// Platform takes the place of deployment.name, as the command line does; empty leaves the file's.
	Platform string
	// Region takes the place of a region of AWS that the file does not name, as the SDK's variable AWS_REGION does.
	Region string
}

// ReadUserConfig reads a user configuration in JSON or YAML. All that is wrong is reported at once, each with its key path and what to do;
// keys that nothing knows become warnings.
func ReadUserConfig(r io.Reader, opts UserConfigOptions) (*UserConfig, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	fields, err := configTreeOf(raw)
	if err != nil {
		return nil, err
	}
	found := &problems{}
	root := newObject("", fields, found)
	c := &UserConfig{Platform: opts.Platform}
	if e := root.object("experiments"); e != nil {
		c.Experiments = readExperiments(e)
	}
	deployment := root.object("deployment")
	if deployment != nil {
		named := deployment.choice("name", "", platforms...)
		if c.Platform == "" {
			c.Platform = named
		}
		c.readDeployment(deployment, opts.Region)
	}
	root.warnUnknown()
	if err := found.err(); err != nil {
		return nil, err
	}
	c.Warnings = found.warnings
	return c, nil
}

// configTreeOf parses JSON, or YAML where the text does not start as a JSON object.
func configTreeOf(raw []byte) (map[string]any, error) {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")))
	if len(trimmed) == 0 {
		return nil, malformed("", "the configuration is empty")
	}
	if trimmed[0] == '{' || trimmed[0] == '[' {
		tree, err := decodeStrict(trimmed)
		if err != nil {
			return nil, malformed("", "the configuration is not JSON: %v", err)
		}
		fields, ok := tree.(map[string]any)
		if !ok {
			return nil, malformed("", "the configuration must be an object with the keys experiments and deployment")
		}
		return fields, nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal(trimmed, &document); err != nil {
		return nil, malformed("", "the configuration is neither JSON nor YAML: %v", err)
	}
	if len(document.Content) != 1 {
		return nil, malformed("", "the configuration is empty")
	}
	tree, err := plainTree(document.Content[0])
	if err != nil {
		return nil, err
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil, malformed("", "the configuration must be an object with the keys experiments and deployment")
	}
	return fields, nil
}

// plainTree turns YAML into what the JSON decoder gives. Numbers keep their text: the version 3.10 is not 3.1.
func plainTree(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				return nil, malformed("", "line %d: a key must be a word", key.Line)
			}
			if _, twice := out[key.Value]; twice {
				return nil, malformed("", "line %d: the key %q stands here for the second time", key.Line, key.Value)
			}
			value, err := plainTree(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			out[key.Value] = value
		}
		return out, nil
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			value, err := plainTree(e)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	case yaml.ScalarNode:
		return plainScalar(n)
	default:
		return nil, malformed("", "line %d: anchors and aliases are not understood here; write the value out", n.Line)
	}
}

func plainScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, malformed("", "line %d: %v", n.Line, err)
		}
		return b, nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		// Forms that JSON does not have, such as 0x10 and 1_000.
		var f float64
		if err := n.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, malformed("", "line %d: %q is not a number that can be used here", n.Line, n.Value)
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
	default:
		return n.Value, nil
	}
}

var experimentBlocks = []string{"perf-cost", "network-ping-pong", "invocation-overhead", "eviction-model"}

func readExperiments(o *object) UserExperiments {
	e := UserExperiments{
		UpdateCode: o.optionalBoolean("update_code"), UpdateStorage: o.optionalBoolean("update_storage"),
		DownloadResults: o.optionalBoolean("download_results"),
		Architecture:    o.choice("architecture", "", "x64", "arm64"),
		SystemVariant:   o.choice("system_variant", "", "package", "container", "function-gen1", "function-gen2"),
		Flags:           o.flags("flags"), Benchmark: o.text("benchmark", ""), Type: o.text("type", ""),
		Blocks: make(map[string]any),
	}
	o.ignore("deployment")
	if o.has("container_deployment") {
		container := o.boolean("container_deployment", false)
		if e.SystemVariant == "" {
			e.SystemVariant = "package"
			if container {
				e.SystemVariant = "container"
			}
		}
		o.problems.warn("%s is an older form of system_variant; it was read as %q", join(o.path, "container_deployment"), e.SystemVariant)
	}
	if runtime := o.object("runtime"); runtime != nil {
		e.Runtime = Runtime{
			Language: runtime.choice("language", "", "python", "nodejs", "java", "cpp"),
			Version:  runtime.scalarText("version", ""), Variant: runtime.text("language-variant", "default"),
		}
		runtime.warnUnknown()
	}
	readBlocks(o, &e)
	// Result files keep the blocks one level deeper.
	if nested := o.object("experiments"); nested != nil {
		readBlocks(nested, &e)
		nested.warnUnknown()
	}
	o.warnUnknown()
	return e
}

func readBlocks(o *object, e *UserExperiments) {
	for _, name := range experimentBlocks {
		if block := o.object(name); block != nil {
			e.Blocks[name] = block.fields
		}
	}
	if b := o.object("perf-cost"); b != nil {
		e.PerfCost = &PerfCostConfig{
			Benchmark: b.text("benchmark", ""), Experiments: b.texts("experiments"),
			InputSize:   b.choice("input-size", "test", "test", "small", "large"),
			Repetitions: b.natural("repetitions", 50, 1), ConcurrentInvocations: b.natural("concurrent-invocations", 50, 1),
			MemorySizesMB: b.integers("memory-sizes"),
		}
		for i, kind := range e.PerfCost.Experiments {
			if !slices.Contains([]string{"cold", "warm", "burst", "sequential"}, kind) {
				b.problems.add(fmt.Sprintf("%s[%d]", join(b.path, "experiments"), i), "is %q; use one of cold, warm, burst, sequential", kind)
			}
		}
		for i, memory := range e.PerfCost.MemorySizesMB {
			if memory < 1 {
				b.problems.add(fmt.Sprintf("%s[%d]", join(b.path, "memory-sizes"), i), "is %d; give the memory in MB, such as 256", memory)
			}
		}
		b.warnUnknown()
	}
	if b := o.object("network-ping-pong"); b != nil {
		e.NetworkPingPong = &NetworkPingPongConfig{
			Invocations: b.natural("invocations", 50, 1), Repetitions: b.natural("repetitions", 1000, 1), Threads: b.natural("threads", 1, 1),
		}
		b.warnUnknown()
	}
	if b := o.object("invocation-overhead"); b != nil {
		e.InvocationOverhead = readInvocationOverhead(b)
	}
	if b := o.object("eviction-model"); b != nil {
		e.EvictionModel = &EvictionModelConfig{
			Invocations: b.natural("invocations", 1, 1), Repetitions: b.natural("repetitions", 5, 1),
			FunctionCopyIdx: b.natural("function_copy_idx", 0, 0), SleepSeconds: b.natural("sleep", 1, 0),
			ClientPort: b.natural("client-port", 0, 0),
		}
		b.warnUnknown()
	}
}

// readInvocationOverhead takes code_* (SeBS's sample) as well as code_package_* (SeBS's code).
func readInvocationOverhead(b *object) *InvocationOverheadConfig {
	const (
		payloadBegin, payloadEnd, codeBegin, codeEnd, points = 1024, 6251000, 1048576, 261619712, 20
	)
	c := &InvocationOverheadConfig{
		Repetitions: b.natural("repetitions", 5, 1), N: b.natural("N", 20, 1), Type: b.choice("type", "payload", "payload", "code"),
		Payload: SizeRange{
			BeginBytes: b.natural("payload_begin", payloadBegin, 0), EndBytes: b.natural("payload_end", payloadEnd, 0),
			Points: b.natural("payload_points", points, 1),
		},
	}
	older := SizeRange{
		BeginBytes: b.natural("code_begin", codeBegin, 0), EndBytes: b.natural("code_end", codeEnd, 0), Points: b.natural("code_points", points, 1),
	}
	c.Code = SizeRange{
		BeginBytes: b.natural("code_package_begin", older.BeginBytes, 0), EndBytes: b.natural("code_package_end", older.EndBytes, 0),
		Points: b.natural("code_package_points", older.Points, 1),
	}
	for name, r := range map[string]SizeRange{"payload": c.Payload, "code": c.Code} {
		if r.EndBytes < r.BeginBytes {
			b.problems.add(b.path, "%s_end is %d, below %s_begin (%d)", name, r.EndBytes, name, r.BeginBytes)
		}
	}
	b.warnUnknown()
	return c
}
