package packaging

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"
)

// ReasonFailed stands in the errors of builds that fail.
const ReasonFailed = "BUILD_FAILED"

// format is part of every digest. It changes when the same inputs would give another package.
const format = "sebs-package-2"

// Names of scripts in benchmark folders.
const (
	initScript    = "init.sh"
	packageScript = "package.sh"
	patchFile     = "patch.diff"
)

// maxTextBytes bounds the files that are read as a whole: requirements, scripts, patches, sources under a patch.
const maxTextBytes = 4 << 20

// Limits bound a package. The largest that a platform takes (an unpacked AWS Lambda image) has 10 GB.
var Limits = archive.Limits{Files: 500_000, Bytes: 10 << 30}

// Plan is a package that is to be built.
type Plan struct {
	// Digest is the SHA-256 over all inputs, in hexadecimal digits.
	Digest string
	// Benchmark is the benchmark and Choice the runtime, without empty fields.
	Benchmark benchmark.Benchmark
	Choice    runtimesdata.Choice
	// Layout is the runtime's part.
	Layout runtimes.Layout

	folder  []archive.File
	sources map[string]archive.File
	scripts []string
}

// Layouts tells how packages are laid out.
type Layouts interface {
	Layout(platform, language string) (runtimes.Layout, error)
	Read(file runtimes.File) ([]byte, error)
}

// NewPlan reads a benchmark's folder and computes the digest of the package. The choice must have no empty fields.
func NewPlan(ctx context.Context, layouts Layouts, b benchmark.Benchmark, choice runtimesdata.Choice) (*Plan, error) {
	if err := b.Config.CheckLanguage(b.Name, choice.Language, choice.Variant); err != nil {
		return nil, err
	}
	layout, err := layouts.Layout(choice.Platform, choice.Language)
	if err != nil {
		return nil, errs.Unimplemented(runtimesdata.ReasonNotSupported, "packages for %s on platform %s cannot be built: %v", choice.Language, choice.Platform, err).
			With("platform", choice.Platform).With("language", choice.Language)
	}
	files, err := benchsource.Files(b.Source)
	if err != nil {
		return nil, fmt.Errorf("read benchmark %s: %w", b.Name, err)
	}
	p := &Plan{Benchmark: b, Choice: choice, Layout: layout}
	p.choose(files)
	if p.sources, err = p.copySources(); err != nil {
		return nil, fmt.Errorf("copy sources of %s: %w", b.Name, err)
	}
	p.Digest, err = p.digest(ctx)
	return p, err
}

// choose keeps the files that can have an influence on the package. Scripts may read the whole folder, but what
// belongs to another language has no influence.
func (p *Plan) choose(files []archive.File) {
	own := p.Choice.Language
	for _, file := range files {
		if file.Path == initScript || file.Path == path.Join(own, initScript) {
			p.scripts = append(p.scripts, file.Path)
		}
	}
	// The root's script runs before the one of the language.
	slices.SortFunc(p.scripts, func(a, b string) int { return len(a) - len(b) })
	for _, file := range files {
		top, _, nested := strings.Cut(file.Path, "/")
		if nested && top != own && slices.Contains(benchmark.Languages(), top) {
			continue
		}
		if len(p.scripts) > 0 || nested && top == own {
			p.folder = append(p.folder, file)
		}
	}
}

// digest covers everything that can change the package.
func (p *Plan) digest(ctx context.Context) (string, error) {
	files, err := benchsource.Digest(ctx, p.folder)
	if err != nil {
		return "", err
	}
	modules := slices.Sorted(slices.Values(p.Benchmark.Config.Modules))
	inputs := []any{format, p.Choice, p.Layout.Digest, modules, files}
	if p.Choice.Language == benchmark.CPP {
		inputs = append(inputs, slices.Sorted(slices.Values(p.Benchmark.Config.CPPDependencies)))
	}
	return digestOf(inputs...)
}

