package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// settings are what flags and the configuration file say together; flags win.
type settings struct {
	platform string
	target   *experimentsv1.Target
	config   *sebsformat.UserConfig
}

// settings joins the flags of a command with the configuration file.
func (f *commonFlags) settings(cmd *cobra.Command, show *display.Display) (*settings, error) {
	config, err := f.readConfig(show)
	if err != nil {
		return nil, err
	}
	platform := firstOf(f.deployment, config.Platform, "local")
	if !slices.Contains(platformNames, platform) {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--deployment: %q is unknown; use %s", platform, oneOf(platformNames)))
	}
	runtime, err := f.runtime(config)
	if err != nil {
		return nil, err
	}
	architecture, err := enumByName("--architecture", firstOf(f.architecture, config.Experiments.Architecture), architectureNames)
	if err != nil {
		return nil, err
	}
	wanted := firstOf(f.systemVariant, config.Experiments.SystemVariant)
	if f.container {
		wanted = "container"
	}
	variant, err := enumByName("--system-variant", wanted, variantNames)
	if err != nil {
		return nil, err
	}
	target := &experimentsv1.Target{
		Platform: platform, ResourcesId: config.ResourcesID, ResourcePrefix: f.resourcePrefix,
		Region: firstOf(f.region, config.Region), Credential: f.credential,
		Runtime: runtime, Architecture: architecture, SystemVariant: variant,
		UpdateCode: flagOr(cmd, "update-code", f.updateCode, config.Experiments.UpdateCode),
		Buckets:    bucketBindings(config.Buckets),
	}
	if config.AWS != nil {
		target.Settings = maps.Clone(config.AWS.Settings)
	}
	if update, set := flagOrSet(cmd, "update-storage", f.updateStorage, config.Experiments.UpdateStorage); set {
		target.UpdateStorage = &update
	}
	return &settings{platform: platform, target: target, config: config}, nil
}

// runtime joins the language of the flags with that of the configuration file. A language given on the command line
// makes the file's version and variant void: they belong to another language.
func (f *simpleFlags) runtime(config *sebsformat.UserConfig) (*typev1.Runtime, error) {
	configured := config.Experiments.Runtime
	if f.language != "" && f.language != configured.Language {
		configured = sebsformat.Runtime{}
	}
	language, err := enumByName("--language", firstOf(f.language, configured.Language, "python"), languageNames)
	if err != nil {
		return nil, err
	}
	return &typev1.Runtime{
		Language: language,
		Version:  firstOf(f.languageVersion, configured.Version),
		Variant:  firstOf(f.languageVariant, configured.Variant),
	}, nil
}

// source names a benchmark. Folders given with --benchmarks-dir lie with the command, so a suite that runs elsewhere
// gets them uploaded; an embedded suite has been told the directories.
func (f *simpleFlags) source(ctx context.Context, s *session, benchmark string) (*builderv1.BenchmarkSource, error) {
	source := &builderv1.BenchmarkSource{Benchmark: benchmark}
	if s.embedded != nil {
		return source, nil
	}
	client := builderv1.NewBuilderServiceClient(s.conn)
	var err error
	if source.Source, err = uploadFolder(ctx, client, f.benchmarksDirs, benchmark, builderv1.SourceKind_SOURCE_KIND_BENCHMARK); err != nil {
		return nil, err
	}
	if source.Data, err = uploadFolder(ctx, client, f.dataDirs, benchmark, builderv1.SourceKind_SOURCE_KIND_DATA); err != nil {
		return nil, err
	}
	return source, nil
}

// searched adds the directories of the command to the error about a benchmark that a suite elsewhere does not know.
func (f *simpleFlags) searched(s *session, err error) error {
	if s.embedded != nil || len(f.benchmarksDirs) == 0 || errs.Reason(err) != "BENCHMARK_NOT_FOUND" {
		return err
	}
	return fmt.Errorf("%w; the directories %s were searched too", err, strings.Join(f.benchmarksDirs, ", "))
}

// bucketBindings are the buckets that the configuration file names by their roles.
func bucketBindings(buckets map[string]string) []*typev1.BucketBinding {
	var bindings []*typev1.BucketBinding
	for _, role := range sortedKeys(buckets) {
		if buckets[role] != "" {
			bindings = append(bindings, &typev1.BucketBinding{Role: bucketRoles[role], Bucket: buckets[role]})
		}
	}
	return bindings
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// flagOr returns the flag when it was given, else what the configuration file says.
func flagOr(cmd *cobra.Command, name string, flag bool, configured *bool) bool {
	value, _ := flagOrSet(cmd, name, flag, configured)
	return value
}

func flagOrSet(cmd *cobra.Command, name string, flag bool, configured *bool) (value, set bool) {
	if cmd.Flags().Changed(name) || cmd.Flags().Changed("no-"+name) {
		return flag, true
	}
	if configured != nil {
		return *configured, true
	}
	return false, false
}
