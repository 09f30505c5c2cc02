package lambdalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// ErrNoReport tells that a text holds no report.
var ErrNoReport = errors.New("no report of an invocation")

const (
	// reportPrefix begins a report in the plain log format.
	reportPrefix = "REPORT RequestId:"
	// reportType is the type of a report in the JSON log format.
	reportType = "platform.report"
	// longest bounds a stated duration: Lambda's own limit is 15 minutes.
	longest = 24 * time.Hour
)

// Report is what Lambda states about one invocation when it ended. A nil pointer is a
// figure that the report does not carry.
type Report struct {
	// RequestID is Lambda's identifier of the invocation. An asynchronous call that
	// Lambda repeats has one report for each attempt, all with the same identifier.
	RequestID string
	// Duration is how long the handler ran.
	Duration *time.Duration
	// Billed is the time that is paid for, in whole milliseconds. Since August 2025 it
	// includes the initialization of every kind of function.
	Billed *time.Duration
	// MemoryMB is the memory limit in force.
	MemoryMB *int
	// MaxMemoryUsedMB is the most memory that the sandbox has used so far.
	MaxMemoryUsedMB *float64
	// Init is how long a new sandbox initialised; nil for a warm invocation.
	Init *time.Duration
	// Restore is how long a snapshot was restored (SnapStart); nil where none was.
	Restore *time.Duration
	// BilledRestore is the part of Restore that is paid for.
	BilledRestore *time.Duration
	// Status is "timeout" or "error" (plain format), or "success", "failure", "error"
	// or "timeout" (JSON format); empty where the report has none, which is success.
	Status string
	// ErrorType is the kind of failure, such as "Runtime.ExitError"; empty for none.
	ErrorType string
	// TraceID, SegmentID and Sampled are those of X-Ray.
	TraceID, SegmentID string
	Sampled            *bool
	// Time is when the report was written; zero where the text does not say, which is
	// always so in the plain format.
	Time time.Time
}

// Cold tells whether the invocation ran in a new sandbox, initialised or restored.
func (r *Report) Cold() bool { return r.Init != nil || r.Restore != nil }

// Failure is the kind of failure as an invocation record states it, empty for success.
func (r *Report) Failure() string {
	switch {
	case r.ErrorType != "":
		return r.ErrorType
	case r.Status == "success":
		return ""
	default:
		return r.Status
	}
}

// Record returns the report as an invocation record. At is when the log took the report;
// zero takes the report's own time. The record's time is when the handler started, which
// is the duration earlier, and zero where no time is known. Init is the initialization,
// or the restoration that stands in its place.
func (r *Report) Record(at time.Time) driver.InvocationRecord {
	if at.IsZero() {
		at = r.Time
	}
	if !at.IsZero() && r.Duration != nil {
		at = at.Add(-*r.Duration)
	}
	cold := r.Cold()
	out := driver.InvocationRecord{
		RequestID: r.RequestID, Time: at, Duration: r.Duration, Init: r.Init, Billed: r.Billed,
		MemoryMB: r.MemoryMB, MemoryUsedMB: r.MaxMemoryUsedMB, Cold: &cold, Error: r.Failure(),
	}
	if out.Init == nil {
		out.Init = r.Restore
	}
	return out
}

// ParseReport reads the report of a text: one event of a log, or a longer text such as the
// log tail of an invocation. Of several reports it takes the last, since Lambda writes its
// own after everything that the function wrote. Fields may come in any order, and fields
// that are not known are passed over. It returns ErrNoReport where the text holds no
// report, and an error that names the field where a figure cannot be read.
func ParseReport(text string) (Report, error) { return FindReport(text, "") }

// FindReport reads the report of one invocation out of a text of many lines. An empty
// request id means any; all else is as ParseReport has it.
func FindReport(text, requestID string) (Report, error) {
	found, problem := Report{}, ErrNoReport
	for rest := text; rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		report, err := parseLine(line, rest)
		if errors.Is(err, ErrNoReport) || (requestID != "" && report.RequestID != requestID) {
			continue
		}
		found, problem = report, err
	}
	return found, problem
}

