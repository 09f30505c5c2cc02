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
	return out
}

// drain hands out the lines of an invocation that ended long enough ago; later ones have little room left.
func (e *entry) drain(now time.Time, force bool) []LogLine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !force && (e.ended.IsZero() || now.Sub(e.ended) < logSettles) {
		return nil
	}
	out := e.keptLocked()
	e.lines, e.first, e.bytes, e.dropped, e.limit = nil, 0, 0, 0, logBytesLate
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

// boxLog receives the output of one sandbox and files it under the invocation that is under way.
type boxLog struct {
	mu      sync.Mutex
	current *entry
	partial []byte
	closed  []*entry // entries before current whose lines have not been written away
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

// begin files what follows under the request. Output of the initialisation goes to the first request.
func (l *boxLog) begin(requestID string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLineLocked()
	if l.current.requestID == "" {
		l.current.mu.Lock()
		l.current.requestID = requestID
		l.current.mu.Unlock()
		return l.current
	}
	l.closed = append(l.closed, l.current)
	l.current = newEntry(requestID)
	return l.current
}

// end writes the closing lines of the invocation behind what was printed so far.
func (l *boxLog) end(e *entry, now time.Time, lines ...string) {
	l.mu.Lock()
	l.endLineLocked()
	l.mu.Unlock()
	for _, text := range lines {
		e.add(now, text)
	}
	e.mu.Lock()
	e.ended = now
	e.mu.Unlock()
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
	return append(out, l.current.drain(now, all)...)
}

// peek lists lines that have not been written away.
func (l *boxLog) peek() []LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LogLine
	for _, e := range l.closed {
		out = append(out, e.kept()...)
	}
	return append(out, l.current.kept()...)
}
