package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/version"
)

// registrationTTL is how long a process that died is still listed in etcd.
const registrationTTL = 10 * time.Second

// errStopping ends streams that outlive the grace period.
var errStopping = errs.Unavailable("SERVICE_STOPPING", "the service stops; repeat the request")

// Run serves until ctx ends or a part of the process fails, then ends in order: NOT_SERVING, a pause for balancers, drains,
// operations, calls, goroutines, closers. Every step is bounded. It is to be called once.
func (p *Process) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	failed := p.tasks.start(background)
	served := make(chan error, 3)
	go func() { served <- p.server.Serve(p.inside) }()
	go func() { served <- p.server.Serve(p.listener) }()
	go func() { served <- p.serveWeb() }()
	p.tasks.add("operations", p.Operations.Watch)
	p.tasks.add("readiness", p.watchReadiness)
	registered := p.announce(ctx)
	p.Log.Info("serving", "grpc", p.GRPCAddr(), "http", p.HTTPAddr(), "services", p.hosted, "version", version.Get().String())
	close(p.serving)
	var cause error
	pending := 3
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case cause = <-served:
		pending--
		cause = fmt.Errorf("serve: %w", cause)
	}
	if cause != nil {
		p.Log.Error("a part of the process failed; the process ends", "error", cause)
	}
	err := p.shutdown(background, registered)
	for ; pending > 0; pending-- {
		if serr := <-served; serr != nil && !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
	}
	return errors.Join(cause, err)
}

// announce registers the process's services in etcd for the resolvers of other processes.
func (p *Process) announce(ctx context.Context) *closers {
	registered := &closers{log: p.Log}
	address := p.Config.GRPC.Advertise
	if address == "" {
		address = p.GRPCAddr()
	}
	value, err := structpb.NewStruct(map[string]any{
		"address": address, "process": p.Name, "id": p.ID, "version": version.Get().Version, "tls": p.tls.serves(),
	})
	if err != nil {
		p.Log.Error("the registration cannot be written", "error", err)
		return registered
	}
	for _, service := range p.hosted {
		entry, err := p.Cache.Register(ctx, servicesKey+service+"/"+p.ID, value, registrationTTL)
		if err != nil {
			p.Log.Warn("registering a service failed; others find it only by a static address", "service", service, "error", err)
			continue
		}
		registered.add("registration of "+service, entry.Close)
	}
	return registered
}

// shutdown ends the process in order. Every step has its own limit.
func (p *Process) shutdown(ctx context.Context, registered *closers) error {
	limits := p.Config.Shutdown
	p.Log.Info("ending")
	p.health.Shutdown()
	p.checks.stop()
	problems := []error{registered.close(ctx, limits.Step)}
	if limits.Drain > 0 {
		time.Sleep(limits.Drain)
	}
	problems = append(problems, p.drains.close(ctx, limits.Step))
	problems = append(problems, bounded(ctx, limits.Step, p.Operations.Close))
	p.stopServer(limits.Grace)
	problems = append(problems,
		bounded(ctx, limits.Step, p.tasks.stop),
		bounded(ctx, limits.Step, p.closeWeb),
		p.closers.close(ctx, limits.Step))
	p.endLame(errStopping)
	p.Log.Info("ended")
	return errors.Join(problems...)
}

// stopServer lets calls end: half of the grace period on their own, then streams are cancelled, then the rest is cut.
func (p *Process) stopServer(grace time.Duration) {
	lame := time.AfterFunc(grace/2, func() { p.endLame(errStopping) })
	defer lame.Stop()
	hard := time.AfterFunc(grace, p.server.Stop)
	defer hard.Stop()
	p.server.GracefulStop()
}

func (p *Process) setHealth(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
	p.health.SetServingStatus("", status)
	for name := range p.server.GetServiceInfo() {
		p.health.SetServingStatus(name, status)
	}
}
