package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebscache"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// bucketRoles are the roles of buckets in SeBS files.
var bucketRoles = map[string]typev1.BucketRole{
	"deployment": typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT, "benchmarks": typev1.BucketRole_BUCKET_ROLE_BENCHMARKS,
	"experiments": typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS,
}

// importCache takes over what a SeBS cache knows about the platform. The resource id found there is used unless the
// configuration names another.
func (a *app) importCache(ctx context.Context, s *session, show *display.Display, f *commonFlags, set *settings) error {
	if f.cache == "" {
		return nil
	}
	if _, err := os.Stat(f.cache); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			// SeBS makes its cache on the first run; a path that does not exist yet is no mistake.
			show.Note("sebs: --cache %s does not exist; nothing to take over", f.cache)
			return nil
		}
		return exitcode.With(exitcode.Usage, fmt.Errorf("--cache: %w", err))
	}
	found, err := sebscache.Read(os.DirFS(f.cache), set.platform)
	if err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("--cache %s: %w", f.cache, err))
	}
	if found.ResourcesID == "" {
		return nil
	}
	request := &deployerv1.ImportCacheRequest{Parent: "platforms/" + set.platform, ResourcesId: found.ResourcesID, Region: found.Region}
	for role, bucket := range found.Buckets {
		request.Buckets = append(request.Buckets, &typev1.BucketBinding{Role: bucketRoles[role], Bucket: bucket})
	}
	for _, b := range found.Benchmarks {
		for _, function := range b.Functions {
			request.Functions = append(request.Functions, cachedFunction(function))
		}
	}
	imported, err := deployerv1.NewDeployerServiceClient(s.conn).ImportCache(ctx, request)
	if err != nil {
		if errs.Is(err, codes.Unimplemented) {
			return nil
		}
		return err
	}
	if len(imported.GetImported()) > 0 {
		show.Note("sebs: took over %d function(s) of deployment %s from %s", len(imported.GetImported()), found.ResourcesID, f.cache)
	}
	if set.target.GetResourcesId() == "" {
		set.target.ResourcesId = found.ResourcesID
	}
	return nil
}

func cachedFunction(f sebscache.Function) *deployerv1.CachedFunction {
	language, _ := sebsformat.ParseLanguage(f.Language)
	architecture, _ := sebsformat.ParseArchitecture(f.Architecture)
	cached := &deployerv1.CachedFunction{
		FunctionId: f.Name, Benchmark: f.Benchmark, CodeHash: f.Hash, PlatformAttributes: f.Attributes,
		Config: &typev1.FunctionConfig{
			TimeoutSeconds: int32(f.TimeoutSeconds), MemoryMb: int32(f.MemoryMB), Architecture: architecture,
			Runtime: &typev1.Runtime{Language: language, Version: f.Version, Variant: f.Variant},
		},
	}
	for _, t := range f.Triggers {
		cached.Triggers = append(cached.Triggers, &typev1.Trigger{Type: triggerNames[strings.ToLower(t.Type)], Url: t.URL})
	}
	return cached
}
