package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
)

// spendingFlags bound what a run leaves behind and costs.
type spendingFlags struct {
	plan            bool
	maxCostUSD      float64
	ttl             time.Duration
	coldStartMethod string
}

func (f *spendingFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.plan, "plan", false, "only tell what would be made on the platform and what the run would cost")
	flags.Float64Var(&f.maxCostUSD, "max-cost", 0, "the most that the run may cost in US dollars, by estimate (default: no bound)")
	flags.DurationVar(&f.ttl, "ttl", 0, "after how long 'sebs resources expire' may remove the deployment, such as 24h (default: never)")
	flags.StringVar(&f.coldStartMethod, "cold-start-method", "", "how cold starts are enforced on AWS: environment or version (default environment)")
}

func (f *spendingFlags) check(cmd *cobra.Command) error {
	switch {
	// Who gives 0 means that nothing may be spent, not that there is no bound.
	case cmd.Flags().Changed("max-cost") && f.maxCostUSD <= 0 || math.IsNaN(f.maxCostUSD) || math.IsInf(f.maxCostUSD, 0):
		return exitcode.With(exitcode.Usage, fmt.Errorf("--max-cost: %g is no amount; give US dollars, such as 0.50", f.maxCostUSD))
	case f.ttl < 0:
		return exitcode.With(exitcode.Usage, fmt.Errorf("--ttl: %s is over already; give a time such as 24h", f.ttl))
	}
	return nil
}

// apply puts the options into the request.
func (f *spendingFlags) apply(request *experimentsv1.CreateRunRequest) {
	if f.maxCostUSD > 0 {
		request.MaxCostUsd = &f.maxCostUSD
	}
	target := request.GetTarget()
	if f.ttl > 0 {
		target.Ttl = durationpb.New(f.ttl)
	}
	if f.coldStartMethod != "" {
		if target.GetSettings() == nil {
			target.Settings = make(map[string]string)
		}
		target.Settings["cold-start-method"] = f.coldStartMethod
	}
}

// printPlan asks what a run would do, and prints it.
func (a *app) printPlan(ctx context.Context, s *session, format output.Format, request *experimentsv1.CreateRunRequest) error {
	plan, err := experimentsv1.NewExperimentsServiceClient(s.conn).PlanRun(ctx, &experimentsv1.PlanRunRequest{Run: request})
	if err != nil {
		return err
	}
	if err := output.Message(a.Stdout, format, plan, func() output.Rows { return planRows(plan) }); err != nil || format != output.Table {
		return err
	}
	text := costText(plan.GetCost())
	for _, reason := range plan.GetSkipped() {
		text += "\nLeft out: " + reason
	}
	_, err = fmt.Fprintf(a.Stdout, "\n%s\n", text)
	return err
}

func planRows(plan *experimentsv1.RunPlan) output.Rows {
	rows := output.Rows{Header: []string{"ACTION", "TYPE", "NAME", "DETAIL"}}
	for _, resource := range plan.GetResources() {
		rows.Lines = append(rows.Lines, []string{actionWord(resource.GetAction()), resource.GetType(), resource.GetName(), resource.GetDetail()})
	}
	return rows
}

func actionWord(action deployerv1.PlannedResource_Action) string {
	return strings.ToLower(strings.TrimPrefix(action.String(), "ACTION_"))
}

// costText tells an estimate to a person.
func costText(cost *experimentsv1.CostEstimate) string {
	text := "Estimated cost: unknown"
	if cost.Usd != nil {
		text = fmt.Sprintf("Estimated cost: %s for %d invocations", dollars(cost.GetUsd()), cost.GetInvocationCount())
	}
	for _, sentence := range cost.GetBasis() {
		text += "\n  " + sentence
	}
	return text
}

// dollars writes an amount with as many digits as it takes to see it.
func dollars(usd float64) string {
	if usd == 0 || usd >= 0.01 {
		return "$" + strconv.FormatFloat(usd, 'f', 2, 64)
	}
	return "$" + strconv.FormatFloat(usd, 'f', int(math.Min(12, 1-math.Floor(math.Log10(usd)))), 64)
}
