package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/authn"
)

// operationsService is the route of google.longrunning.Operations.
const operationsService = "operations"

// services are the routes of methods, by the package's second part.
var services = []string{"auth", "builder", "deployer", "event", "experiments", "invoker", "local", "metrics", "storage"}

type gateway struct {
	authn    *authn.Authenticator
	policies *authn.Policies
	conns    map[string]grpc.ClientConnInterface
	grpc     *grpc.Server
	rest     http.Handler
	config   Config
}

func newGateway(p *app.Process, config Config) (*gateway, error) {
	g := &gateway{authn: p.Authn, policies: p.Policies, conns: map[string]grpc.ClientConnInterface{}, config: config}
	for _, name := range services {
		conn, err := p.Dial(name)
		if err != nil {
			return nil, fmt.Errorf("connect the gateway to %s: %w", name, err)
		}
		g.conns[name] = conn
	}
	// Every process answers for the operations of all, out of etcd; this one serves tokens, so that is the nearest.
	p.Operations.Answer(services...)
	g.conns[operationsService] = g.conns["auth"]
	g.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(g.proxy),
		grpc.MaxRecvMsgSize(p.Config.GRPC.MaxMessageBytes), grpc.MaxSendMsgSize(p.Config.GRPC.MaxMessageBytes),
	)
	rest, err := g.newREST()
	if err != nil {
		return nil, err
	}
	g.rest = rest
	return g, nil
}

// ServeHTTP takes a gRPC or a REST call.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		g.grpc.ServeHTTP(w, r)
		return
	}
	g.rest.ServeHTTP(w, r)
}

func (g *gateway) connTo(method string) (grpc.ClientConnInterface, error) {
	service, err := ServiceOf(method)
	if err != nil {
		return nil, err
	}
	conn, ok := g.conns[service]
	if !ok {
		return nil, unknownMethod(method)
	}
	return conn, nil
}

// newREST builds the REST side.
func (g *gateway) newREST() (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()),
		runtime.WithForwardResponseOption(openStream),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(outgoingHeader),
		runtime.WithErrorHandler(methodFailed), runtime.WithRoutingErrorHandler(routeFailed),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			return metadata.Pairs(remoteHeader, r.RemoteAddr)
		}),
	)
	ctx := context.Background()
	register := []func() error{
		func() error {
			return authv1.RegisterTokenServiceHandlerClient(ctx, mux, authv1.NewTokenServiceClient(g.checked("auth")))
		},
		func() error {
			return builderv1.RegisterBuilderServiceHandlerClient(ctx, mux, builderv1.NewBuilderServiceClient(g.checked("builder")))
		},
		func() error {
			return deployerv1.RegisterDeployerServiceHandlerClient(ctx, mux, deployerv1.NewDeployerServiceClient(g.checked("deployer")))
		},
		func() error {
			return eventv1.RegisterEventServiceHandlerClient(ctx, mux, eventv1.NewEventServiceClient(g.checked("event")))
		},
		func() error {
			return experimentsv1.RegisterExperimentsServiceHandlerClient(ctx, mux, experimentsv1.NewExperimentsServiceClient(g.checked("experiments")))
		},
		func() error {
			return invokerv1.RegisterInvokerServiceHandlerClient(ctx, mux, invokerv1.NewInvokerServiceClient(g.checked("invoker")))
		},
		func() error {
			return localv1.RegisterLocalServiceHandlerClient(ctx, mux, localv1.NewLocalServiceClient(g.checked("local")))
		},
		func() error {
			return metricsv1.RegisterMetricsServiceHandlerClient(ctx, mux, metricsv1.NewMetricsServiceClient(g.checked("metrics")))
		},
		func() error {
			return storagev1.RegisterStorageServiceHandlerClient(ctx, mux, storagev1.NewStorageServiceClient(g.checked("storage")))
		},
		func() error { return g.operationRoutes(mux) },
	}
	for _, r := range register {
		if err := r(); err != nil {
			return nil, fmt.Errorf("register REST routes: %w", err)
		}
	}
	return g.routes(mux), nil
}

// checked returns the connection to a service behind the check of roles.
func (g *gateway) checked(service string) grpc.ClientConnInterface {
	return &checkedConn{ClientConnInterface: g.conns[service], g: g}
}

// checkedConn refuses calls that the caller of a REST request may not make.
type checkedConn struct {
	grpc.ClientConnInterface
	g *gateway
}

// Invoke makes a unary call.
func (c *checkedConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := c.g.authorizeREST(ctx, method); err != nil {
		return err
	}
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream.
func (c *checkedConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := c.g.authorizeREST(ctx, method); err != nil {
		return nil, err
	}
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// authorizeREST tells whether the caller of a REST request may call a method. The caller was put into the context when
// the request came in.
func (g *gateway) authorizeREST(ctx context.Context, method string) error {
	if g.policies.For(method).Role == 0 {
		return nil
	}
	caller, ok := authn.FromContext(ctx)
	if !ok {
		return noCredential()
	}
	return g.policies.Authorize(caller, method)
}
