package experiments

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/internal/version"
)

// newProvenance tells which suite on which machine makes a run.
func newProvenance(request *experimentsv1.CreateRunRequest) *experimentsv1.Provenance {
	build := version.Get()
	// A request holds names of credentials, never their values, so it can be kept as it is.
	configuration, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(request)
	if err != nil {
		configuration = nil
	}
	memory, processor, kernel := hostFacts()
	return &experimentsv1.Provenance{
		SuiteVersion:      build.Version,
		SuiteRevision:     build.Commit,
		HostPlatform:      runtime.GOOS + "/" + runtime.GOARCH,
		HostProcessors:    int32(min(runtime.NumCPU(), 1<<30)), //nolint:gosec // Bounded on the left.
		HostMemoryBytes:   memory,
		HostProcessorName: processor,
		HostKernel:        kernel,
		Digests:           make(map[string]string),
		ConfigurationJson: string(configuration),
	}
}

// noteOrigin adds what other services know of a function's source and of where it runs. A run is not held up for it.
func (w *work) noteOrigin(ctx context.Context, source *builderv1.BenchmarkSource, ready *prepared) {
	if digest := lastPart(source.GetSource()); digest != "" {
		w.run.Provenance.Digests["source"] = digest
	} else if known, err := w.services.Builder.GetBenchmark(ctx, &builderv1.GetBenchmarkRequest{Name: "benchmarks/" + source.GetBenchmark()}); err == nil {
		w.run.Provenance.Digests["source"] = known.GetSourceDigest()
	} else {
		w.log.Debug("the digest of the source is not known", "benchmark", source.GetBenchmark(), "error", err)
	}
	if w.request.GetTarget().GetPlatform() != platformLocal {
		return
	}
	name := lastPart(ready.function.GetName())
	function, err := w.services.Local.GetLocalFunction(ctx, &localv1.GetLocalFunctionRequest{FunctionId: name})
	if err != nil {
		w.log.Debug("the kind of sandbox is not known", "function", name, "error", err)
		return
	}
	w.run.Provenance.Sandbox = strings.ToLower(strings.TrimPrefix(function.GetSandboxKind().String(), "SANDBOX_KIND_"))
}

// hostFacts reads what Linux tells about the machine; elsewhere the facts stay unknown.
func hostFacts() (memoryBytes int64, processor, kernel string) {
	if value := field("/proc/meminfo", "MemTotal"); value != "" {
		kib, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
		if err == nil {
			memoryBytes = kib << 10
		}
	}
	processor = field("/proc/cpuinfo", "model name")
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(raw))
	}
	return memoryBytes, processor, kernel
}

// field returns the value of the first line `name : value` of a file.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
