package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/output"
)

// call is what a command that asks a service gets.
type call struct {
	ctx    context.Context
	cmd    *cobra.Command
	args   []string
	conn   grpc.ClientConnInterface
	s      *session
	show   *display.Display
	format output.Format
}

// call wraps the work of a command that needs nothing but a connection.
func (a *app) call(work func(c *call) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		format, err := a.format()
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), connectOptions{}, func(s *session, show *display.Display) error {
			return work(&call{ctx: cmd.Context(), cmd: cmd, args: args, conn: s.conn, s: s, show: show, format: format})
		})
	}
}

// commonCall wraps the work of a command with the common options of SeBS: it joins flags and configuration file, and
// connects. storage names files with self-hosted stores.
func (a *app) commonCall(f *commonFlags, storage []string, work func(c *call, set *settings) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		format, err := a.format()
		if err != nil {
			return err
		}
		options, err := f.connectOptions(storage...)
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), options, func(s *session, show *display.Display) error {
			set, err := f.settings(cmd, show)
			if err != nil {
				return err
			}
			return work(&call{ctx: cmd.Context(), cmd: cmd, args: args, conn: s.conn, s: s, show: show, format: format}, set)
		})
	}
}

// resource completes a resource name of one part: `runs/x` and `x` mean the same.
func resource(collection, id string) string {
	if strings.HasPrefix(id, collection+"/") {
		return id
	}
	return collection + "/" + id
}
