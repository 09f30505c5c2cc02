package faas

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Options adjust a Platform. The zero value is ready to use.
type Options struct {
	// Retry bounds the repetition of control calls.
	Retry RetryPolicy
	// Registry takes the metrics of driver calls; nil keeps none.
	Registry prometheus.Registerer
	// PollInterval is the first pause between two looks at a function that is
	// being created or updated, 50 ms if 0. It doubles up to two seconds.
	PollInterval time.Duration
}

// Platform is one Function-as-a-Service platform seen through one credential. Its
// methods may be called from several goroutines.
type Platform struct {
	name   string
	driver driver.Driver
	naming NamingRule
	retry  RetryPolicy
	poll   time.Duration
	meter  *prometheus.HistogramVec
}

// New returns the platform of that name on top of a driver. The platform closes
// the driver.
func New(name string, d driver.Driver, options Options) (*Platform, error) {
	naming, ok := namingRules(name)
	if !ok {
		return nil, errs.InvalidArgument(ReasonUnknownPlatform,
			"platform %q is not known; the platforms are %s", name, strings.Join(Known(), ", ")).With("platform", name)
	}
	if options.PollInterval <= 0 {
		options.PollInterval = 50 * time.Millisecond
	}
	meter, err := newMeter(options.Registry)
	if err != nil {
		return nil, err
	}
	return &Platform{
		name: name, driver: d, naming: naming, retry: options.Retry.withDefaults(), poll: options.PollInterval, meter: meter,
	}, nil
}

// Name returns the platform's name.
func (p *Platform) Name() string { return p.name }

// Naming returns how the platform names functions.
func (p *Platform) Naming() NamingRule { return p.naming }

// Close releases the driver.
func (p *Platform) Close() error { return p.driver.Close() }

// FunctionName returns the name for a function: the requested one in the
// platform's form, or the default name when none is requested.
func (p *Platform) FunctionName(requested string, in NameInput) (string, error) {
	if requested == "" {
		return p.naming.Default(in)
	}
	name := p.naming.Format(requested)
	return name, p.naming.Check(name)
}

// CheckCredentials asks the platform who the credential belongs to.
func (p *Platform) CheckCredentials(ctx context.Context) (driver.Identity, error) {
	identity, err := retry(ctx, p, "CheckCredentials", p.driver.CheckCredentials)
	if err != nil {
		return driver.Identity{}, p.wrap(err, "check the credential")
	}
	return identity, nil
}

// CreateFunction makes a function and waits until it answers. When the name is
// taken by a function of the same deployment it returns that one with created
// false, whatever its code and configuration; a function of another deployment
// fails with AlreadyExists.
func (p *Platform) CreateFunction(ctx context.Context, spec driver.FunctionSpec) (fn driver.Function, created bool, err error) {
	if err := p.naming.Check(spec.Name); err != nil {
		return driver.Function{}, false, err
	}
	if err := p.CheckConfig(ctx, spec.Config); err != nil {
		return driver.Function{}, false, err
	}
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return driver.Function{}, false, err
	}
	if err := p.checkCode(caps, spec.Code); err != nil {
		return driver.Function{}, false, err
	}
	created = true
	fn, err = retry(ctx, p, "CreateFunction", func(ctx context.Context) (driver.Function, error) {
		return p.driver.CreateFunction(ctx, spec)
	})
	if err != nil {
		if p.driver.Classify(err).Code != codes.AlreadyExists {
			return driver.Function{}, false, p.wrap(err, "create function %s", spec.Name)
		}
		existing, getErr := p.GetFunction(ctx, spec.Name)
		if getErr != nil {
			return driver.Function{}, false, getErr
		}
		if existing.Deployment != "" && existing.Deployment != spec.Deployment {
			return driver.Function{}, false, errs.AlreadyExists("FUNCTION_OF_OTHER_DEPLOYMENT",
				"function %s on platform %s belongs to deployment %s, not to %s; set another name with --function-name",
				spec.Name, p.name, existing.Deployment, spec.Deployment).With("function", spec.Name)
		}
		fn, created = existing, false
	}
	fn, err = p.awaitActive(ctx, fn)
	return fn, created, err
}

