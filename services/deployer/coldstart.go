package deployer

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
)

// parallelColdStarts bounds the functions that one call changes at a time.
const parallelColdStarts = 16

// EnforceColdStart makes the next invocations of the functions cold. All get the same
// new value of the deployment's counter. A function that fails is named with the
// reason; the others are cold all the same.
func (d *Deployer) EnforceColdStart(ctx context.Context, req *deployerv1.EnforceColdStartRequest) (*deployerv1.EnforceColdStartResponse, error) {
	parent, err := parseDeployment("parent", req.GetParent(), false)
	if err != nil {
		return nil, err
	}
	names, err := coldNames(parent, req.GetFunctions())
	if err != nil {
		return nil, err
	}
	_, platform, err := d.workOn(ctx, parent)
	if err != nil {
		return nil, err
	}
	caps, err := platform.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	if err := platform.Require("enforcing cold starts", caps.ColdStartControl); err != nil {
		return nil, err
	}
	counter, err := d.nextCounter(ctx, parent, names)
	if err != nil {
		return nil, err
	}
	answer := &deployerv1.EnforceColdStartResponse{Counter: counter, Failures: make(map[string]string)}
	var (
		mu    sync.Mutex
		group errgroup.Group
		cold  []string
	)
	group.SetLimit(parallelColdStarts)
	for _, name := range names {
		group.Go(func() error {
			err := d.makeCold(ctx, platform, name, counter)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				answer.Failures[name.String()] = errs.ToStatus(err).Message()
				d.log.WarnContext(ctx, "enforce a cold start", "function", name.String(), "error", err)
				return nil
			}
			cold = append(cold, name.String())
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("enforce cold starts: %w", err)
	}
	if len(cold) > 0 {
		d.tell(ctx, "cold_start_enforced", parent.String(), &eventv1.ColdStartEnforced{Functions: cold, Counter: counter})
	}
	return answer, nil
}

// coldNames parses the functions, each once.
func coldNames(parent deploymentName, functions []string) ([]functionName, error) {
	var (
		names    []functionName
		problems []error
		seen     = make(map[string]bool)
	)
	for i, function := range functions {
		field := fmt.Sprintf("functions[%d]", i)
		name, err := parseFunction(field, function)
		switch {
		case err != nil:
			problems = append(problems, err)
		case name.Deployment != parent:
			problems = append(problems, errs.Field(field, "%s is not a function of %s", function, parent))
		case !seen[name.ID]:
			seen[name.ID] = true
			names = append(names, name)
		}
	}
	return names, errs.Fields(problems...)
}

// nextCounter returns a value that none of the functions has. After etcd was lost the
// counter starts again, while functions still carry values from before.
func (d *Deployer) nextCounter(ctx context.Context, parent deploymentName, names []functionName) (int64, error) {
	taken := make(map[string]bool)
	for _, name := range names {
		// A function without a record is reported when it is its turn.
		if record, _, err := d.getFunction(ctx, name); err == nil {
			for _, value := range coldStartOf(record.GetConfig().GetEnvironment()) {
				taken[value] = true
			}
		}
	}
	for {
		counter, err := d.records.Increment(ctx, "counters/"+parent.Platform+"/"+parent.ID+"/cold_start")
		if err != nil {
			return 0, fmt.Errorf("count cold starts: %w", err)
		}
		if !taken[strconv.FormatInt(counter, 10)] {
			return counter, nil
		}
	}
}

// makeCold sets the counter in one function and waits until the platform is done.
func (d *Deployer) makeCold(ctx context.Context, platform *opened, name functionName, counter int64) error {
	ctx, unlock, err := d.lockFunction(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	seen, err := d.present(ctx, platform, name)
	if err != nil {
		return err
	}
	record := recordOf(name, *seen.actual, seen.record)
	want, err := d.desire(ctx, platform, wish{
		deployment: name.Deployment, benchmark: record.GetBenchmark(), config: record.GetConfig(), recorded: environmentOf(record),
		handler: seen.actual.Config.Handler, stores: storesOf(record.GetPlatformAttributes()),
	})
	if err != nil {
		return err
	}
	want = faas.WithColdStart(want, counter)
	actual, err := platform.EnforceColdStart(ctx, name.ID, want, counter)
	if err != nil {
		return d.failed(ctx, name, seen, err)
	}
	record = recordOf(name, actual, record)
	record.Config = configProto(want, record.GetConfig().GetSystemVariant())
	record.SecretEnvironment = want.Secrets
	return d.save(ctx, name, seen, record)
}
