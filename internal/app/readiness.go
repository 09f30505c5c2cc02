package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	checkInterval = 2 * time.Second
	checkTimeout  = 1500 * time.Millisecond
	// failuresToLeave keeps one slow answer from taking a process out.
	failuresToLeave = 2
)

// checks tell whether the process can do its work.
type checks struct {
	mu      sync.Mutex
	steps   []step
	last    error
	known   bool
	stopped bool
}

func (c *checks) add(name string, run func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, step{name, run})
}

func (c *checks) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// state returns nil when the process is ready.
func (c *checks) state() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return errors.New("the process ends")
	case !c.known:
		return errors.New("the process starts")
	}
	return c.last
}

// run asks all checks at once.
func (c *checks) run(ctx context.Context) error {
	c.mu.Lock()
	steps := c.steps
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	problems := make([]error, len(steps))
	var all sync.WaitGroup
	for i, s := range steps {
		all.Go(func() {
			if err := s.run(ctx); err != nil {
				problems[i] = fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(problems...)
}

func (c *checks) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.known = err, true
}

// watchReadiness asks etcd, NATS and the services' own checks again and again, and tells health.
func (p *Process) watchReadiness(ctx context.Context) error {
	p.checks.add("etcd", p.Cache.Ping)
	p.checks.add("nats", p.Events.Ping)
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	failures, serving := 0, false
	for {
		err := p.checks.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		switch {
		case err == nil && !serving:
			serving = true
			p.checks.set(nil)
			p.setHealth(grpc_health_v1.HealthCheckResponse_SERVING)
			p.Log.Info("ready")
		case failures >= failuresToLeave || !serving:
			if serving {
				p.Log.Warn("not ready", "error", err)
			}
			serving = false
			p.checks.set(err)
			p.setHealth(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
