package sebsformat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// BenchmarkOutput is what a function answered, in one shape whichever wrapper produced it.
type BenchmarkOutput struct {
	// RequestID identifies the invocation at the provider.
	RequestID string
	// IsCold is true when the invocation started a new sandbox.
	IsCold bool
	// Begin and End bracket the handler, on the function's clock. Both are zero when the wrapper sent neither.
	Begin, End time.Time
	// ResultsTime is the wrapper's own figure for storing results, in its own unit (microseconds except in C++); nil when absent.
	ResultsTime *float64
	// ContainerID identifies the sandbox; empty when the wrapper does not say.
	ContainerID string
	// ColdStartVar echoes the environment variable that enforces cold starts.
	ColdStartVar string
	// Output is the answer after unwrapping `body`, otherwise as received.
	Output json.RawMessage
	// result is the answer's field of that name.
	result json.RawMessage
}

// Result returns the function's own result: `result.result`, or the whole `result` when the function did not use that form.
func (o *BenchmarkOutput) Result() json.RawMessage {
	result, _ := splitResult(o.result)
	return result
}

// Measurement returns the function's own numeric measurements, such as compute_time in microseconds; nil when there are none.
func (o *BenchmarkOutput) Measurement() map[string]float64 {
	_, measurement := splitResult(o.result)
	return measurement
}

// BenchmarkMicros returns the handler's time in microseconds, and false when the wrapper did not report it.
func (o *BenchmarkOutput) BenchmarkMicros() (int64, bool) {
	if o.Begin.IsZero() || o.End.IsZero() {
		return 0, false
	}
	return o.End.Sub(o.Begin).Microseconds(), true
}

// OutputError tells why an answer is not a valid benchmark output.
type OutputError struct {
	// Field is the missing or wrong field; empty when the answer as a whole is not usable.
	Field string
	// Problem says what is wrong with it.
	Problem string
	// Excerpt is the beginning of the answer, at most 200 bytes.
	Excerpt string
}

// Error names the field, the problem and how the answer begins.
func (e *OutputError) Error() string {
	var b strings.Builder
	b.WriteString("function response")
	if e.Field != "" {
		fmt.Fprintf(&b, ": field %q", e.Field)
	}
	b.WriteString(" ")
	b.WriteString(e.Problem)
	if e.Excerpt != "" {
		fmt.Fprintf(&b, "; it begins with %q", e.Excerpt)
	}
	return b.String()
}

// ErrFunctionFailed is wrapped by the error of ParseBenchmarkOutput when the answer is a provider's error object (errorMessage,
// errorType) instead of a benchmark output.
var ErrFunctionFailed = errors.New("the function failed")

const excerptBytes = 200

func excerpt(raw []byte) string {
	if len(raw) > excerptBytes {
		return string(raw[:excerptBytes]) + "…"
	}
	return string(raw)
}

// wireOutput is the superset of the fields that the wrappers send.
type wireOutput struct {
	begin, end, resultsTime, isCold, requestID, containerID, coldStartVar, result, errorMessage, errorType, body json.RawMessage
}

// newWireOutput finds the fields of an answer that is a valid JSON object.
func newWireOutput(object []byte) *wireOutput {
	w := &wireOutput{}
	members(object, func(key, value []byte) {
		switch string(key) {
		case "begin":
			w.begin = value
		case "end":
			w.end = value
		case "results_time":
			w.resultsTime = value
		case "is_cold":
			w.isCold = value
		case "request_id":
			w.requestID = value
		case "container_id":
			w.containerID = value
		case "cold_start_var":
			w.coldStartVar = value
		case "result":
			w.result = value
		case "errorMessage":
			w.errorMessage = value
		case "errorType":
			w.errorType = value
		case "body":
			w.body = value
		}
	})
	return w
}

