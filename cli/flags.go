package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// simpleFlags are the options that SeBS calls simplified.
type simpleFlags struct {
	config          string
	outputDir       string
	outputFile      string
	cache           string
	verbose         bool
	preserveOut     bool
	language        string
	languageVersion string
	languageVariant string
	benchmarksDirs  []string
	dataDirs        []string
	noEgress        bool
	getenv          func(string) string
}

// commonFlags are the options that SeBS calls common.
type commonFlags struct {
	simpleFlags
	updateCode     bool
	updateStorage  bool
	deployment     string
	architecture   string
	systemVariant  string
	resourcePrefix string
	region         string
	credential     string
	// container is the older way to ask for the system variant `container`.
	container bool
}

// boolFlag adds a switch with its negation, as SeBS's commands have them: --name and --no-name.
func boolFlag(cmd *cobra.Command, target *bool, name string, value bool, usage string) {
	cmd.Flags().BoolVar(target, name, value, usage)
	negated := "no-" + name
	cmd.Flags().Bool(negated, false, "the opposite of --"+name)
	before := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		if before != nil {
			if err := before(c, args); err != nil {
				return err
			}
		}
		no, err := c.Flags().GetBool(negated)
		if err != nil {
			return err
		}
		if !c.Flags().Changed(negated) {
			return nil
		}
		if c.Flags().Changed(name) {
			return exitcode.With(exitcode.Usage, fmt.Errorf("--%s and --%s exclude each other; give one", name, negated))
		}
		*target = !no
		return nil
	}
}

func (f *simpleFlags) add(cmd *cobra.Command, a *app) {
	f.getenv = a.Getenv
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "SeBS configuration file, JSON or YAML; without one the defaults apply")
	flags.StringVar(&f.outputDir, "output-dir", ".", "directory of result files")
	flags.StringVar(&f.outputFile, "output-file", "", "log file in the output directory (SeBS: out.log); empty keeps logs in the state directory")
	flags.StringVar(&f.cache, "cache", "", "SeBS cache directory whose resource id, buckets and functions are taken over once")
	boolFlag(cmd, &f.verbose, "verbose", false, "log more")
	boolFlag(cmd, &f.preserveOut, "preserve-out", true, "keep what lies in the output directory")
	flags.StringVar(&f.language, "language", "", "language of the function: python, nodejs, java or cpp (default python)")
	flags.StringVar(&f.languageVersion, "language-version", "", "version of the language (default: the newest that can run)")
	flags.StringVar(&f.languageVariant, "language-variant", "", "variant of the language (default \"default\")")
	flags.StringArrayVar(&f.benchmarksDirs, "benchmarks-dir", splitList(a.Getenv("SEBS_BENCHMARKS_DIR")),
		"directory with benchmark folders, searched before the shipped catalogue; may be repeated (env SEBS_BENCHMARKS_DIR)")
	flags.StringArrayVar(&f.dataDirs, "benchmarks-data-dir", splitList(a.Getenv("SEBS_BENCHMARKS_DATA_DIR")),
		"directory with benchmark input data; may be repeated (env SEBS_BENCHMARKS_DATA_DIR)")
	flags.BoolVar(&f.noEgress, "no-egress", false, "keep local functions from reaching beyond this machine")
}

func (f *commonFlags) add(cmd *cobra.Command, a *app) {
	f.simpleFlags.add(cmd, a)
	boolFlag(cmd, &f.updateCode, "update-code", false, "build and deploy again although nothing changed")
	boolFlag(cmd, &f.updateStorage, "update-storage", false, "upload input data again")
	flags := cmd.Flags()
	flags.StringVar(&f.deployment, "deployment", "", "platform: local, aws, azure, gcp or openwhisk (default local)")
	flags.StringVar(&f.architecture, "architecture", "", "x64 or arm64 (default: the platform's)")
	flags.StringVar(&f.systemVariant, "system-variant", "", "package, container, function-gen1 or function-gen2 (default: the platform's first)")
	flags.BoolVar(&f.container, "container-deployment", false, "the same as --system-variant container")
	cmd.MarkFlagsMutuallyExclusive("container-deployment", "system-variant")
	flags.StringVar(&f.resourcePrefix, "resource-prefix", "", "prefix of the resource id")
	flags.StringVar(&f.region, "region", "", "region of a cloud (default: the configuration's, then the services')")
	flags.StringVar(&f.credential, "credential", "", "name of the credential that the services use (default \"default\")")
}

