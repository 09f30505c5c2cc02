package faas

import (
	"context"
	"maps"
	"strconv"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Names of the environment variables whose change makes a platform start new
// sandboxes. SeBS's wrappers read one or the other, so both are set.
const (
	ColdStartVariable      = "cold_start"
	ForceColdStartVariable = "ForceColdStart"
)

// WithColdStart returns config with both cold-start variables set to counter. The
// given environment is not changed.
func WithColdStart(config driver.Config, counter int64) driver.Config {
	environment := maps.Clone(config.Environment)
	if environment == nil {
		environment = make(map[string]string, 2)
	}
	value := strconv.FormatInt(counter, 10)
	environment[ColdStartVariable] = value
	environment[ForceColdStartVariable] = value
	config.Environment = environment
	return config
}

// EnforceColdStart makes sure that the next invocations of the function start in
// new sandboxes: it sets the cold-start variables to counter, which must differ
// from the last one, and returns when the platform reports the update as done.
// config is the function's complete configuration.
func (p *Platform) EnforceColdStart(ctx context.Context, name string, config driver.Config, counter int64) (driver.Function, error) {
	if err := p.requireColdStart(ctx); err != nil {
		return driver.Function{}, err
	}
	return p.UpdateConfiguration(ctx, name, WithColdStart(config, counter))
}
