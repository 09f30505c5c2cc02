package host

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sebs-suite/sebs/internal/errs"
)

// maxSamples bounds a measurement over all its sandboxes.
const maxSamples = 4_000_000

// Profile holds the memory samples of one sandbox, in bytes.
type Profile struct {
	Sandbox  string
	Function string
	Samples  []int64
}

// Measurement is the result of sampling.
type Measurement struct {
	ID       string
	Interval time.Duration
	Profiles []Profile
	// Late counts the rounds that took longer than the interval.
	Late int64
}

type measurement struct {
	id       string
	interval time.Duration
	stop     context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex
	profiles map[string]*Profile
	late     int64
	samples  int
}

// StartMeasurement samples the memory of the sandboxes of the functions (none named: all) until StopMeasurement.
func (h *Host) StartMeasurement(functions []string, interval time.Duration) (*Measurement, error) {
	if interval < time.Millisecond {
		return nil, errs.Fields(errs.Field("interval", "is %s; it must be at least 1ms", interval))
	}
	for _, name := range functions {
		if _, err := h.find(name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(h.ctx)
	m := &measurement{id: uuid.NewString(), interval: interval, stop: cancel, done: make(chan struct{}), profiles: map[string]*Profile{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		cancel()
		return nil, errs.Unavailable("HOST_CLOSING", "the local platform is shutting down")
	}
	h.measure[m.id] = m
	h.background.Go(func() {
		defer close(m.done)
		h.sample(ctx, m, functions)
	})
	return &Measurement{ID: m.id, Interval: interval}, nil
}

func (h *Host) sample(ctx context.Context, m *measurement, functions []string) {
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		for _, f := range h.functions() {
			name := f.definition().Name
			if len(functions) > 0 && !slices.Contains(functions, name) {
				continue
			}
			for _, b := range f.allBoxes() {
				if used, err := b.instance.MemoryUsed(ctx); err == nil && used > 0 {
					m.add(b.id, name, used)
				}
			}
		}
		if time.Since(began) > m.interval {
			m.mu.Lock()
			m.late++
			m.mu.Unlock()
		}
	}
}

func (m *measurement) add(sandbox, function string, used int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.samples >= maxSamples {
		m.late++
		return
	}
	p := m.profiles[sandbox]
	if p == nil {
		p = &Profile{Sandbox: sandbox, Function: function}
		m.profiles[sandbox] = p
	}
	p.Samples = append(p.Samples, used)
	m.samples++
}

// StopMeasurement ends a measurement and returns its samples, by sandbox.
func (h *Host) StopMeasurement(id string) (*Measurement, error) {
	h.mu.Lock()
	m := h.measure[id]
	delete(h.measure, id)
	h.mu.Unlock()
	if m == nil {
		return nil, errs.NotFound("MEASUREMENT_NOT_FOUND", "there is no memory measurement %q; it may have been stopped before", id)
	}
	m.stop()
	<-m.done
	out := &Measurement{ID: id, Interval: m.interval, Late: m.late}
	for _, p := range m.profiles {
		out.Profiles = append(out.Profiles, *p)
	}
	sort.Slice(out.Profiles, func(a, b int) bool { return out.Profiles[a].Sandbox < out.Profiles[b].Sandbox })
	return out, nil
}

func (f *function) allBoxes() []*box {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*box, 0, len(f.boxes))
	for b := range f.boxes {
		out = append(out, b)
	}
	return out
}

// Sandbox describes a running sandbox.
type Sandbox struct {
	ID          string
	Function    string
	Version     int64
	Kind        string
	Busy        bool
	Invocations int64
	MemoryBytes int64 // 0 when unknown
	Started     time.Time
}

// Sandboxes lists the running sandboxes of a function, or of all when the name is empty; the oldest first.
func (h *Host) Sandboxes(ctx context.Context, name string) ([]Sandbox, error) {
	functions := h.functions()
	if name != "" {
		f, err := h.find(name)
		if err != nil {
			return nil, err
		}
		functions = []*function{f}
	}
	var out []Sandbox
	for _, f := range functions {
		for _, b := range f.allBoxes() {
			used, err := b.instance.MemoryUsed(ctx)
			if err != nil {
				used = 0
			}
			f.mu.Lock()
			out = append(out, Sandbox{
				ID: b.id, Function: f.def.Name, Version: b.version, Kind: b.kind, Busy: b.busy,
				Invocations: b.invocations, MemoryBytes: used, Started: b.started,
			})
			f.mu.Unlock()
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Started.Before(out[b].Started) })
	return out, nil
}

// Warm starts sandboxes until the function has count of them, and waits until they are ready.
func (h *Host) Warm(ctx context.Context, name string, count int) error {
	c := Call{Function: name}
	f, err := h.enter(&c)
	if err != nil {
		return err
	}
	defer h.background.Done()
	f.mu.Lock()
	missing := count - f.live
	f.mu.Unlock()
	failures := make(chan error, max(missing, 0))
	for range missing {
		go func() {
			failures <- h.warmOne(f)
		}()
	}
	var first error
	for range missing {
		if err := <-failures; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("warm function %s: %w", name, first)
	}
	return ctx.Err()
}

func (h *Host) warmOne(f *function) error {
	def, err := f.room()
	if err != nil {
		return err
	}
	_, fail := h.startBox(f, def, false)
	if fail != nil {
		return errs.FailedPrecondition("SANDBOX_START_FAILED", "%s: %s", fail.typ, fail.message)
	}
	return nil
}
