// Package host runs functions in sandboxes: it keeps their definitions, starts and retires sandboxes, routes
// invocations to them one at a time, enforces limits, and keeps records and logs.
package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Kind starts sandboxes of one sort.
type Kind interface {
	Name() string
	Capabilities() sandbox.Capabilities
	// Available tells why the runtime cannot run; nil when it can.
	Available(ctx context.Context, r sandbox.Runtime, image string) error
	// Runtimes lists what can run, the newest version of a language first.
	Runtimes(ctx context.Context) []sandbox.Offer
	// RuntimeAPIHost is the address to listen on for a Runtime API, and the one by which sandboxes reach it.
	RuntimeAPIHost(ctx context.Context) (listen, advertise string, err error)
	Start(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error)
	// Orphans lists sandboxes of this state directory that no running host owns, and removes them unless dryRun.
	Orphans(ctx context.Context, dryRun bool) ([]string, error)
	Close(ctx context.Context) error
}

// Ports opens a port of its own for a function.
type Ports interface {
	// Open listens for the function, on the wanted port if it is free (0: any), and returns the port.
	Open(function string, want int) (int, error)
	Close(function string)
}

// Options configure a host. Zero values mean the defaults named.
type Options struct {
	// StateDir holds definitions, code, records and logs. It belongs to one host at a time.
	StateDir string
	// RuntimeRoot is the directory with the bootstrap files of all languages.
	RuntimeRoot string
	// Kinds that work on this machine, the preferred one first.
	Kinds []Kind
	// DefaultKind is "docker", "process" or "auto" (default): the first kind that has the runtime.
	DefaultKind string
	Ports       Ports
	Log         *slog.Logger
	// KeepAlive of idle sandboxes; default 10 minutes.
	KeepAlive time.Duration
	// InitTimeout for a runtime to ask for its first invocation; default 30 seconds.
	InitTimeout time.Duration
	// MaxConcurrency of a function that names none; default 100.
	MaxConcurrency int
	// MaxSandboxes of all functions together; default 1,000.
	MaxSandboxes int
	// MaxEvents is how many asynchronous invocations may wait; default 10,000.
	MaxEvents int
	// NoCPUShare grants every sandbox all processors instead of a share by its memory.
	NoCPUShare bool
	// OnInvocation is told of every record; may be nil. It must not block.
	OnInvocation func(Record)
}

// Host is a small FaaS platform on this machine.
type Host struct {
	options Options
	log     *slog.Logger
	code    *codeStore
	unlock  func() error

	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	total      atomic.Int64 // sandboxes

	changes sync.Mutex          // one change of definitions at a time
	unused  map[string]struct{} // code that may be removed; belongs to changes
	mu      sync.Mutex
	closed  bool
	ready   map[string]*function
	room    chan struct{} // closed and replaced when the number of sandboxes drops
	waiting int           // queued events
	measure map[string]*measurement
}

// New opens the state directory, loads the functions in it and starts to look after idle sandboxes.
func New(o Options) (*Host, error) {
	o.KeepAlive = cmp.Or(o.KeepAlive, 10*time.Minute)
	o.InitTimeout = cmp.Or(o.InitTimeout, 30*time.Second)
	o.MaxConcurrency = cmp.Or(o.MaxConcurrency, 100)
	o.MaxSandboxes = cmp.Or(o.MaxSandboxes, 1000)
	o.MaxEvents = cmp.Or(o.MaxEvents, 10_000)
	o.DefaultKind = cmp.Or(o.DefaultKind, "auto")
	if len(o.Kinds) == 0 {
		return nil, errs.FailedPrecondition("NO_SANDBOX_KIND", "no kind of sandbox works on this machine; start the Docker Engine or install Python 3")
	}
	if err := os.MkdirAll(filepath.Join(o.StateDir, "functions"), 0o700); err != nil {
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	unlock, err := lockDirectory(o.StateDir)
	if err != nil {
		return nil, err
	}
	code, err := newCodeStore(filepath.Join(o.StateDir, "code"), o.Log)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	h := &Host{
		options: o, log: o.Log, code: code, unlock: unlock, ready: map[string]*function{},
		room: make(chan struct{}), unused: map[string]struct{}{}, measure: map[string]*measurement{},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err := h.loadAll(); err != nil {
		h.cancel()
		return nil, errors.Join(err, unlock())
	}
	h.background.Go(h.lookAfter)
	return h, nil
}

func (h *Host) loadAll() error {
	dirs, err := os.ReadDir(filepath.Join(h.options.StateDir, "functions"))
	if err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	for _, d := range dirs {
		dir := filepath.Join(h.options.StateDir, "functions", d.Name())
		def, err := load(dir)
		if err != nil {
			h.log.Error("function cannot be loaded and is left alone", "folder", dir, "error", err)
			continue
		}
		if kind, err := h.chooseKind(h.ctx, def.Config); err == nil {
			def.Kind = kind.Name()
		}
		if h.options.Ports != nil {
			port, err := h.options.Ports.Open(def.Name, def.Port)
			if err != nil {
				h.log.Warn("function has no port of its own", "function", def.Name, "error", err)
			}
			def.Port = port
		}
		h.ready[def.Name] = newFunction(h, dir, def)
	}
	return nil
}

// lookAfter evicts idle sandboxes and writes away logs and records until the host closes.
func (h *Host) lookAfter() {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-tick.C:
			var problem error
			for _, f := range h.functions() {
				f.evict(now)
				problem = errors.Join(problem, f.flush(now))
			}
			if problem != nil && !failing {
				h.log.Warn("records or logs cannot be written; invocations go on without", "error", problem)
			}
			failing = problem != nil
			h.collectCode()
		}
	}
}

