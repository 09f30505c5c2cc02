package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "events", Short: "Watch what happens in the suite"}
	var filter string
	var since time.Duration
	watch := &cobra.Command{
		Use:     "watch",
		Short:   "Print events as they happen until interrupted",
		Example: "  sebs events watch --filter 'deployer.>' --since 1h --output json",
		Args:    cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			request := &eventv1.WatchEventsRequest{Filter: filter}
			if since > 0 {
				request.StartTime = timestamppb.New(time.Now().Add(-since))
			}
			stream, err := eventv1.NewEventServiceClient(c.conn).WatchEvents(c.ctx, request)
			if err != nil {
				return err
			}
			for {
				event, err := stream.Recv()
				switch {
				case errors.Is(err, io.EOF):
					return nil
				case c.ctx.Err() != nil:
					// Leaving a watch is how it ends, not a failure.
					return exitcode.With(exitcode.Interrupted, nil)
				case err != nil:
					return errs.FromStatus(err)
				}
				if err := a.printEvent(c.format, event); err != nil {
					return err
				}
			}
		}),
	}
	watch.Flags().StringVar(&filter, "filter", "", "only subjects that match, such as deployer.> or *.package_built")
	watch.Flags().DurationVar(&since, "since", 0, "begin this far in the past")
	cmd.AddCommand(watch)
	return cmd
}

func (a *app) printEvent(format output.Format, event *eventv1.Event) error {
	if format != output.Table {
		return output.Message(a.Stdout, format, event, nil)
	}
	_, err := fmt.Fprintf(a.Stdout, "%s %-40s %s\n", event.GetTime().AsTime().Local().Format(time.RFC3339), event.GetType(), event.GetSubject())
	return err
}
