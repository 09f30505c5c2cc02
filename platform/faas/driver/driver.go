// Package driver holds the narrow interface between the suite and one
// Function-as-a-Service platform.
//
// Callers use the concrete type faas.Platform; only platform packages implement
// Driver. A driver translates calls and reports what its platform answered. What
// is the same everywhere (naming rules, capability checks, retries, cold-start
// enforcement, waiting for updates) stands in faas.Platform, never in a driver.
//
// Drivers return the errors of their client library as they are. Classify tells
// the caller what kind of error it is.
package driver

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc/codes"
)

// Driver is one platform, seen through one credential. All methods may be called
// from several goroutines and honour the context's deadline and cancellation.
type Driver interface {
	// Capabilities reports what the platform can do, with the reason for each
	// thing that it cannot.
	Capabilities(ctx context.Context) (Capabilities, error)
	// CheckCredentials asks the platform who the credential belongs to.
	CheckCredentials(ctx context.Context) (Identity, error)

	// CreateFunction makes a function. A name that is taken fails with a fault of
	// code AlreadyExists.
	CreateFunction(ctx context.Context, spec FunctionSpec) (Function, error)
	// UpdateCode replaces the code (and its digest label) of a function that exists,
	// and puts config in force with it, which is the function's whole configuration.
	UpdateCode(ctx context.Context, name string, code Code, config Config) (Function, error)
	// UpdateConfiguration replaces configuration and environment as a whole.
	UpdateConfiguration(ctx context.Context, name string, config Config) (Function, error)
	// GetFunction fails with a fault of code NotFound for an unknown function.
	GetFunction(ctx context.Context, name string) (Function, error)
	// ListFunctions lists functions in the order of their names.
	ListFunctions(ctx context.Context, query ListQuery) (FunctionPage, error)
	// DeleteFunction removes a function with its triggers. A second call fails
	// with a fault of code NotFound.
	DeleteFunction(ctx context.Context, name string) error

	// CreateTrigger makes the trigger, or answers with the one of the same type
	// that is there already.
	CreateTrigger(ctx context.Context, function string, spec TriggerSpec) (Trigger, error)
	// DeleteTrigger removes the trigger of that type. A second call fails with a
	// fault of code NotFound.
	DeleteTrigger(ctx context.Context, function string, kind TriggerType) error

	// Invoke calls a function through the platform's own API (library trigger).
	Invoke(ctx context.Context, call Call) (CallResult, error)
	// Logs reads log lines of one function, oldest first.
	Logs(ctx context.Context, query LogQuery) (LogPage, error)
	// Metrics reads what the platform recorded about single invocations.
	Metrics(ctx context.Context, query MetricsQuery) (MetricsPage, error)

	// Discover lists everything that belongs to a deployment on this platform,
	// found on the platform itself by name and label.
	Discover(ctx context.Context, deployment string) ([]Resource, error)
	// DeleteResource removes one thing that Discover named.
	DeleteResource(ctx context.Context, resource Resource) error

	// Classify tells what kind of error one of this driver's methods returned.
	Classify(err error) Fault
	// Close releases connections. The driver is not used afterwards.
	Close() error
}

// AsyncResulter is implemented by drivers that can tell how a call ended which their
// platform had queued.
type AsyncResulter interface {
	// AsyncResult returns the outcome of an asynchronous call by the request id that
	// Invoke answered. While there is none it fails with a fault of code NotFound.
	AsyncResult(ctx context.Context, function, requestID string) (CallResult, error)
}

// DeploymentFinder is implemented by drivers of platforms on which things of a deployment
// can be left that are neither functions nor buckets, such as roles and log groups.
type DeploymentFinder interface {
	// FindDeployments lists the resource ids with which anything on the platform is
	// labelled, in alphabetical order. Discover of each of them names the things.
	FindDeployments(ctx context.Context) ([]string, error)
}

// Preparer is implemented by drivers that have to look something up, or to set something
// up, before they can make a call. A caller that measures prepares first, so that this
// does not count as a part of the call.
type Preparer interface {
	// Prepare does for a call what Invoke would otherwise do at its begin.
	Prepare(ctx context.Context, call Call) error
}

// Granter is implemented by drivers of platforms on which a function has rights to its
// stores by a role of its own.
type Granter interface {
	// Grant gives a function that exists the role and the rights that CreateFunction
	// would give it: by the name, Deployment, Buckets, TablePrefix and Settings of spec.
	Grant(ctx context.Context, spec FunctionSpec) error
}

// Scope says as whom and where a driver works.
type Scope struct {
	// Credential names the credential; empty is the default one.
	Credential string
	// Region is the platform's region; empty is the one that the credential or the
	// process's configuration names.
	Region string
}

