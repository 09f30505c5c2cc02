package app

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Schemes of the targets of services.
const (
	schemeStatic    = "sebs-static"
	schemeDiscovery = "sebs"
	// servicesKey is where processes register what they host: services/<name>/<process id>.
	servicesKey = "services/"
	// resolvePause is the time between attempts while etcd is away.
	resolvePause = time.Second
)

// permitted refuses to call another machine without TLS.
func (p *Process) permitted(service, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q of %s is no host:port", address, service)
	}
	if p.Config.TLS.CAFile == "" && !authn.IsLoopback(host) {
		return errs.FailedPrecondition("TLS_NEEDED",
			"%s at %s is on another machine, which needs TLS; set tls.ca_file, tls.cert_file and tls.key_file", service, address)
	}
	return nil
}

// staticResolver answers with the addresses of the configuration.
type staticResolver struct {
	process *Process
}

// Scheme returns the scheme of the targets.
func (r *staticResolver) Scheme() string { return schemeStatic }

// Build answers once; the addresses do not change.
func (r *staticResolver) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service := target.Endpoint()
	var state resolver.State
	for _, address := range r.process.Config.Services[service] {
		if err := r.process.permitted(service, address); err != nil {
			return nil, err
		}
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: hostOf(address)})
	}
	if err := cc.UpdateState(state); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", service, err)
	}
	return idle{}, nil
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// idle is a resolver with nothing left to do.
type idle struct{}

// ResolveNow does nothing.
func (idle) ResolveNow(resolver.ResolveNowOptions) {}

// Close does nothing.
func (idle) Close() {}

// discovery finds the addresses of a service in etcd and follows their changes.
type discovery struct {
	process *Process
}

// Scheme returns the scheme of the targets.
func (r *discovery) Scheme() string { return schemeDiscovery }

// Build starts to follow a service.
func (r *discovery) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{process: r.process, service: target.Endpoint(), cc: cc, cancel: cancel}
	f.running.Go(func() { f.run(ctx) })
	return f, nil
}

// follower keeps one connection's list of addresses.
type follower struct {
	process *Process
	service string
	cc      resolver.ClientConn
	cancel  context.CancelFunc
	running sync.WaitGroup
	last    []string
}

// ResolveNow does nothing: changes are followed as they come.
func (f *follower) ResolveNow(resolver.ResolveNowOptions) {}

// Close ends the follower.
func (f *follower) Close() {
	f.cancel()
	f.running.Wait()
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			// Known addresses stay in use while etcd is away.
			if f.last == nil {
				f.cc.ReportError(fmt.Errorf("find %s: %w", f.service, err))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(resolvePause):
		}
	}
}

// follow reads the list at every change until the watch ends.
func (f *follower) follow(ctx context.Context) error {
	prefix := servicesKey + f.service + "/"
	changes, err := f.process.Cache.Watch(ctx, prefix)
	if err != nil {
		return err
	}
	for {
		if err := f.read(ctx, prefix); err != nil {
			return err
		}
		if _, ok := <-changes; !ok {
			return nil
		}
	}
}

func (f *follower) read(ctx context.Context, prefix string) error {
	var found []string
	var refused error
	err := f.process.Cache.List(ctx, prefix, func(_ string, _ int64, raw []byte) error {
		entry := &structpb.Struct{}
		if err := cache.Unmarshal(raw, entry); err != nil {
			return err
		}
		address := entry.GetFields()["address"].GetStringValue()
		if err := f.process.permitted(f.service, address); err != nil {
			refused = err
			return nil
		}
		found = append(found, address)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(found)
	if len(found) == 0 {
		f.last = nil
		if refused == nil {
			refused = errs.Unavailable("SERVICE_NOT_FOUND",
				"no %s is running: none is registered in etcd; start one, or set services.%s", f.service, f.service)
		}
		f.cc.ReportError(refused)
		return nil
	}
	if slices.Equal(found, f.last) {
		return nil
	}
	f.last = found
	state := resolver.State{}
	for _, address := range found {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: hostOf(address)})
	}
	f.process.Log.Debug("found a service", "service", f.service, "addresses", strings.Join(found, ", "))
	// An error means that the balancer wants another answer; the next change brings one.
	_ = f.cc.UpdateState(state)
	return nil
}