// parseLine reads a report that starts in line. The report's X-Ray fields stand in a line
// of their own, the first one of after.
func parseLine(line, after string) (Report, error) {
	if at := strings.Index(line, reportPrefix); at >= 0 && !inJSON(line) {
		fields := line[at+len("REPORT "):]
		if next, _, _ := strings.Cut(after, "\n"); strings.HasPrefix(next, "XRAY ") {
			fields += "\t" + next
		}
		return parsePlain(fields)
	}
	if strings.Contains(line, reportType) {
		return parseJSON(line)
	}
	return Report{}, ErrNoReport
}

// inJSON tells whether a line is a record of the JSON log format. A function's own output
// can quote a report there.
func inJSON(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "{") }

// separator stands between two fields. Lambda writes tabs; texts that went through a
// terminal or a document have runs of blanks.
var separator = regexp.MustCompile(`\t+|[ \r]{2,}`)

// parsePlain reads tab-separated fields of the form "Key: value".
func parsePlain(fields string) (Report, error) {
	var (
		r     Report
		first error
	)
	for _, field := range separator.Split(fields, -1) {
		key, value, found := strings.Cut(strings.TrimSpace(field), ":")
		if !found {
			continue
		}
		if err := r.set(key, strings.TrimSpace(value)); err != nil && first == nil {
			first = fmt.Errorf("report of request %q: field %s: %w", r.RequestID, key, err)
		}
	}
	if r.RequestID == "" {
		return Report{}, ErrNoReport
	}
	return r, first
}

func (r *Report) set(key, value string) (err error) {
	switch key {
	case "RequestId":
		r.RequestID = value
	case "Duration":
		r.Duration, err = milliseconds(value)
	case "Billed Duration":
		r.Billed, err = milliseconds(value)
	case "Init Duration":
		r.Init, err = milliseconds(value)
	case "Restore Duration":
		r.Restore, err = milliseconds(value)
	case "Billed Restore Duration":
		r.BilledRestore, err = milliseconds(value)
	case "Memory Size":
		r.MemoryMB, err = wholeMegabytes(value)
	case "Max Memory Used":
		r.MaxMemoryUsedMB, err = megabytes(value)
	case "Status":
		r.Status = value
	case "Error Type":
		r.ErrorType = value
	case "XRAY TraceId":
		r.TraceID = value
	case "SegmentId":
		r.SegmentID = value
	case "Sampled":
		var sampled bool
		if sampled, err = strconv.ParseBool(value); err == nil {
			r.Sampled = &sampled
		}
	}
	return err
}

// milliseconds reads a figure such as "15.74 ms".
func milliseconds(value string) (*time.Duration, error) {
	figure, err := number(value, "ms")
	if err != nil {
		return nil, err
	}
	return duration(figure)
}

func duration(ms float64) (*time.Duration, error) {
	if ms < 0 || ms > float64(longest.Milliseconds()) {
		return nil, fmt.Errorf("%v ms is no duration of an invocation", ms)
	}
	// Rounded, since 15.74 ms has no exact form in floating point.
	d := time.Duration(math.Round(ms * float64(time.Millisecond)))
	return &d, nil
}

// megabytes reads a figure such as "56 MB".
func megabytes(value string) (*float64, error) {
	figure, err := number(value, "MB")
	if err != nil {
		return nil, err
	}
	return memory(figure)
}

func memory(mb float64) (*float64, error) {
	if mb < 0 || mb > math.MaxInt32 {
		return nil, fmt.Errorf("%v MB is no size of a memory", mb)
	}
	return &mb, nil
}

func wholeMegabytes(value string) (*int, error) {
	figure, err := megabytes(value)
	if err != nil {
		return nil, err
	}
	return whole(*figure)
}

