package builder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/benchmarks"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/version"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/platform/registry/ecr"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/images"
	"github.com/sebs-suite/sebs/services/builder/inputs"
	"github.com/sebs-suite/sebs/services/builder/packaging"
	"github.com/sebs-suite/sebs/services/builder/pytools"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// Config is the section `builder` of the configuration.
type Config struct {
	// BenchmarksDirs are trees of benchmark folders, searched before the catalogue that ships with the suite. The
	// directories of the environment variable SEBS_BENCHMARKS_DIR (separated as in PATH) follow them.
	BenchmarksDirs []string `yaml:"benchmarks_dirs"`
	// BenchmarksDataDirs are trees of input data; SEBS_BENCHMARKS_DATA_DIR adds to them.
	BenchmarksDataDirs []string `yaml:"benchmarks_data_dirs"`
	// Python is the interpreter for input.py; empty means to look for one.
	Python string `yaml:"python"`
	// WorkDir is where users' code works; empty means the system's directory for temporary files.
	WorkDir string `yaml:"work_dir"`
	// User is the account that users' code runs as when the service runs as root; empty means nobody.
	User string `yaml:"user"`
	// InputTimeout bounds one run of input.py, its uploads included.
	InputTimeout time.Duration `yaml:"input_timeout"`
	// InstallTimeout bounds one installation of dependencies, or one run of a compiler.
	InstallTimeout time.Duration `yaml:"install_timeout"`
	// ScriptTimeout bounds one run of init.sh or package.sh.
	ScriptTimeout time.Duration `yaml:"script_timeout"`
	// UploaderURL is where the files that 120.uploader fetches on the local platform are served; empty means that the
	// builder serves them itself. UploaderPublic makes it fetch SeBS's files from the web.
	UploaderURL    string `yaml:"uploader_url"`
	UploaderPublic bool   `yaml:"uploader_public"`
	// BaseImages names the images that functions' images are built on, by `platform.language`, optionally with `.version` and
	// `.architecture` behind: a reference, `docker-daemon:` with one that only the Docker Engine has, or `scratch`. In a
	// reference {version} and {architecture} are filled in.
	BaseImages map[string]string `yaml:"base_images"`
	// Registry takes images where the deployment names no registry.
	Registry RegistryConfig `yaml:"registry"`
	// CacheMaxBytes bounds what is kept on this machine's disk of dependency layers, and as much again of uploaded
	// sources; both can be fetched from the object store again.
	CacheMaxBytes int64 `yaml:"cache_max_bytes"`
	// OperationTimeout bounds building a package, or preparing an input, as a whole.
	OperationTimeout time.Duration `yaml:"operation_timeout"`
}

// DefaultConfig returns what holds without a configuration.
func DefaultConfig() Config {
	return Config{
		InputTimeout: 10 * time.Minute, InstallTimeout: 15 * time.Minute, ScriptTimeout: 10 * time.Minute, OperationTimeout: 45 * time.Minute,
		CacheMaxBytes: 4 << 30, Registry: RegistryConfig{Repository: "sebs/benchmarks"},
	}
}

// Validate reports limits that are not positive.
func (c Config) Validate() error {
	var problems []error
	for key, limit := range map[string]time.Duration{
		"input_timeout": c.InputTimeout, "install_timeout": c.InstallTimeout, "script_timeout": c.ScriptTimeout, "operation_timeout": c.OperationTimeout,
	} {
		if limit <= 0 {
			problems = append(problems, fmt.Errorf("%s must be above zero, such as 10m", key))
		}
	}
	if c.CacheMaxBytes <= 0 {
		problems = append(problems, errors.New("cache_max_bytes must be above zero, such as 4294967296"))
	}
	for key, reference := range c.BaseImages {
		if strings.Count(key, ".") < 1 || reference == "" {
			problems = append(problems, fmt.Errorf("base_images: %q: %q has to be of the form platform.language[.version[.architecture]]: image", key, reference))
		}
	}
	if err := c.Registry.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("registry: %w", err))
	}
	return errors.Join(problems...)
}

// Setup builds the service in a process.
func Setup(_ context.Context, p *app.Process) error {
	config := DefaultConfig()
	if err := p.Section("builder", &config); err != nil {
		return err
	}
	conn, err := p.Dial("storage")
	if err != nil {
		return err
	}
	local, err := p.Dial("local")
	if err != nil {
		return err
	}
	web := NewWebFiles(benchmarks.UploaderHandler(), localv1.NewLocalServiceClient(local), config.UploaderURL, config.UploaderPublic, p.Log)
	p.OnClose("builder web files", web.Close)
	server, err := build(p, config, storagev1.NewStorageServiceClient(conn), web)
	if err != nil {
		return err
	}
	p.Go("builder housekeeping", server.keepHouse)
	for _, kind := range []string{kindPackage, kindInput, kindImage, kindPush, kindFinalize} {
		p.Operations.OnResume("builder/"+kind, server.resume)
	}
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) { builderv1.RegisterBuilderServiceServer(r, server) })
	return nil
}

