package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// readConfig reads the configuration file; without one everything is left to flags and defaults. Warnings are shown
// where there is a display.
func (f *commonFlags) readConfig(show *display.Display) (_ *sebsformat.UserConfig, err error) {
	if f.config == "" {
		return &sebsformat.UserConfig{}, nil
	}
	file, err := os.Open(f.config)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--config: %w", err))
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	config, err := sebsformat.ReadUserConfig(file, sebsformat.UserConfigOptions{Platform: f.deployment, Region: firstOf(f.region, f.awsRegion())})
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--config %s: %w", f.config, err))
	}
	for _, warning := range config.Warnings {
		if show == nil {
			break
		}
		show.Note("sebs: %s: %s", f.config, warning)
	}
	return config, nil
}

// awsRegion is the region of the environment.
func (f *simpleFlags) awsRegion() string {
	if f.getenv == nil {
		return ""
	}
	return firstOf(f.getenv("AWS_REGION"), f.getenv("AWS_DEFAULT_REGION"))
}
