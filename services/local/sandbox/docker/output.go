package docker

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// streams is how many streams a container has: standard output and standard error.
const streams = 2

// output carries what a container prints. The Engine delivers it late and does not tell when it has delivered all, so the host
// writes marks into the container's own pipes and takes them out again when they arrive here: what comes before a mark was
// printed before it.
type output struct {
	sink sandbox.Output
	// prefix begins a mark: a separator, a secret of this container, and a colon. The number of the cut and a separator follow.
	prefix []byte

	mu    sync.Mutex
	pid   int    // whose streams take marks; 0 when the host may not write there
	cuts  []*cut // those that have not been passed, oldest first
	made  int
	bytes int64
	ended bool
}

// cut is one line drawn under the output.
type cut struct {
	number int
	marked bool
	left   int // streams in which it has not arrived
	done   chan struct{}
}

const separator = '\x1e'

func newOutput(sink sandbox.Output) *output {
	var secret [12]byte
	_, _ = rand.Read(secret[:]) // never fails
	return &output{sink: sink, prefix: []byte(string(rune(separator)) + hex.EncodeToString(secret[:]) + ":")}
}

// open prepares writing marks, if this machine allows it.
func (o *output) open(pid int) {
	for fd := 1; fd <= streams; fd++ {
		if writePipe(pid, fd, nil) != nil {
			return
		}
	}
	o.mu.Lock()
	o.pid = pid
	o.mu.Unlock()
}

// cut notes a line to be drawn.
func (o *output) cut() *cut {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made++
	c := &cut{number: o.made, marked: o.pid > 0, left: streams, done: make(chan struct{})}
	if o.ended {
		o.sink.Cut()
		close(c.done)
		return c
	}
	o.cuts = append(o.cuts, c)
	return c
}

// mark writes the marks of a cut. A full pipe takes them when the container's output has been read. The pipes are never kept
// open: the Engine waits for the last writer before it tells that a container has ended.
func (o *output) mark(c *cut) {
	text := append(append([]byte(nil), o.prefix...), strconv.Itoa(c.number)...)
	text = append(text, separator)
	for fd := 1; fd <= streams; fd++ {
		for {
			o.mu.Lock()
			pid, ended := o.pid, o.ended
			o.mu.Unlock()
			if ended {
				return
			}
			err := writePipe(pid, fd, text)
			if err == nil {
				break
			}
			if !isFull(err) { // the function closed the stream, or the container has ended
				o.passed(c.number)
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// settle draws the line when nothing has arrived for a moment.
func (o *output) settle(c *cut) {
	const quiet, most = 4 * time.Millisecond, 8
	o.mu.Lock()
	seen := o.bytes
	o.mu.Unlock()
	for range most {
		timer := time.NewTimer(quiet)
		select {
		case <-timer.C:
		case <-c.done:
			timer.Stop()
			return
		}
		o.mu.Lock()
		now := o.bytes
		o.mu.Unlock()
		if now == seen {
			break
		}
		seen = now
	}
	for range streams {
		o.passed(c.number)
	}
}

// passed notes that a cut has arrived in one stream.
func (o *output) passed(number int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.cuts {
		if c.number == number {
			c.left--
		}
	}
	for len(o.cuts) > 0 && o.cuts[0].left <= 0 {
		o.drawLocked()
	}
}

func (o *output) drawLocked() {
	o.sink.Cut()
	close(o.cuts[0].done)
	o.cuts = o.cuts[1:]
}

// end draws all lines: nothing will arrive any more.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for len(o.cuts) > 0 {
		o.drawLocked()
	}
}

// stream is one of the container's streams.
func (o *output) stream() *stream { return &stream{output: o} }

// stream passes output on without the marks.
type stream struct {
	output *output
	held   []byte // the beginning of what may be a mark
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	n := len(p)
	if len(s.held) > 0 {
		p = append(s.held, p...)
		s.held = nil
	}
	for len(p) > 0 {
		at := bytes.IndexByte(p, separator)
		if at < 0 {
			s.pass(p)
			return n, nil
		}
		s.pass(p[:at])
		p = p[at:]
		number, length, whole := s.output.parse(p)
		switch {
		case !whole: // the rest of it comes with the next write
			s.held = append([]byte(nil), p...)
			return n, nil
		case length == 0: // the function printed a separator
			s.pass(p[:1])
			p = p[1:]
		default:
			s.output.passed(number)
			p = p[length:]
		}
	}
	return n, nil
}

// maxMark is more than the longest mark.
const maxMark = 64

// parse reads a mark at the beginning of p. It answers whole = false when p may be the beginning of a mark, and a length of 0
// when it is none.
func (o *output) parse(p []byte) (number, length int, whole bool) {
	if len(p) < len(o.prefix) {
		return 0, 0, !bytes.HasPrefix(o.prefix, p)
	}
	if !bytes.HasPrefix(p, o.prefix) {
		return 0, 0, true
	}
	rest := p[len(o.prefix):]
	end := bytes.IndexByte(rest, separator)
	if end < 0 {
		return 0, 0, len(rest) > maxMark
	}
	number, err := strconv.Atoi(string(rest[:end]))
	if err != nil {
		return 0, 0, true
	}
	return number, len(o.prefix) + end + 1, true
}

func (s *stream) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	s.output.mu.Lock()
	s.output.bytes += int64(len(p))
	s.output.mu.Unlock()
	_, _ = s.output.sink.Write(p)
}
