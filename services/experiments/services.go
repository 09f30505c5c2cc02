package experiments

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/operations"
)

// Services are the clients that a run works with.
type Services struct {
	Builder  builderv1.BuilderServiceClient
	Deployer deployerv1.DeployerServiceClient
	Invoker  invokerv1.InvokerServiceClient
	Metrics  metricsv1.MetricsServiceClient
	// Local is asked what the local platform can run.
	Local localv1.LocalServiceClient
	// BuilderOperations, DeployerOperations and MetricsOperations follow the long work of these services.
	BuilderOperations, DeployerOperations, MetricsOperations longrunningpb.OperationsClient
}

// Connections are the connections behind [Services], by service.
type Connections struct {
	Builder, Deployer, Invoker, Metrics, Local grpc.ClientConnInterface
}

// NewServices returns the clients over connections.
func NewServices(c Connections) Services {
	return Services{
		Builder:            builderv1.NewBuilderServiceClient(c.Builder),
		Deployer:           deployerv1.NewDeployerServiceClient(c.Deployer),
		Invoker:            invokerv1.NewInvokerServiceClient(c.Invoker),
		Metrics:            metricsv1.NewMetricsServiceClient(c.Metrics),
		Local:              localv1.NewLocalServiceClient(c.Local),
		BuilderOperations:  longrunningpb.NewOperationsClient(c.Builder),
		DeployerOperations: longrunningpb.NewOperationsClient(c.Deployer),
		MetricsOperations:  longrunningpb.NewOperationsClient(c.Metrics),
	}
}

// cancelTimeout bounds the wish to cancel another service's operation.
const cancelTimeout = 5 * time.Second

// await waits for an operation of another service and decodes its response. When ctx ends first, that operation is
// cancelled. said is told what the operation says of its progress.
func await(ctx context.Context, client longrunningpb.OperationsClient, op *longrunningpb.Operation, response proto.Message, said func(string)) error {
	done, err := operations.Wait(ctx, client, op, func(state *longrunningpb.Operation) {
		if text := progressText(state); text != "" && said != nil {
			said(text)
		}
	})
	if ctx.Err() != nil && !done.GetDone() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		// The caller leaves in any case; an operation that cannot be cancelled ends by itself.
		_, _ = client.CancelOperation(stop, &longrunningpb.CancelOperationRequest{Name: op.GetName()})
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return operations.Result(done, response)
}

// progressText returns the message of an operation's metadata.
func progressText(op *longrunningpb.Operation) string {
	if op.GetMetadata() == nil {
		return ""
	}
	metadata, err := op.GetMetadata().UnmarshalNew()
	if err != nil {
		return ""
	}
	if told, ok := metadata.(interface{ GetMessage() string }); ok {
		return told.GetMessage()
	}
	return ""
}

// wrapStatus adds what was tried to an error of another service.
func wrapStatus(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errs.FromStatus(err))
}
