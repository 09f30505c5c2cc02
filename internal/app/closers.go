package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// step is a named part of the end of a process.
type step struct {
	name string
	run  func(context.Context) error
}

// closers run in reverse order of their addition.
type closers struct {
	mu    sync.Mutex
	steps []step
	log   *slog.Logger
}

func (c *closers) add(name string, run func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, step{name, run})
}

// close runs every step, each within limit, also when one fails or hangs.
func (c *closers) close(ctx context.Context, limit time.Duration) error {
	c.mu.Lock()
	steps := c.steps
	c.steps = nil
	c.mu.Unlock()
	var problems []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := bounded(ctx, limit, steps[i].run); err != nil {
			c.log.Warn("a step of the end failed", "step", steps[i].name, "error", err)
			problems = append(problems, fmt.Errorf("%s: %w", steps[i].name, err))
		}
	}
	return errors.Join(problems...)
}

// bounded runs f and stops waiting for it at the limit, even if f does not watch its context.
func bounded(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// A step that watches its context gets a moment to return what it knows.
	select {
	case err := <-done:
		return err
	case <-time.After(100 * time.Millisecond):
		return fmt.Errorf("not done after %s", limit)
	}
}

// tasks are the goroutines of a process.
type tasks struct {
	mu      sync.Mutex
	waiting []step
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan error
}

// add starts a task, or keeps it until start is called.
func (t *tasks) add(name string, run func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := step{name, run}
	if t.ctx == nil {
		t.waiting = append(t.waiting, s)
		return
	}
	if t.ctx.Err() == nil {
		t.launch(s)
	}
}

// start runs all tasks. The channel gets the first failure.
func (t *tasks) start(ctx context.Context) <-chan error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.failed = make(chan error, 1)
	for _, s := range t.waiting {
		t.launch(s)
	}
	t.waiting = nil
	return t.failed
}

func (t *tasks) launch(s step) {
	ctx := t.ctx
	t.running.Go(func() {
		err := s.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case t.failed <- fmt.Errorf("%s: %w", s.name, err):
		default:
		}
	})
}

// stop cancels all tasks and waits for them.
func (t *tasks) stop(ctx context.Context) error {
	t.mu.Lock()
	cancel := t.cancel
	t.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.running.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("goroutines of the process still run")
	}
}
