package results

import (
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Row is one invocation as it stands in Parquet. Optional columns are null where the figure is unknown.
type Row struct {
	Run             string `parquet:"run,dict"`
	Function        string `parquet:"function,dict"`
	Trigger         string `parquet:"trigger,dict"`
	Invoker         string `parquet:"invoker,dict"`
	Phase           string `parquet:"phase,dict"`
	Sequence        int64  `parquet:"sequence,delta"`
	Attempt         int32  `parquet:"attempt"`
	ScheduledUnixNS int64  `parquet:"scheduled_unix_ns"`
	StartedUnixNS   int64  `parquet:"started_unix_ns"`
	FinishedUnixNS  int64  `parquet:"finished_unix_ns"`
	ErrorClass      string `parquet:"error_class,dict"`
	ErrorMessage    string `parquet:"error_message,dict"`
	HTTPStatus      int32  `parquet:"http_status"`

	RequestID  string `parquet:"request_id"`
	OutputJSON string `parquet:"output_json,zstd"`
	OutputRef  string `parquet:"output_ref,dict"`

	ClientUS                   int64    `parquet:"client_us"`
	ClientBeginUnixNS          int64    `parquet:"client_begin_unix_ns"`
	ClientEndUnixNS            int64    `parquet:"client_end_unix_ns"`
	BenchmarkUS                *int64   `parquet:"benchmark_us,optional"`
	InitializationUS           *int64   `parquet:"initialization_us,optional"`
	HTTPStartupSeconds         *float64 `parquet:"http_startup_seconds,optional"`
	HTTPFirstByteReturnSeconds *float64 `parquet:"http_first_byte_return_seconds,optional"`

	ProviderInitializationUS *int64 `parquet:"provider_initialization_us,optional"`
	ProviderExecutionUS      *int64 `parquet:"provider_execution_us,optional"`

	ColdStart    bool     `parquet:"cold_start"`
	Failure      bool     `parquet:"failure"`
	MemoryUsedMB *float64 `parquet:"memory_used_mb,optional"`

	BilledMemoryMB *int64   `parquet:"billed_memory_mb,optional"`
	BilledTimeMS   *int64   `parquet:"billed_time_ms,optional"`
	GBSeconds      *float64 `parquet:"gb_seconds,optional"`
	CostUSD        *float64 `parquet:"cost_usd,optional"`
	CostEstimated  bool     `parquet:"cost_estimated"`

	ComputeTimeUS  *float64 `parquet:"compute_time_us,optional"`
	UploadTimeUS   *float64 `parquet:"upload_time_us,optional"`
	DownloadTimeUS *float64 `parquet:"download_time_us,optional"`
}

// Prefixes of the names of enum values.
const (
	triggerPrefix = "TRIGGER_TYPE_"
	classPrefix   = "ERROR_CLASS_"
)

// word is how an enum value stands in a table: in lower case, without its prefix, and empty for none.
func word(value interface {
	Number() protoreflect.EnumNumber
	String() string
}, prefix string) string {
	if value.Number() == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

// name is the reverse of word.
func name(word, prefix string) string { return prefix + strings.ToUpper(word) }

// FromRecord makes the row of a record. The row shares the record's optional figures; the record must not change afterwards.
func FromRecord(r *typev1.InvocationRecord) Row {
	result := r.GetResult()
	row := Row{
		Run: r.GetRun(), Function: r.GetFunction(), Trigger: word(r.GetTrigger(), triggerPrefix), Invoker: r.GetInvoker(), Phase: r.GetPhase(),
		Sequence: r.GetSequence(), Attempt: r.GetAttempt(), ScheduledUnixNS: r.GetScheduledUnixNs(),
		StartedUnixNS: r.GetStartedUnixNs(), FinishedUnixNS: r.GetFinishedUnixNs(), ErrorClass: word(r.GetErrorClass(), classPrefix),
		ErrorMessage: r.GetErrorMessage(), HTTPStatus: r.GetHttpStatus(),
		RequestID: result.GetRequestId(), OutputJSON: result.GetOutputJson(), OutputRef: result.GetOutputRef(),
	}
	if t := result.GetTimes(); t != nil {
		row.ClientUS = t.GetClientUs()
		row.ClientBeginUnixNS, row.ClientEndUnixNS = unixNS(t.GetClientBegin()), unixNS(t.GetClientEnd())
		row.BenchmarkUS, row.InitializationUS = t.BenchmarkUs, t.InitializationUs
		row.HTTPStartupSeconds, row.HTTPFirstByteReturnSeconds = t.HttpStartupSeconds, t.HttpFirstByteReturnSeconds
	}
	if p := result.GetProviderTimes(); p != nil {
		row.ProviderInitializationUS, row.ProviderExecutionUS = p.InitializationUs, p.ExecutionUs
	}
	if s := result.GetStats(); s != nil {
		row.ColdStart, row.Failure, row.MemoryUsedMB = s.GetColdStart(), s.GetFailure(), s.MemoryUsedMb
	}
	if b := result.GetBilling(); b != nil {
		row.BilledMemoryMB, row.BilledTimeMS, row.GBSeconds = b.MemoryMb, b.BilledTimeMs, b.GbSeconds
		row.CostUSD, row.CostEstimated = b.CostUsd, b.GetCostEstimated()
	}
	row.ComputeTimeUS, row.UploadTimeUS, row.DownloadTimeUS = Measurements(row.OutputJSON)
	return row
}

// Record makes the record of a row.
func (row *Row) Record() *typev1.InvocationRecord {
	return &typev1.InvocationRecord{
		Run: row.Run, Function: row.Function, Trigger: typev1.TriggerType(typev1.TriggerType_value[name(row.Trigger, triggerPrefix)]), Invoker: row.Invoker, Phase: row.Phase,
		Sequence: row.Sequence, Attempt: row.Attempt, ScheduledUnixNs: row.ScheduledUnixNS,
		StartedUnixNs: row.StartedUnixNS, FinishedUnixNs: row.FinishedUnixNS,
		ErrorClass:   typev1.ErrorClass(typev1.ErrorClass_value[name(row.ErrorClass, classPrefix)]),
		ErrorMessage: row.ErrorMessage, HttpStatus: row.HTTPStatus,
		Result: &typev1.ExecutionResult{
			RequestId: row.RequestID, OutputJson: row.OutputJSON, OutputRef: row.OutputRef,
			Times: &typev1.ExecutionTimes{
				ClientUs: row.ClientUS, ClientBegin: timestamp(row.ClientBeginUnixNS), ClientEnd: timestamp(row.ClientEndUnixNS),
				BenchmarkUs: row.BenchmarkUS, InitializationUs: row.InitializationUS,
				HttpStartupSeconds: row.HTTPStartupSeconds, HttpFirstByteReturnSeconds: row.HTTPFirstByteReturnSeconds,
			},
			ProviderTimes: &typev1.ProviderTimes{InitializationUs: row.ProviderInitializationUS, ExecutionUs: row.ProviderExecutionUS},
			Stats:         &typev1.ExecutionStats{MemoryUsedMb: row.MemoryUsedMB, ColdStart: row.ColdStart, Failure: row.Failure},
			Billing: &typev1.ExecutionBilling{
				MemoryMb: row.BilledMemoryMB, BilledTimeMs: row.BilledTimeMS, GbSeconds: row.GBSeconds,
				CostUsd: row.CostUSD, CostEstimated: row.CostEstimated,
			},
		},
	}
}

// Provider holds what a platform measured of one invocation; nil is unknown.
type Provider struct {
	ExecutionUS      *int64
	InitializationUS *int64
	BilledTimeMS     *int64
	BilledMemoryMB   *int64
	MemoryUsedMB     *float64
	Cold             *bool
}

// mibPerGB is how many MB are billed as one GB.
const mibPerGB = 1024

// GBSeconds returns memory times billed time, and false when either is unknown.
func (p *Provider) GBSeconds() (float64, bool) {
	if p.BilledTimeMS == nil || p.BilledMemoryMB == nil {
		return 0, false
	}
	return float64(*p.BilledMemoryMB) / mibPerGB * float64(*p.BilledTimeMS) / 1000, true
}

// Apply takes over what the platform knows; unknown figures leave the row as it is.
func (row *Row) Apply(p *Provider) {
	row.ProviderExecutionUS = prefer(p.ExecutionUS, row.ProviderExecutionUS)
	row.ProviderInitializationUS = prefer(p.InitializationUS, row.ProviderInitializationUS)
	row.BilledTimeMS = prefer(p.BilledTimeMS, row.BilledTimeMS)
	row.BilledMemoryMB = prefer(p.BilledMemoryMB, row.BilledMemoryMB)
	row.MemoryUsedMB = prefer(p.MemoryUsedMB, row.MemoryUsedMB)
	if gbSeconds, ok := p.GBSeconds(); ok {
		row.GBSeconds = proto.Float64(gbSeconds)
	}
}

func prefer[T any](fresh, old *T) *T {
	if fresh != nil {
		return fresh
	}
	return old
}

func unixNS(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.GetSeconds()*int64(time.Second) + int64(t.GetNanos())
}

func timestamp(ns int64) *timestamppb.Timestamp {
	if ns == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, ns))
}

// Measurements takes the common measurements (microseconds) out of an output, in both nestings of SeBS; nil where there is none.
func Measurements(output string) (compute, upload, download *float64) {
	// Most outputs have none; parsing those would cost more than all else.
	if !strings.Contains(output, `"measurement"`) {
		return nil, nil, nil
	}
	type figures struct {
		Compute  *float64 `json:"compute_time"`
		Upload   *float64 `json:"upload_time"`
		Download *float64 `json:"download_time"`
	}
	var wire struct {
		Result struct {
			Measurement figures `json:"measurement"`
			Output      struct {
				Measurement figures `json:"measurement"`
			} `json:"output"`
		} `json:"result"`
	}
	// An output of another shape fills what it can.
	_ = json.Unmarshal([]byte(output), &wire)
	m := wire.Result.Measurement
	if m == (figures{}) {
		m = wire.Result.Output.Measurement
	}
	return m.Compute, m.Upload, m.Download
}
