package invoker

import (
	"context"

	"google.golang.org/grpc"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Server is the gRPC face of an invoker and its queue.
type Server struct {
	invokerv1.UnimplementedInvokerServiceServer
	invoker *Invoker
	queue   *Queue
}

// NewServer returns the gRPC service.
func NewServer(invoker *Invoker, queue *Queue) *Server {
	return &Server{invoker: invoker, queue: queue}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	invokerv1.RegisterInvokerServiceServer(registrar, s)
}

// Invoke makes one call.
func (s *Server) Invoke(ctx context.Context, request *invokerv1.InvokeRequest) (*invokerv1.InvokeResponse, error) {
	record, err := s.invoker.Invoke(ctx, request)
	if err != nil {
		return nil, err
	}
	return &invokerv1.InvokeResponse{Record: record}, nil
}

// InvokeMany makes many calls and streams their records.
func (s *Server) InvokeMany(request *invokerv1.InvokeManyRequest, stream grpc.ServerStreamingServer[invokerv1.InvokeManyResponse]) error {
	return s.invoker.InvokeMany(stream.Context(), request, func(record *typev1.InvocationRecord) error {
		return stream.Send(&invokerv1.InvokeManyResponse{Record: record})
	})
}

// CreateInvocation queues a call.
func (s *Server) CreateInvocation(ctx context.Context, request *invokerv1.CreateInvocationRequest) (*invokerv1.Invocation, error) {
	return s.queue.Create(ctx, request)
}

// GetInvocation answers a queued call, at its end where asked to wait.
func (s *Server) GetInvocation(ctx context.Context, request *invokerv1.GetInvocationRequest) (*invokerv1.Invocation, error) {
	return s.queue.Get(ctx, request.GetName(), request.GetWait().AsDuration())
}

// CancelInvocation takes a call out of the queue.
func (s *Server) CancelInvocation(ctx context.Context, request *invokerv1.CancelInvocationRequest) (*invokerv1.Invocation, error) {
	return s.queue.Cancel(ctx, request.GetName())
}

// ListInvokers answers the invokers alive.
func (s *Server) ListInvokers(ctx context.Context, _ *invokerv1.ListInvokersRequest) (*invokerv1.ListInvokersResponse, error) {
	invokers, err := listInvokers(ctx, s.invoker.targets.records)
	if err != nil {
		return nil, err
	}
	return &invokerv1.ListInvokersResponse{Invokers: invokers}, nil
}
