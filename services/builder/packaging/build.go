package packaging

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// Store is the object store that all builders share.
type Store interface {
	// Fetch writes the object of a key to w; found is false when there is none.
	Fetch(ctx context.Context, key string, w io.Writer) (found bool, err error)
	// Put stores the whole content of a file, whose SHA-256 is given in hexadecimal digits.
	Put(ctx context.Context, key string, content *os.File, sha256 string) error
}

// Locks are locks that hold in the whole system.
type Locks interface {
	Lock(ctx context.Context, what string) (unlock func(), err error)
}

// PythonInstaller installs Python packages.
type PythonInstaller interface {
	Find(ctx context.Context) (pytools.Installer, error)
	Install(ctx context.Context, requirements string, target pytools.Target) (log string, err error)
}

// Report tells how far a build is: the phase (source, dependencies, package, upload) and a sentence for people.
type Report func(phase, message string)

// Options are what a Builder is made of.
type Options struct {
	// Layouts are the runtimes.
	Layouts Layouts
	// Confiner runs scripts.
	Confiner *confine.Confiner
	// Python and Node install dependencies.
	Python PythonInstaller
	Node   *NPM
	// Maven and CMake compile.
	Maven *Maven
	CMake *CMake
	// Store keeps layers for all builders, LayersDir for this process.
	Store     Store
	LayersDir string
	// Locks keep two builders from building the same layer.
	Locks Locks
	// ScriptTimeout bounds one run of init.sh or package.sh.
	ScriptTimeout time.Duration
}

// Builder builds packages.
type Builder struct {
	layouts   Layouts
	confiner  *confine.Confiner
	python    PythonInstaller
	node      *NPM
	maven     *Maven
	cmake     *CMake
	store     Store
	layersDir string
	locks     Locks
	timeout   time.Duration
}

// NewBuilder returns a builder.
func NewBuilder(o Options) *Builder {
	return &Builder{
		layouts: o.Layouts, confiner: o.Confiner, python: o.Python, node: o.Node,
		maven: o.Maven, cmake: o.CMake, store: o.Store, layersDir: o.LayersDir, locks: o.Locks, timeout: o.ScriptTimeout,
	}
}

// Built is a package that was built.
type Built struct {
	// SHA256 is the digest of the archive, SizeBytes its length, UnpackedBytes the length of all files in it.
	SHA256                   string
	SizeBytes, UnpackedBytes int64
	// DependencyDigest names the dependency layer; empty when there is none.
	DependencyDigest string
	// DependenciesCached says whether the layer was there before.
	DependenciesCached bool
	// Installer is what installed the dependencies, or compiled; empty when there are none.
	Installer string
}

