package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/images"
	"github.com/sebs-suite/sebs/services/builder/packaging"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// order is an image of a function for one architecture that is to be built.
type order struct {
	benchmark benchmark.Benchmark
	choice    runtimesdata.Choice
	at        place
	prefix    string
	// base is the image to build on; empty finds one.
	base  string
	force bool
}

// part is a package with the image below it.
type part struct {
	pkg  *builderv1.Package
	base images.Base
}

// createContainer builds a function's image and pushes it, unless the registry has an equal one.
func (s *Server) createContainer(ctx context.Context, b benchmark.Benchmark, choice runtimesdata.Choice, r *builderv1.CreatePackageRequest, tell work) (*builderv1.Package, error) {
	if s.images == nil {
		return nil, errs.Internal(errNoImages)
	}
	begun := time.Now()
	at, err := s.images.Registries.find(ctx, choice.Platform, r.GetDeployment(), false, true)
	if err != nil {
		return nil, err
	}
	name, err := named(at, images.FunctionTag(s.labelsOf(b.Name, choice, r.GetImageTagPrefix())))
	if err != nil {
		return nil, err
	}
	made, unlock, err := s.prepare(ctx, order{benchmark: b, choice: choice, at: at, prefix: r.GetImageTagPrefix(), force: r.GetForce()}, tell)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if made.pkg.GetCached() && made.pkg.GetImageUri() != "" {
		_, found, err := at.keeper.Find(ctx, made.pkg.GetImageUri())
		if err != nil {
			return nil, err
		}
		if found {
			return made.pkg, nil
		}
		tell.say("image", "the image is gone from "+describeRegistry(at)+", pushing it again")
	}
	image, err := s.publish(ctx, at, name, []part{made}, r.GetDeployment(), tell)
	if err != nil {
		return nil, err
	}
	made.pkg.ImageUri, made.pkg.SizeBytes = at.pinned(image.GetDigest()), image.GetSizeBytes()
	if !made.pkg.GetCached() {
		made.pkg.BuildMs = time.Since(begun).Milliseconds()
	}
	return made.pkg, s.recordPackage(ctx, made.pkg)
}

// prepare finds the base image and returns the package of an order with its archive in the store. The package's lock is
// held until unlock is called.
func (s *Server) prepare(ctx context.Context, o order, tell work) (_ part, unlock func(), err error) {
	plan, err := s.packages.Plan(ctx, o.benchmark, o.choice)
	if err != nil {
		return part{}, nil, err
	}
	tell.say("image", "finding the base image")
	base, err := s.base(ctx, o.choice, o.at, o.base)
	if err != nil {
		return part{}, nil, err
	}
	if plan.Digest, err = s.imageDigest(plan, base, o); err != nil {
		return part{}, nil, err
	}
	unlock, err = s.records.Lock(ctx, packageRecord(plan.Digest))
	if err != nil {
		return part{}, nil, fmt.Errorf("wait for another build of the same image: %w", err)
	}
	pkg, err := s.archive(ctx, plan, o.force, tell.say)
	if err != nil {
		unlock()
		return part{}, nil, err
	}
	return part{pkg: pkg, base: base}, unlock, nil
}

