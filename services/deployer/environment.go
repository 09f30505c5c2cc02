package deployer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Attributes of a function's record that tell which stores it uses.
const (
	attributeObjects = "uses_objects"
	attributeTables  = "uses_tables"
)

// stores tells which stores a function uses.
type stores struct{ objects, tables bool }

func storesOf(attributes map[string]string) stores {
	return stores{objects: attributes[attributeObjects] == "true", tables: attributes[attributeTables] == "true"}
}

// mark writes into a map what storesOf reads.
func (s stores) mark(attributes map[string]string) {
	if s.objects {
		attributes[attributeObjects] = "true"
	}
	if s.tables {
		attributes[attributeTables] = "true"
	}
}

// reserved are the variables that cold-start enforcement owns.
func reserved() []string { return []string{faas.ColdStartVariable, faas.ForceColdStartVariable} }

// checkEnvironment refuses variables of the caller that could not be set.
func checkEnvironment(environment map[string]string) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			problems = append(problems, errs.Field("config.environment", "name %q must not be empty or hold '='", name))
		case strings.ContainsRune(environment[name], 0):
			problems = append(problems, errs.Field("config.environment", "the value of %s holds a NUL character", name))
		case slices.Contains(reserved(), name):
			problems = append(problems, errs.Field("config.environment", "%s belongs to cold-start enforcement; leave it out", name))
		}
	}
	return errs.Fields(problems...)
}

// wish is what a configuration is made of.
type wish struct {
	deployment deploymentName
	benchmark  string
	config     *typev1.FunctionConfig
	handler    string
	stores     stores
	// coldStart are the variables of the last cold-start enforcement.
	coldStart map[string]string
	// recorded, where it is set, takes the place of the configuration's environment:
	// the caller's own variables are those of it that neither the stores nor cold-start
	// enforcement set.
	recorded map[string]string
}

// desire completes a configuration with the environment that the storage service
// gives now. What the caller asks for stands above it.
func (d *Deployer) desire(ctx context.Context, platform *opened, w wish) (driver.Config, error) {
	want := driverConfig(w.config)
	want.Handler, want.Environment = w.handler, make(map[string]string)
	if w.stores.objects || w.stores.tables {
		caps, err := platform.Capabilities(ctx)
		if err != nil {
			return driver.Config{}, err
		}
		answer, err := d.storage.GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{
			Parent: w.deployment.String(), Benchmark: w.benchmark,
			UsesObjects: w.stores.objects, UsesTables: w.stores.tables, StoreHost: caps.StoreHosts[want.Runtime],
		})
		if err != nil {
			return driver.Config{}, fmt.Errorf("get the environment of benchmark %s: %w", w.benchmark, err)
		}
		for _, variable := range answer.GetVariables() {
			want.Environment[variable.GetName()] = variable.GetValue()
			if variable.GetSecret() {
				want.Secrets = append(want.Secrets, variable.GetName())
			}
		}
	}
	for name, value := range w.own(want.Environment) {
		want.Environment[name] = value
		want.Secrets = slices.DeleteFunc(want.Secrets, func(secret string) bool { return secret == name })
	}
	maps.Copy(want.Environment, w.coldStart)
	slices.Sort(want.Secrets)
	return want, nil
}

// own returns the variables that the caller asked for.
func (w wish) own(stores map[string]string) map[string]string {
	if w.recorded == nil {
		return w.config.GetEnvironment()
	}
	own := make(map[string]string)
	for name, value := range w.recorded {
		if _, given := stores[name]; !given && !slices.Contains(reserved(), name) {
			own[name] = value
		}
	}
	return own
}

// driverConfig returns a configuration without its environment.
func driverConfig(config *typev1.FunctionConfig) driver.Config {
	return driver.Config{
		Runtime:        driver.RuntimeFromProto(config.GetRuntime()),
		Architecture:   driver.ArchitectureFromProto(config.GetArchitecture()),
		MemoryMB:       int(config.GetMemoryMb()),
		Timeout:        time.Duration(config.GetTimeoutSeconds()) * time.Second,
		MaxConcurrency: int(config.GetMaxConcurrency()),

		ProvisionedConcurrency: int(config.GetProvisionedConcurrency()),
	}
}

