package packaging

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
)

// layer is a built dependency layer.
type layer struct {
	digest    string
	installer string
	cached    bool
	files     []archive.File
	close     func() error
}

// layerInputs are what a layer depends on; their digest is its name.
type layerInputs struct {
	dependencies  dependencies
	packageScript []byte
	installer     string
}

// layerDigest covers the requirements, the runtime, the script that runs over the layer and the installer.
func (p *Plan) layerDigest(in layerInputs) (string, error) {
	parts := []any{
		format, p.Choice.Language, p.Choice.Version, p.Choice.Variant, p.Choice.Architecture, p.Layout.DependencyDir,
		in.dependencies, in.packageScript, in.installer, p.scriptSettings(in),
	}
	if p.oldLibc() {
		parts = append(parts, "old libc")
	}
	return digestOf(parts...)
}

// scriptSettings are what package.sh sees of the build; they matter only where there is one.
func (p *Plan) scriptSettings(in layerInputs) []string {
	if in.packageScript == nil {
		return nil
	}
	return []string{
		"PLATFORM=" + strings.ToUpper(p.Choice.Platform), "APP=" + p.Benchmark.Name,
		"TARGET_ARCHITECTURE=" + p.Choice.Architecture, "PYTHON_VERSION=" + p.Choice.Version,
	}
}

// layer finds or builds the dependency layer; nil when the package needs none.
func (b *Builder) layer(ctx context.Context, p *Plan, deps dependencies, report Report) (*layer, error) {
	in := layerInputs{dependencies: deps}
	if script, ok := p.file(path.Join(p.Choice.Language, packageScript)); ok && p.Choice.Language == benchmark.Python {
		content, err := script.Read(maxTextBytes)
		if err != nil {
			return nil, err
		}
		in.packageScript = content
	}
	if !deps.Any && in.packageScript == nil {
		return nil, nil
	}
	if deps.Any {
		report("dependencies", "looking for an installer")
		name, err := b.installerName(ctx, p.Choice.Language)
		if err != nil {
			return nil, err
		}
		in.installer = name
	}
	digest, err := p.layerDigest(in)
	if err != nil {
		return nil, err
	}
	unlock, err := b.locks.Lock(ctx, "layers/"+digest)
	if err != nil {
		return nil, fmt.Errorf("wait for another build of the same dependencies: %w", err)
	}
	defer unlock()
	file, cached, err := b.keptLayer(ctx, digest)
	if err == nil && file == nil {
		report("dependencies", "installing dependencies with "+in.installer)
		file, err = b.buildLayer(ctx, p, in, digest)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	files, err := archive.Open(file, info.Size(), Limits)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read dependency layer: %w", err), file.Close())
	}
	return &layer{digest: digest, installer: in.installer, cached: cached, files: files, close: file.Close}, nil
}

func (b *Builder) installerName(ctx context.Context, language string) (string, error) {
	if language == benchmark.NodeJS {
		return b.node.Version(ctx)
	}
	installer, err := b.python.Find(ctx)
	return installer.String(), err
}

// keptLayer opens the layer from this process's directory, or from the store that all builders share. Without one it
// returns nil.
func (b *Builder) keptLayer(ctx context.Context, digest string) (file *os.File, cached bool, err error) {
	local := b.layerFile(digest)
	if file, err := os.Open(local); err == nil {
		// The time tells which layers were not used for long.
		now := time.Now()
		if err := os.Chtimes(local, now, now); err != nil {
			return nil, false, errors.Join(fmt.Errorf("use dependency layer: %w", err), file.Close())
		}
		return file, true, nil
	}
	if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		return nil, false, fmt.Errorf("keep dependency layer: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(local), ".new-*")
	if err != nil {
		return nil, false, fmt.Errorf("keep dependency layer: %w", err)
	}
	found, err := b.store.Fetch(ctx, layerKey(digest), temporary)
	if err != nil || !found {
		return nil, false, errors.Join(err, temporary.Close(), os.Remove(temporary.Name()))
	}
	if err := os.Rename(temporary.Name(), local); err != nil {
		return nil, false, errors.Join(fmt.Errorf("keep dependency layer: %w", err), temporary.Close(), os.Remove(temporary.Name()))
	}
	return temporary, true, nil
}

func (b *Builder) layerFile(digest string) string {
	return filepath.Join(b.layersDir, digest+".zip")
}

func layerKey(digest string) string { return "layers/" + digest + ".zip" }

// buildLayer installs the dependencies, runs package.sh over them and keeps the result.
func (b *Builder) buildLayer(ctx context.Context, p *Plan, in layerInputs, digest string) (file *os.File, err error) {
	dir, remove, err := b.confiner.WorkDir("layer")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	root := filepath.Join(dir, "layer")
	if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(p.Layout.DependencyDir)), 0o755); err != nil {
		return nil, fmt.Errorf("make directory for dependencies: %w", err)
	}
	handle, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("make directory for dependencies: %w", err)
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	if in.dependencies.Any {
		if p.Choice.Language == benchmark.NodeJS {
			err = b.node.Install(ctx, dir, root, in.dependencies, p.Choice.Architecture)
		} else {
			err = b.installPython(ctx, dir, filepath.Join(root, filepath.FromSlash(p.Layout.DependencyDir)), in.dependencies, p)
		}
		if err != nil {
			return nil, fmt.Errorf("install dependencies of %s: %w", p.Benchmark.Name, err)
		}
	}
	if err := b.runPackageScript(ctx, p, in, dir, root); err != nil {
		return nil, err
	}
	files, err := archive.BuildTree(handle, Limits, func(name string, entry fs.DirEntry) bool {
		return !strings.HasPrefix(name+"/", p.Layout.DependencyDir+"/") && !strings.HasPrefix(p.Layout.DependencyDir, name+"/") || leftByInstaller(handle, name, entry)
	})
	if err != nil {
		return nil, fmt.Errorf("collect dependencies: %w", err)
	}
	if files, err = trueRecords(files); err != nil {
		return nil, fmt.Errorf("collect dependencies: %w", err)
	}
	return b.keepLayer(ctx, digest, files)
}