// build puts the parts together.
func build(p *app.Process, config Config, storage storagev1.StorageServiceClient, web *WebFiles) (*Server, error) {
	catalogue, err := openCatalogue(config)
	if err != nil {
		return nil, err
	}
	table, err := runtimesdata.Load()
	if err != nil {
		return nil, err
	}
	layouts, err := runtimes.Load()
	if err != nil {
		return nil, err
	}
	user, err := confine.UnprivilegedUser(config.User)
	if err != nil {
		return nil, fmt.Errorf("find the account for users' code (builder.user): %w", err)
	}
	var (
		dir        = filepath.Join(p.StateDir, "builder")
		confiner   = confine.New(config.WorkDir, user)
		finder     = pytools.NewFinder(confiner, config.Python)
		client     = &http.Client{Timeout: 5 * time.Minute, Transport: http.DefaultTransport.(*http.Transport).Clone()}
		installers = pytools.NewInstallers(confiner, finder, client, dir, config.InstallTimeout, p.Log)
		sites      = pytools.NewSites(installers, filepath.Join(dir, "sites"))
		store      = NewStore(storage)
	)
	p.OnClose("connections of the builder", func(context.Context) error {
		client.CloseIdleConnections()
		return nil
	})
	imaging, err := openImages(p, config, dir, layouts)
	if err != nil {
		return nil, err
	}
	return NewServer(Dependencies{
		Records: p.Cache, Operations: p.Operations, Facts: teller{p.Events}, Storage: storage, Store: store,
		Catalogue: catalogue, Runtimes: table, Layouts: layouts,
		Packages: packaging.NewBuilder(packaging.Options{
			Layouts: layouts, Confiner: confiner, Python: installers, Node: packaging.NewNPM(confiner, config.InstallTimeout),
			Maven: packaging.NewMaven(confiner, filepath.Join(dir, "maven"), config.InstallTimeout), CMake: packaging.NewCMake(confiner, config.InstallTimeout),
			Store: store, LayersDir: filepath.Join(dir, "layers"), Locks: p.Cache, ScriptTimeout: config.ScriptTimeout,
		}),
		Runner: inputs.NewRunner(confiner, finder, sites, config.InputTimeout, p.Log),
		Web:    web,
		Images: imaging,
		Dir:    dir, HostArchitecture: pytools.HostArchitecture(), Log: p.Log, Sweep: confiner.Sweep,
		Limits: Limits{Operation: config.OperationTimeout, CacheBytes: config.CacheMaxBytes},
	}), nil
}

// openImages puts together what makes container images. Nothing is asked before an image is wanted.
func openImages(p *app.Process, config Config, dir string, bootstraps images.Bootstraps) (*Images, error) {
	deployer, err := p.Dial("deployer")
	if err != nil {
		return nil, err
	}
	engine, err := images.OpenEngine(filepath.Join(dir, "bases"))
	if err != nil {
		return nil, err
	}
	p.OnClose("Docker Engine of the builder", func(context.Context) error { return engine.Close() })
	client := registry.New(registry.NewKeychain(p.Credentials, config.Registry.Credential, config.Registry.DockerConfig))
	p.OnClose("container registries of the builder", func(context.Context) error {
		client.Close()
		return nil
	})
	bases, err := images.NewBases(config.BaseImages, client, engine)
	if err != nil {
		return nil, err
	}
	aws, err := awsconfig.ForProcess(p)
	if err != nil {
		return nil, err
	}
	openECR := func(ctx context.Context, credential, region string) (*ecr.Registry, error) {
		opened, err := aws.Open(ctx, credential, region)
		if err != nil {
			return nil, err
		}
		return ecr.Open(opened.Config), nil
	}
	return &Images{
		Bases: bases, Engine: engine, Bootstraps: bootstraps, Dir: filepath.Join(dir, "images"), Version: version.Get().Version,
		Registries: NewRegistries(config.Registry, client, engine, deployerv1.NewDeployerServiceClient(deployer), openECR),
	}, nil
}

// openCatalogue opens the configured trees, then the one that ships with the suite.
func openCatalogue(config Config) (*benchmark.Catalogue, error) {
	roots, err := openRoots(config.BenchmarksDirs, "SEBS_BENCHMARKS_DIR")
	if err != nil {
		return nil, err
	}
	data, err := openRoots(config.BenchmarksDataDirs, "SEBS_BENCHMARKS_DATA_DIR")
	if err != nil {
		return nil, err
	}
	roots = append(roots, benchmark.Root{Label: "the shipped catalogue", FS: benchmarks.Files()})
	return benchmark.NewCatalogue(roots, data), nil
}

func openRoots(dirs []string, variable string) ([]benchmark.Root, error) {
	var roots []benchmark.Root
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv(variable))...) {
		root, err := benchmark.DirRoot(dir)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// teller publishes the builder's events.
type teller struct{ bus *events.Bus }

// Tell publishes a fact.
func (t teller) Tell(ctx context.Context, event string, fact proto.Message, id string) error {
	return t.bus.Publish(ctx, "builder."+event, fact, id)
}