// imageDigest covers what the package covers, the image below, the runtime that may be added, and where the image goes:
// a package names one image.
func (s *Server) imageDigest(plan *packaging.Plan, base images.Base, o order) (string, error) {
	runtime := ""
	if bootstrap, err := s.images.Bootstraps.Bootstrap(o.choice.Language); err == nil {
		runtime = bootstrap.Digest
	}
	raw, err := json.Marshal([]string{images.Format, plan.Digest, base.Digest, runtime, o.at.name.Place(), o.prefix})
	if err != nil {
		return "", fmt.Errorf("compute digest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// bases are the base images as they are read with the log-in of a place, which may keep some of them.
func (s *Server) bases(at place) *images.Bases {
	if r, ok := at.keeper.(images.Registry); ok {
		return s.images.Bases.Through(r)
	}
	return s.images.Bases
}

// base finds the image to build on.
func (s *Server) base(ctx context.Context, choice runtimesdata.Choice, at place, given string) (images.Base, error) {
	runtime := images.Runtime{Platform: choice.Platform, Language: choice.Language, Version: choice.Version, Architecture: choice.Architecture}
	if given != "" {
		return s.bases(at).Find(ctx, runtime, []string{given})
	}
	own := s.images.Registries.bases(at, s.labelsOf("", choice, ""))
	return s.bases(at).Find(ctx, runtime, s.images.Bases.Candidates(runtime, own))
}

// publish assembles the image of the parts, of several an index, pushes it and records it.
func (s *Server) publish(ctx context.Context, at place, name images.Name, parts []part, deployment string, tell work) (_ *builderv1.Image, err error) {
	record := &builderv1.Image{Name: imageRecord(name.URI()), ImageUri: name.URI(), CreateTime: timestamppb.Now(), Deployment: deployment}
	var built []v1.Image
	for _, p := range parts {
		tell.say("image", "assembling "+name.URI())
		assembled, done, failed := s.assemble(ctx, p)
		if failed != nil {
			return nil, failed
		}
		defer closeInto(&err, done)
		size, err := registry.StoredSize(assembled)
		if err != nil {
			return nil, err
		}
		built = append(built, assembled)
		record.SizeBytes += size
		record.Platform = p.pkg.GetPlatform()
		record.Parts = append(record.Parts, &builderv1.ImagePart{
			Runtime: p.pkg.GetRuntime(), Architecture: p.pkg.GetArchitecture(), Package: p.pkg.GetName(), BaseImage: p.base.Reference,
		})
	}
	if record.Digest, err = push(ctx, at, name.URI(), built, tell); err != nil {
		return nil, err
	}
	if _, err := s.records.Put(ctx, record.GetName(), record); err != nil {
		return nil, fmt.Errorf("record image: %w", err)
	}
	return record, nil
}

// push sends one image, or an index of several.
func push(ctx context.Context, at place, uri string, built []v1.Image, tell work) (digest string, err error) {
	message := "pushing " + uri
	if at.engine {
		message = "loading " + uri + " into the Docker Engine"
	}
	tell.say("push", message)
	progress := func(complete, total int64) { tell("push", message, complete, total) }
	if len(built) == 1 {
		return at.keeper.Push(ctx, uri, built[0], progress)
	}
	index, err := images.Index(built)
	if err != nil {
		return "", err
	}
	return at.keeper.PushIndex(ctx, uri, index, progress)
}

// assemble makes the image of a part. It can be read until done is called.
func (s *Server) assemble(ctx context.Context, p part) (_ v1.Image, done func() error, err error) {
	var opened closers
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	language := languageNames[p.pkg.GetRuntime().GetLanguage()]
	content := images.Content{
		Language: language, Architecture: images.Architectures[architectureNames[p.pkg.GetArchitecture()]],
		Handler: p.pkg.GetHandler(), Labels: map[string]string{},
	}
	if p.pkg.GetObjectKey() != "" {
		layout, err := s.layouts.Layout(p.pkg.GetPlatform(), language)
		if err != nil {
			return nil, nil, err
		}
		content.DependencyDir, content.Labels["sebs.benchmark"] = layout.DependencyDir, p.pkg.GetBenchmark()
		if content.Files, err = s.fetchArchive(ctx, p.pkg, &opened); err != nil {
			return nil, nil, err
		}
	}
	assembled, err := images.Assemble(ctx, p.base.Image, s.images.Bootstraps, content, s.images.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("assemble image: %w", err)
	}
	opened = append(opened, assembled)
	return assembled.Image, opened.close, nil
}

// fetchArchive reads a package's archive from the store.
func (s *Server) fetchArchive(ctx context.Context, pkg *builderv1.Package, opened *closers) ([]archive.File, error) {
	file, err := newFile(filepath.Join(s.dir, "packages"))
	if err != nil {
		return nil, err
	}
	*opened = append(*opened, temporary{file})
	found, err := s.store.Fetch(ctx, pkg.GetObjectKey(), file)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errs.FailedPrecondition(ReasonPackageNotFound, "the archive of package %s is gone; build it again with --update-code", pkg.GetDigest()).With("package", pkg.GetDigest())
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read package: %w", err)
	}
	return archive.Open(file.File, info.Size(), packaging.Limits)
}

// temporary is a file that is removed when it is closed.
type temporary struct{ file *unsettled }

// Close removes the file.
func (t temporary) Close() error { return t.file.settle("", nil) }

// BuildImage starts the build of an image.
func (s *Server) BuildImage(ctx context.Context, r *builderv1.BuildImageRequest) (*longrunningpb.Operation, error) {
	choice, err := s.resolveSpec(r.GetSpec())
	if err != nil {
		return nil, err
	}
	if _, err := s.runtimes.Architectures(choice.Platform, choice.Language); err != nil {
		return nil, err
	}
	if r.GetSpec().GetBenchmark() != "" {
		if err := s.checkSource(ctx, sourceOf(r)); err != nil {
			return nil, err
		}
	}
	return s.start(ctx, kindImage, r.GetRequestId(), r, func(ctx context.Context, tell work) (proto.Message, error) {
		return s.buildImage(ctx, r, tell)
	})
}

func sourceOf(r *builderv1.BuildImageRequest) *builderv1.BenchmarkSource {
	if r.GetSource() != nil {
		return r.GetSource()
	}
	return &builderv1.BenchmarkSource{Benchmark: r.GetSpec().GetBenchmark()}
}

// buildImage is build_base_image of SeBS: an image that is not cached and whose tag the registry has is not built.
func (s *Server) buildImage(ctx context.Context, r *builderv1.BuildImageRequest, tell work) (_ *builderv1.BuildImageResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Operation)
	defer cancel()
	spec := r.GetSpec()
	choice, err := s.resolveSpec(spec)
	if err != nil {
		return nil, err
	}
	at, name, err := s.locate(ctx, spec, choice, true)
	if err != nil {
		return nil, err
	}
	if !r.GetIsCached() {
		digest, found, err := at.keeper.Find(ctx, name.URI())
		if err != nil {
			return nil, err
		}
		if found {
			size, err := at.keeper.Size(ctx, name.URI())
			return &builderv1.BuildImageResponse{ImageUri: name.URI(), Digest: digest, SizeMb: megabytes(size)}, err
		}
	}
	choices := []runtimesdata.Choice{choice}
	if spec.GetMultiPlatform() {
		if choices, err = s.allArchitectures(choice); err != nil {
			return nil, err
		}
	}
	var parts []part
	if spec.GetBenchmark() == "" {
		parts, err = s.baseParts(ctx, choices, r.GetBuilderImage(), tell)
	} else {
		b, done, findErr := s.sources.find(ctx, sourceOf(r))
		if findErr != nil {
			return nil, findErr
		}
		defer closeInto(&err, done)
		var unlock func()
		parts, unlock, err = s.functionParts(ctx, b, choices, order{at: at, prefix: spec.GetTagPrefix(), base: r.GetBuilderImage(), force: r.GetIsCached()}, tell)
		defer unlock()
	}
	if err != nil {
		return nil, err
	}
	image, err := s.publish(ctx, at, name, parts, spec.GetDeployment(), tell)
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 && parts[0].pkg.GetName() != "" {
		pkg := parts[0].pkg
		pkg.ImageUri, pkg.SizeBytes = at.pinned(image.GetDigest()), image.GetSizeBytes()
		if err := s.recordPackage(ctx, pkg); err != nil {
			return nil, err
		}
	}
	return &builderv1.BuildImageResponse{Rebuilt: true, ImageUri: name.URI(), Digest: image.GetDigest(), SizeMb: megabytes(image.GetSizeBytes())}, nil
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

// allArchitectures repeats a choice for every architecture that the platform runs the language on.
func (s *Server) allArchitectures(choice runtimesdata.Choice) ([]runtimesdata.Choice, error) {
	architectures, err := s.runtimes.Architectures(choice.Platform, choice.Language)
	if err != nil {
		return nil, err
	}
	var out []runtimesdata.Choice
	for _, architecture := range architectures {
		choice.Architecture = architecture
		out = append(out, choice)
	}
	return out, nil
}

// baseParts are the vendor's images that base images are made of.
func (s *Server) baseParts(ctx context.Context, choices []runtimesdata.Choice, given string, tell work) ([]part, error) {
	var parts []part
	for _, choice := range choices {
		tell.say("image", "finding the image of the runtime for "+choice.Architecture)
		runtime := images.Runtime{Platform: choice.Platform, Language: choice.Language, Version: choice.Version, Architecture: choice.Architecture}
		references := s.images.Bases.Candidates(runtime, nil)
		if given != "" {
			references = []string{given}
		}
		base, err := s.images.Bases.Find(ctx, runtime, references)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{base: base, pkg: &builderv1.Package{
			Platform: choice.Platform, Runtime: runtimeOf(choice), Architecture: valueOf(architectureNames, choice.Architecture),
		}})
	}
	return parts, nil
}

// functionParts builds the packages of a function for all choices. The packages are locked until unlock is called.
func (s *Server) functionParts(ctx context.Context, b benchmark.Benchmark, choices []runtimesdata.Choice, o order, tell work) (parts []part, unlock func(), err error) {
	var locks []func()
	unlock = func() {
		for _, release := range locks {
			release()
		}
	}
	o.benchmark = b
	for _, choice := range choices {
		o.choice = choice
		made, release, err := s.prepare(ctx, o, tell)
		if err != nil {
			return nil, unlock, err
		}
		locks, parts = append(locks, release), append(parts, made)
	}
	return parts, unlock, nil
}