func (h *Host) functions() []*function {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*function, 0, len(h.ready))
	for _, f := range h.ready {
		out = append(out, f)
	}
	return out
}

func (h *Host) find(name string) (*function, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errs.Unavailable("HOST_CLOSING", "the local platform is shutting down")
	}
	f := h.ready[name]
	if f == nil {
		return nil, notFound(name)
	}
	return f, nil
}

// reserve takes room for one more sandbox.
func (h *Host) reserve() bool {
	if h.total.Add(1) > int64(h.options.MaxSandboxes) {
		h.total.Add(-1)
		return false
	}
	return true
}

func (h *Host) unreserve() {
	h.total.Add(-1)
	h.mu.Lock()
	close(h.room)
	h.room = make(chan struct{})
	h.mu.Unlock()
}

// makeRoom retires the sandbox that has been idle longest, if there is one, and waits until its room is free.
func (h *Host) makeRoom(ctx context.Context) bool {
	h.mu.Lock()
	room := h.room
	h.mu.Unlock()
	var oldest *box
	var owner *function
	for _, f := range h.functions() {
		f.mu.Lock()
		for _, b := range f.idle {
			if oldest == nil || b.idleSince.Before(oldest.idleSince) {
				oldest, owner = b, f
			}
		}
		f.mu.Unlock()
	}
	if oldest == nil || owner.retireIdle(func(b *box) bool { return b == oldest }) == 0 {
		return false
	}
	select {
	case <-room:
		return true
	case <-ctx.Done():
		return false
	}
}

// kindNamed finds a kind by its name.
func (h *Host) kindNamed(name string) (Kind, error) {
	for _, k := range h.options.Kinds {
		if k.Name() == name {
			return k, nil
		}
	}
	return nil, errs.FailedPrecondition("SANDBOX_KIND_UNAVAILABLE",
		"sandboxes of kind %s do not work on this machine; use another kind, or see `sebs doctor`", name)
}

// chooseKind picks the kind of sandbox for a configuration.
func (h *Host) chooseKind(ctx context.Context, c Config) (Kind, error) {
	want := cmp.Or(c.SandboxKind, h.options.DefaultKind)
	if want != "auto" {
		k, err := h.kindNamed(want)
		if err != nil {
			return nil, err
		}
		return k, k.Available(ctx, c.Runtime, c.Image)
	}
	var problems []error
	for _, k := range h.options.Kinds {
		err := k.Available(ctx, c.Runtime, c.Image)
		if err == nil {
			return k, nil
		}
		problems = append(problems, err)
	}
	return nil, problems[len(problems)-1] // process comes last, and its error says what is installed
}

// Choice tells which kind a runtime would get, and why not the ones before it.
func (h *Host) Choice(ctx context.Context, r sandbox.Runtime) (kind string, passedOver []error) {
	if h.options.DefaultKind != "auto" {
		return h.options.DefaultKind, nil
	}
	for _, k := range h.options.Kinds {
		err := k.Available(ctx, r, "")
		if err == nil {
			return k.Name(), passedOver
		}
		passedOver = append(passedOver, fmt.Errorf("%s: %w", k.Name(), err))
	}
	return "", passedOver
}

// Kinds lists the kinds that work here, the preferred one first.
func (h *Host) Kinds() []Kind { return slices.Clone(h.options.Kinds) }

// Get returns a function and the number of its sandboxes.
func (h *Host) Get(name string) (*Definition, int, error) {
	f, err := h.find(name)
	if err != nil {
		return nil, 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.def.clone(), len(f.boxes), nil
}

// List returns all functions by name.
func (h *Host) List() []*Definition {
	var out []*Definition
	for _, f := range h.functions() {
		out = append(out, f.definition().clone())
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Name < out[b].Name })
	return out
}

// Records returns the records of a function's invocations, oldest first.
func (h *Host) Records(name string, q Query) ([]Record, error) {
	f, err := h.find(name)
	if err != nil {
		return nil, err
	}
	return f.queryRecords(q)
}

// Logs returns log lines of a function, oldest first.
func (h *Host) Logs(name string, q Query) ([]LogLine, error) {
	f, err := h.find(name)
	if err != nil {
		return nil, err
	}
	return f.queryLogs(q)
}

// Orphans lists sandboxes that an earlier host of this state directory left, and removes them unless dryRun.
func (h *Host) Orphans(ctx context.Context, dryRun bool) ([]string, error) {
	var out []string
	var problems []error
	for _, k := range h.options.Kinds {
		found, err := k.Orphans(ctx, dryRun)
		out = append(out, found...)
		problems = append(problems, err)
	}
	return out, errors.Join(problems...)
}

// Close refuses new invocations, ends all sandboxes and writes away what is in memory. The kinds stay open: they belong to
// the caller.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	for _, f := range h.functions() {
		f.stopAll()
	}
	done := make(chan struct{})
	go func() {
		h.background.Wait()
		close(done)
	}()
	var problems []error
	select {
	case <-done:
	case <-ctx.Done():
		problems = append(problems, fmt.Errorf("wait for sandboxes to end: %w", ctx.Err()))
	}
	for _, f := range h.functions() {
		problems = append(problems, f.flush(time.Now().Add(logSettles)))
	}
	return errors.Join(append(problems, h.unlock())...)
}

// Prefers tells whether functions that ask for no kind of sandbox may get this one.
func (h *Host) Prefers(kind string) bool {
	return h.options.DefaultKind == "auto" || h.options.DefaultKind == kind
}

// StateDir is the directory that holds the host's state.
func (h *Host) StateDir() string { return h.options.StateDir }
