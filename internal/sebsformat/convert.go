package sebsformat

import (
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// failedPrefix starts the key of an invocation without a request id.
const failedPrefix = "failed-"

// FromResult makes the file's form of an execution result. The client's times are in the given zone (nil means the machine's own);
// figures that the result does not have are unknown in the file too, and 0 where the file knows no absence.
func FromResult(r *typev1.ExecutionResult, zone *time.Location) *Invocation {
	if zone == nil {
		zone = time.Local
	}
	times, provider, stats, billing := r.GetTimes(), r.GetProviderTimes(), r.GetStats(), r.GetBilling()
	inv := &Invocation{
		RequestID: r.GetRequestId(),
		Billing:   Billing{GBSeconds: clone(fieldOf(billing).GbSeconds), MemoryMB: clone(fieldOf(billing).MemoryMb), BilledTimeMS: clone(fieldOf(billing).BilledTimeMs)},
		ProviderTimes: ProviderTimes{
			ExecutionMicros:      clone(fieldOf(provider).ExecutionUs),
			InitializationMicros: clone(fieldOf(provider).InitializationUs),
		},
		Stats: Stats{ColdStart: stats.GetColdStart(), Failure: stats.GetFailure(), MemoryUsedMB: clone(fieldOf(stats).MemoryUsedMb)},
		Times: Times{
			BenchmarkMicros: times.GetBenchmarkUs(), ClientMicros: times.GetClientUs(),
			ClientBegin: times.GetClientBegin().AsTime().In(zone), ClientEnd: times.GetClientEnd().AsTime().In(zone),
			HTTPFirstByteReturnSeconds: clone(fieldOf(times).HttpFirstByteReturnSeconds),
			HTTPStartupSeconds:         clone(fieldOf(times).HttpStartupSeconds),
			InitializationMicros:       times.GetInitializationUs(),
		},
	}
	if strings.HasPrefix(inv.RequestID, failedPrefix) {
		inv.RequestID = ""
	}
	if output := r.GetOutputJson(); output != "" {
		inv.Output = json.RawMessage(output)
	}
	return inv
}

// FromRecord makes the file's form of an invocation record, with the client's times in the machine's own zone.
func FromRecord(r *typev1.InvocationRecord) *Invocation {
	result := r.GetResult()
	if result == nil {
		result = &typev1.ExecutionResult{Stats: &typev1.ExecutionStats{Failure: true}}
	}
	inv := FromResult(result, nil)
	// A call that failed early has no times of its own.
	if result.GetTimes().GetClientBegin() == nil {
		inv.Times.ClientBegin = time.Unix(0, r.GetStartedUnixNs())
	}
	if result.GetTimes().GetClientEnd() == nil {
		inv.Times.ClientEnd = time.Unix(0, r.GetFinishedUnixNs())
	}
	return inv
}

// fieldOf returns the message, or an empty one for nil, so that optional fields can be read without a check.
func fieldOf[M any](m *M) *M {
	if m == nil {
		return new(M)
	}
	return m
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// ToResult makes the message of an invocation that was read from a file.
func ToResult(inv *Invocation) *typev1.ExecutionResult {
	r := &typev1.ExecutionResult{
		RequestId:  inv.RequestID,
		OutputJson: string(inv.Output),
		Times: &typev1.ExecutionTimes{
			ClientUs: inv.Times.ClientMicros, ClientBegin: timestamppb.New(inv.Times.ClientBegin), ClientEnd: timestamppb.New(inv.Times.ClientEnd),
			BenchmarkUs: proto.Int64(inv.Times.BenchmarkMicros), HttpStartupSeconds: clone(inv.Times.HTTPStartupSeconds),
			HttpFirstByteReturnSeconds: clone(inv.Times.HTTPFirstByteReturnSeconds),
		},
		ProviderTimes: &typev1.ProviderTimes{
			ExecutionUs: clone(inv.ProviderTimes.ExecutionMicros), InitializationUs: clone(inv.ProviderTimes.InitializationMicros),
		},
		Stats: &typev1.ExecutionStats{
			MemoryUsedMb: clone(inv.Stats.MemoryUsedMB), ColdStart: inv.Stats.ColdStart, Failure: inv.Stats.Failure,
		},
		Billing: &typev1.ExecutionBilling{
			MemoryMb: clone(inv.Billing.MemoryMB), BilledTimeMs: clone(inv.Billing.BilledTimeMS), GbSeconds: clone(inv.Billing.GBSeconds),
		},
	}
	if inv.Times.InitializationMicros != 0 {
		r.Times.InitializationUs = proto.Int64(inv.Times.InitializationMicros)
	}
	if output := strings.TrimSpace(r.OutputJson); output == "{}" || output == "null" {
		r.OutputJson = ""
	}
	return r
}

// languages, architectures and variants are the words of SeBS files.
var (
	languages = map[typev1.Language]string{
		typev1.Language_LANGUAGE_PYTHON: "python", typev1.Language_LANGUAGE_NODEJS: "nodejs",
		typev1.Language_LANGUAGE_JAVA: "java", typev1.Language_LANGUAGE_CPP: "cpp",
	}
	architectures = map[typev1.Architecture]string{
		typev1.Architecture_ARCHITECTURE_X64: "x64", typev1.Architecture_ARCHITECTURE_ARM64: "arm64",
	}
	variants = map[typev1.SystemVariant]string{
		typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE: "package", typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER: "container",
		typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN1: "function-gen1", typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN2: "function-gen2",
	}
)

// LanguageName returns the word of SeBS files for a language, empty for none.
func LanguageName(l typev1.Language) string { return languages[l] }

// ArchitectureName returns the word of SeBS files for an architecture, empty for none.
func ArchitectureName(a typev1.Architecture) string { return architectures[a] }

// SystemVariantName returns the word of SeBS files for a system variant, empty for none.
func SystemVariantName(v typev1.SystemVariant) string { return variants[v] }

// ParseLanguage returns the language of a word, and false for an unknown one.
func ParseLanguage(word string) (typev1.Language, bool) { return lookup(languages, word) }

// ParseArchitecture returns the architecture of a word, and false for an unknown one.
func ParseArchitecture(word string) (typev1.Architecture, bool) { return lookup(architectures, word) }

// ParseSystemVariant returns the system variant of a word, and false for an unknown one.
func ParseSystemVariant(word string) (typev1.SystemVariant, bool) { return lookup(variants, word) }

func lookup[E comparable](words map[E]string, word string) (E, bool) {
	for value, w := range words {
		if w == word {
			return value, true
		}
	}
	var none E
	return none, false
}

// RuntimeFromProto makes the file's form of a runtime.
func RuntimeFromProto(r *typev1.Runtime) Runtime {
	variant := r.GetVariant()
	if variant == "" {
		variant = "default"
	}
	return Runtime{Language: LanguageName(r.GetLanguage()), Version: r.GetVersion(), Variant: variant}
}

// RuntimeToProto makes the message of a runtime; an unknown language stays unspecified.
func RuntimeToProto(r Runtime) *typev1.Runtime {
	language, _ := ParseLanguage(r.Language)
	return &typev1.Runtime{Language: language, Version: r.Version, Variant: r.Variant}
}