// maxRecordBytes bounds the list of a Python package's files; the largest packages have some 10,000 files.
const maxRecordBytes = 64 << 20

// trueRecords takes out of the lists that Python packages keep of their files what is not in the layer. Scripts begin
// with the path of the building machine's interpreter, so that their digests in these lists differ between machines.
func trueRecords(files []archive.File) ([]archive.File, error) {
	there := make(map[string]bool, len(files))
	for _, file := range files {
		there[file.Path] = true
	}
	for i, file := range files {
		folder, name := path.Split(file.Path)
		if name != "RECORD" || !strings.HasSuffix(folder, ".dist-info/") {
			continue
		}
		content, err := file.Read(maxRecordBytes)
		if err != nil {
			return nil, err
		}
		site := path.Dir(path.Clean(folder))
		var kept strings.Builder
		for line := range strings.Lines(string(content)) {
			fields, err := csv.NewReader(strings.NewReader(line)).Read()
			if err == nil && len(fields) > 0 && !there[path.Join(site, fields[0])] {
				continue
			}
			kept.WriteString(line)
		}
		files[i] = archive.Bytes(file.Path, []byte(kept.String()))
	}
	return files, nil
}

// leftByInstaller says whether a file is of use to the installer only, or names places of the building machine.
func leftByInstaller(root *os.Root, name string, entry fs.DirEntry) bool {
	base := path.Base(name)
	switch {
	case base == "__pycache__", base == ".bin" && entry.IsDir(), path.Ext(base) == ".pyc":
		return true
	case base == ".lock", base == ".package-lock.json", base == "uv_cache.json":
		return true
	}
	if entry.IsDir() || path.Base(path.Dir(name)) != "bin" || path.Base(path.Dir(path.Dir(name))) != "site-packages" {
		return false
	}
	file, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	start := make([]byte, 2)
	_, err = io.ReadFull(file, start)
	return err == nil && string(start) == "#!"
}

// keepLayer writes the layer to this process's directory and to the shared store.
func (b *Builder) keepLayer(ctx context.Context, digest string, files []archive.File) (*os.File, error) {
	local := b.layerFile(digest)
	temporary, err := os.CreateTemp(filepath.Dir(local), ".new-*")
	if err != nil {
		return nil, fmt.Errorf("keep dependency layer: %w", err)
	}
	sum := sha256.New()
	err = archive.Write(ctx, io.MultiWriter(temporary, sum), files)
	if err == nil {
		err = b.store.Put(ctx, layerKey(digest), temporary, hex.EncodeToString(sum.Sum(nil)))
	}
	if err == nil {
		err = os.Rename(temporary.Name(), local)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep dependency layer: %w", err), temporary.Close(), os.Remove(temporary.Name()))
	}
	return temporary, nil
}

// runPackageScript runs the benchmark's package.sh over the installed dependencies.
func (b *Builder) runPackageScript(ctx context.Context, p *Plan, in layerInputs, dir, root string) error {
	if in.packageScript == nil {
		return nil
	}
	script := filepath.Join(dir, packageScript)
	if err := os.WriteFile(script, in.packageScript, 0o755); err != nil {
		return fmt.Errorf("prepare %s: %w", packageScript, err)
	}
	if err := b.confiner.GiveTree(root); err != nil {
		return fmt.Errorf("prepare %s: %w", packageScript, err)
	}
	return b.runScript(ctx, p, packageScript, confine.Program{
		Args: []string{"/bin/bash", script, p.Layout.DependencyDir},
		Dir:  root, Env: confine.Environment(dir, p.scriptSettings(in)...), Timeout: b.timeout,
	})
}
