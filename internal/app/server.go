package app

import (
	"context"
	"fmt"
	"net"
	"time"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	insideBufferBytes = 1 << 20
	keepaliveTime     = 30 * time.Second
	keepaliveTimeout  = 10 * time.Second
	// keepalivePause is the shortest pause between pings that the server suffers from a client.
	keepalivePause = 5 * time.Second
)

func transient(err error) bool {
	return errs.Is(err, codes.Unavailable) || errs.Is(err, codes.DeadlineExceeded)
}

// listen opens the sockets. The addresses were checked with the configuration.
func (p *Process) listen(ctx context.Context) error {
	var lc net.ListenConfig
	var err error
	if p.listener, err = lc.Listen(ctx, "tcp", p.Config.GRPC.Listen); err != nil {
		return fmt.Errorf("grpc.listen: %w; choose another port, or 0 for a free one", err)
	}
	grpcSocket := p.listener
	p.OnClose("grpc listener", func(context.Context) error { _ = grpcSocket.Close(); return nil })
	if p.webSocket, err = lc.Listen(ctx, "tcp", p.Config.HTTP.Listen); err != nil {
		return fmt.Errorf("http.listen: %w; choose another port, or 0 for a free one", err)
	}
	webSocket := p.webSocket
	p.OnClose("http listener", func(context.Context) error { _ = webSocket.Close(); return nil })
	p.inside = bufconn.Listen(insideBufferBytes)
	return nil
}

// makeServer builds the gRPC server with its interceptors in their order: recovery, request id, logging, metrics,
// authentication, validation, deadline, errors.
func (p *Process) makeServer() error {
	validator, err := protovalidate.New()
	if err != nil {
		return fmt.Errorf("make validator: %w", err)
	}
	p.validator = validator
	metrics, err := newServerMetrics(p.Registry)
	if err != nil {
		return err
	}
	p.health = health.NewServer()
	chain := p.interceptors(metrics)
	unary := make([]grpc.UnaryServerInterceptor, len(chain))
	stream := make([]grpc.StreamServerInterceptor, len(chain))
	for i, c := range chain {
		unary[i], stream[i] = c.unary, c.stream
	}
	p.server = grpc.NewServer(
		grpc.Creds(&listenerCredentials{TransportCredentials: p.tls.serverCredentials()}),
		grpc.MaxRecvMsgSize(p.Config.GRPC.MaxMessageBytes),
		grpc.MaxSendMsgSize(p.Config.GRPC.MaxMessageBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepalivePause, PermitWithoutStream: true}),
		grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(p.Tracing.Provider),
			otelgrpc.WithPropagators(p.Tracing.Propagator),
			otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
		)),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
	)
	return nil
}

// listenerCredentials takes calls from inside the process as they are and shakes hands with all others.
type listenerCredentials struct {
	credentials.TransportCredentials
}

// ServerHandshake marks connections of the in-process listener.
func (c *listenerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "bufconn" {
		return conn, authn.InProcess{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
	}
	return c.TransportCredentials.ServerHandshake(conn)
}

// Clone returns a copy.
func (c *listenerCredentials) Clone() credentials.TransportCredentials {
	return &listenerCredentials{TransportCredentials: c.TransportCredentials.Clone()}
}