// coldStartOf returns the variables of the last cold-start enforcement.
func coldStartOf(environment map[string]string) map[string]string {
	found := make(map[string]string)
	for _, name := range reserved() {
		if value, ok := environment[name]; ok {
			found[name] = value
		}
	}
	return found
}

// differences names the parts of the configuration in which the function, as the
// platform reports it, is not as wanted. A value that the platform keeps to itself
// is compared with the record.
func differences(actual driver.Function, record *typev1.Function, want driver.Config, caps driver.Capabilities) []string {
	var names []string
	differ := func(name string, yes bool) {
		if yes {
			names = append(names, name)
		}
	}
	have := actual.Config
	memory, timeout := have.MemoryMB, have.Timeout
	if record != nil && !caps.MemoryApplied.Supported {
		memory = int(record.GetConfig().GetMemoryMb())
	}
	if record != nil && !caps.TimeoutApplied.Supported {
		timeout = time.Duration(record.GetConfig().GetTimeoutSeconds()) * time.Second
	}
	differ("memory", memory != want.MemoryMB)
	differ("timeout", timeout != want.Timeout)
	differ("runtime", have.Runtime.Language != want.Runtime.Language || have.Runtime.Version != want.Runtime.Version ||
		variantOf(have.Runtime) != variantOf(want.Runtime))
	differ("architecture", have.Architecture != want.Architecture)
	// A platform may report a default of its own; it only counts where the suite had set something else.
	differ("max_concurrency", have.MaxConcurrency != want.MaxConcurrency &&
		(want.MaxConcurrency != 0 || record.GetConfig().GetMaxConcurrency() != 0))
	differ("provisioned_concurrency", have.ProvisionedConcurrency != want.ProvisionedConcurrency &&
		(want.ProvisionedConcurrency != 0 || record.GetConfig().GetProvisionedConcurrency() != 0))
	differ("cold_start_method", want.ColdStartMethod != "" && have.ColdStartMethod != "" && have.ColdStartMethod != want.ColdStartMethod)
	differ("handler", have.Handler != "" && want.Handler != "" && have.Handler != want.Handler)
	differ("environment", environmentDiffers(have.Environment, record.GetConfig().GetEnvironment(), want))
	return names
}

func variantOf(r driver.Runtime) string {
	if r.Variant == "" {
		return faas.DefaultVariant
	}
	return r.Variant
}

func environmentDiffers(have, recorded map[string]string, want driver.Config) bool {
	for name := range have {
		if _, wanted := want.Environment[name]; !wanted {
			return true
		}
	}
	for name, value := range want.Environment {
		got, there := have[name]
		if there && got == "" && !slices.Contains(want.Secrets, name) {
			got = recorded[name]
		}
		switch {
		case !there:
			return true
		case got == "" && slices.Contains(want.Secrets, name):
			// The platform does not give the secret back; it is there.
		case got != value:
			return true
		}
	}
	return false
}

// configProto returns the configuration for a record: with the names of secrets
// elsewhere, and without their values.
func configProto(config driver.Config, variant typev1.SystemVariant) *typev1.FunctionConfig {
	out := &typev1.FunctionConfig{
		TimeoutSeconds: int32(config.Timeout / time.Second),
		MemoryMb:       int32(config.MemoryMB),
		Runtime:        config.Runtime.Proto(),
		Architecture:   driver.ArchitectureProto(config.Architecture),
		SystemVariant:  variant,
		MaxConcurrency: int32(config.MaxConcurrency),
		Environment:    make(map[string]string),

		ProvisionedConcurrency: int32(config.ProvisionedConcurrency),
	}
	for name, value := range config.Environment {
		if !slices.Contains(config.Secrets, name) {
			out.Environment[name] = value
		}
	}
	return out
}
