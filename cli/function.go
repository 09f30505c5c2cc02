package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

func (a *app) functionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "function", Short: "List, show and delete deployed functions, and read their logs"}
	var platform string
	cmd.PersistentFlags().StringVar(&platform, "deployment", "local", "platform: local, aws, azure, gcp or openwhisk")
	cmd.AddCommand(a.functionListCommand(&platform), a.functionGetCommand(&platform), a.functionDeleteCommand(&platform), a.functionLogsCommand(&platform))
	return cmd
}

func (a *app) functionListCommand(platform *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List functions",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			functions, err := listFunctions(c, *platform)
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, &deployerv1.ListFunctionsResponse{Functions: functions},
				func() output.Rows { return functionRows(functions...) })
		}),
	}
}

func listFunctions(c *call, platform string) ([]*typev1.Function, error) {
	var all []*typev1.Function
	for token := ""; ; {
		page, err := deployerv1.NewDeployerServiceClient(c.conn).ListFunctions(c.ctx, &deployerv1.ListFunctionsRequest{
			Parent: "platforms/" + platform + "/deployments/-", PageToken: token,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetFunctions()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// findFunction finds a function by its resource name or by its own name in any deployment of the platform.
func findFunction(c *call, platform, name string) (*typev1.Function, error) {
	if strings.HasPrefix(name, "platforms/") {
		return deployerv1.NewDeployerServiceClient(c.conn).GetFunction(c.ctx, &deployerv1.GetFunctionRequest{Name: name})
	}
	functions, err := listFunctions(c, platform)
	if err != nil {
		return nil, err
	}
	var found []*typev1.Function
	for _, f := range functions {
		if lastPart(f.GetName()) == name {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return nil, errs.NotFound("FUNCTION_NOT_FOUND", "function %q does not exist on platform %s; 'sebs function list --deployment %s' lists what does", name, platform, platform)
	case 1:
		return found[0], nil
	}
	return nil, exitcode.With(exitcode.Usage, fmt.Errorf("function %q exists in %d deployments; give its full name, such as %s", name, len(found), found[0].GetName()))
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func functionRows(functions ...*typev1.Function) output.Rows {
	rows := output.Rows{Header: []string{"FUNCTION", "BENCHMARK", "RUNTIME", "ARCH", "MEMORY MB", "STATE", "TRIGGERS", "HASH"}}
	for _, f := range functions {
		config := f.GetConfig()
		var triggers []string
		for _, t := range f.GetTriggers() {
			triggers = append(triggers, nameOf(t.GetType(), triggerNames))
		}
		hash := f.GetCodeHash()
		if len(hash) > 12 {
			hash = hash[:12]
		}
		rows.Lines = append(rows.Lines, []string{
			f.GetName(), f.GetBenchmark(), nameOf(config.GetRuntime().GetLanguage(), languageNames) + " " + config.GetRuntime().GetVersion(),
			nameOf(config.GetArchitecture(), architectureNames), fmt.Sprint(config.GetMemoryMb()),
			strings.TrimPrefix(f.GetState().String(), "STATE_"), strings.Join(triggers, ","), hash,
		})
	}
	return rows
}

func (a *app) functionGetCommand(platform *string) *cobra.Command {
	return &cobra.Command{
		Use:   "get FUNCTION",
		Short: "Show a function",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			f, err := findFunction(c, *platform, c.args[0])
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, f, func() output.Rows { return functionRows(f) })
		}),
	}
}

func (a *app) functionDeleteCommand(platform *string) *cobra.Command {
	return &cobra.Command{
		Use:   "delete FUNCTION",
		Short: "Delete a function with its triggers",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			f, err := findFunction(c, *platform, c.args[0])
			if err != nil {
				return err
			}
			_, err = deployerv1.NewDeployerServiceClient(c.conn).DeleteFunction(c.ctx, &deployerv1.DeleteFunctionRequest{Name: f.GetName()})
			if err != nil && !errs.Is(err, codes.NotFound) {
				return err
			}
			c.show.Note("deleted %s", f.GetName())
			return nil
		}),
	}
}

func (a *app) functionLogsCommand(platform *string) *cobra.Command {
	var request string
	cmd := &cobra.Command{
		Use:   "logs FUNCTION",
		Short: "Print a function's logs, oldest first",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			f, err := findFunction(c, *platform, c.args[0])
			if err != nil {
				return err
			}
			for token := ""; ; {
				page, err := deployerv1.NewDeployerServiceClient(c.conn).GetFunctionLogs(c.ctx, &deployerv1.GetFunctionLogsRequest{
					Name: f.GetName(), InvocationRequestId: request, PageToken: token,
				})
				if err != nil {
					return err
				}
				if c.format != output.Table {
					if err := output.Message(a.Stdout, c.format, page, nil); err != nil {
						return err
					}
				} else if err := a.printLogLines(page.GetLines()); err != nil {
					return err
				}
				if token = page.GetNextPageToken(); token == "" {
					return nil
				}
			}
		}),
	}
	cmd.Flags().StringVar(&request, "invocation", "", "only lines of this request id")
	return cmd
}

func (a *app) printLogLines(lines []*deployerv1.LogLine) error {
	for _, line := range lines {
		_, err := fmt.Fprintf(a.Stdout, "%s %s %s\n", line.GetTime().AsTime().Format(time.RFC3339Nano), firstOf(line.GetRequestId(), "-"), line.GetText())
		if err != nil {
			return err
		}
	}
	return nil
}