// Fault is the kind of a driver's error.
type Fault struct {
	// Code is the canonical category.
	Code codes.Code
	// Reason is the platform's own stable reason, empty where it has none.
	Reason string
	// RetryAfter is how long the platform asked to wait, 0 where it did not say.
	RetryAfter time.Duration
	// Retry tells that the same call may be repeated without doing harm.
	Retry bool
}

// Identity says who a credential belongs to. It never holds the secret.
type Identity struct {
	// Account is the account, subscription or project.
	Account string
	// Principal is the user or role, empty where the platform has none.
	Principal string
	// Tenant is the directory or organisation, empty where the platform has none.
	Tenant string
	// Source tells where the credential was found: "config", "environment" or "none needed".
	Source string
	// Region is the region that the driver works in, empty where it has none.
	Region string
}

// Runtime is a language in a version and a variant of it.
type Runtime struct {
	// Language is the language's name in lower case, such as "python".
	Language string
	// Version is the language's version, such as "3.12".
	Version string
	// Variant is the language variant; empty means "default".
	Variant string
}

// Config is what a function runs with.
type Config struct {
	// Runtime is the language.
	Runtime Runtime
	// Architecture is "x64" or "arm64".
	Architecture string
	// MemoryMB is the memory limit in MB (2^20 bytes).
	MemoryMB int
	// Timeout is the longest time that one invocation may take.
	Timeout time.Duration
	// Environment is the complete environment. Values may be secret: they are
	// handed to the platform and kept nowhere else.
	Environment map[string]string
	// Secrets are the names of the variables whose values are secret.
	Secrets []string
	// Handler names the entry point, empty for the runtime's default.
	Handler string
	// MaxConcurrency bounds the sandboxes that run at once, 0 for the platform's default.
	MaxConcurrency int
	// ProvisionedConcurrency is how many sandboxes the platform keeps initialised, 0
	// for none.
	ProvisionedConcurrency int
	// ColdStartMethod is how changes of the function make the next calls start cold, by
	// the platform's own word, such as "version" on AWS. Empty leaves it as it is.
	ColdStartMethod string
}

// Code is a function's deployable code. Either Open or ImageURI is set.
type Code struct {
	// Digest is the suite's digest of everything the code was built from.
	Digest string
	// ContentSHA256 is the checksum of the bytes in lower-case hex, empty if not known.
	ContentSHA256 string
	// SizeBytes is the size of the archive, 0 if not known.
	SizeBytes int64
	// Open starts to read the archive from its first byte. It can be called
	// again, so that a failed transfer can be repeated.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Stage copies the archive into a bucket of the deployment from which the platform
	// can read it, and returns where. It is for archives that are too large for the
	// platform's own API; nil where the deployment has no such bucket.
	Stage func(ctx context.Context) (bucket, key string, err error)
	// ImageURI names a container image instead of an archive.
	ImageURI string
}

// FunctionSpec is a function to be made.
type FunctionSpec struct {
	// Name is the function's name on the platform.
	Name string
	// Deployment is the resource id that the function belongs to.
	Deployment string
	// Benchmark is the benchmark that the function implements.
	Benchmark string
	// Config is what it runs with.
	Config Config
	// Code is its code.
	Code Code
	// Labels are kept with the function by the platform.
	Labels map[string]string
	// Buckets are the buckets that the function may read and write.
	Buckets []string
	// TablePrefix is what the names of the tables start with that the function may
	// read and write; empty where it uses none.
	TablePrefix string
	// Settings are the deployment's settings for this platform, by the names that
	// SeBS's configuration has for them.
	Settings map[string]string
}

// State is where a function is in its life.
type State int

// States of a function.
const (
	// StateActive means that the function answers with its last code and configuration.
	StateActive State = iota
	// StatePending means that a creation or an update is still going on.
	StatePending
	// StateFailed means that the last creation or update failed.
	StateFailed
)

// Function is a function as the platform reports it.
type Function struct {
	// Name is the function's name on the platform.
	Name string
	// Handle is the platform's own identifier (ARN, resource path).
	Handle string
	// Deployment is the resource id that the function is labelled with.
	Deployment string
	// Benchmark is the benchmark that the function is labelled with.
	Benchmark string
	// Digest is the digest of the code that the function is labelled with.
	Digest string
	// Config is its configuration. Environment holds names with empty values
	// where the platform does not give the values back.
	Config Config
	// State is where the last creation or update stands.
	State State
	// StateReason explains StateFailed.
	StateReason string
	// Version rises with each update, 0 where the platform has none.
	Version int64
	// Attributes are the platform's own facts, never secrets.
	Attributes map[string]string
	// Labels are what the function was created with.
	Labels map[string]string
	// Triggers are the triggers that the platform knows.
	Triggers []Trigger
	// Created is when the function was made, zero where not known.
	Created time.Time
	// Updated is when code or configuration changed last, zero where not known.
	Updated time.Time
}

// ListQuery selects functions.
type ListQuery struct {
	// Deployment restricts to one resource id; empty lists all.
	Deployment string
	// PageSize bounds the page, 0 for the platform's default.
	PageSize int
	// PageToken continues where an earlier page ended.
	PageToken string
}