// Build builds a package and writes its archive to w.
func (b *Builder) Build(ctx context.Context, p *Plan, w io.Writer, report Report) (built Built, err error) {
	report("source", "collecting sources of "+p.Benchmark.Name)
	files, done, err := b.sources(ctx, p)
	if err != nil {
		return Built{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	gather := b.assemble
	if compiled(p.Choice.Language) {
		gather = b.compile
	}
	entries, closeEntries, err := gather(ctx, p, files, &built, report)
	if err != nil {
		return Built{}, err
	}
	defer func() { err = errors.Join(err, closeEntries()) }()
	if err := p.checkSize(entries); err != nil {
		return Built{}, err
	}
	report("package", "writing the archive")
	sum := sha256.New()
	counter := &countingWriter{w: io.MultiWriter(w, sum)}
	if err := archive.Write(ctx, counter, slices.Collect(maps.Values(entries))); err != nil {
		return Built{}, fmt.Errorf("write package: %w", err)
	}
	for _, file := range entries {
		built.UnpackedBytes += file.Size
	}
	built.SHA256, built.SizeBytes = hex.EncodeToString(sum.Sum(nil)), counter.n
	return built, nil
}

// assemble puts sources, runtime and installed dependencies together. The entries can be read until done is called.
func (b *Builder) assemble(ctx context.Context, p *Plan, files map[string]archive.File, built *Built, report Report) (entries map[string]archive.File, done func() error, err error) {
	manifests, err := texts(files, isManifest)
	if err != nil {
		return nil, nil, err
	}
	deps, err := p.dependencies(manifests)
	if err != nil {
		return nil, nil, fmt.Errorf("read dependencies of %s: %w", p.Benchmark.Name, err)
	}
	layer, err := b.layer(ctx, p, deps, report)
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return nil }
	if layer != nil {
		done = layer.close
	}
	if entries, err = b.compose(p, files, deps); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	if layer != nil {
		built.DependencyDigest, built.DependenciesCached, built.Installer = layer.digest, layer.cached, layer.installer
		for _, file := range layer.files {
			entries[file.Path] = file
		}
	}
	return entries, done, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// compose places the files of the build directory and of the runtime in the package.
func (b *Builder) compose(p *Plan, files map[string]archive.File, deps dependencies) (map[string]archive.File, error) {
	entries := map[string]archive.File{}
	for name, file := range files {
		// Lock files are for the installer; the package keeps what was installed.
		if name == "package-lock.json" {
			continue
		}
		target := path.Join(p.Layout.SourceDir, name)
		if slices.Contains(p.Layout.RootFiles, name) {
			target = name
		}
		entries[target] = file.At(target)
	}
	entries[p.Layout.DependencyFile] = archive.Bytes(p.Layout.DependencyFile, deps.Manifest)
	for _, file := range p.Layout.Files {
		if _, exists := entries[file.Path]; exists && file.KeepExisting {
			continue
		}
		content, err := b.layouts.Read(file)
		if err != nil {
			return nil, err
		}
		entries[file.Path] = archive.Bytes(file.Path, content)
	}
	return entries, nil
}

// sources returns the files of the build directory after init.sh has run. They can be read until done is called.
func (b *Builder) sources(ctx context.Context, p *Plan) (files map[string]archive.File, done func() error, err error) {
	if len(p.scripts) == 0 {
		return p.sources, func() error { return nil }, nil
	}
	dir, remove, err := b.confiner.WorkDir("package")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove())
		}
	}()
	folder, build := filepath.Join(dir, "benchmark"), filepath.Join(dir, "build")
	if err := errors.Join(os.Mkdir(folder, 0o755), os.Mkdir(build, 0o755)); err != nil {
		return nil, nil, fmt.Errorf("make build directory: %w", err)
	}
	if err := archive.Extract(ctx, folder, p.folder); err != nil {
		return nil, nil, fmt.Errorf("fill build directory: %w", err)
	}
	if err := archive.Extract(ctx, build, slices.Collect(maps.Values(p.sources))); err != nil {
		return nil, nil, fmt.Errorf("fill build directory: %w", err)
	}
	// Opened before user code runs, which could put a link in the directory's place.
	root, err := os.OpenRoot(build)
	if err != nil {
		return nil, nil, fmt.Errorf("fill build directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	if err := b.runInitScripts(ctx, p, dir, folder, build); err != nil {
		return nil, nil, err
	}
	listed, err := archive.BuildTree(root, Limits, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("collect build directory: %w", err)
	}
	files = make(map[string]archive.File, len(listed))
	for _, file := range listed {
		files[file.Path] = file
	}
	return files, func() error { return errors.Join(root.Close(), remove()) }, nil
}

// runInitScripts runs init.sh of the root and of the language with the arguments that SeBS gives: the build directory,
// whether to be verbose, the architecture. They start in the benchmark's root folder.
func (b *Builder) runInitScripts(ctx context.Context, p *Plan, dir, folder, build string) error {
	if err := errors.Join(b.confiner.GiveTree(folder), b.confiner.GiveTree(build)); err != nil {
		return fmt.Errorf("prepare %s: %w", initScript, err)
	}
	for _, script := range p.scripts {
		err := b.runScript(ctx, p, script, confine.Program{
			Args: []string{"/bin/bash", filepath.Join(folder, filepath.FromSlash(script)), build, "false", p.Choice.Architecture},
			Dir:  folder, Env: confine.Environment(dir), Timeout: b.timeout,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// runScript runs a script of a benchmark and explains its failure.
func (b *Builder) runScript(ctx context.Context, p *Plan, name string, program confine.Program) error {
	log, err := b.confiner.Run(ctx, program)
	var failure *confine.FailureError
	if !errors.As(err, &failure) {
		return err
	}
	tail := pytools.LogTail(log)
	if failure.TimedOut {
		return errs.DeadlineExceeded(ReasonFailed, "%s of %s did not end within %s; make it faster or raise script_timeout in the builder's configuration", name, p.Benchmark.Name, failure.Timeout).
			With("benchmark", p.Benchmark.Name).With("log", tail)
	}
	message := fmt.Sprintf("%s of %s failed with exit code %d; correct the script", name, p.Benchmark.Name, failure.ExitCode)
	return errs.InvalidArgument(ReasonFailed, "%s", strings.TrimSpace(message+"\n"+tail)).With("benchmark", p.Benchmark.Name).With("log", tail)
}
