package experiments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/errs"
)

// pruneInterval is how often runs that are past their time are deleted.
const pruneInterval = time.Hour

// Config is the section `experiments` of the configuration.
type Config struct {
	// Retention is how long the record of a run that ended is kept.
	Retention time.Duration `yaml:"retention"`
	// Parallel bounds the tests of a regression run that go side by side.
	Parallel int `yaml:"parallel"`
}

// Validate reports every problem with its key.
func (c *Config) Validate() error {
	var problems []error
	if c.Retention < time.Hour {
		problems = append(problems, errs.Field("retention", "is %s and has to be at least 1h", c.Retention))
	}
	if c.Parallel < 1 || c.Parallel > 64 {
		problems = append(problems, errs.Field("parallel", "is %d and has to be between 1 and 64", c.Parallel))
	}
	return errs.Fields(problems...)
}

// Setup adds the runs to a process.
func Setup(_ context.Context, p *app.Process) error {
	config := Config{Retention: 30 * 24 * time.Hour, Parallel: 2}
	if err := p.Section("experiments", &config); err != nil {
		return err
	}
	connections, err := connect(p)
	if err != nil {
		return fmt.Errorf("set up experiments: %w", err)
	}
	runner := NewRunner(Dependencies{
		Services: NewServices(connections), Records: p.Cache, Events: p.Events, PageTokens: p.PageTokens, Log: p.Log, Parallel: config.Parallel,
	})
	server := NewServer(runner, p.Operations, p.Operations.Server())
	p.RegisterGRPC(func(registrar grpc.ServiceRegistrar) { server.Register(registrar) })
	p.Go("retention of runs", func(ctx context.Context) error { return runner.keep(ctx, config.Retention) })
	return nil
}

func connect(p *app.Process) (Connections, error) {
	var problems []error
	dial := func(service string) grpc.ClientConnInterface {
		conn, err := p.Dial(service)
		problems = append(problems, err)
		return conn
	}
	connections := Connections{
		Builder: dial("builder"), Deployer: dial("deployer"), Invoker: dial("invoker"), Metrics: dial("metrics"), Local: dial("local"),
	}
	return connections, errors.Join(problems...)
}

// keep deletes runs that are past their time until ctx ends.
func (r *Runner) keep(ctx context.Context, retention time.Duration) error {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		count, err := r.store.prune(ctx, retention, time.Now())
		switch {
		case err != nil && ctx.Err() == nil:
			r.log.Warn("old runs could not be deleted; trying again later", "error", err)
		case count > 0:
			r.log.Info("old runs were deleted", "count", count)
		}
	}
}