// FunctionPage is a part of a listing.
type FunctionPage struct {
	// Functions are in the order of their names.
	Functions []Function
	// NextPageToken is empty on the last page.
	NextPageToken string
}

// TriggerType is a way to invoke a function.
type TriggerType string

// Types of triggers.
const (
	TriggerHTTP    TriggerType = "http"
	TriggerLibrary TriggerType = "library"
	TriggerStorage TriggerType = "storage"
)

// TriggerSpec is a trigger to be made.
type TriggerSpec struct {
	// Type is the way to invoke.
	Type TriggerType
	// Bucket is the bucket that a storage trigger watches.
	Bucket string
	// Prefix restricts a storage trigger to keys that start with it.
	Prefix string
	// ResultsPrefix is where a function called by a storage trigger leaves its answer.
	ResultsPrefix string
	// Settings are the deployment's settings for this platform.
	Settings map[string]string
}

// Trigger is a trigger that exists.
type Trigger struct {
	// Type is the way to invoke.
	Type TriggerType
	// URL is where an HTTP trigger listens, with its scheme.
	URL string
	// Bucket, Prefix and ResultsPrefix are those of a storage trigger.
	Bucket, Prefix, ResultsPrefix string
	// Handle is the platform's own identifier, empty where it has none.
	Handle string
	// Attributes are what else is needed to call the trigger, such as the kind of
	// authentication; never secrets.
	Attributes map[string]string
}

// Call is one invocation through the platform's API.
type Call struct {
	// Function is the function's name.
	Function string
	// Payload is the JSON input.
	Payload []byte
	// Async asks the platform to queue the call and answer at once.
	Async bool
	// LogTail asks for the end of the log of this invocation.
	LogTail bool
}

// CallResult is what the platform answered.
type CallResult struct {
	// RequestID is the platform's identifier of the invocation.
	RequestID string
	// Payload is the function's output; empty for an asynchronous call.
	Payload []byte
	// FunctionError is the kind of the function's own failure; empty if it
	// succeeded. Payload then holds the error document.
	FunctionError string
	// LogTail is the end of the log, where asked for.
	LogTail string
	// Record is what the platform measured, nil where it does not say at once.
	Record *InvocationRecord
}

// LogQuery selects log lines.
type LogQuery struct {
	// Function is the function's name.
	Function string
	// Start and End bound the time; zero means unbounded.
	Start, End time.Time
	// RequestIDs restricts to lines of these invocations.
	RequestIDs []string
	// PageSize bounds the page, 0 for the platform's default.
	PageSize int
	// PageToken continues where an earlier page ended.
	PageToken string
}

// LogPage is a part of a log.
type LogPage struct {
	// Lines are oldest first.
	Lines []LogLine
	// NextPageToken is empty on the last page.
	NextPageToken string
}

// LogLine is one line of a function's log.
type LogLine struct {
	// Time is when the platform took the line.
	Time time.Time
	// RequestID is the invocation it belongs to, empty where not known.
	RequestID string
	// Sandbox is the instance that wrote it, empty where not known.
	Sandbox string
	// Text is the line without its line end.
	Text string
}

// MetricsQuery selects invocation records.
type MetricsQuery struct {
	// Function is the function's name.
	Function string
	// Start and End bound the time; zero means unbounded.
	Start, End time.Time
	// RequestIDs restricts to these invocations.
	RequestIDs []string
	// PageSize bounds the page, 0 for the platform's default.
	PageSize int
	// PageToken continues where an earlier page ended.
	PageToken string
}

// MetricsPage is a part of the records.
type MetricsPage struct {
	// Records are oldest first.
	Records []InvocationRecord
	// NextPageToken is empty on the last page.
	NextPageToken string
}

// InvocationRecord is what the platform measured of one invocation. A nil
// pointer is a figure that the platform does not give.
type InvocationRecord struct {
	// RequestID is the platform's identifier of the invocation.
	RequestID string
	// Time is when the invocation started.
	Time time.Time
	// Duration is how long the handler ran.
	Duration *time.Duration
	// Init is how long the sandbox initialised; nil for a warm invocation.
	Init *time.Duration
	// Billed is the time that is paid for.
	Billed *time.Duration
	// MemoryMB is the memory limit in force.
	MemoryMB *int
	// MemoryUsedMB is the most memory that was used.
	MemoryUsedMB *float64
	// Cold tells whether the sandbox was new.
	Cold *bool
	// Error is the kind of failure, empty for success.
	Error string
}

// Resource is one thing of a deployment on the platform.
type Resource struct {
	// Type is the kind of thing, such as "function" or "role".
	Type string
	// ID is the platform's identifier.
	ID string
}

// ResourceFunction is the type of the resource that is a function itself.
const ResourceFunction = "function"