// connectOptions returns what an embedded suite needs of the flags and of files with self-hosted stores.
func (f *simpleFlags) connectOptions(platform string, storageFiles ...string) (connectOptions, error) {
	options := connectOptions{benchmarksDirs: f.benchmarksDirs, dataDirs: f.dataDirs, noEgress: f.noEgress, verbose: f.verbose}
	if f.outputFile != "" {
		options.logFile = filepath.Join(f.outputDir, f.outputFile)
	}
	var err error
	options.settings, err = f.storeSettings(platform, storageFiles)
	return options, err
}

// connectOptions returns what an embedded suite needs of the flags.
func (f *commonFlags) connectOptions(storageFiles ...string) (connectOptions, error) {
	options, err := f.simpleFlags.connectOptions(f.deployment, storageFiles...)
	if err != nil {
		return options, err
	}
	return options, f.readInline(&options)
}

// prepareOutputDir creates the output directory, and empties it when it is not to be preserved.
func (f *simpleFlags) prepareOutputDir() error {
	dir, err := filepath.Abs(f.outputDir)
	if err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("--output-dir: %w", err))
	}
	if !f.preserveOut {
		if err := wipe(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("--output-dir: %w", err))
	}
	f.outputDir = dir
	return nil
}

// wipe removes what lies in a directory. It refuses those whose loss would hurt: the root, the home directory, the
// current directory and its parents.
func wipe(dir string) error {
	current, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find current directory: %w", err)
	}
	home, _ := os.UserHomeDir()
	for _, kept := range []string{current, home} {
		if kept == "" {
			continue
		}
		if rel, err := filepath.Rel(dir, kept); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return exitcode.With(exitcode.Usage, fmt.Errorf(
				"--no-preserve-out would delete everything in %s; name an output directory of its own with --output-dir", dir))
		}
	}
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("empty output directory: %w", err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("empty output directory: %w", err)
		}
	}
	return nil
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return filepath.SplitList(s)
}

// The names of SeBS files and flags for the values of enums.
var (
	languageNames = map[string]typev1.Language{
		"python": typev1.Language_LANGUAGE_PYTHON, "nodejs": typev1.Language_LANGUAGE_NODEJS,
		"java": typev1.Language_LANGUAGE_JAVA, "cpp": typev1.Language_LANGUAGE_CPP,
	}
	architectureNames = map[string]typev1.Architecture{
		"x64": typev1.Architecture_ARCHITECTURE_X64, "arm64": typev1.Architecture_ARCHITECTURE_ARM64,
	}
	variantNames = map[string]typev1.SystemVariant{
		"package": typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE, "container": typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER,
		"function-gen1": typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN1,
		"function-gen2": typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN2,
	}
	triggerNames = map[string]typev1.TriggerType{
		"http": typev1.TriggerType_TRIGGER_TYPE_HTTP, "library": typev1.TriggerType_TRIGGER_TYPE_LIBRARY,
		"storage": typev1.TriggerType_TRIGGER_TYPE_STORAGE,
	}
	platformNames = []string{"aws", "azure", "gcp", "local", "openwhisk"}
)

// enumByName finds a value by its name in SeBS files; empty means the zero value.
func enumByName[E ~int32](flag, name string, names map[string]E) (E, error) {
	if name == "" {
		return 0, nil
	}
	if value, ok := names[strings.ToLower(name)]; ok {
		return value, nil
	}
	return 0, exitcode.With(exitcode.Usage, fmt.Errorf("%s: %q is unknown; use %s", flag, name, alternatives(names)))
}

// nameOf returns the name of a value in SeBS files.
func nameOf[E ~int32](value E, names map[string]E) string {
	for name, v := range names {
		if v == value {
			return name
		}
	}
	return ""
}

func alternatives[E any](names map[string]E) string {
	return oneOf(sortedKeys(names))
}

func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