func whole(mb float64) (*int, error) {
	if _, err := memory(mb); err != nil {
		return nil, err
	}
	if mb != math.Trunc(mb) {
		return nil, fmt.Errorf("%v MB is not whole", mb)
	}
	size := int(mb)
	return &size, nil
}

// number reads a figure with its unit.
func number(value, unit string) (float64, error) {
	digits, found := strings.CutSuffix(value, unit)
	if !found {
		return 0, fmt.Errorf("%q is not in %s", value, unit)
	}
	figure, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || math.IsNaN(figure) || math.IsInf(figure, 0) {
		return 0, fmt.Errorf("%q is no number of %s", value, unit)
	}
	return figure, nil
}

// record is a platform.report of the JSON log format, as the Telemetry API documents it
// (schema version 2022-12-13).
type record struct {
	Time   time.Time `json:"time"`
	Type   string    `json:"type"`
	Record struct {
		RequestID string `json:"requestId"`
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Metrics   struct {
			DurationMS      *float64 `json:"durationMs"`
			BilledMS        *float64 `json:"billedDurationMs"`
			InitMS          *float64 `json:"initDurationMs"`
			RestoreMS       *float64 `json:"restoreDurationMs"`
			BilledRestoreMS *float64 `json:"billedRestoreDurationMs"`
			MemorySizeMB    *float64 `json:"memorySizeMB"`
			MaxMemoryUsedMB *float64 `json:"maxMemoryUsedMB"`
		} `json:"metrics"`
		Tracing struct {
			Value string `json:"value"`
		} `json:"tracing"`
	} `json:"record"`
}

func parseJSON(line string) (Report, error) {
	at := strings.IndexByte(line, '{')
	if at < 0 {
		return Report{}, ErrNoReport
	}
	var in record
	// A log tail can carry more on the line, which is not the report's.
	if err := json.NewDecoder(strings.NewReader(line[at:])).Decode(&in); err != nil {
		if strings.Contains(line, `"`+reportType+`"`) {
			return Report{}, fmt.Errorf("decode a report of the JSON format: %w", err)
		}
		return Report{}, ErrNoReport
	}
	if in.Type != reportType || in.Record.RequestID == "" {
		return Report{}, ErrNoReport
	}
	r := Report{
		RequestID: in.Record.RequestID, Status: in.Record.Status, ErrorType: in.Record.ErrorType, Time: in.Time,
	}
	r.trace(in.Record.Tracing.Value)
	m := in.Record.Metrics
	var first error
	note := func(field string, err error) {
		if err != nil && first == nil {
			first = fmt.Errorf("report of request %q: field %s: %w", r.RequestID, field, err)
		}
	}
	for _, d := range []struct {
		field string
		from  *float64
		into  **time.Duration
	}{
		{"durationMs", m.DurationMS, &r.Duration},
		{"billedDurationMs", m.BilledMS, &r.Billed},
		{"initDurationMs", m.InitMS, &r.Init},
		{"restoreDurationMs", m.RestoreMS, &r.Restore},
		{"billedRestoreDurationMs", m.BilledRestoreMS, &r.BilledRestore},
	} {
		if d.from != nil {
			value, err := duration(*d.from)
			*d.into = value
			note(d.field, err)
		}
	}
	if m.MemorySizeMB != nil {
		size, err := whole(*m.MemorySizeMB)
		r.MemoryMB = size
		note("memorySizeMB", err)
	}
	if m.MaxMemoryUsedMB != nil {
		used, err := memory(*m.MaxMemoryUsedMB)
		r.MaxMemoryUsedMB = used
		note("maxMemoryUsedMB", err)
	}
	return r, first
}

// trace reads a tracing header, "Root=…;Parent=…;Sampled=1".
func (r *Report) trace(header string) {
	for _, part := range strings.Split(header, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Root":
			r.TraceID = value
		case "Parent":
			r.SegmentID = value
		case "Sampled":
			if sampled, err := strconv.ParseBool(value); err == nil {
				r.Sampled = &sampled
			}
		}
	}
}
