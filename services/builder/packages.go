package builder

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/packaging"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
)

// ReasonPackageNotFound stands in the error of a package that does not exist.
const ReasonPackageNotFound = "PACKAGE_NOT_FOUND"

func packageRecord(digest string) string { return "packages/" + digest }
func packageKey(digest string) string    { return "packages/" + digest + ".zip" }

// createPackage builds a package, unless an equal one exists.
func (s *Server) createPackage(ctx context.Context, request *builderv1.CreatePackageRequest, tell work) (_ *builderv1.Package, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Operation)
	defer cancel()
	choice, err := s.runtimes.Resolve(choiceOf(request.GetPlatform(), request.GetRuntime(), request.GetArchitecture(), request.GetSystemVariant()), s.host)
	if err != nil {
		return nil, err
	}
	tell.say("source", "finding "+request.GetSource().GetBenchmark())
	b, done, err := s.sources.find(ctx, request.GetSource())
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, done)
	if choice.SystemVariant == containerVariant {
		return s.createContainer(ctx, b, choice, request, tell)
	}
	plan, err := s.packages.Plan(ctx, b, choice)
	if err != nil {
		return nil, err
	}
	unlock, err := s.records.Lock(ctx, packageRecord(plan.Digest))
	if err != nil {
		return nil, fmt.Errorf("wait for another build of the same package: %w", err)
	}
	defer unlock()
	result, err := s.archive(ctx, plan, request.GetForce(), tell.say)
	if err != nil || result.GetCached() {
		return result, err
	}
	return result, s.recordPackage(ctx, result)
}

// archive returns the package of a plan with its archive in the store, built if there is none or force asks for it. It is
// not recorded. The caller holds the lock of the package.
func (s *Server) archive(ctx context.Context, plan *packaging.Plan, force bool, tell progress) (*builderv1.Package, error) {
	begun := time.Now()
	b, choice := plan.Benchmark, plan.Choice
	if day, over := s.runtimes.EndOfLife(choice.Language, choice.Version, begun); over {
		tell("source", fmt.Sprintf("%s %s is past its end of life (%s)", choice.Language, choice.Version, day))
		s.log.WarnContext(ctx, "the runtime is past its end of life", "language", choice.Language, "version", choice.Version, "end_of_life", day)
	}
	if !force {
		kept, err := s.keptPackage(ctx, plan.Digest)
		if err != nil {
			return nil, err
		}
		if kept != nil {
			// These are no part of the archive and may have changed since.
			kept.TimeoutSeconds, kept.MemoryMb = int32(b.Config.Timeout/time.Second), int32(b.Config.MemoryMB)
			return kept, nil
		}
	}
	built, bucket, err := s.build(ctx, plan, tell)
	if err != nil {
		return nil, err
	}
	return &builderv1.Package{
		Name: packageRecord(plan.Digest), Digest: plan.Digest, Benchmark: b.Name, Platform: choice.Platform, Runtime: runtimeOf(choice),
		Architecture: valueOf(architectureNames, choice.Architecture), SystemVariant: valueOf(systemVariantNames, choice.SystemVariant),
		Bucket: bucket, ObjectKey: packageKey(plan.Digest), SizeBytes: built.SizeBytes, UnpackedSizeBytes: built.UnpackedBytes,
		ArchiveSha256: built.SHA256, Handler: plan.Layout.Handler, TimeoutSeconds: int32(b.Config.Timeout / time.Second), MemoryMb: int32(b.Config.MemoryMB),
		Modules: b.Config.Modules, CreateTime: timestamppb.Now(), BuildMs: time.Since(begun).Milliseconds(),
		DependenciesCached: built.DependenciesCached, DependencyDigest: built.DependencyDigest, Installer: built.Installer,
	}, nil
}

// recordPackage makes a package known.
func (s *Server) recordPackage(ctx context.Context, result *builderv1.Package) error {
	if _, err := s.records.Put(ctx, result.GetName(), result); err != nil {
		return fmt.Errorf("record package: %w", err)
	}
	s.tellFact(ctx, "package_built", &eventv1.PackageBuilt{
		Package: result.GetName(), Benchmark: result.GetBenchmark(), SizeBytes: result.GetSizeBytes(), BuildMs: result.GetBuildMs(),
	}, "")
	return nil
}

