package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/operations"
)

// cancelTimeout bounds how long an interrupted command waits for the server to stop the work.
const cancelTimeout = 30 * time.Second

// follow shows an operation's progress until it is done and unpacks its response. When the context ends, the
// operation is cancelled on the server and its end is waited for.
func (a *app) follow(ctx context.Context, s *session, show *display.Display, op *longrunningpb.Operation, response proto.Message) error {
	client := longrunningpb.NewOperationsClient(s.conn)
	done, err := operations.Wait(ctx, client, op, func(o *longrunningpb.Operation) { show.Update(stepOf(o)) })
	if ctx.Err() != nil {
		return a.cancel(ctx, client, show, op.GetName())
	}
	if err != nil {
		return err
	}
	show.Finish()
	if err := done.GetResponse().UnmarshalTo(response); err != nil {
		return fmt.Errorf("read the answer of %s: %w", op.GetName(), err)
	}
	return nil
}

func (a *app) cancel(ctx context.Context, client longrunningpb.OperationsClient, show *display.Display, name string) error {
	show.Note("sebs: interrupted; cancelling %s on the server (interrupt again to leave at once)", name)
	bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer stop()
	if _, err := client.CancelOperation(bounded, &longrunningpb.CancelOperationRequest{Name: name}); err != nil {
		return exitcode.With(exitcode.Interrupted, fmt.Errorf("cancel %s: %w; see 'sebs operation get %s'", name, err, name))
	}
	current, err := client.GetOperation(bounded, &longrunningpb.GetOperationRequest{Name: name})
	if err == nil {
		_, err = operations.Wait(bounded, client, current, nil)
	}
	if err != nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return exitcode.With(exitcode.Interrupted, fmt.Errorf("%s did not stop within %s; see 'sebs operation get %s'", name, cancelTimeout, name))
	}
	show.Note("sebs: cancelled %s", name)
	return exitcode.With(exitcode.Interrupted, nil)
}

// stepOf reads what an operation's metadata tells about its progress.
func stepOf(op *longrunningpb.Operation) display.Step {
	message, err := op.GetMetadata().UnmarshalNew()
	if err != nil {
		return display.Step{}
	}
	switch m := message.(type) {
	case *experimentsv1.RunMetadata:
		return display.Step{Phase: m.GetPhase(), Message: m.GetMessage(), Current: m.GetCurrent(), Total: m.GetTotal()}
	case *builderv1.BuildMetadata:
		return display.Step{Phase: m.GetPhase(), Message: m.GetMessage(), Current: m.GetCurrent(), Total: m.GetTotal()}
	case *deployerv1.DeployMetadata:
		return display.Step{Phase: m.GetPhase(), Message: m.GetMessage(), Current: m.GetCurrent(), Total: m.GetTotal()}
	case *metricsv1.DownloadMetricsMetadata:
		return display.Step{Phase: "metrics", Message: metricsMessage(m), Current: m.GetFoundCount(), Total: m.GetTotalCount()}
	}
	return display.Step{}
}

// with connects, runs the command's work and closes the connection whatever happened.
func (a *app) with(ctx context.Context, options connectOptions, work func(s *session, show *display.Display) error) (err error) {
	show, err := a.newDisplay()
	if err != nil {
		return err
	}
	s, err := a.connect(ctx, show, options)
	if err != nil {
		return err
	}
	defer func() {
		show.Finish()
		closeErr := s.close(ctx)
		if err == nil && closeErr != nil {
			err = fmt.Errorf("stop the suite: %w", closeErr)
		}
	}()
	if s.embedded == nil {
		return work(s, show)
	}
	return watchSuite(ctx, s, func() error { return work(s, show) })
}

// watchSuite runs work, and tells when it failed because a service of the suite ended by itself.
func watchSuite(_ context.Context, s *session, work func() error) error {
	err := work()
	select {
	case <-s.embedded.Failed():
		return errors.Join(err, fmt.Errorf("the suite ended by itself: %w", s.embedded.Err()))
	default:
		return err
	}
}
