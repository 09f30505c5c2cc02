package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/runtimeapi"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// box is a sandbox of a function with its Runtime API.
type box struct {
	id       string
	version  int64
	kind     string
	code     string // digest of the code it runs
	memoryMB int
	instance sandbox.Instance
	api      *runtimeapi.Server
	log      *boxLog
	started  time.Time
	init     time.Duration

	// The fields below belong to the function's lock.
	busy        bool
	idleSince   time.Time
	invocations int64
}

func (b *box) alive() bool {
	select {
	case <-b.instance.Done():
		return false
	default:
		return true
	}
}

// function is a deployed function with its sandboxes.
type function struct {
	host *Host
	dir  string

	mu      sync.Mutex
	def     *Definition
	deleted bool
	ended   bool              // no sandbox may stay: the function was deleted, or the host closes
	boxes   map[*box]struct{} // ready ones, idle or busy
	idle    []*box            // the one used last at the end
	leaving map[*box]struct{} // being stopped
	live    int               // boxes, and those being started or stopped
	freed   chan struct{}     // closed and replaced when a sandbox becomes idle or goes away
	ring    ring
	answers int // kept since the last pruning

	records *journal
	logs    *journal
	// logMoves is held while lines move from memory to the journal, and while both are read.
	logMoves sync.Mutex
}

func newFunction(h *Host, dir string, def *Definition) *function {
	return &function{
		host: h, dir: dir, def: def, boxes: map[*box]struct{}{}, leaving: map[*box]struct{}{}, freed: make(chan struct{}),
		ring:    ring{complete: !exists(filepath.Join(dir, "invocations.jsonl"))},
		records: &journal{path: filepath.Join(dir, "invocations.jsonl"), limit: recordFileBytes},
		logs:    &journal{path: filepath.Join(dir, "logs.jsonl"), limit: logFileBytes},
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (f *function) definition() *Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.def
}

func notFound(name string) error {
	return errs.NotFound("FUNCTION_NOT_FOUND", "function %q does not exist on platform local; deploy it first", name).With("function", name)
}

// acquire hands out an idle sandbox, or nil when a new one may be started, for which room is then reserved.
func (f *function) acquire() (*box, *Definition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deleted {
		return nil, nil, notFound(f.def.Name)
	}
	for len(f.idle) > 0 {
		b := f.idle[len(f.idle)-1]
		f.idle = f.idle[:len(f.idle)-1]
		if b.version != f.def.Version || !b.alive() {
			f.retireLocked(b)
			continue
		}
		b.busy = true
		return b, f.def, nil
	}
	def, err := f.roomLocked()
	return nil, def, err
}

// room reserves room for a sandbox to be started, and holds the code of the definition that it is started from.
func (f *function) room() (*Definition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deleted {
		return nil, notFound(f.def.Name)
	}
	return f.roomLocked()
}

func (f *function) roomLocked() (*Definition, error) {
	limit := cmp.Or(f.def.Config.MaxConcurrency, f.host.options.MaxConcurrency)
	if f.live >= limit {
		return nil, errs.ResourceExhausted(100*time.Millisecond, "THROTTLED",
			"all %d sandboxes of function %q are busy; try again later, or raise its max_concurrency", limit, f.def.Name).
			With("function", f.def.Name)
	}
	if !f.host.reserve() {
		return nil, errs.ResourceExhausted(time.Second, "THROTTLED",
			"the host's %d sandboxes are all busy; try again later, or raise max_sandboxes in the configuration of service local", f.host.options.MaxSandboxes)
	}
	f.live++
	f.host.code.hold(f.def.ArchiveSHA256)
	return f.def, nil
}

// admit takes in a new sandbox for which acquire reserved room. It answers false, and the sandbox stays the caller's, when
// the function has ended in the meantime: nobody would end the sandbox any more.
func (f *function) admit(b *box, busy bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	b.busy = busy
	b.idleSince = time.Now()
	f.boxes[b] = struct{}{}
	if !busy {
		f.idle = append([]*box{b}, f.idle...)
	}
	f.signalLocked()
	return true
}

// giveUp returns the room that acquire reserved for a sandbox with this code.
func (f *function) giveUp(code string) {
	f.host.code.letGo(code)
	f.mu.Lock()
	f.live--
	f.signalLocked()
	f.mu.Unlock()
	f.host.unreserve()
}

// release puts a sandbox back. One that is broken or outdated is retired.
func (f *function) release(b *box, broken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.busy = false
	b.invocations++
	if broken || f.ended || b.version != f.def.Version || !b.alive() {
		f.retireLocked(b)
		return
	}
	b.idleSince = time.Now()
	f.idle = append(f.idle, b)
	f.signalLocked()
}

func (f *function) signalLocked() {
	close(f.freed)
	f.freed = make(chan struct{})
}

// waitFreed returns a channel that is closed when a sandbox may have become available.
func (f *function) waitFreed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.freed
}

// retireLocked ends a sandbox in the background; the host waits for it when it closes.
func (f *function) retireLocked(b *box) {
	delete(f.boxes, b)
	f.leaving[b] = struct{}{}
	name := f.def.Name
	f.host.background.Go(func() {
		f.host.stopBox(b)
		f.leave(b, name)
		f.giveUp(b.code)
	})
}

