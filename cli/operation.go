package cli

import (
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/output"
)

func (a *app) operationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operation", Short: "List, show and cancel long-running operations"}
	list := &cobra.Command{
		Use:   "list",
		Short: "List operations, newest first",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			all := &longrunningpb.ListOperationsResponse{}
			for token := ""; ; {
				page, err := longrunningpb.NewOperationsClient(c.conn).ListOperations(c.ctx, &longrunningpb.ListOperationsRequest{Name: "operations", PageToken: token})
				if err != nil {
					return err
				}
				all.Operations = append(all.Operations, page.GetOperations()...)
				if token = page.GetNextPageToken(); token == "" {
					break
				}
			}
			return output.Message(a.Stdout, c.format, all, func() output.Rows { return operationRows(all.GetOperations()...) })
		}),
	}
	get := &cobra.Command{
		Use:   "get OPERATION",
		Short: "Show an operation",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			op, err := longrunningpb.NewOperationsClient(c.conn).GetOperation(c.ctx, &longrunningpb.GetOperationRequest{Name: resource("operations", c.args[0])})
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, op, func() output.Rows { return operationRows(op) })
		}),
	}
	cancel := &cobra.Command{
		Use:   "cancel OPERATION",
		Short: "Cancel an operation",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			_, err := longrunningpb.NewOperationsClient(c.conn).CancelOperation(c.ctx, &longrunningpb.CancelOperationRequest{Name: resource("operations", c.args[0])})
			return err
		}),
	}
	cmd.AddCommand(list, get, cancel)
	return cmd
}

func operationRows(operations ...*longrunningpb.Operation) output.Rows {
	rows := output.Rows{Header: []string{"OPERATION", "STATE", "PHASE", "MESSAGE"}}
	for _, op := range operations {
		state := "running"
		step := stepOf(op)
		if op.GetDone() {
			state = "done"
		}
		message := step.Message
		if op.GetError() != nil {
			state, message = "failed", op.GetError().GetMessage()
		}
		rows.Lines = append(rows.Lines, []string{op.GetName(), state, firstOf(step.Phase, "-"), firstOf(message, "-")})
	}
	return rows
}
