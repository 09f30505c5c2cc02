// Package local drives the suite's own platform, a FaaS host on this machine, over
// its gRPC service.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Account is the account of every local deployment.
const Account = "local"

// Labels that tell what a function belongs to.
const (
	labelDeployment = "deployment"
	labelBenchmark  = "benchmark"
)

// Limits of the local service.
const (
	maxMemoryMB     = 10240
	maxTimeout      = 900 * time.Second
	maxPayloadBytes = 6291556
	chunkBytes      = 1 << 20
)

// Driver implements driver.Driver.
type Driver struct {
	client localv1.LocalServiceClient
}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver that speaks to the local service over conn. The caller keeps
// owning conn.
func New(conn grpc.ClientConnInterface) *Driver {
	return &Driver{client: localv1.NewLocalServiceClient(conn)}
}

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities(ctx context.Context) (driver.Capabilities, error) {
	host, err := d.client.GetHost(ctx, &localv1.GetHostRequest{})
	if err != nil {
		return driver.Capabilities{}, err
	}
	caps := driver.Capabilities{
		Triggers: map[driver.TriggerType]driver.Ability{
			driver.TriggerHTTP: driver.Yes(), driver.TriggerLibrary: driver.Yes(), driver.TriggerStorage: driver.Yes(),
		},
		MinMemoryMB:       1,
		MaxMemoryMB:       maxMemoryMB,
		MaxTimeout:        maxTimeout,
		MaxPayloadBytes:   maxPayloadBytes,
		ContainerImages:   containerImages(host),
		AsyncInvoke:       driver.Yes(),
		AsyncResults:      driver.No("the local platform keeps the record of a queued call, not its answer"),
		ColdStartControl:  driver.Yes(),
		MemoryApplied:     driver.Yes(),
		TimeoutApplied:    driver.Yes(),
		Logs:              driver.Yes(),
		InvocationMetrics: driver.Yes(),
		BilledDuration:    driver.Yes(),
		StoreHosts:        make(map[driver.Runtime]string),
		Notes:             make(map[string]string),
	}
	if arch := driver.ArchitectureFromProto(host.GetArchitecture()); arch != "" {
		caps.Architectures = []string{arch}
	}
	for _, r := range host.GetRuntimes() {
		runtime := driver.RuntimeFromProto(r.GetRuntime())
		if !slices.Contains(caps.Runtimes, runtime) {
			caps.Runtimes = append(caps.Runtimes, runtime)
		}
		// The host takes docker for a runtime when docker is its default kind and the
		// runtime's image is there; such a function reaches stores by another name.
		if host.GetDefaultSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_DOCKER &&
			r.GetSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_DOCKER && host.GetDockerStoreHost() != "" {
			caps.StoreHosts[runtime] = host.GetDockerStoreHost()
		}
	}
	for kind, note := range host.GetSandboxNotes() {
		caps.Notes[kind+" sandbox"] = note
	}
	return caps, nil
}

// CheckCredentials implements driver.Driver. The local platform asks for none.
func (d *Driver) CheckCredentials(ctx context.Context) (driver.Identity, error) {
	if _, err := d.client.GetHost(ctx, &localv1.GetHostRequest{}); err != nil {
		return driver.Identity{}, err
	}
	return driver.Identity{Account: Account, Source: "none needed"}, nil
}

// CreateFunction implements driver.Driver.
func (d *Driver) CreateFunction(ctx context.Context, spec driver.FunctionSpec) (driver.Function, error) {
	labels := maps.Clone(spec.Labels)
	if labels == nil {
		labels = make(map[string]string, 2)
	}
	labels[labelDeployment], labels[labelBenchmark] = spec.Deployment, spec.Benchmark
	return d.deploy(ctx, spec.Name, spec.Code, configurationOf(spec.Config, labels), false)
}

