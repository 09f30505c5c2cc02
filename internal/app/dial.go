package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/google/uuid"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/observe"
)

// dialer hands out one connection per service.
type dialer struct {
	process *Process

	mu    sync.Mutex
	conns map[string]*lazyConn
	// inside is shared by all services that this process hosts.
	inside *grpc.ClientConn
	opened []*grpc.ClientConn
	closed bool
}

func newDialer(p *Process) *dialer {
	return &dialer{process: p, conns: make(map[string]*lazyConn)}
}

func (d *dialer) to(service string) *lazyConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.conns[service]
	if !ok {
		c = &lazyConn{dialer: d, service: service}
		d.conns[service] = c
	}
	return c
}

func (d *dialer) close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var problems []error
	for _, conn := range d.opened {
		problems = append(problems, conn.Close())
	}
	d.opened, d.inside = nil, nil
	return errors.Join(problems...)
}

// open decides where a service is and connects to it.
func (d *dialer) open(service string) (*grpc.ClientConn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.process
	if d.closed {
		return nil, errStopping
	}
	if p.Hosts(service) && d.inside != nil {
		return d.inside, nil
	}
	opts, err := p.dialOptions()
	if err != nil {
		return nil, err
	}
	target := schemeDiscovery + ":///" + service
	switch addresses := p.Config.Services[service]; {
	case p.Hosts(service):
		target = "passthrough:///inside"
		opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.inside.DialContext(ctx) }))
	case len(addresses) > 0:
		target = schemeStatic + ":///" + service
		opts = append(opts, grpc.WithTransportCredentials(p.outgoing()), grpc.WithResolvers(&staticResolver{process: p}))
	default:
		opts = append(opts, grpc.WithTransportCredentials(p.outgoing()), grpc.WithResolvers(&discovery{process: p}))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, errs.Internal(fmt.Errorf("dial %s: %w", service, err))
	}
	d.opened = append(d.opened, conn)
	if p.Hosts(service) {
		d.inside = conn
	}
	return conn, nil
}

// outgoing returns the credentials for calls to other processes.
func (p *Process) outgoing() credentials.TransportCredentials {
	if cfg := p.tls.client(); cfg != nil {
		return credentials.NewTLS(cfg)
	}
	return insecure.NewCredentials()
}

func (p *Process) dialOptions() ([]grpc.DialOption, error) {
	config, err := serviceConfig(p)
	if err != nil {
		return nil, err
	}
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDefaultCallOptions(
			grpc.WaitForReady(true),
			grpc.MaxCallRecvMsgSize(p.Config.GRPC.MaxMessageBytes),
			grpc.MaxCallSendMsgSize(p.Config.GRPC.MaxMessageBytes),
		),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(p.Tracing.Provider), otelgrpc.WithPropagators(p.Tracing.Propagator))),
		grpc.WithChainUnaryInterceptor(p.clientUnary),
		grpc.WithChainStreamInterceptor(p.clientStream),
	}, nil
}

// serviceConfig spreads calls over all replicas and repeats those that may be repeated.
func serviceConfig(p *Process) (string, error) {
	type methodName struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	type retryPolicy struct {
		MaxAttempts          int      `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
	type methodConfig struct {
		Name  []methodName `json:"name"`
		Retry retryPolicy  `json:"retryPolicy"`
	}
	repeat := methodConfig{Retry: retryPolicy{
		MaxAttempts: 4, InitialBackoff: "0.1s", MaxBackoff: "2s", BackoffMultiplier: 2, RetryableStatusCodes: []string{"UNAVAILABLE"},
	}}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "sebs.") && file.Package() != "google.longrunning" {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				if p.Policies.For("/" + string(service.FullName()) + "/" + string(method.Name())).Idempotent {
					repeat.Name = append(repeat.Name, methodName{string(service.FullName()), string(method.Name())})
				}
			}
		}
		return true
	})
	config := map[string]any{"loadBalancingConfig": []any{map[string]any{"round_robin": struct{}{}}}}
	if len(repeat.Name) > 0 {
		config["methodConfig"] = []methodConfig{repeat}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return "", errs.Internal(err)
	}
	return string(text), nil
}

// outgoingContext adds the request id and, where the call is made for somebody, who that is.
func outgoingContext(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	if caller, ok := authn.FromContext(ctx); ok && len(md.Get(callerHeader)) == 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, callerHeader, caller.Identity, callerRoleHeader, caller.Role.String())
	}
	if len(md.Get(requestIDHeader)) > 0 {
		return ctx
	}
	id := observe.RequestID(ctx)
	if id == "" {
		id = uuid.NewString()
	}
	return metadata.AppendToOutgoingContext(ctx, requestIDHeader, id)
}

func (p *Process) clientUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Policies.For(method).Deadline(false))
		defer cancel()
	}
	return errs.FromStatus(invoker(outgoingContext(ctx), method, req, reply, cc, opts...))
}

func (p *Process) clientStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := streamer(outgoingContext(ctx), desc, cc, method, opts...)
	if err != nil {
		return nil, errs.FromStatus(err)
	}
	return &convertingStream{ClientStream: stream}, nil
}

// convertingStream returns errors of package errs.
type convertingStream struct {
	grpc.ClientStream
}

// SendMsg sends a message.
func (s *convertingStream) SendMsg(m any) error { return convertStream(s.ClientStream.SendMsg(m)) }

// RecvMsg receives a message.
func (s *convertingStream) RecvMsg(m any) error { return convertStream(s.ClientStream.RecvMsg(m)) }

func convertStream(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return errs.FromStatus(err)
}

// lazyConn decides at its first call where the service is.
type lazyConn struct {
	dialer  *dialer
	service string

	mu   sync.Mutex
	conn *grpc.ClientConn
}

func (c *lazyConn) open(ctx context.Context) (*grpc.ClientConn, error) {
	select {
	case <-c.dialer.process.ready:
	default:
		select {
		case <-c.dialer.process.ready:
		case <-ctx.Done():
			return nil, errs.Unavailable("SERVICE_NOT_READY", "%s cannot be called before the process is set up", c.service).Wrap(ctx.Err())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		conn, err := c.dialer.open(c.service)
		if err != nil {
			return nil, err
		}
		c.conn = conn
	}
	return c.conn, nil
}

// Invoke makes a unary call.
func (c *lazyConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := c.open(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream starts a stream.
func (c *lazyConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}
