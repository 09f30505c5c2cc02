package local

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// configurationOf splits the environment into what may be shown and what may not.
func configurationOf(config driver.Config, labels map[string]string) *localv1.LocalConfiguration {
	out := &localv1.LocalConfiguration{
		Runtime:           config.Runtime.Proto(),
		Architecture:      driver.ArchitectureProto(config.Architecture),
		Handler:           config.Handler,
		TimeoutSeconds:    int32((config.Timeout + time.Second - 1) / time.Second),
		MemoryMb:          int32(config.MemoryMB),
		Environment:       make(map[string]string),
		SecretEnvironment: make(map[string]string),
		MaxConcurrency:    int32(config.MaxConcurrency),
		Labels:            maps.Clone(labels),
	}
	for name, value := range config.Environment {
		if slices.Contains(config.Secrets, name) {
			out.SecretEnvironment[name] = value
		} else {
			out.Environment[name] = value
		}
	}
	return out
}

func function(fn *localv1.LocalFunction) driver.Function {
	c := fn.GetConfiguration()
	environment := maps.Clone(c.GetEnvironment())
	if environment == nil {
		environment = make(map[string]string)
	}
	secrets := slices.Sorted(maps.Keys(c.GetSecretEnvironment()))
	for _, name := range secrets {
		environment[name] = ""
	}
	return driver.Function{
		Name:       fn.GetFunctionId(),
		Handle:     fn.GetOwnUrl(),
		Deployment: c.GetLabels()[labelDeployment],
		Benchmark:  c.GetLabels()[labelBenchmark],
		Digest:     fn.GetCodeHash(),
		Config: driver.Config{
			Runtime:        driver.RuntimeFromProto(c.GetRuntime()),
			Architecture:   driver.ArchitectureFromProto(c.GetArchitecture()),
			MemoryMB:       int(c.GetMemoryMb()),
			Timeout:        time.Duration(c.GetTimeoutSeconds()) * time.Second,
			Environment:    environment,
			Secrets:        secrets,
			Handler:        c.GetHandler(),
			MaxConcurrency: int(c.GetMaxConcurrency()),
		},
		State:   driver.StateActive,
		Version: fn.GetVersion(),
		Labels:  maps.Clone(c.GetLabels()),
		// The host's HTTP front and its library call serve every function.
		Triggers: triggers(fn),
		Attributes: map[string]string{
			"own_url":      fn.GetOwnUrl(),
			"sandbox_kind": strings.ToLower(strings.TrimPrefix(fn.GetSandboxKind().String(), "SANDBOX_KIND_")),
		},
		Created: timeOf(fn.GetCreateTime()),
		Updated: timeOf(fn.GetUpdateTime()),
	}
}

func triggers(fn *localv1.LocalFunction) []driver.Trigger {
	out := []driver.Trigger{
		{Type: driver.TriggerHTTP, URL: fn.GetUrl()},
		{Type: driver.TriggerLibrary},
	}
	if s := fn.GetStorageTrigger(); s != nil {
		out = append(out, driver.Trigger{
			Type: driver.TriggerStorage, Bucket: s.GetBucket(), Prefix: s.GetPrefix(), ResultsPrefix: s.GetResultsPrefix(),
		})
	}
	return out
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func record(in *localv1.LocalInvocation) driver.InvocationRecord {
	var (
		duration = time.Duration(in.GetDurationUs()) * time.Microsecond
		billed   = time.Duration(in.GetBilledMs()) * time.Millisecond
		memory   = int(in.GetMemoryMb())
		cold     = in.GetColdStart()
	)
	out := driver.InvocationRecord{
		RequestID: in.GetRequestId(), Time: timeOf(in.GetStartTime()), Error: in.GetFunctionError(),
		Duration: &duration, Billed: &billed, MemoryMB: &memory, Cold: &cold,
	}
	if in.InitDurationUs != nil {
		init := time.Duration(in.GetInitDurationUs()) * time.Microsecond
		out.Init = &init
	}
	if in.MaxMemoryUsedMb != nil {
		used := in.GetMaxMemoryUsedMb()
		out.MemoryUsedMB = &used
	}
	return out
}
