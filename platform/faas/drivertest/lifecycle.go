package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// spec is a function of the suite.
func (h *Harness) spec(name string, revision int) driver.FunctionSpec {
	return driver.FunctionSpec{
		Name:       name,
		Deployment: h.Deployment,
		Benchmark:  "010.sleep",
		Config:     h.Config,
		Code:       h.Code(revision),
		Labels:     map[string]string{"sebs.test": "conformance"},
	}
}

// create makes a function and waits until it is active. The returned function
// removes it.
func (h *Harness) create(ctx context.Context, name string) (driver.Function, func(), error) {
	fn, err := h.Driver.CreateFunction(ctx, h.spec(name, 1))
	if err != nil {
		return fn, func() {}, fmt.Errorf("create %s: %w", name, err)
	}
	remove := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		// A case that removed the function itself leaves nothing to do.
		_ = h.Driver.DeleteFunction(ctx, name)
	}
	fn, err = h.settle(ctx, fn)
	return fn, remove, err
}

// settle polls until the last change of the function is done.
func (h *Harness) settle(ctx context.Context, fn driver.Function) (driver.Function, error) {
	for fn.State == driver.StatePending {
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fn, fmt.Errorf("wait for %s: %w", fn.Name, ctx.Err())
		case <-timer.C:
		}
		next, err := h.Driver.GetFunction(ctx, fn.Name)
		if err != nil {
			return fn, fmt.Errorf("get %s: %w", fn.Name, err)
		}
		fn = next
	}
	if fn.State != driver.StateActive {
		return fn, fmt.Errorf("%s failed: %s", fn.Name, fn.StateReason)
	}
	return fn, nil
}

// wantCode checks the category of an error.
func (h *Harness) wantCode(operation string, err error, want codes.Code) error {
	if err == nil {
		return fmt.Errorf("%s: succeeded, want an error of code %s", operation, want)
	}
	if got := h.Driver.Classify(err).Code; got != want {
		return fmt.Errorf("%s: code %s, want %s (%w)", operation, got, want, err)
	}
	return nil
}

func identity(ctx context.Context, h *Harness, _ string) error {
	who, err := h.Driver.CheckCredentials(ctx)
	if err != nil {
		return err
	}
	if who.Account == "" {
		return errors.New("identity has no account")
	}
	return nil
}

func capabilitiesReasons(ctx context.Context, h *Harness, _ string) error {
	caps, err := h.Driver.Capabilities(ctx)
	if err != nil {
		return err
	}
	abilities := map[string]driver.Ability{
		"container images": caps.ContainerImages, "async invoke": caps.AsyncInvoke,
		"cold-start control": caps.ColdStartControl, "memory": caps.MemoryApplied,
		"timeout": caps.TimeoutApplied, "logs": caps.Logs,
		"invocation metrics": caps.InvocationMetrics, "billed duration": caps.BilledDuration,
	}
	for _, kind := range []driver.TriggerType{driver.TriggerHTTP, driver.TriggerLibrary, driver.TriggerStorage} {
		abilities[string(kind)+" trigger"] = caps.Triggers[kind]
	}
	var problems []error
	for name, ability := range abilities {
		if !ability.Supported && ability.Reason == "" {
			problems = append(problems, fmt.Errorf("%s: not supported, without a reason", name))
		}
	}
	if len(caps.Runtimes) == 0 {
		problems = append(problems, errors.New("no runtimes"))
	}
	return errors.Join(problems...)
}

func createAndGet(ctx context.Context, h *Harness, prefix string) error {
	name := prefix + "a"
	made, remove, err := h.create(ctx, name)
	defer remove()
	if err != nil {
		return err
	}
	got, err := h.Driver.GetFunction(ctx, name)
	if err != nil {
		return err
	}
	for _, fn := range []driver.Function{made, got} {
		switch {
		case fn.Name != name:
			return fmt.Errorf("name %q, want %q", fn.Name, name)
		case fn.Deployment != h.Deployment:
			return fmt.Errorf("deployment %q, want %q", fn.Deployment, h.Deployment)
		case fn.Benchmark != "010.sleep":
			return fmt.Errorf("benchmark %q, want 010.sleep", fn.Benchmark)
		case fn.Digest != h.Code(1).Digest:
			return fmt.Errorf("digest %q, want %q", fn.Digest, h.Code(1).Digest)
		case fn.Config.MemoryMB != h.Config.MemoryMB, fn.Config.Timeout != h.Config.Timeout:
			return fmt.Errorf("memory %d and timeout %s, want %d and %s",
				fn.Config.MemoryMB, fn.Config.Timeout, h.Config.MemoryMB, h.Config.Timeout)
		case fn.Config.Runtime.Language != h.Config.Runtime.Language, fn.Config.Runtime.Version != h.Config.Runtime.Version:
			return fmt.Errorf("runtime %v, want %v", fn.Config.Runtime, h.Config.Runtime)
		}
	}
	return nil
}