// ParseBenchmarkOutput reads what a function answered. It unwraps `body` (string or object), takes `begin` and `end` as string
// or number, and finds the result in both nestings (`result.result`, `result.output.result`). `request_id` and `is_cold` are
// required; a missing or malformed field is an *OutputError that names it. An answer that is a provider's error object gives an
// error that wraps ErrFunctionFailed.
func ParseBenchmarkOutput(answer []byte) (*BenchmarkOutput, error) {
	body, wire, err := unwrapBody(answer)
	if err != nil {
		return nil, err
	}
	if isAbsent(wire.requestID) && !isAbsent(wire.errorMessage) {
		return nil, functionFailure(wire)
	}
	p := outputParser{body: body}
	out := &BenchmarkOutput{Output: body, result: wire.result}
	out.RequestID = p.requiredString("request_id", wire.requestID)
	out.IsCold = p.requiredBool("is_cold", wire.isCold)
	out.Begin = p.time("begin", wire.begin)
	out.End = p.time("end", wire.end)
	if p.err != nil {
		return nil, p.err
	}
	if out.Begin.IsZero() != out.End.IsZero() {
		return nil, p.wrong("end", "must come together with \"begin\"; only one of them is there")
	}
	// These are informational: another type than expected is no reason to refuse the answer.
	if f, ok := plainNumber(wire.resultsTime); ok {
		out.ResultsTime = &f
	}
	out.ContainerID, _ = plainString(wire.containerID)
	out.ColdStartVar, _ = plainString(wire.coldStartVar)
	return out, nil
}

func functionFailure(wire *wireOutput) error {
	message, ok := plainString(wire.errorMessage)
	if !ok {
		message = string(wire.errorMessage)
	}
	if kind, ok := plainString(wire.errorType); ok && kind != "" {
		message = kind + ": " + message
	}
	return fmt.Errorf("%w: %s", ErrFunctionFailed, message)
}

// unwrapBody parses the answer and takes the object under `body` when there is one.
func unwrapBody(answer []byte) (json.RawMessage, *wireOutput, error) {
	current := bytes.TrimSpace(answer)
	// AWS wrappers wrap once; a gateway in front may wrap once more.
	for range 3 {
		if len(current) == 0 {
			return nil, nil, &OutputError{Problem: "is empty; the function has to answer with a JSON object"}
		}
		if !json.Valid(current) {
			cleaned, changed := replaceNonFinite(current)
			if !changed || !json.Valid(cleaned) {
				return nil, nil, &OutputError{Problem: "is not JSON", Excerpt: excerpt(current)}
			}
			current = cleaned
		}
		if current[0] != '{' {
			return nil, nil, &OutputError{Problem: "is not a JSON object", Excerpt: excerpt(current)}
		}
		wire := newWireOutput(current)
		if isAbsent(wire.body) {
			return json.RawMessage(current), wire, nil
		}
		inner := []byte(wire.body)
		if text, ok := plainString(wire.body); ok {
			inner = []byte(text)
		}
		current = bytes.TrimSpace(inner)
	}
	return nil, nil, &OutputError{Field: "body", Problem: "is nested more than twice", Excerpt: excerpt(current)}
}

// splitResult finds the function's own result and its measurements in all nestings.
func splitResult(raw json.RawMessage) (json.RawMessage, map[string]float64) {
	type nested struct {
		Result      json.RawMessage            `json:"result"`
		Measurement map[string]json.RawMessage `json:"measurement"`
		Output      json.RawMessage            `json:"output"`
	}
	var n nested
	if isAbsent(raw) || json.Unmarshal(raw, &n) != nil {
		return raw, nil
	}
	if isAbsent(n.Result) && len(n.Measurement) == 0 && !isAbsent(n.Output) {
		var inner nested
		if json.Unmarshal(n.Output, &inner) != nil || isAbsent(inner.Result) {
			return n.Output, nil
		}
		n = inner
	}
	result := n.Result
	if isAbsent(result) && len(n.Measurement) == 0 {
		result = raw
	}
	var measurement map[string]float64
	for key, value := range n.Measurement {
		var f float64
		if isAbsent(value) || json.Unmarshal(value, &f) != nil {
			continue
		}
		if measurement == nil {
			measurement = make(map[string]float64, len(n.Measurement))
		}
		measurement[key] = f
	}
	return result, measurement
}