// keptPackage returns the package of a digest if it was built before and its archive is still there; else nil.
func (s *Server) keptPackage(ctx context.Context, digest string) (*builderv1.Package, error) {
	kept := &builderv1.Package{}
	if _, err := s.records.Get(ctx, packageRecord(digest), kept); err != nil {
		if errs.Is(err, codes.NotFound) {
			return nil, nil
		}
		return nil, fmt.Errorf("read record of the package: %w", err)
	}
	there, err := s.store.Has(ctx, kept.GetObjectKey())
	if err != nil || !there {
		return nil, err
	}
	kept.Cached = true
	return kept, nil
}

// build builds the archive and stores it.
func (s *Server) build(ctx context.Context, plan *packaging.Plan, tell progress) (built packaging.Built, bucket string, err error) {
	bucket, err = s.store.Bucket(ctx)
	if err != nil {
		return built, "", err
	}
	file, err := newFile(filepath.Join(s.dir, "packages"))
	if err != nil {
		return built, "", err
	}
	defer func() { err = file.settle("", err) }()
	built, err = s.packages.Build(ctx, plan, file, packaging.Report(tell))
	if err != nil {
		return built, "", err
	}
	tell("upload", fmt.Sprintf("storing the package (%d bytes)", built.SizeBytes))
	// An archive without a record is what a builder left that died, or of an older record: it is replaced.
	return built, bucket, s.store.put(ctx, packageKey(plan.Digest), file.File, built.SHA256, true)
}

// GetPackage returns a package.
func (s *Server) GetPackage(ctx context.Context, r *builderv1.GetPackageRequest) (*builderv1.Package, error) {
	digest, err := digestOf("name", "packages", r.GetName())
	if err != nil {
		return nil, err
	}
	found := &builderv1.Package{}
	if _, err := s.records.Get(ctx, packageRecord(digest), found); err != nil {
		if errs.Is(err, codes.NotFound) {
			return nil, errs.NotFound(ReasonPackageNotFound, "package %s does not exist; build it with `sebs benchmark package`", digest).With("package", digest)
		}
		return nil, fmt.Errorf("read record of the package: %w", err)
	}
	return found, nil
}

// ListPackages lists packages by digest.
func (s *Server) ListPackages(ctx context.Context, r *builderv1.ListPackagesRequest) (*builderv1.ListPackagesResponse, error) {
	var (
		packages []*builderv1.Package
		names    []string
	)
	err := s.records.List(ctx, "packages/", func(_ string, _ int64, raw []byte) error {
		found := &builderv1.Package{}
		if err := cache.Unmarshal(raw, found); err != nil {
			return err
		}
		if r.GetBenchmark() == "" || r.GetBenchmark() == found.GetBenchmark() {
			packages, names = append(packages, found), append(names, found.GetDigest())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	from, to, next, err := page(names, r.GetPageSize(), r.GetPageToken(), 100, 1000)
	if err != nil {
		return nil, err
	}
	return &builderv1.ListPackagesResponse{Packages: packages[from:to], NextPageToken: next}, nil
}

// deletePackage deletes the record first: an archive without record is found again by the next build.
func (s *Server) deletePackage(ctx context.Context, digest string) error {
	unlock, err := s.records.Lock(ctx, packageRecord(digest))
	if err != nil {
		return fmt.Errorf("wait for a build of the package: %w", err)
	}
	defer unlock()
	if _, err := s.records.Get(ctx, packageRecord(digest), &builderv1.Package{}); errs.Is(err, codes.NotFound) {
		return errs.NotFound(ReasonPackageNotFound, "package %s does not exist", digest).With("package", digest)
	}
	if err := s.records.Delete(ctx, packageRecord(digest)); err != nil {
		return fmt.Errorf("delete record of the package: %w", err)
	}
	return s.store.Remove(ctx, packageKey(digest))
}
