package host

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Kinds of failure, as records and answers name them.
const (
	FailureUnhandled   = "Unhandled"
	FailureTimeout     = "Timeout"
	FailureOutOfMemory = "OutOfMemory"
	FailureInit        = "InitError"
	FailureBadResponse = "BadResponse"
)

// Record is what remains of an invocation.
type Record struct {
	RequestID string        `json:"request_id"`
	Function  string        `json:"function"`
	Version   int64         `json:"version"`
	Start     time.Time     `json:"start_time"`
	Duration  time.Duration `json:"duration_ns"`
	// Init is the time from the start of the sandbox until its runtime asked for work; 0 on a warm start.
	Init     time.Duration `json:"init_ns,omitempty"`
	BilledMS int64         `json:"billed_ms"`
	MemoryMB int           `json:"memory_mb"`
	// MaxMemoryMB is the most memory that the sandbox has used, in MB of 2^20 bytes; 0 when unknown.
	MaxMemoryMB float64 `json:"max_memory_used_mb,omitempty"`
	Cold        bool    `json:"cold_start"`
	// Failure is empty when the function answered.
	Failure      string `json:"failure,omitempty"`
	ErrorType    string `json:"error_type,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`
	Sandbox      string `json:"sandbox,omitempty"`
	// OutputDropped is how many bytes the function printed before those that its log keeps.
	OutputDropped int64 `json:"output_dropped_bytes,omitempty"`
	// Event is true for invocations whose answer is kept instead of returned.
	Event bool `json:"event,omitempty"`
}

// billed rounds up to milliseconds; initialisation is part of it, as on Lambda since August 2025.
func billed(duration, init time.Duration) int64 {
	return int64(math.Ceil(float64(duration+init) / float64(time.Millisecond)))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// Report renders the record as the line that Lambda writes at the end of an invocation.
func (r *Record) Report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %s\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.RequestID, milliseconds(r.Duration), r.BilledMS, r.MemoryMB, int64(math.Ceil(r.MaxMemoryMB)))
	if r.Cold {
		fmt.Fprintf(&b, "Init Duration: %s\t", milliseconds(r.Init))
	}
	switch r.Failure {
	case "":
	case FailureTimeout:
		b.WriteString("Status: timeout\t")
	default:
		fmt.Fprintf(&b, "Status: error\tError Type: %s\t", r.ErrorType)
	}
	return b.String()
}

// Query selects records or log lines of a function. Zero fields do not restrict.
type Query struct {
	From       time.Time
	To         time.Time
	RequestIDs []string
}

func (q Query) matcher() func(t time.Time, id string) bool {
	ids := map[string]bool{}
	for _, id := range q.RequestIDs {
		ids[id] = true
	}
	return func(t time.Time, id string) bool {
		return (q.From.IsZero() || !t.Before(q.From)) && (q.To.IsZero() || t.Before(q.To)) && (len(ids) == 0 || ids[id])
	}
}

const (
	// ringRecords is how many records of a function are kept in memory.
	ringRecords = 10_000
	// recordFileBytes is the size at which a function's file of records is turned over.
	recordFileBytes = 32 << 20
)

// ring keeps the latest records.
type ring struct {
	records []Record
	next    int
	// complete is true while no record has ever been left out, so that the file need not be asked.
	complete bool
}

func (r *ring) add(rec Record) {
	if len(r.records) < ringRecords {
		r.records = append(r.records, rec)
		return
	}
	r.complete = false
	r.records[r.next] = rec
	r.next = (r.next + 1) % ringRecords
}

// each visits the records from the oldest to the latest.
func (r *ring) each(f func(*Record)) {
	for n := range r.records {
		f(&r.records[(r.next+n)%len(r.records)])
	}
}
