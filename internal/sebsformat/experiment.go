package sebsformat

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Experiment is the content of experiments.json, results.json and the perf-cost raw files.
type Experiment struct {
	Header
	// Invocations by function name, then by key: the request id, or failed-<n> for a call that has none.
	Invocations map[string]map[string]*Invocation
}

// Header is everything in a result file but the invocations.
type Header struct {
	// Metrics holds provider metrics by function name; the values are the provider's own.
	Metrics map[string]json.RawMessage
	// Begin and End bracket the experiment, in seconds since 1970 on the client's clock.
	BeginSeconds, EndSeconds float64
	// Config is the configuration that the experiment ran under.
	Config Config
	// ResultBucket is null in files of SeBS 1.2.
	ResultBucket *string
	// Statistics is the extra block of perf-cost raw files; nil in experiments.json.
	Statistics *PerfCostStatistics
	// Extra keeps top-level keys that this package does not know, verbatim.
	Extra map[string]json.RawMessage
}

// Config is the `config` object of a result file.
type Config struct {
	// Deployment is the platform's block (name, region, resources), as a JSON object. Secrets are redacted on writing.
	Deployment map[string]any
	// Experiments describes what ran.
	Experiments ExperimentsConfig
}

// ExperimentsConfig is the `config.experiments` object of a result file.
type ExperimentsConfig struct {
	Architecture    string
	DownloadResults bool
	// Experiments holds the experiment blocks (perf-cost and so on) by name.
	Experiments   map[string]any
	Flags         map[string]bool
	Runtime       Runtime
	SystemVariant string
	UpdateCode    bool
	UpdateStorage bool
	// Extra keeps unknown keys verbatim.
	Extra map[string]any
}

// Runtime is a language with its version and variant.
type Runtime struct {
	Language string `json:"language"`
	// Variant is "default" unless another interpreter of the same language is meant.
	Variant string `json:"language-variant"`
	Version string `json:"version"`
}

// Invocation is one call of a function.
type Invocation struct {
	Billing       Billing
	Output        json.RawMessage
	ProviderTimes ProviderTimes
	RequestID     string
	Stats         Stats
	Times         Times
}

// Billing is what the provider charges for; nil stands for unknown.
type Billing struct {
	// BilledTimeMS is the billed duration in milliseconds.
	BilledTimeMS *int64
	// GBSeconds is memory in GiB times billed seconds; nil when unknown (the file then says 0).
	GBSeconds *float64
	// MemoryMB is the configured memory in MiB.
	MemoryMB *int64
}

// ProviderTimes are the provider's own times in microseconds; nil stands for unknown (the file then says 0).
type ProviderTimes struct {
	ExecutionMicros      *int64
	InitializationMicros *int64
}

// Stats describes how the invocation went.
type Stats struct {
	ColdStart bool
	Failure   bool
	// MemoryUsedMB is the peak memory in MiB, nil when the provider does not tell.
	MemoryUsedMB *float64
}

// Times are taken by the client, except BenchmarkMicros, which the function reports.
type Times struct {
	BenchmarkMicros int64
	ClientMicros    int64
	// ClientBegin and ClientEnd are written in their own time zone without an offset, as SeBS does.
	ClientBegin, ClientEnd time.Time
	// HTTPFirstByteReturnSeconds and HTTPStartupSeconds exist for HTTP triggers only.
	HTTPFirstByteReturnSeconds *float64
	HTTPStartupSeconds         *float64
	InitializationMicros       int64
}

// PerfCostStatistics is the `statistics` object of a perf-cost raw file.
type PerfCostStatistics struct {
	ColdCount int64
	// Failures holds one text per failed call.
	Failures      []string
	FailuresCount int64
	// Incorrect holds the invocations of the wrong temperature.
	Incorrect      []*Invocation
	IncorrectCount int64
	// SamplesGenerated is the number of samples gathered.
	SamplesGenerated int64
}

// Add stores an invocation under its function and returns the key: the request id; for a call without one failed-<n>, where n is the
// number of entries so far; for a request id that is already there the id with a counter, so that nothing is overwritten.
func (e *Experiment) Add(function string, inv *Invocation) string {
	if e.Invocations == nil {
		e.Invocations = make(map[string]map[string]*Invocation)
	}
	entries := e.Invocations[function]
	if entries == nil {
		entries = make(map[string]*Invocation)
		e.Invocations[function] = entries
	}
	key := Key(len(entries), inv.RequestID, func(key string) bool { return entries[key] != nil })
	entries[key] = inv
	return key
}

// Key returns the key of a function's next invocation, as Add does: count is how many entries the function has, taken tells which keys
// are in use.
func Key(count int, requestID string, taken func(key string) bool) string {
	base := requestID
	if base == "" {
		base = fmt.Sprintf("%s%d", failedPrefix, count)
	}
	key := base
	for n := 2; taken(key); n++ {
		key = fmt.Sprintf("%s#%d", base, n)
	}
	return key
}

// bucketRoles are the roles that SeBS gives buckets; they stand directly under resources in result files.
var bucketRoles = []string{"deployment", "benchmarks", "experiments"}

// Platform returns the platform's name, such as aws or local.
func (c *Config) Platform() string {
	name, _ := c.Deployment["name"].(string)
	return name
}

// Region returns the region, empty for platforms without one.
func (c *Config) Region() string {
	region, _ := c.Deployment["region"].(string)
	return region
}

// ResourcesID returns the short id that namespaces the deployment's resources; empty when the file has none.
func (c *Config) ResourcesID() string {
	resources, _ := c.Deployment["resources"].(map[string]any)
	id, _ := resources["resources_id"].(string)
	return id
}

// Buckets returns the bucket per role, found in both places where SeBS puts them: resources.<role> and
// resources.storage_buckets.<role>.
func (c *Config) Buckets() map[string]string {
	resources, _ := c.Deployment["resources"].(map[string]any)
	buckets := make(map[string]string)
	if listed, ok := resources["storage_buckets"].(map[string]any); ok {
		for role, name := range listed {
			if s, ok := name.(string); ok {
				buckets[role] = s
			}
		}
	}
	for _, role := range bucketRoles {
		if s, ok := resources[role].(string); ok {
			buckets[role] = s
		}
	}
	return buckets
}

// SetBucket records the bucket of a role where SeBS writes it.
func (c *Config) SetBucket(role, name string) {
	if c.Deployment == nil {
		c.Deployment = make(map[string]any)
	}
	resources, ok := c.Deployment["resources"].(map[string]any)
	if !ok {
		resources = make(map[string]any)
		c.Deployment["resources"] = resources
	}
	resources[role] = name
}

// timeLayout is Python's str(datetime) with microseconds.
const timeLayout = "2006-01-02 15:04:05.000000"

// FormatTime prints t as SeBS does: in t's own zone, without an offset, with microseconds.
func FormatTime(t time.Time) string { return t.Format(timeLayout) }

// ParseTime reads a naive time of a result file in the given zone. The fraction may be missing, as Python leaves it out when it is
// zero. A time that the zone skips (daylight saving) is read as UTC, so that it prints the same again.
func ParseTime(s string, zone *time.Location) (time.Time, error) {
	const layout = "2006-01-02 15:04:05"
	t, err := time.ParseInLocation(layout, s, zone)
	if err != nil {
		t, err = time.ParseInLocation("2006-01-02T15:04:05", s, zone)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time of the form 2026-05-02 10:00:00.123456", s)
	}
	if !strings.HasPrefix(s, t.Format(layout)) && strings.Contains(s, " ") {
		return time.ParseInLocation(layout, s, time.UTC)
	}
	return t, nil
}