// UpdateCode replaces the function's code and its whole configuration, and waits
// until they are in force.
func (p *Platform) UpdateCode(ctx context.Context, name string, code driver.Code, config driver.Config) (driver.Function, error) {
	if err := p.CheckConfig(ctx, config); err != nil {
		return driver.Function{}, err
	}
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return driver.Function{}, err
	}
	if err := p.checkCode(caps, code); err != nil {
		return driver.Function{}, err
	}
	fn, err := retry(ctx, p, "UpdateCode", func(ctx context.Context) (driver.Function, error) {
		return p.driver.UpdateCode(ctx, name, code, config)
	})
	if err != nil {
		return driver.Function{}, p.wrap(err, "update the code of function %s", name)
	}
	return p.awaitActive(ctx, fn)
}

// UpdateConfiguration replaces configuration and environment as a whole and waits
// until they are in force.
func (p *Platform) UpdateConfiguration(ctx context.Context, name string, config driver.Config) (driver.Function, error) {
	if err := p.CheckConfig(ctx, config); err != nil {
		return driver.Function{}, err
	}
	fn, err := retry(ctx, p, "UpdateConfiguration", func(ctx context.Context) (driver.Function, error) {
		return p.driver.UpdateConfiguration(ctx, name, config)
	})
	if err != nil {
		return driver.Function{}, p.wrap(err, "update the configuration of function %s", name)
	}
	return p.awaitActive(ctx, fn)
}

// Grant gives a function that exists the rights of spec, on platforms that have such, and
// waits until they are in force.
func (p *Platform) Grant(ctx context.Context, spec driver.FunctionSpec) error {
	granter, ok := p.driver.(driver.Granter)
	if !ok {
		return nil
	}
	_, err := retry(ctx, p, "Grant", func(ctx context.Context) (struct{}, error) { return struct{}{}, granter.Grant(ctx, spec) })
	if err != nil {
		return p.wrap(err, "give function %s its rights", spec.Name)
	}
	fn, err := p.GetFunction(ctx, spec.Name)
	if err != nil {
		return err
	}
	_, err = p.awaitActive(ctx, fn)
	return err
}

// awaitActive returns the function when the platform reports its last change as done.
func (p *Platform) awaitActive(ctx context.Context, fn driver.Function) (driver.Function, error) {
	for pause := p.poll; ; pause = min(2*pause, 2*time.Second) {
		switch fn.State {
		case driver.StateActive:
			return fn, nil
		case driver.StateFailed:
			return fn, errs.FailedPrecondition("FUNCTION_FAILED", "function %s on platform %s did not become ready: %s",
				fn.Name, p.name, fn.StateReason).With("function", fn.Name)
		case driver.StatePending:
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fn, fmt.Errorf("wait for function %s on platform %s: %w", fn.Name, p.name, context.Cause(ctx))
		case <-timer.C:
		}
		next, err := p.GetFunction(ctx, fn.Name)
		if err != nil {
			return fn, err
		}
		fn = next
	}
}

// GetFunction returns a function, or an error of code NotFound.
func (p *Platform) GetFunction(ctx context.Context, name string) (driver.Function, error) {
	fn, err := retry(ctx, p, "GetFunction", func(ctx context.Context) (driver.Function, error) {
		return p.driver.GetFunction(ctx, name)
	})
	if err != nil {
		return driver.Function{}, p.wrap(err, "get function %s", name)
	}
	return fn, nil
}

// Functions goes through all functions of a deployment, or of every deployment
// when it is empty, in the order of their names. It ends after the first error.
func (p *Platform) Functions(ctx context.Context, deployment string) iter.Seq2[driver.Function, error] {
	return func(yield func(driver.Function, error) bool) {
		query := driver.ListQuery{Deployment: deployment}
		for {
			page, err := retry(ctx, p, "ListFunctions", func(ctx context.Context) (driver.FunctionPage, error) {
				return p.driver.ListFunctions(ctx, query)
			})
			if err != nil {
				yield(driver.Function{}, p.wrap(err, "list functions"))
				return
			}
			for _, fn := range page.Functions {
				if !yield(fn, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			query.PageToken = page.NextPageToken
		}
	}
}

// DeleteFunction removes a function. It answers false where there was none.
func (p *Platform) DeleteFunction(ctx context.Context, name string) (deleted bool, err error) {
	_, err = retry(ctx, p, "DeleteFunction", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.driver.DeleteFunction(ctx, name)
	})
	return p.removed(err, "delete function %s", name)
}

// CreateTrigger makes the trigger, or answers with the one that is there.
func (p *Platform) CreateTrigger(ctx context.Context, function string, spec driver.TriggerSpec) (driver.Trigger, error) {
	caps, err := p.Capabilities(ctx)
	if err != nil {
		return driver.Trigger{}, err
	}
	if err := p.Require(string(spec.Type)+" triggers", caps.Triggers[spec.Type]); err != nil {
		return driver.Trigger{}, err
	}
	trigger, err := retry(ctx, p, "CreateTrigger", func(ctx context.Context) (driver.Trigger, error) {
		return p.driver.CreateTrigger(ctx, function, spec)
	})
	if err != nil {
		return driver.Trigger{}, p.wrap(err, "create the %s trigger of function %s", spec.Type, function)
	}
	return trigger, nil
}

// DeleteTrigger removes a trigger. It answers false where there was none.
func (p *Platform) DeleteTrigger(ctx context.Context, function string, kind driver.TriggerType) (deleted bool, err error) {
	_, err = retry(ctx, p, "DeleteTrigger", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.driver.DeleteTrigger(ctx, function, kind)
	})
	return p.removed(err, "delete the %s trigger of function %s", kind, function)
}

