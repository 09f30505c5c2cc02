package host

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// logBytesPerInvocation is how much of an invocation's output is kept: its end.
	logBytesPerInvocation = 128 << 10
	// logBytesLate is kept of what is printed after the invocation's log has been written away.
	logBytesLate = 4 << 10
	maxLineBytes = 16 << 10
	// TailBytes is the length of a log tail, as Lambda gives it.
	TailBytes = 4 << 10
	// logSettles is how long after the end of an invocation output may arrive before its log is written away.
	logSettles = 300 * time.Millisecond
	// logFileBytes is the size at which a function's log file is turned over.
	logFileBytes = 8 << 20
)

// LogLine is one line that a function or the host wrote.
type LogLine struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"request_id,omitempty"`
	Text      string    `json:"text"`
}

// entry is the log of one invocation, or of the initialisation before the first one.
type entry struct {
	mu        sync.Mutex
	requestID string
	lines     []LogLine
	first     int // lines before it have been dropped
	bytes     int
	dropped   int64
	limit     int
	closing   []LogLine // stand behind everything that was printed, also what arrives late
	ended     time.Time
}

func newEntry(requestID string) *entry {
	return &entry{requestID: requestID, limit: logBytesPerInvocation}
}

func (e *entry) add(now time.Time, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, LogLine{Time: now, Text: text})
	e.bytes += len(text) + 1
	for e.bytes > e.limit && e.first < len(e.lines) {
		n := len(e.lines[e.first].Text) + 1
		e.bytes -= n
		e.dropped += int64(n)
		e.lines[e.first] = LogLine{}
		e.first++
	}
	if e.first > 1024 && e.first > len(e.lines)/2 {
		e.lines = append([]LogLine(nil), e.lines[e.first:]...)
		e.first = 0
	}
}

// lost is how many bytes have been dropped so far.
func (e *entry) lost() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dropped
}

// kept lists the lines with the request id, and a note about what was dropped.
func (e *entry) kept() []LogLine {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.keptLocked()
}

func (e *entry) keptLocked() []LogLine {
	out := make([]LogLine, 0, len(e.lines)-e.first+1)
	if e.dropped > 0 {
		note := LogLine{RequestID: e.requestID, Text: "[" + byteCount(e.dropped) + " of output before this line were dropped]"}
		if e.first < len(e.lines) {
			note.Time = e.lines[e.first].Time
		}
		out = append(out, note)
	}
	for _, l := range e.lines[e.first:] {
		l.RequestID = e.requestID
		out = append(out, l)
	}
	return append(out, e.closing...)
}

// drain hands out the lines of an invocation that ended long enough ago; later ones have little room left.
func (e *entry) drain(now time.Time, force bool) []LogLine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !force && (e.ended.IsZero() || now.Sub(e.ended) < logSettles) {
		return nil
	}
	out := e.keptLocked()
	e.lines, e.first, e.bytes, e.dropped, e.limit, e.closing = nil, 0, 0, 0, logBytesLate, nil
	return out
}

func byteCount(n int64) string {
	b, _ := json.Marshal(n)
	return string(b) + " bytes"
}

// tail renders the last lines, at most limit bytes.
func (e *entry) tail(limit int) string {
	lines := e.kept()
	size, from := 0, len(lines)
	for from > 0 && size+len(lines[from-1].Text)+1 <= limit {
		from--
		size += len(lines[from].Text) + 1
	}
	var b strings.Builder
	for _, l := range lines[from:] {
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

// boxLog receives the output of one sandbox and files it under the invocation that printed it. Output may arrive after the
// answer of its invocation, even after the next one has begun; cuts in the stream tell which is which.
type boxLog struct {
	mu       sync.Mutex
	current  *entry   // gets the output
	cut      bool     // nothing more is due for current
	upcoming []*entry // invocations that have begun while output of the ones before is due
	partial  []byte
	closed   []*entry // entries before current whose lines have not been written away
}

func newBoxLog() *boxLog { return &boxLog{current: newEntry("")} }

// Write takes output. It never fails, and keeps only what the bounds allow.
func (l *boxLog) Write(p []byte) (int, error) {
	now := time.Now()
	n := len(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.hold(now, p)
			break
		}
		line := p[:end]
		p = p[end+1:]
		if len(l.partial) > 0 {
			l.hold(now, line)
			line = l.partial
		}
		for len(line) > maxLineBytes {
			l.current.add(now, clean(line[:maxLineBytes]))
			line = line[maxLineBytes:]
		}
		l.current.add(now, clean(bytes.TrimSuffix(line, []byte{'\r'})))
		l.partial = l.partial[:0]
	}
	return n, nil
}

// hold keeps the beginning of a line until the rest comes or it is too long to wait.
func (l *boxLog) hold(now time.Time, p []byte) {
	l.partial = append(l.partial, p...)
	for len(l.partial) > maxLineBytes {
		l.current.add(now, clean(l.partial[:maxLineBytes]))
		l.partial = append(l.partial[:0], l.partial[maxLineBytes:]...)
	}
}

func clean(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "�")
}

// begin files what is printed next under the request. Output of the initialisation goes to the first request.
func (l *boxLog) begin(requestID string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.requestID == "" {
		l.endLineLocked()
		l.current.mu.Lock()
		l.current.requestID = requestID
		l.current.mu.Unlock()
		return l.current
	}
	e := newEntry(requestID)
	l.upcoming = append(l.upcoming, e)
	if l.cut {
		l.advanceLocked()
	}
	return e
}

// Cut tells that all output of the current invocation has arrived.
func (l *boxLog) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLineLocked()
	l.cut = true
	if len(l.upcoming) > 0 {
		l.advanceLocked()
	}
}

func (l *boxLog) advanceLocked() {
	l.endLineLocked()
	l.closed = append(l.closed, l.current)
	l.current, l.upcoming, l.cut = l.upcoming[0], l.upcoming[1:], false
}

// end sets the closing lines of the invocation.
func (l *boxLog) end(e *entry, now time.Time, lines ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, text := range lines {
		e.closing = append(e.closing, LogLine{Time: now, RequestID: e.requestID, Text: text})
	}
	e.ended = now
}

func (l *boxLog) endLineLocked() {
	if len(l.partial) > 0 {
		l.current.add(time.Now(), clean(l.partial))
		l.partial = l.partial[:0]
	}
}

// drain collects lines that can be written away; all of them when the sandbox is gone.
func (l *boxLog) drain(now time.Time, all bool) []LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all {
		l.endLineLocked()
	}
	var out []LogLine
	waiting := l.closed[:0]
	for _, e := range l.closed {
		lines := e.drain(now, all)
		if lines == nil {
			waiting = append(waiting, e)
		}
		out = append(out, lines...)
	}
	clear(l.closed[len(waiting):])
	l.closed = waiting
	if all || l.cut {
		out = append(out, l.current.drain(now, all)...)
	}
	if all {
		for _, e := range l.upcoming {
			out = append(out, e.drain(now, true)...)
		}
	}
	return out
}

// peek lists lines that have not been written away.
func (l *boxLog) peek() []LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LogLine
	for _, e := range l.closed {
		out = append(out, e.kept()...)
	}
	out = append(out, l.current.kept()...)
	for _, e := range l.upcoming {
		out = append(out, e.kept()...)
	}
	return out
}