// leave writes away the log of a sandbox that has ended and forgets the sandbox.
func (f *function) leave(b *box, name string) {
	f.logMoves.Lock()
	defer f.logMoves.Unlock()
	if err := f.writeLogs(b.log.drain(time.Now(), true)); err != nil {
		f.host.log.Warn("log of a function cannot be written", "function", name, "error", err)
	}
	f.mu.Lock()
	delete(f.leaving, b)
	f.mu.Unlock()
}

// boxLogs lists the logs of all sandboxes that are there.
func (f *function) boxLogs() []*boxLog {
	f.mu.Lock()
	defer f.mu.Unlock()
	logs := make([]*boxLog, 0, len(f.boxes)+len(f.leaving))
	for b := range f.boxes {
		logs = append(logs, b.log)
	}
	for b := range f.leaving {
		logs = append(logs, b.log)
	}
	return logs
}

// retireIdle ends idle sandboxes for which the condition holds and returns how many.
func (f *function) retireIdle(when func(*box) bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.idle[:0]
	count := 0
	for _, b := range f.idle {
		if when(b) {
			f.retireLocked(b)
			count++
			continue
		}
		kept = append(kept, b)
	}
	clear(f.idle[len(kept):])
	f.idle = kept
	return count
}

// setDefinition puts a new definition in force. Idle sandboxes of the old version go at once, busy ones when they are done.
func (f *function) setDefinition(d *Definition) {
	f.mu.Lock()
	f.def = d
	f.mu.Unlock()
	f.retireIdle(func(b *box) bool { return b.version != d.Version })
}

// evict retires sandboxes that have been idle for longer than the keep-alive time, and those that died.
func (f *function) evict(now time.Time) {
	keep := cmp.Or(f.definition().Config.KeepAlive, f.host.options.KeepAlive)
	f.retireIdle(func(b *box) bool { return now.Sub(b.idleSince) >= keep || !b.alive() })
}

// stopAll ends all sandboxes, busy ones included. Those that are being started end when they are ready.
func (f *function) stopAll() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.retireIdle(func(*box) bool { return true })
	f.mu.Lock()
	busy := make([]*box, 0, len(f.boxes))
	for b := range f.boxes {
		busy = append(busy, b)
	}
	f.mu.Unlock()
	for _, b := range busy { // the invocation that uses it retires it
		f.host.background.Go(func() { f.host.killBox(b) })
	}
}

func (f *function) record(r Record) {
	f.mu.Lock()
	f.ring.add(r)
	f.mu.Unlock()
	if err := f.records.append(r); err != nil {
		f.host.log.Warn("record of an invocation cannot be written", "function", r.Function, "error", err)
	}
}

// flush writes away logs that have settled and what the journals hold.
func (f *function) flush(now time.Time) error {
	f.logMoves.Lock()
	defer f.logMoves.Unlock()
	var problems []error
	for _, l := range f.boxLogs() {
		problems = append(problems, f.writeLogs(l.drain(now, false)))
	}
	return errors.Join(append(problems, f.records.flush(), f.logs.flush())...)
}

func (f *function) writeLogs(lines []LogLine) error {
	for _, l := range lines {
		if err := f.logs.append(l); err != nil {
			return err
		}
	}
	return nil
}

// queryRecords returns matching records in the order of their start.
func (f *function) queryRecords(q Query) ([]Record, error) {
	match := q.matcher()
	var out []Record
	f.mu.Lock()
	complete := f.ring.complete
	var oldest time.Time
	inMemory := map[string]bool{}
	f.ring.each(func(r *Record) {
		if oldest.IsZero() || r.Start.Before(oldest) {
			oldest = r.Start
		}
		if !complete {
			inMemory[r.RequestID] = true
		}
		if match(r.Start, r.RequestID) {
			out = append(out, *r)
		}
	})
	f.mu.Unlock()
	inRange := !complete && (oldest.IsZero() || q.From.IsZero() || q.From.Before(oldest))
	if inRange && (len(q.RequestIDs) == 0 || len(out) < len(q.RequestIDs)) {
		err := f.records.each(func(line []byte) bool {
			var r Record
			if json.Unmarshal(line, &r) == nil && !inMemory[r.RequestID] && match(r.Start, r.RequestID) {
				out = append(out, r)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(out, func(a, b Record) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.RequestID, b.RequestID))
	})
	return out, nil
}

// queryLogs returns matching lines in the order of their time; lines of one invocation keep their order.
func (f *function) queryLogs(q Query) ([]LogLine, error) {
	match := q.matcher()
	var out []LogLine
	f.logMoves.Lock()
	defer f.logMoves.Unlock()
	for _, l := range f.boxLogs() {
		for _, line := range l.peek() {
			if match(line.Time, line.RequestID) {
				out = append(out, line)
			}
		}
	}
	err := f.logs.each(func(raw []byte) bool {
		var line LogLine
		if json.Unmarshal(raw, &line) == nil && match(line.Time, line.RequestID) {
			out = append(out, line)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b LogLine) int { return a.Time.Compare(b.Time) })
	return out, nil
}

// stopBox ends a sandbox and its Runtime API.
func (h *Host) stopBox(b *box) {
	h.killBox(b)
	if err := b.api.Close(); err != nil {
		h.log.Debug("Runtime API closed with an error", "sandbox", b.id, "error", err)
	}
}

// killTimeout is how long the end of a killed sandbox is waited for.
const killTimeout = 30 * time.Second

func (h *Host) killBox(b *box) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := b.instance.Kill(ctx); err != nil {
		h.log.Error("sandbox does not end", "sandbox", b.id, "error", err)
	}
}
