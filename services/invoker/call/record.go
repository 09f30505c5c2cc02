package call

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// Identity says which invocation a record is about.
type Identity struct {
	// Run is the run, `runs/{id}`; empty for a single call.
	Run string
	// Invoker is the invoker that made the call.
	Invoker string
	// Sequence is the number in the run, from 0.
	Sequence int64
	// Attempt is the number of the attempt, from 1.
	Attempt int32
	// Phase is the phase of the run.
	Phase string
	// Scheduled is when the call was due; zero means when it began.
	Scheduled time.Time
}

// Record makes the record of a call: it reads the answer and classifies one that is no benchmark output.
func Record(identity Identity, target Target, outcome Outcome) *typev1.InvocationRecord {
	duration := outcome.End.Sub(outcome.Begin)
	// The end is the wall clock at the begin plus the monotonic duration, so that a clock that was set in between does no harm.
	begin, end := outcome.Begin, outcome.Begin.Add(duration)
	scheduled := identity.Scheduled
	if scheduled.IsZero() {
		scheduled = begin
	}
	record := &typev1.InvocationRecord{
		Run:             identity.Run,
		Function:        target.Function,
		Trigger:         target.Trigger.GetType(),
		Invoker:         identity.Invoker,
		Sequence:        identity.Sequence,
		Attempt:         max(identity.Attempt, 1),
		ScheduledUnixNs: scheduled.UnixNano(),
		StartedUnixNs:   begin.UnixNano(),
		FinishedUnixNs:  end.UnixNano(),
		HttpStatus:      int32(outcome.HTTPStatus), //nolint:gosec // An HTTP status has three digits.
		Phase:           identity.Phase,
		Result: &typev1.ExecutionResult{
			RequestId: outcome.RequestID,
			Times: &typev1.ExecutionTimes{
				ClientUs:    duration.Microseconds(),
				ClientBegin: timestamppb.New(begin),
				ClientEnd:   timestamppb.New(end),
			},
			Stats: &typev1.ExecutionStats{ColdStart: outcome.Cold},
		},
	}
	times := record.GetResult().GetTimes()
	if outcome.Startup != nil {
		times.HttpStartupSeconds = pointer(outcome.Startup.Seconds())
	}
	if outcome.FirstByte != nil {
		times.HttpFirstByteReturnSeconds = pointer(outcome.FirstByte.Seconds())
	}
	record.ErrorClass, record.ErrorMessage = outcome.Class, outcome.Message
	if outcome.Class == typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED {
		readAnswer(record, target, outcome.Answer)
	}
	addProvider(record.GetResult(), outcome)
	record.ErrorMessage = bounded(strings.ToValidUTF8(record.GetErrorMessage(), "�"))
	record.Result.Stats.Failure = record.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNSPECIFIED
	if record.GetResult().GetRequestId() == "" {
		record.Result.RequestId = fmt.Sprintf("failed-%d", identity.Sequence)
	}
	return record
}

// readAnswer fills in what the function answered, or why it cannot be used.
func readAnswer(record *typev1.InvocationRecord, target Target, answer []byte) {
	output, err := sebsformat.ParseBenchmarkOutput(answer)
	switch {
	case errors.Is(err, sebsformat.ErrFunctionFailed):
		record.ErrorClass, record.ErrorMessage = functionFailure("", answer, target)
		return
	case err != nil:
		record.ErrorClass = typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE
		record.ErrorMessage = fmt.Sprintf("function %s: %v; the wrapper has to answer request_id and is_cold beside result", target.FunctionID, err)
		return
	}
	result := record.GetResult()
	result.RequestId = requestID(target.Platform, output.RequestID)
	if fault := faultOf(output.Output); fault != "" {
		record.ErrorClass = typev1.ErrorClass_ERROR_CLASS_BAD_RESPONSE
		record.ErrorMessage = fmt.Sprintf("function %s %s; return an object with the field result, such as {\"result\": …}", target.FunctionID, fault)
	}
	result.OutputJson = string(output.Output)
	result.Stats.ColdStart = output.IsCold
	if micros, ok := output.BenchmarkMicros(); ok {
		result.Times.BenchmarkUs = pointer(micros)
	}
}

// faultOf tells what is wrong with the function's own part of an answer; empty if nothing is. It is an object with result,
// in answers of older wrappers behind output.
func faultOf(answer []byte) string {
	var wrapper struct {
		Result json.RawMessage `json:"result"`
	}
	if json.Unmarshal(answer, &wrapper) != nil || len(wrapper.Result) == 0 || string(wrapper.Result) == "null" {
		return "returned nothing"
	}
	var own map[string]json.RawMessage
	if json.Unmarshal(wrapper.Result, &own) != nil {
		return "returned " + excerpt(wrapper.Result) + ", which is not an object"
	}
	for _, field := range []string{"result", "measurement", "output"} {
		if _, ok := own[field]; ok {
			return ""
		}
	}
	return "returned " + excerpt(wrapper.Result) + ", which lacks the field result"
}

// requestID returns the id under which the platform's logs know the invocation: Google's header carries a span behind a slash.
func requestID(platform, id string) string {
	if platform != "gcp" {
		return id
	}
	trace, _, _ := strings.Cut(id, "/")
	return trace
}

// addProvider fills in what the platform measured.
func addProvider(result *typev1.ExecutionResult, outcome Outcome) {
	measured := outcome.Provider
	if measured == nil {
		return
	}
	if result.GetRequestId() == "" {
		result.RequestId = measured.RequestID
	}
	times := &typev1.ProviderTimes{}
	if measured.Duration != nil {
		times.ExecutionUs = pointer(measured.Duration.Microseconds())
	}
	if measured.Init != nil {
		times.InitializationUs = pointer(measured.Init.Microseconds())
	}
	result.ProviderTimes = times
	result.Stats.MemoryUsedMb = measured.MemoryUsedMB
	if measured.Cold != nil && result.GetOutputJson() == "" {
		result.Stats.ColdStart = *measured.Cold
	}
	if measured.Billed == nil || measured.MemoryMB == nil {
		return
	}
	memory, billed := int64(*measured.MemoryMB), measured.Billed.Milliseconds()
	result.Billing = &typev1.ExecutionBilling{
		MemoryMb:     &memory,
		BilledTimeMs: &billed,
		GbSeconds:    pointer(float64(memory) / 1024 * float64(billed) / 1000),
	}
}

// maxMessageBytes bounds what a record says about a failure: a function may answer an error of any length.
const maxMessageBytes = 4 << 10

func bounded(text string) string {
	if len(text) <= maxMessageBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessageBytes], "") + "…"
}

func pointer[T any](value T) *T { return &value }