func createTwice(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	_, err = h.Driver.CreateFunction(ctx, h.spec(prefix+"a", 2))
	if err := h.wantCode("create again", err, codes.AlreadyExists); err != nil {
		return err
	}
	fn, err := h.Driver.GetFunction(ctx, prefix+"a")
	if err != nil {
		return err
	}
	if fn.Digest != h.Code(1).Digest {
		return errors.New("a refused creation changed the function's code")
	}
	return nil
}

func notFound(ctx context.Context, h *Harness, prefix string) error {
	d, name := h.Driver, prefix+"missing"
	_, err := d.GetFunction(ctx, name)
	problems := []error{h.wantCode("get", err, codes.NotFound)}
	_, err = d.UpdateCode(ctx, name, h.Code(1), h.Config)
	problems = append(problems, h.wantCode("update code", err, codes.NotFound))
	_, err = d.UpdateConfiguration(ctx, name, h.Config)
	problems = append(problems, h.wantCode("update configuration", err, codes.NotFound))
	_, err = d.CreateTrigger(ctx, name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	problems = append(problems, h.wantCode("create trigger", err, codes.NotFound))
	_, err = d.Invoke(ctx, driver.Call{Function: name, Payload: []byte("{}")})
	problems = append(problems, h.wantCode("invoke", err, codes.NotFound))
	problems = append(problems, h.wantCode("delete", d.DeleteFunction(ctx, name), codes.NotFound))
	return errors.Join(problems...)
}

func deleteTwice(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	if err := h.Driver.DeleteFunction(ctx, prefix+"a"); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	_, err = h.Driver.GetFunction(ctx, prefix+"a")
	return errors.Join(
		h.wantCode("get after delete", err, codes.NotFound),
		h.wantCode("delete again", h.Driver.DeleteFunction(ctx, prefix+"a"), codes.NotFound),
	)
}

func updateCode(ctx context.Context, h *Harness, prefix string) error {
	before, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	config := h.Config
	config.Timeout += time.Second
	fn, err := h.Driver.UpdateCode(ctx, prefix+"a", h.Code(2), config)
	if err != nil {
		return fmt.Errorf("update code: %w", err)
	}
	if fn, err = h.settle(ctx, fn); err != nil {
		return err
	}
	switch {
	case fn.Digest != h.Code(2).Digest:
		return fmt.Errorf("digest %q, want %q", fn.Digest, h.Code(2).Digest)
	case fn.Config.MemoryMB != before.Config.MemoryMB || fn.Config.Timeout != config.Timeout:
		return fmt.Errorf("memory %d and timeout %s, want %d and %s",
			fn.Config.MemoryMB, fn.Config.Timeout, config.MemoryMB, config.Timeout)
	case fn.Version != 0 && fn.Version <= before.Version:
		return fmt.Errorf("version went from %d to %d", before.Version, fn.Version)
	}
	return nil
}

func updateConfiguration(ctx context.Context, h *Harness, prefix string) error {
	before, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	config := h.Config
	config.MemoryMB *= 2
	config.Timeout += time.Second
	config.Environment = map[string]string{"CONFORMANCE": "1"}
	fn, err := h.Driver.UpdateConfiguration(ctx, prefix+"a", config)
	if err != nil {
		return fmt.Errorf("update configuration: %w", err)
	}
	if fn, err = h.settle(ctx, fn); err != nil {
		return err
	}
	_, named := fn.Config.Environment["CONFORMANCE"]
	switch {
	case fn.Config.MemoryMB != config.MemoryMB || fn.Config.Timeout != config.Timeout:
		return fmt.Errorf("memory %d and timeout %s, want %d and %s",
			fn.Config.MemoryMB, fn.Config.Timeout, config.MemoryMB, config.Timeout)
	case !named:
		return errors.New("the environment lacks the new variable")
	case fn.Digest != before.Digest:
		return errors.New("a change of configuration changed the digest")
	}
	return nil
}

func paging(ctx context.Context, h *Harness, prefix string) error {
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("%s%c", prefix, 'a'+i)
		_, remove, err := h.create(ctx, name)
		defer remove()
		if err != nil {
			return err
		}
		want = append(want, name)
	}
	var got []string
	query := driver.ListQuery{Deployment: h.Deployment, PageSize: 2}
	for pages := 0; ; pages++ {
		page, err := h.Driver.ListFunctions(ctx, query)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if len(page.Functions) > 2 {
			return fmt.Errorf("a page of size 2 has %d functions", len(page.Functions))
		}
		for _, fn := range page.Functions {
			got = append(got, fn.Name)
		}
		if page.NextPageToken == "" {
			break
		}
		if query.PageToken = page.NextPageToken; pages > 50 {
			return errors.New("the listing does not end")
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("listed %v, want %v", got, want)
	}
	return nil
}

func listByDeployment(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	page, err := h.Driver.ListFunctions(ctx, driver.ListQuery{Deployment: h.Deployment + "-other"})
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if len(page.Functions) > 0 {
		return fmt.Errorf("another deployment lists %d functions", len(page.Functions))
	}
	return nil
}

func cancelledContext(ctx context.Context, h *Harness, prefix string) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.Driver.GetFunction(ctx, prefix+"a")
	problems := []error{h.wantCode("get", err, codes.Canceled)}
	_, err = h.Driver.CreateFunction(ctx, h.spec(prefix+"a", 1))
	problems = append(problems, h.wantCode("create", err, codes.Canceled))
	_, err = h.Driver.ListFunctions(ctx, driver.ListQuery{})
	problems = append(problems, h.wantCode("list", err, codes.Canceled))
	return errors.Join(problems...)
}

