package cli

import "github.com/spf13/cobra"

func (a *app) benchmarkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "benchmark",
		Short: "Invoke, package and evaluate single benchmarks",
	}
	cmd.AddCommand(
		a.benchmarkInvokeCommand(),
		a.benchmarkProcessCommand(),
		a.benchmarkStatisticsCommand(),
		a.benchmarkPackageCommand(),
		a.benchmarkRegressionCommand(),
		a.benchmarkListCommand(),
	)
	return cmd
}