// UpdateCode implements driver.Driver.
func (d *Driver) UpdateCode(ctx context.Context, name string, code driver.Code, config driver.Config) (driver.Function, error) {
	// A deployment that may replace would also create.
	before, err := d.get(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	return d.deploy(ctx, name, code, configurationOf(config, before.GetConfiguration().GetLabels()), true)
}

// containerImages tells whether the host has the kind of sandbox that images need.
func containerImages(host *localv1.Host) driver.Ability {
	if slices.Contains(host.GetSandboxKinds(), localv1.SandboxKind_SANDBOX_KIND_DOCKER) {
		return driver.Yes()
	}
	reason := host.GetSandboxNotes()["docker"]
	if reason == "" {
		reason = "it has no docker sandboxes"
	}
	return driver.No("images run in docker sandboxes only, and the local platform has none here: " + reason)
}

// deploy streams the function's description and its code.
func (d *Driver) deploy(ctx context.Context, name string, code driver.Code, configuration *localv1.LocalConfiguration, replace bool) (driver.Function, error) {
	if code.ImageURI != "" {
		fn, err := d.stream(ctx, strings.NewReader(""), &localv1.FunctionSpec{
			FunctionId: name, Configuration: configuration, ImageUri: code.ImageURI, CodeHash: code.Digest, ReplaceExisting: replace,
		})
		if err != nil {
			return driver.Function{}, err
		}
		return function(fn), nil
	}
	if code.Open == nil {
		return driver.Function{}, errs.InvalidArgument("CODE_MISSING", "function %s has no code archive; build a package for platform local", name)
	}
	source, err := code.Open(ctx)
	if err != nil {
		return driver.Function{}, fmt.Errorf("open the code of function %s: %w", name, err)
	}
	fn, err := d.stream(ctx, source, &localv1.FunctionSpec{
		FunctionId:       name,
		Configuration:    configuration,
		ArchiveSha256:    code.ContentSHA256,
		ArchiveSizeBytes: code.SizeBytes,
		CodeHash:         code.Digest,
		ReplaceExisting:  replace,
	})
	if closeErr := source.Close(); err == nil && closeErr != nil {
		return driver.Function{}, fmt.Errorf("close the code of function %s: %w", name, closeErr)
	}
	if err != nil {
		return driver.Function{}, err
	}
	return function(fn), nil
}

func (d *Driver) stream(ctx context.Context, source io.Reader, spec *localv1.FunctionSpec) (*localv1.LocalFunction, error) {
	// Leaving early must end the call, or the stream would stay open.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := d.client.DeployFunction(ctx)
	if err != nil {
		return nil, err
	}
	err = call.Send(&localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Function{Function: spec}})
	buffer := make([]byte, chunkBytes)
	for err == nil {
		n, readErr := io.ReadFull(source, buffer)
		if n > 0 {
			err = call.Send(&localv1.DeployFunctionRequest{Part: &localv1.DeployFunctionRequest_Chunk{Chunk: buffer[:n]}})
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return call.CloseAndRecv()
		case readErr != nil:
			return nil, fmt.Errorf("read the code of function %s: %w", spec.GetFunctionId(), readErr)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	// The service ended the call before all was sent; its answer says why.
	return call.CloseAndRecv()
}

// UpdateConfiguration implements driver.Driver.
func (d *Driver) UpdateConfiguration(ctx context.Context, name string, config driver.Config) (driver.Function, error) {
	before, err := d.get(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	fn, err := d.client.UpdateConfiguration(ctx, &localv1.UpdateConfigurationRequest{
		FunctionId:    name,
		Configuration: configurationOf(config, before.GetConfiguration().GetLabels()),
	})
	if err != nil {
		return driver.Function{}, err
	}
	return function(fn), nil
}

func (d *Driver) get(ctx context.Context, name string) (*localv1.LocalFunction, error) {
	return d.client.GetLocalFunction(ctx, &localv1.GetLocalFunctionRequest{FunctionId: name})
}

// GetFunction implements driver.Driver.
func (d *Driver) GetFunction(ctx context.Context, name string) (driver.Function, error) {
	fn, err := d.get(ctx, name)
	if err != nil {
		return driver.Function{}, err
	}
	return function(fn), nil
}

// ListFunctions implements driver.Driver.
func (d *Driver) ListFunctions(ctx context.Context, query driver.ListQuery) (driver.FunctionPage, error) {
	answer, err := d.client.ListLocalFunctions(ctx, &localv1.ListLocalFunctionsRequest{
		Deployment: query.Deployment, PageSize: int32(query.PageSize), PageToken: query.PageToken,
	})
	if err != nil {
		return driver.FunctionPage{}, err
	}
	page := driver.FunctionPage{NextPageToken: answer.GetNextPageToken()}
	for _, fn := range answer.GetFunctions() {
		page.Functions = append(page.Functions, function(fn))
	}
	return page, nil
}

// DeleteFunction implements driver.Driver.
func (d *Driver) DeleteFunction(ctx context.Context, name string) error {
	_, err := d.client.DeleteLocalFunction(ctx, &localv1.DeleteLocalFunctionRequest{FunctionId: name})
	return err
}

// CreateTrigger implements driver.Driver. The HTTP front and the library call serve
// every function, so only a storage trigger changes anything.
func (d *Driver) CreateTrigger(ctx context.Context, name string, spec driver.TriggerSpec) (driver.Trigger, error) {
	fn, err := d.get(ctx, name)
	if err != nil {
		return driver.Trigger{}, err
	}
	if spec.Type == driver.TriggerStorage && fn.GetStorageTrigger() == nil {
		fn, err = d.client.SetStorageTrigger(ctx, &localv1.SetStorageTriggerRequest{
			FunctionId: name,
			Trigger:    &localv1.StorageTrigger{Bucket: spec.Bucket, Prefix: spec.Prefix, ResultsPrefix: spec.ResultsPrefix},
		})
		if err != nil {
			return driver.Trigger{}, err
		}
	}
	for _, trigger := range triggers(fn) {
		if trigger.Type == spec.Type {
			return trigger, nil
		}
	}
	return driver.Trigger{}, errs.InvalidArgument("TRIGGER_TYPE_UNKNOWN", "trigger type %q is not known; the types are http, library and storage", spec.Type)
}

// DeleteTrigger implements driver.Driver. The HTTP front and the library call stay:
// they belong to every function.
func (d *Driver) DeleteTrigger(ctx context.Context, name string, kind driver.TriggerType) error {
	fn, err := d.get(ctx, name)
	if err != nil || kind != driver.TriggerStorage {
		return err
	}
	if fn.GetStorageTrigger() == nil {
		return errs.NotFound("TRIGGER_NOT_FOUND", "function %s has no storage trigger", name).With("function", name)
	}
	_, err = d.client.SetStorageTrigger(ctx, &localv1.SetStorageTriggerRequest{FunctionId: name})
	return err
}

// Classify implements driver.Driver.
func (d *Driver) Classify(err error) driver.Fault {
	fault := driver.Fault{Code: errs.Code(err), Reason: errs.Reason(err)}
	fault.RetryAfter, _ = errs.RetryDelay(err)
	return fault
}

// Close implements driver.Driver. The connection belongs to the caller.
func (d *Driver) Close() error { return nil }
