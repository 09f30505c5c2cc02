package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/runtimes"
)

// Paths inside an image, those of AWS Lambda, without the leading slash.
const (
	taskRoot    = "var/task"
	runtimeRoot = "var/runtime"
)

// searchPath is what the Docker Engine takes for an image that says nothing.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Format is part of what an image's inputs are digested from. It changes when the same inputs would give another image.
const Format = "sebs-image-1"

// Architectures are the names of processor architectures in images by those in SeBS files.
var Architectures = map[string]string{"x64": "amd64", "arm64": "arm64"}

// Content is what goes into an image on top of its base.
type Content struct {
	// Language is the function's language.
	Language string
	// Architecture is amd64 or arm64.
	Architecture string
	// Handler is the function's handler; empty for base images.
	Handler string
	// Files are the code package, DependencyDir the directory in it that makes a layer of its own; it may be empty.
	Files         []archive.File
	DependencyDir string
	// Labels are written into the image's configuration.
	Labels map[string]string
}

// Bootstraps give the Runtime API clients of languages.
type Bootstraps interface {
	Bootstrap(language string) (runtimes.Bootstrap, error)
	Read(file runtimes.File) ([]byte, error)
}

// Assembled is an image that was put together. Close removes the layers' files; the image cannot be used after that.
type Assembled struct {
	Image v1.Image
	files []string
}

// Close removes the layers' files.
func (a *Assembled) Close() error {
	var problems []error
	for _, name := range a.files {
		problems = append(problems, os.Remove(name))
	}
	a.files = nil
	return errors.Join(problems...)
}

// hasRuntime tells whether an image brings a Lambda runtime, as AWS's base images do.
func hasRuntime(config v1.Config) bool {
	return slices.ContainsFunc(config.Entrypoint, func(word string) bool { return path.Base(word) == "lambda-entrypoint.sh" }) ||
		config.Labels[labelRuntime] != ""
}

// labelRuntime tells that an image has the suite's runtime for a language.
const labelRuntime = "sebs.runtime"

// Assemble puts layers on a base image. Their files lie in dir until the result is closed.
func Assemble(ctx context.Context, base v1.Image, bootstraps Bootstraps, content Content, dir string) (_ *Assembled, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory for layers: %w", err)
	}
	out := &Assembled{Image: base}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	file, err := base.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read base image: %w", err)
	}
	config := *file.Config.DeepCopy()
	if err := out.addRuntime(ctx, bootstraps, content, &config, dir); err != nil {
		return nil, err
	}
	if err := out.addPackage(ctx, content, dir); err != nil {
		return nil, err
	}
	if content.Handler != "" {
		config.WorkingDir, config.Cmd = "/"+taskRoot, []string{content.Handler}
	}
	config.Env = setEnv(config.Env, "LAMBDA_TASK_ROOT=/"+taskRoot)
	if !slices.ContainsFunc(config.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		config.Env = setEnv(config.Env, searchPath)
	}
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	for name, value := range content.Labels {
		config.Labels[name] = value
	}
	// Appending layers has changed the configuration file: it has their history and digests now.
	if file, err = out.Image.ConfigFile(); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture = config, "linux", content.Architecture
	file.Created, file.Author, file.Container, file.DockerVersion = v1.Time{Time: epoch}, "", "", "" //nolint:staticcheck // what a base image says of the machine that built it
	if out.Image, err = mutate.ConfigFile(out.Image, file); err != nil {
		return nil, fmt.Errorf("write configuration of image: %w", err)
	}
	return out, nil
}

// addRuntime adds the suite's runtime where the base image has none, and has it started. Programs that are compiled
// bring their own in the package.
func (a *Assembled) addRuntime(ctx context.Context, bootstraps Bootstraps, content Content, config *v1.Config, dir string) error {
	if content.Language == "cpp" {
		if content.Handler != "" {
			config.Entrypoint = nativeEntry(content.Files)
			config.Env = setEnv(config.Env, "_HANDLER="+content.Handler)
		}
		return nil
	}
	own := config.Labels[labelRuntime] != ""
	if own && content.Handler != "" {
		config.Env = setEnv(config.Env, "_HANDLER="+content.Handler)
	}
	if hasRuntime(*config) {
		return nil
	}
	files, entry, err := runtimeFiles(ctx, bootstraps, content.Language, dir)
	if err != nil {
		return err
	}
	if err := a.add(ctx, "runtime of "+content.Language, runtimeRoot, files, dir); err != nil {
		return err
	}
	config.Entrypoint = entry
	config.Cmd = nil
	if content.Handler != "" {
		config.Env = setEnv(config.Env, "_HANDLER="+content.Handler)
	}
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[labelRuntime] = content.Language
	return nil
}

// addPackage adds the code package, its dependencies in a layer of their own, which images with equal ones share.
func (a *Assembled) addPackage(ctx context.Context, content Content, dir string) error {
	var dependencies, sources []archive.File
	for _, file := range content.Files {
		if content.DependencyDir != "" && strings.HasPrefix(file.Path, content.DependencyDir+"/") {
			dependencies = append(dependencies, file)
		} else {
			sources = append(sources, file)
		}
	}
	if err := a.add(ctx, "dependencies", taskRoot, dependencies, dir); err != nil {
		return err
	}
	return a.add(ctx, "sources", taskRoot, sources, dir)
}

// add appends a layer, unless it would be empty.
func (a *Assembled) add(ctx context.Context, what, root string, files []archive.File, dir string) error {
	if len(files) == 0 {
		return nil
	}
	name, err := layerFile(ctx, dir, root, files)
	if err != nil {
		return err
	}
	a.files = append(a.files, name)
	kind, err := layerType(a.Image)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromFile(name, tarball.WithMediaType(kind))
	if err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	a.Image, err = mutate.Append(a.Image, mutate.Addendum{
		Layer: layer, MediaType: kind, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "sebs", Comment: what},
	})
	if err != nil {
		return fmt.Errorf("append layer: %w", err)
	}
	return nil
}

// layerType is the type of layers that goes with the image's manifest.
func layerType(img v1.Image) (types.MediaType, error) {
	kind, err := img.MediaType()
	if err != nil {
		return "", fmt.Errorf("read image: %w", err)
	}
	if kind == types.OCIManifestSchema1 {
		return types.OCILayer, nil
	}
	return types.DockerLayer, nil
}

// setEnv sets a variable of the form name=value.
func setEnv(env []string, variable string) []string {
	name, _, _ := strings.Cut(variable, "=")
	kept := slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
	return append(kept, variable)
}

// Index joins images of several architectures.
func Index(images []v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	for _, img := range images {
		file, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read image: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: file.OS, Architecture: file.Architecture}},
		})
	}
	return index, nil
}