func isAbsent(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

// outputParser keeps the first problem.
type outputParser struct {
	body []byte
	err  error
}

func (p *outputParser) wrong(field, problem string) error {
	return &OutputError{Field: field, Problem: problem, Excerpt: excerpt(p.body)}
}

func (p *outputParser) fail(field, problem string) {
	if p.err == nil {
		p.err = p.wrong(field, problem)
	}
}

func (p *outputParser) requiredString(field string, raw json.RawMessage) string {
	if isAbsent(raw) {
		p.fail(field, "is missing")
		return ""
	}
	s, ok := plainString(raw)
	if !ok {
		p.fail(field, "must be a string, not "+excerpt(raw))
		return ""
	}
	if s == "" {
		p.fail(field, "is empty")
	}
	return s
}

func (p *outputParser) requiredBool(field string, raw json.RawMessage) bool {
	if isAbsent(raw) {
		p.fail(field, "is missing")
		return false
	}
	b, ok := plainBool(raw)
	if !ok {
		p.fail(field, "must be true or false, not "+excerpt(raw))
	}
	return b
}

func (p *outputParser) time(field string, raw json.RawMessage) time.Time {
	if isAbsent(raw) {
		return time.Time{}
	}
	text, ok := plainString(raw)
	if !ok {
		text = string(raw)
	}
	t, err := parseEpochSeconds(strings.TrimSpace(text))
	if err != nil {
		p.fail(field, "must be seconds since 1970, not "+excerpt(raw))
	}
	return t
}

// maxEpochDigits bounds the literal, so that an exponent in it cannot ask for a number of absurd size.
const maxEpochDigits = 40

var errNotEpoch = errors.New("not seconds since 1970")

// parseEpochSeconds reads decimal seconds exactly: a binary float would lose the last microsecond digits.
func parseEpochSeconds(text string) (time.Time, error) {
	if micros, ok := plainEpoch(text); ok {
		return time.UnixMicro(micros), nil
	}
	if len(text) == 0 || len(text) > maxEpochDigits || strings.Trim(text, "0123456789.eE+-") != "" {
		return time.Time{}, errNotEpoch
	}
	if strings.ContainsAny(text, "eE") {
		var f float64
		if _, err := fmt.Sscanf(text, "%g", &f); err != nil || math.Abs(f) > 1e11 {
			return time.Time{}, errNotEpoch
		}
		return time.UnixMicro(int64(math.Round(f * 1e6))), nil
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return time.Time{}, errNotEpoch
	}
	micros := r.Mul(r, big.NewRat(1e6, 1))
	// Half a microsecond is added so that the division below rounds to nearest.
	num := new(big.Int).Add(new(big.Int).Mul(micros.Num(), big.NewInt(2)), micros.Denom())
	quotient := new(big.Int).Div(num, new(big.Int).Mul(micros.Denom(), big.NewInt(2)))
	if !quotient.IsInt64() || quotient.Int64() > 1e17 || quotient.Int64() < -1e17 {
		return time.Time{}, errNotEpoch
	}
	return time.UnixMicro(quotient.Int64()), nil
}

// plainEpoch reads the usual form, digits with at most six decimals, without the cost of big numbers.
func plainEpoch(text string) (micros int64, ok bool) {
	const wholeDigits, decimals = 11, 6
	whole, fraction, _ := strings.Cut(text, ".")
	if whole == "" || len(whole) > wholeDigits || len(fraction) > decimals {
		return 0, false
	}
	for _, part := range [2]string{whole, fraction} {
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return 0, false
			}
			micros = 10*micros + int64(c-'0')
		}
	}
	for range decimals - len(fraction) {
		micros *= 10
	}
	return micros, true
}
