// Package faastest holds a platform in memory for tests of what stands on drivers.
package faastest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// FaultError is the error of the memory driver.
type FaultError struct {
	driver.Fault
	Message string
}

// Error returns the message.
func (f *FaultError) Error() string { return f.Message }

// Memory is a driver whose functions answer their input. It counts what it did, and
// can be told to fail.
type Memory struct {
	// Account is what CheckCredentials answers.
	Account string
	// Before runs ahead of each call with the call's name. An error that it
	// returns is the call's answer.
	Before func(ctx context.Context, call string) error
	// PendingPolls is how many looks at a changed function find it unfinished.
	PendingPolls int
	// Images tells that functions may be container images.
	Images bool
	// Attributes, where it is set, makes the attributes of a trigger.
	Attributes func(spec driver.TriggerSpec) map[string]string

	mu        sync.Mutex
	functions map[string]*memoryFunction
	counts    map[string]int
	requests  int
	// others are things that are no functions, by deployment.
	others map[string][]driver.Resource
}

type memoryFunction struct {
	driver.Function
	spec    driver.FunctionSpec
	pending int
	logs    []driver.LogLine
	records []driver.InvocationRecord
}

// NewMemory returns an empty platform of the account "memory".
func NewMemory() *Memory {
	return &Memory{Account: "memory", functions: make(map[string]*memoryFunction), counts: make(map[string]int), others: make(map[string][]driver.Resource)}
}

// Count returns how often a call succeeded, such as "CreateFunction".
func (m *Memory) Count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[call]
}

// Forget removes a function behind the back of everybody.
func (m *Memory) Forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.functions, name)
}

// Spec returns what the function was made from.
func (m *Memory) Spec(name string) driver.FunctionSpec {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fn := m.functions[name]; fn != nil {
		return fn.spec
	}
	return driver.FunctionSpec{}
}

// Add puts a thing that is no function on the platform.
func (m *Memory) Add(deployment string, resource driver.Resource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.others[deployment] = append(m.others[deployment], resource)
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)

func fault(code codes.Code, format string, args ...any) error {
	return &FaultError{Fault: driver.Fault{Code: code}, Message: fmt.Sprintf(format, args...)}
}

// begin locks and runs what comes before every call.
func (m *Memory) begin(ctx context.Context, call string) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.Before != nil {
		if err := m.Before(ctx, call); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	m.counts[call]++
	return m.mu.Unlock, nil
}

func (m *Memory) find(name string) (*memoryFunction, error) {
	fn := m.functions[name]
	if fn == nil {
		return nil, fault(codes.NotFound, "no function %q", name)
	}
	return fn, nil
}

// Capabilities implements driver.Driver.
func (m *Memory) Capabilities(ctx context.Context) (driver.Capabilities, error) {
	done, err := m.begin(ctx, "Capabilities")
	if err != nil {
		return driver.Capabilities{}, err
	}
	defer done()
	images := driver.No("the memory platform runs archives only")
	if m.Images {
		images = driver.Yes()
	}
	return driver.Capabilities{
		Triggers: map[driver.TriggerType]driver.Ability{
			driver.TriggerHTTP: driver.Yes(), driver.TriggerLibrary: driver.Yes(), driver.TriggerStorage: driver.Yes(),
		},
		Runtimes:          []driver.Runtime{{Language: "python", Version: "3.11"}, {Language: "python", Version: "3.12"}, {Language: "nodejs", Version: "20"}},
		Architectures:     []string{"x64", "arm64"},
		MinMemoryMB:       64,
		MaxMemoryMB:       10240,
		MaxTimeout:        15 * time.Minute,
		MaxCodeBytes:      1 << 20,
		ContainerImages:   images,
		AsyncInvoke:       driver.Yes(),
		ColdStartControl:  driver.Yes(),
		MemoryApplied:     driver.Yes(),
		TimeoutApplied:    driver.Yes(),
		Logs:              driver.Yes(),
		InvocationMetrics: driver.Yes(),
		BilledDuration:    driver.Yes(),
	}, nil
}