// Invoke calls a function once through the platform's API. It never repeats the
// call. A failure of the function itself is not an error but CallResult.FunctionError.
func (p *Platform) Invoke(ctx context.Context, call driver.Call) (driver.CallResult, error) {
	began := time.Now()
	result, err := p.driver.Invoke(ctx, call)
	p.measure("Invoke", began, err)
	if err != nil {
		return driver.CallResult{}, p.wrap(err, "invoke function %s", call.Function)
	}
	return result, nil
}

// LogPage reads one page of a function's log.
func (p *Platform) LogPage(ctx context.Context, query driver.LogQuery) (driver.LogPage, error) {
	page, err := retry(ctx, p, "Logs", func(ctx context.Context) (driver.LogPage, error) { return p.driver.Logs(ctx, query) })
	if err != nil {
		return driver.LogPage{}, p.wrap(err, "read the log of function %s", query.Function)
	}
	return page, nil
}

// Logs goes through the log lines that match, oldest first. It ends after the
// first error.
func (p *Platform) Logs(ctx context.Context, query driver.LogQuery) iter.Seq2[driver.LogLine, error] {
	return func(yield func(driver.LogLine, error) bool) {
		for {
			page, err := p.LogPage(ctx, query)
			if err != nil {
				yield(driver.LogLine{}, err)
				return
			}
			for _, line := range page.Lines {
				if !yield(line, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			query.PageToken = page.NextPageToken
		}
	}
}

// Metrics goes through the platform's records of single invocations that match,
// oldest first. It ends after the first error.
func (p *Platform) Metrics(ctx context.Context, query driver.MetricsQuery) iter.Seq2[driver.InvocationRecord, error] {
	return func(yield func(driver.InvocationRecord, error) bool) {
		for {
			page, err := retry(ctx, p, "Metrics", func(ctx context.Context) (driver.MetricsPage, error) { return p.driver.Metrics(ctx, query) })
			if err != nil {
				yield(driver.InvocationRecord{}, p.wrap(err, "read the metrics of function %s", query.Function))
				return
			}
			for _, record := range page.Records {
				if !yield(record, nil) {
					return
				}
			}
			if page.NextPageToken == "" {
				return
			}
			query.PageToken = page.NextPageToken
		}
	}
}

// Discover lists everything of a deployment on the platform.
func (p *Platform) Discover(ctx context.Context, deployment string) ([]driver.Resource, error) {
	resources, err := retry(ctx, p, "Discover", func(ctx context.Context) ([]driver.Resource, error) {
		return p.driver.Discover(ctx, deployment)
	})
	if err != nil {
		return nil, p.wrap(err, "discover the resources of deployment %s", deployment)
	}
	return resources, nil
}

// FindDeployments lists the resource ids with which functions, or anything else that the
// platform can list by its label, are labelled. They are in alphabetical order.
func (p *Platform) FindDeployments(ctx context.Context) ([]string, error) {
	if finder, ok := p.driver.(driver.DeploymentFinder); ok {
		ids, err := retry(ctx, p, "FindDeployments", finder.FindDeployments)
		if err != nil {
			return nil, p.wrap(err, "find deployments")
		}
		return ids, nil
	}
	found := make(map[string]bool)
	for fn, err := range p.Functions(ctx, "") {
		if err != nil {
			return nil, err
		}
		if fn.Deployment != "" {
			found[fn.Deployment] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// DeleteResource removes one thing that Discover named. It answers false where it
// was gone already.
func (p *Platform) DeleteResource(ctx context.Context, resource driver.Resource) (deleted bool, err error) {
	_, err = retry(ctx, p, "DeleteResource", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.driver.DeleteResource(ctx, resource)
	})
	return p.removed(err, "delete %s %s", resource.Type, resource.ID)
}
