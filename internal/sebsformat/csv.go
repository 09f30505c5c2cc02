package sebsformat

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// PerfCostColumns is the header of perf-cost's result.csv.
var PerfCostColumns = []string{
	"memory", "type", "is_cold", "exec_time", "connection_time", "client_time", "provider_time", "mem_used",
}

// PerfCostRow is one line of perf-cost's result.csv.
type PerfCostRow struct {
	// MemoryMB is the configured memory, 0 when the run kept the function's own.
	MemoryMB int64
	// Type is cold, warm, burst or sequential.
	Type   string
	IsCold bool
	// ExecMicros is the function's own time.
	ExecMicros int64
	// ConnectionSeconds is the time to connect, in seconds (every other time is in microseconds); nil for library triggers.
	ConnectionSeconds *float64
	ClientMicros      int64
	ProviderMicros    int64
	// MemoryUsedMB is nil when the provider does not tell.
	MemoryUsedMB *float64
}

// RowFromInvocation makes a row of an invocation of the given run.
func RowFromInvocation(memoryMB int64, runType string, inv *Invocation) PerfCostRow {
	return PerfCostRow{
		MemoryMB: memoryMB, Type: runType, IsCold: inv.Stats.ColdStart,
		ExecMicros: inv.Times.BenchmarkMicros, ConnectionSeconds: inv.Times.HTTPStartupSeconds,
		ClientMicros: inv.Times.ClientMicros, ProviderMicros: orZero(inv.ProviderTimes.ExecutionMicros),
		MemoryUsedMB: inv.Stats.MemoryUsedMB,
	}
}

// PerfCostWriter writes result.csv as Python's csv module does: lines end with \r\n, booleans are True and False.
type PerfCostWriter struct {
	csv    *csv.Writer
	record [8]string
}

// NewPerfCostWriter writes the header and returns a writer for the rows. Call Flush at the end.
func NewPerfCostWriter(w io.Writer) (*PerfCostWriter, error) {
	out := &PerfCostWriter{csv: csv.NewWriter(w)}
	out.csv.UseCRLF = true
	if err := out.csv.Write(PerfCostColumns); err != nil {
		return nil, fmt.Errorf("write result.csv: %w", err)
	}
	return out, nil
}

// Write writes one row.
func (w *PerfCostWriter) Write(row PerfCostRow) error {
	w.record = [8]string{
		strconv.FormatInt(row.MemoryMB, 10), row.Type, pythonBool(row.IsCold), strconv.FormatInt(row.ExecMicros, 10),
		optionalFloat(row.ConnectionSeconds), strconv.FormatInt(row.ClientMicros, 10),
		strconv.FormatInt(row.ProviderMicros, 10), optionalFloat(row.MemoryUsedMB),
	}
	if err := w.csv.Write(w.record[:]); err != nil {
		return fmt.Errorf("write result.csv: %w", err)
	}
	return nil
}

// Flush writes what is buffered.
func (w *PerfCostWriter) Flush() error {
	w.csv.Flush()
	return w.csv.Error()
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func optionalFloat(f *float64) string {
	if f == nil {
		return ""
	}
	return PythonFloat(*f)
}

// ReadPerfCost reads a result.csv and calls each for every row.
func ReadPerfCost(r io.Reader, each func(PerfCostRow) error) error {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return malformed("result.csv", "is empty")
	}
	if err != nil {
		return fmt.Errorf("read result.csv: %w", err)
	}
	if !slices.Equal(header, PerfCostColumns) {
		return malformed("result.csv", "has the columns %s; expected %s", strings.Join(header, ","), strings.Join(PerfCostColumns, ","))
	}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read result.csv: %w", err)
		}
		line, _ := in.FieldPos(0)
		row, err := parsePerfCostRow(record, line)
		if err != nil {
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

func parsePerfCostRow(record []string, line int) (PerfCostRow, error) {
	p := csvParser{line: line}
	row := PerfCostRow{
		MemoryMB: p.int(record, 0), Type: record[1], IsCold: p.bool(record, 2), ExecMicros: p.int(record, 3),
		ConnectionSeconds: p.float(record, 4), ClientMicros: p.int(record, 5), ProviderMicros: p.int(record, 6),
		MemoryUsedMB: p.float(record, 7),
	}
	return row, p.err
}

// csvParser keeps the first problem.
type csvParser struct {
	line int
	err  error
}

func (p *csvParser) fail(column int, text, want string) {
	if p.err == nil {
		p.err = malformed(fmt.Sprintf("result.csv line %d, column %s", p.line, PerfCostColumns[column]), "must be %s, not %q", want, text)
	}
}

func (p *csvParser) int(record []string, column int) int64 {
	i, err := strconv.ParseInt(record[column], 10, 64)
	if err != nil {
		p.fail(column, record[column], "a whole number")
	}
	return i
}

func (p *csvParser) bool(record []string, column int) bool {
	switch record[column] {
	case "True", "true":
		return true
	case "False", "false":
		return false
	}
	p.fail(column, record[column], "True or False")
	return false
}

func (p *csvParser) float(record []string, column int) *float64 {
	if record[column] == "" {
		return nil
	}
	f, err := strconv.ParseFloat(record[column], 64)
	if err != nil {
		p.fail(column, record[column], "a number")
		return nil
	}
	return &f
}

// PerfCostFileName returns the name of a perf-cost raw file. A memory of 0 stands for the function's own memory.
func PerfCostFileName(runType string, memoryMB int64) string {
	if memoryMB == 0 {
		return runType + "_results.json"
	}
	return fmt.Sprintf("%s_results_%d.json", runType, memoryMB)
}

// ParsePerfCostFileName takes the run type and the memory (0 when absent) out of a raw or processed file's name.
func ParsePerfCostFileName(name string) (runType string, memoryMB int64, err error) {
	base, ok := strings.CutSuffix(name, ".json")
	if !ok {
		return "", 0, malformed(name, "is not a perf-cost file; the name ends with .json")
	}
	base, _, _ = strings.Cut(base, "-")
	parts := strings.Split(base, "_")
	if len(parts) < 2 || len(parts) > 3 || parts[1] != "results" || parts[0] == "" {
		return "", 0, malformed(name, "is not a perf-cost file; names look like cold_results_256.json")
	}
	if len(parts) == 3 {
		memoryMB, err = strconv.ParseInt(parts[2], 10, 64)
		if err != nil || memoryMB <= 0 {
			return "", 0, malformed(name, "has %q in the place of the memory in MB", parts[2])
		}
	}
	return parts[0], memoryMB, nil
}
