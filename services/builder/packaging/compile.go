package packaging

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"
)

// ReasonModuleMissing stands in the errors of benchmarks that need a library or a client module that there is none of.
const ReasonModuleMissing = "MODULE_NOT_AVAILABLE"

// compiled says whether packages of a language are made by a compiler, not by an installer.
func compiled(language string) bool { return language == benchmark.Java || language == benchmark.CPP }

// Plan is [NewPlan], and mixes the compiler into the digest where there is one: another compiler makes another package.
func (b *Builder) Plan(ctx context.Context, source benchmark.Benchmark, choice runtimesdata.Choice) (*Plan, error) {
	p, err := NewPlan(ctx, b.layouts, source, choice)
	if err != nil || !compiled(choice.Language) {
		return p, err
	}
	var toolchain string
	if choice.Language == benchmark.Java {
		tools, err := b.maven.tools(choice.Version)
		if err != nil {
			return nil, err
		}
		toolchain = tools.compiler()
	} else {
		tools, err := b.cmake.tools(ctx)
		if err != nil {
			return nil, err
		}
		toolchain = tools.digest
	}
	p.Digest, err = digestOf(p.Digest, toolchain)
	return p, err
}

// checkModules refuses client modules that the language has none of, by name.
func (p *Plan) checkModules() error {
	for _, module := range p.Benchmark.Config.Modules {
		if _, ok := p.Layout.Modules[module]; !ok {
			return errs.Unimplemented(ReasonModuleMissing, "benchmark %s asks for module %q in its config.json, and there is no client of it for functions in %s; choose another language",
				p.Benchmark.Name, module, p.Choice.Language).With("benchmark", p.Benchmark.Name).With("module", module)
		}
	}
	return nil
}

// project returns the files that a compiler works on: the sources of the benchmark and those of the runtime, which do not
// yield to each other.
func (b *Builder) project(p *Plan, files map[string]archive.File) (map[string]archive.File, error) {
	project := make(map[string]archive.File, len(files)+len(p.Layout.Files))
	for name, file := range files {
		target := path.Join(p.Layout.SourceDir, name)
		project[target] = file.At(target)
	}
	for _, file := range p.Layout.Files {
		content, err := b.layouts.Read(file)
		if err != nil {
			return nil, err
		}
		project[file.Path] = runtimeFile(file, content)
	}
	return project, nil
}

// launcher is the file that provided runtimes start.
const launcher = "bootstrap"

func runtimeFile(file runtimes.File, content []byte) archive.File {
	f := archive.Bytes(file.Path, content)
	f.Executable = file.Path == launcher
	return f
}

// Project returns everything that the compiler of a Java or C++ package is given, after init.sh has run: the sources, those
// of the runtime, and pom.xml or CMakeLists.txt. It is what a Dockerfile that compiles has to copy. The files can be read
// until done is called.
func (b *Builder) Project(ctx context.Context, p *Plan, report Report) (project map[string]archive.File, done func() error, err error) {
	report("source", "collecting sources of "+p.Benchmark.Name)
	files, done, err := b.sources(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if project, err = b.prepared(p, files); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return project, done, nil
}

func (b *Builder) prepared(p *Plan, files map[string]archive.File) (map[string]archive.File, error) {
	if err := p.checkModules(); err != nil {
		return nil, err
	}
	project, err := b.project(p, files)
	if err != nil {
		return nil, err
	}
	if p.Choice.Language == benchmark.Java {
		return project, p.addPOM(project)
	}
	return project, p.addCMakeLists(project)
}

// workshop is a directory in which a compiler works.
type workshop struct {
	// dir is the working directory of the confiner, project the one with the sources.
	dir, project string
	// root was opened before user code ran, which could put a link in the directory's place.
	root   *os.Root
	remove func() error
}

// openWorkshop puts the files of a project where a confined compiler can read and write.
func (b *Builder) openWorkshop(ctx context.Context, project map[string]archive.File) (w *workshop, err error) {
	dir, remove, err := b.confiner.WorkDir("compile")
	if err != nil {
		return nil, err
	}
	w = &workshop{dir: dir, project: filepath.Join(dir, "project"), remove: remove}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("fill build directory: %w", err), w.close())
		}
	}()
	if err := os.Mkdir(w.project, 0o755); err != nil {
		return nil, err
	}
	if err := archive.Extract(ctx, w.project, slices.Collect(maps.Values(project))); err != nil {
		return nil, err
	}
	if w.root, err = os.OpenRoot(w.project); err != nil {
		return nil, err
	}
	return w, b.confiner.GiveTree(w.project)
}

func (w *workshop) close() error {
	var err error
	if w.root != nil {
		err = w.root.Close()
	}
	return errors.Join(err, w.remove())
}

// regular refuses what is no file in a project: a pipe in its place, which a user's program can make, would be waited for
// without end.
func regular(w *workshop, name string) error {
	info, err := w.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return errs.InvalidArgument(ReasonFailed, "the build made %s something else than a file", name).With("file", name)
	}
	return nil
}

// compile compiles a Java or C++ package. Its entries can be read until done is called.
func (b *Builder) compile(ctx context.Context, p *Plan, files map[string]archive.File, built *Built, report Report) (entries map[string]archive.File, done func() error, err error) {
	project, err := b.prepared(p, files)
	if err != nil {
		return nil, nil, err
	}
	w, err := b.openWorkshop(ctx, project)
	if err != nil {
		return nil, nil, err
	}
	run := b.compileJava
	if p.Choice.Language == benchmark.CPP {
		run = b.compileCPP
	}
	entries, closeEntries, err := run(ctx, p, w, built, report)
	if err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	return entries, func() error { return errors.Join(closeEntries(), w.close()) }, nil
}

// compileLog is what of a compiler's log is shown: its end, without the names of directories that are gone.
func compileLog(log string, w *workshop) string {
	return pytools.LogTail(strings.NewReplacer(w.project+"/", "", w.dir+"/", "").Replace(log))
}

// explainCompiler explains the failure of a compiler to who wrote the sources.
func explainCompiler(err error, p *Plan, w *workshop, what, log string, limit time.Duration) error {
	var failure *confine.FailureError
	if err == nil || !errors.As(err, &failure) {
		return err
	}
	tail := compileLog(log, w)
	if failure.TimedOut {
		return errs.DeadlineExceeded(ReasonFailed, "%s did not end within %s for %s; raise install_timeout in the builder's configuration", what, limit, p.Benchmark.Name).
			With("benchmark", p.Benchmark.Name).With("log", tail)
	}
	return errs.InvalidArgument(ReasonFailed, "%s failed for %s; correct the sources or see the log\n%s", what, p.Benchmark.Name, tail).
		With("benchmark", p.Benchmark.Name).With("log", tail)
}