func parallelCalls(ctx context.Context, h *Harness, prefix string) error {
	const callers = 100
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	problems := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			_, err := h.Driver.GetFunction(ctx, prefix+"a")
			problems[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	// Of many creations of one name exactly one succeeds.
	made := make([]bool, 8)
	problems = make([]error, len(made))
	for i := range made {
		all.Go(func() {
			_, err := h.Driver.CreateFunction(ctx, h.spec(prefix+"b", 1))
			if made[i] = err == nil; !made[i] {
				problems[i] = h.wantCode("create at once", err, codes.AlreadyExists)
			}
		})
	}
	all.Wait()
	count := 0
	for _, ok := range made {
		if ok {
			count++
		}
	}
	if err := h.Driver.DeleteFunction(ctx, prefix+"b"); err != nil {
		problems = append(problems, err)
	}
	if count != 1 {
		problems = append(problems, fmt.Errorf("%d of %d creations succeeded, want 1", count, len(made)))
	}
	return errors.Join(problems...)
}

func oddNames(ctx context.Context, h *Harness, prefix string) error {
	for _, name := range []string{"", "../" + prefix, prefix + "/x", prefix + " x", prefix + "\n", "-" + prefix} {
		_, err := h.Driver.CreateFunction(ctx, h.spec(name, 1))
		if err == nil {
			_ = h.Driver.DeleteFunction(ctx, name)
		}
		if err := h.wantCode(fmt.Sprintf("create %q", name), err, codes.InvalidArgument); err != nil {
			return err
		}
	}
	return nil
}

func discover(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	resources, err := h.Driver.Discover(ctx, h.Deployment)
	if err != nil {
		return fmt.Errorf("discover: %w", err)
	}
	want := driver.Resource{Type: driver.ResourceFunction, ID: prefix + "a"}
	if !slices.Contains(resources, want) {
		return fmt.Errorf("discovered %v without %v", resources, want)
	}
	if err := h.Driver.DeleteResource(ctx, want); err != nil {
		return fmt.Errorf("delete resource: %w", err)
	}
	return h.wantCode("delete resource again", h.Driver.DeleteResource(ctx, want), codes.NotFound)
}