// CheckCredentials implements driver.Driver.
func (m *Memory) CheckCredentials(ctx context.Context) (driver.Identity, error) {
	done, err := m.begin(ctx, "CheckCredentials")
	if err != nil {
		return driver.Identity{}, err
	}
	defer done()
	return driver.Identity{Account: m.Account, Principal: "tester", Source: "none needed"}, nil
}

// changed marks the function as updated.
func (m *Memory) changed(fn *memoryFunction) driver.Function {
	fn.Version++
	fn.Updated = time.Now()
	fn.pending = m.PendingPolls
	return fn.report()
}

func (f *memoryFunction) report() driver.Function {
	out := f.Function
	out.State = driver.StateActive
	if f.pending > 0 {
		f.pending--
		out.State = driver.StatePending
	}
	out.Labels, out.Triggers = maps.Clone(f.Labels), slices.Clone(f.Triggers)
	out.Config.Environment = maps.Clone(f.Config.Environment)
	return out
}

func read(ctx context.Context, code driver.Code) error {
	if code.Open == nil {
		return nil
	}
	r, err := code.Open(ctx)
	if err != nil {
		return fmt.Errorf("open the code: %w", err)
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// CreateFunction implements driver.Driver.
func (m *Memory) CreateFunction(ctx context.Context, spec driver.FunctionSpec) (driver.Function, error) {
	if err := ctx.Err(); err != nil {
		return driver.Function{}, err
	}
	if !namePattern.MatchString(spec.Name) {
		return driver.Function{}, fault(codes.InvalidArgument, "function name %q is not allowed", spec.Name)
	}
	if err := read(ctx, spec.Code); err != nil {
		return driver.Function{}, err
	}
	done, err := m.begin(ctx, "CreateFunction")
	if err != nil {
		return driver.Function{}, err
	}
	defer done()
	if m.functions[spec.Name] != nil {
		m.counts["CreateFunction"]--
		return driver.Function{}, fault(codes.AlreadyExists, "function %q exists", spec.Name)
	}
	fn := &memoryFunction{spec: spec, Function: driver.Function{
		Name: spec.Name, Handle: "memory:" + spec.Name, Deployment: spec.Deployment, Benchmark: spec.Benchmark,
		Digest: spec.Code.Digest, Config: spec.Config, Labels: maps.Clone(spec.Labels), Created: time.Now(),
	}}
	fn.Config.Environment = maps.Clone(spec.Config.Environment)
	m.functions[spec.Name] = fn
	return m.changed(fn), nil
}

// UpdateCode implements driver.Driver.
func (m *Memory) UpdateCode(ctx context.Context, name string, code driver.Code, config driver.Config) (driver.Function, error) {
	if err := read(ctx, code); err != nil {
		return driver.Function{}, err
	}
	done, err := m.begin(ctx, "UpdateCode")
	if err != nil {
		return driver.Function{}, err
	}
	defer done()
	fn, err := m.find(name)
	if err != nil {
		return driver.Function{}, err
	}
	config.Environment = maps.Clone(config.Environment)
	fn.Digest, fn.Config = code.Digest, config
	return m.changed(fn), nil
}

// UpdateConfiguration implements driver.Driver.
func (m *Memory) UpdateConfiguration(ctx context.Context, name string, config driver.Config) (driver.Function, error) {
	done, err := m.begin(ctx, "UpdateConfiguration")
	if err != nil {
		return driver.Function{}, err
	}
	defer done()
	fn, err := m.find(name)
	if err != nil {
		return driver.Function{}, err
	}
	config.Environment = maps.Clone(config.Environment)
	fn.Config = config
	return m.changed(fn), nil
}

// Grant implements driver.Granter.
func (m *Memory) Grant(ctx context.Context, spec driver.FunctionSpec) error {
	done, err := m.begin(ctx, "Grant")
	if err != nil {
		return err
	}
	defer done()
	fn, err := m.find(spec.Name)
	if err != nil {
		return err
	}
	fn.spec.Buckets, fn.spec.TablePrefix, fn.spec.Settings = spec.Buckets, spec.TablePrefix, spec.Settings
	return nil
}

// GetFunction implements driver.Driver.
func (m *Memory) GetFunction(ctx context.Context, name string) (driver.Function, error) {
	done, err := m.begin(ctx, "GetFunction")
	if err != nil {
		return driver.Function{}, err
	}
	defer done()
	fn, err := m.find(name)
	if err != nil {
		return driver.Function{}, err
	}
	return fn.report(), nil
}

// ListFunctions implements driver.Driver.
func (m *Memory) ListFunctions(ctx context.Context, query driver.ListQuery) (driver.FunctionPage, error) {
	done, err := m.begin(ctx, "ListFunctions")
	if err != nil {
		return driver.FunctionPage{}, err
	}
	defer done()
	size := cmp.Or(query.PageSize, 2)
	var page driver.FunctionPage
	for _, name := range slices.Sorted(maps.Keys(m.functions)) {
		fn := m.functions[name]
		if name <= query.PageToken || query.Deployment != "" && fn.Deployment != query.Deployment {
			continue
		}
		if len(page.Functions) == size {
			page.NextPageToken = page.Functions[size-1].Name
			break
		}
		page.Functions = append(page.Functions, fn.report())
	}
	return page, nil
}

// DeleteFunction implements driver.Driver.
func (m *Memory) DeleteFunction(ctx context.Context, name string) error {
	done, err := m.begin(ctx, "DeleteFunction")
	if err != nil {
		return err
	}
	defer done()
	if _, err := m.find(name); err != nil {
		m.counts["DeleteFunction"]--
		return err
	}
	delete(m.functions, name)
	return nil
}

// CreateTrigger implements driver.Driver.
func (m *Memory) CreateTrigger(ctx context.Context, function string, spec driver.TriggerSpec) (driver.Trigger, error) {
	done, err := m.begin(ctx, "CreateTrigger")
	if err != nil {
		return driver.Trigger{}, err
	}
	defer done()
	fn, err := m.find(function)
	if err != nil {
		return driver.Trigger{}, err
	}
	for _, trigger := range fn.Triggers {
		if trigger.Type == spec.Type {
			return trigger, nil
		}
	}
	trigger := driver.Trigger{Type: spec.Type, Bucket: spec.Bucket, Prefix: spec.Prefix, ResultsPrefix: spec.ResultsPrefix}
	if spec.Type == driver.TriggerHTTP {
		trigger.URL = "http://memory.invalid/" + function
	}
	if m.Attributes != nil {
		trigger.Attributes = m.Attributes(spec)
	}
	fn.Triggers = append(fn.Triggers, trigger)
	return trigger, nil
}

// DeleteTrigger implements driver.Driver.
func (m *Memory) DeleteTrigger(ctx context.Context, function string, kind driver.TriggerType) error {
	done, err := m.begin(ctx, "DeleteTrigger")
	if err != nil {
		return err
	}
	defer done()
	fn, err := m.find(function)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(fn.Triggers), func(t driver.Trigger) bool { return t.Type == kind })
	if len(left) == len(fn.Triggers) {
		return fault(codes.NotFound, "function %q has no %s trigger", function, kind)
	}
	fn.Triggers = left
	return nil
}

// Invoke implements driver.Driver. The function answers its input.
func (m *Memory) Invoke(ctx context.Context, call driver.Call) (driver.CallResult, error) {
	done, err := m.begin(ctx, "Invoke")
	if err != nil {
		return driver.CallResult{}, err
	}
	defer done()
	fn, err := m.find(call.Function)
	if err != nil {
		return driver.CallResult{}, err
	}
	m.requests++
	id, now, duration := fmt.Sprintf("request-%d", m.requests), time.Now(), time.Millisecond
	line := "marker " + string(call.Payload)
	if _, after, ok := strings.Cut(string(call.Payload), `"marker":"`); ok {
		line = "marker " + strings.TrimRight(after, `"}`)
	}
	fn.logs = append(fn.logs, driver.LogLine{Time: now, RequestID: id, Text: line})
	fn.records = append(fn.records, driver.InvocationRecord{RequestID: id, Time: now, Duration: &duration})
	result := driver.CallResult{RequestID: id}
	if !call.Async {
		result.Payload, result.LogTail = call.Payload, line
	}
	return result, nil
}

// Logs implements driver.Driver.
func (m *Memory) Logs(ctx context.Context, query driver.LogQuery) (driver.LogPage, error) {
	done, err := m.begin(ctx, "Logs")
	if err != nil {
		return driver.LogPage{}, err
	}
	defer done()
	fn, err := m.find(query.Function)
	if err != nil {
		return driver.LogPage{}, err
	}
	var page driver.LogPage
	for _, line := range fn.logs {
		if len(query.RequestIDs) == 0 || slices.Contains(query.RequestIDs, line.RequestID) {
			page.Lines = append(page.Lines, line)
		}
	}
	return page, nil
}

// Metrics implements driver.Driver.
func (m *Memory) Metrics(ctx context.Context, query driver.MetricsQuery) (driver.MetricsPage, error) {
	done, err := m.begin(ctx, "Metrics")
	if err != nil {
		return driver.MetricsPage{}, err
	}
	defer done()
	fn, err := m.find(query.Function)
	if err != nil {
		return driver.MetricsPage{}, err
	}
	var page driver.MetricsPage
	for _, record := range fn.records {
		if len(query.RequestIDs) == 0 || slices.Contains(query.RequestIDs, record.RequestID) {
			page.Records = append(page.Records, record)
		}
	}
	return page, nil
}

// Discover implements driver.Driver.
func (m *Memory) Discover(ctx context.Context, deployment string) ([]driver.Resource, error) {
	done, err := m.begin(ctx, "Discover")
	if err != nil {
		return nil, err
	}
	defer done()
	var found []driver.Resource
	for _, name := range slices.Sorted(maps.Keys(m.functions)) {
		if m.functions[name].Deployment == deployment {
			found = append(found, driver.Resource{Type: driver.ResourceFunction, ID: name})
		}
	}
	return append(found, m.others[deployment]...), nil
}

// FindDeployments implements driver.DeploymentFinder.
func (m *Memory) FindDeployments(ctx context.Context) ([]string, error) {
	done, err := m.begin(ctx, "FindDeployments")
	if err != nil {
		return nil, err
	}
	defer done()
	found := make(map[string]bool)
	for _, fn := range m.functions {
		found[fn.Deployment] = true
	}
	for deployment := range m.others {
		found[deployment] = true
	}
	delete(found, "")
	return slices.Sorted(maps.Keys(found)), nil
}

// DeleteResource implements driver.Driver.
func (m *Memory) DeleteResource(ctx context.Context, resource driver.Resource) error {
	if resource.Type == driver.ResourceFunction {
		return m.DeleteFunction(ctx, resource.ID)
	}
	done, err := m.begin(ctx, "DeleteResource")
	if err != nil {
		return err
	}
	defer done()
	for deployment, resources := range m.others {
		left := slices.DeleteFunc(slices.Clone(resources), func(r driver.Resource) bool { return r == resource })
		if len(left) == len(resources) {
			continue
		}
		if m.others[deployment] = left; len(left) == 0 {
			delete(m.others, deployment)
		}
		return nil
	}
	return fault(codes.NotFound, "no %s %q", resource.Type, resource.ID)
}

// Classify implements driver.Driver.
func (m *Memory) Classify(err error) driver.Fault {
	var f *FaultError
	switch {
	case errors.As(err, &f):
		return f.Fault
	case errors.Is(err, context.Canceled):
		return driver.Fault{Code: codes.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return driver.Fault{Code: codes.DeadlineExceeded}
	}
	return driver.Fault{Code: codes.Unknown}
}

// Close implements driver.Driver.
func (m *Memory) Close() error { return nil }