// digestOf returns the SHA-256 of the JSON form of values.
func digestOf(values ...any) (string, error) {
	raw, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("compute digest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// globs are the files of a language's folder that are part of the package, without its sub-folders.
var globs = map[string][]string{
	benchmark.Python: {"*.py", "requirements.txt*"},
	benchmark.NodeJS: {"*.js", "package.json", "package-lock.json"},
	benchmark.CPP:    {"*.cpp", "*.hpp", "*.h"},
}

// entryFiles hold the function of a benchmark.
var entryFiles = map[string]string{benchmark.Python: "function.py", benchmark.NodeJS: "function.js", benchmark.CPP: cppEntry}

// entryForms are what the function in it looks like.
var entryForms = map[string]string{
	benchmark.Python: "handler(event)", benchmark.NodeJS: "handler(event)", benchmark.CPP: "rapidjson::Document function(const rapidjson::Value&)",
}

// copySources returns the files that go into the build directory, by their path in it.
func (p *Plan) copySources() (map[string]archive.File, error) {
	if p.Choice.Language == benchmark.Java {
		return p.javaSources()
	}
	language, ok := globs[p.Choice.Language]
	if !ok {
		return nil, errs.Unimplemented(runtimesdata.ReasonNotSupported, "packages for %s cannot be built on platform %s", p.Choice.Language, p.Choice.Platform).
			With("platform", p.Choice.Platform).With("language", p.Choice.Language)
	}
	sources := map[string]archive.File{}
	p.overlay(sources, p.Choice.Language, language)
	if len(sources) == 0 {
		return nil, errs.InvalidArgument(ReasonFailed, "folder %s/%s holds none of %s; config.json lists the language, so add its sources",
			p.Benchmark.Name, p.Choice.Language, strings.Join(language, ", ")).With("benchmark", p.Benchmark.Name)
	}
	// A script may still make it.
	if _, ok := sources[entryFiles[p.Choice.Language]]; !ok && len(p.scripts) == 0 && p.Choice.Variant == benchmark.DefaultVariant {
		return nil, errs.InvalidArgument(ReasonFailed, "folder %s/%s holds no %s; add it, with a function %s",
			p.Benchmark.Name, p.Choice.Language, entryFiles[p.Choice.Language], entryForms[p.Choice.Language]).With("benchmark", p.Benchmark.Name)
	}
	if p.Choice.Variant == benchmark.DefaultVariant {
		return sources, nil
	}
	variant := path.Join(p.Choice.Language, p.Choice.Variant)
	if patch, ok := p.file(path.Join(variant, patchFile)); ok {
		diff, err := patch.Read(maxTextBytes)
		if err != nil {
			return nil, err
		}
		return sources, applyPatch(sources, diff)
	}
	if !slices.ContainsFunc(p.folder, func(f archive.File) bool { return strings.HasPrefix(f.Path, variant+"/") }) {
		return nil, errs.InvalidArgument(ReasonFailed, "folder %s/%s does not exist; variant %s needs it", p.Benchmark.Name, variant, p.Choice.Variant).
			With("benchmark", p.Benchmark.Name)
	}
	p.overlay(sources, variant, language)
	return sources, nil
}

// overlay adds the files of a folder that match a pattern; package.json.<version> takes the place of package.json.
func (p *Plan) overlay(sources map[string]archive.File, dir string, patterns []string) {
	for _, file := range p.folder {
		if path.Dir(file.Path) != dir {
			continue
		}
		name := path.Base(file.Path)
		if slices.ContainsFunc(patterns, func(pattern string) bool {
			matched, err := path.Match(pattern, name)
			return err == nil && matched
		}) {
			sources[name] = file.At(name)
		}
	}
	if p.Choice.Language != benchmark.NodeJS {
		return
	}
	if versioned, ok := p.file(path.Join(dir, "package.json."+p.Choice.Version)); ok {
		sources["package.json"] = versioned.At("package.json")
		// A lock file belongs to the file that was replaced.
		delete(sources, "package-lock.json")
	}
}

// file returns a file of the benchmark's folder.
func (p *Plan) file(name string) (archive.File, bool) {
	i := slices.IndexFunc(p.folder, func(f archive.File) bool { return f.Path == name })
	if i < 0 {
		return archive.File{}, false
	}
	return p.folder[i], true
}

// platformPackages are what the runtime and the benchmark's modules add to the dependencies.
func (p *Plan) platformPackages() ([]runtimes.Package, error) {
	packages := slices.Clone(p.Layout.Packages)
	for _, module := range p.Benchmark.Config.Modules {
		more, err := p.Layout.ModulePackages(module)
		if err != nil {
			return nil, errs.Unimplemented(runtimesdata.ReasonNotSupported, "%v", err).With("module", module)
		}
		packages = append(packages, more...)
	}
	return packages, nil
}

// texts reads sources that the installers need.
func texts(files map[string]archive.File, keep func(name string) bool) (map[string][]byte, error) {
	read := map[string][]byte{}
	for name, file := range files {
		if !keep(name) {
			continue
		}
		content, err := file.Read(maxTextBytes)
		if err != nil {
			return nil, err
		}
		read[name] = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	}
	return read, nil
}
