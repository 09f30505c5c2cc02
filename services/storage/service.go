package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// knownPlatforms are those that the suite knows, whether or not this binary can serve them.
var knownPlatforms = []string{"aws", "azure", "gcp", "local", "openwhisk", "suite"}

// Service is the storage engine. It may be used by many goroutines at once.
type Service struct {
	platforms map[string]Platform
	records   records
	relays    *relays
	log       *slog.Logger
}

// New makes the service from its table of platforms. Close it when done.
func New(platforms map[string]Platform, r records, log *slog.Logger) *Service {
	return &Service{platforms: platforms, records: r, relays: newRelays(log), log: log}
}

// Close ends the relays. The stores belong to whoever made them.
func (s *Service) Close(context.Context) error { return s.relays.close() }

// platform finds a platform or refuses with the platform's name.
func (s *Service) platform(name string) (Platform, error) {
	if p, ok := s.platforms[name]; ok {
		return p, nil
	}
	if slices.Contains(knownPlatforms, name) {
		return Platform{}, errs.Unimplemented("PLATFORM_NOT_SUPPORTED", "platform %q: this service has no storage driver for it", name).With("platform", name)
	}
	served := slices.Sorted(maps.Keys(s.platforms))
	return Platform{}, errs.InvalidArgument("UNKNOWN_PLATFORM", "platform %q is unknown; this service knows %s", name, strings.Join(served, ", ")).With("platform", name)
}

// scope tells where a deployment's stores are.
func (s *Service) scope(ctx context.Context, p Platform, d deployment) (Scope, error) {
	if !p.Scoped || d.id == anyDeployment {
		return Scope{}, nil
	}
	var rec typev1.Deployment
	if _, err := s.records.Get(ctx, d.record(), &rec); err != nil {
		if errs.Is(err, codes.NotFound) {
			return Scope{}, nil
		}
		return Scope{}, fmt.Errorf("read deployment %s: %w", d.id, err)
	}
	return Scope{Credential: rec.GetCredential(), Region: rec.GetRegion()}, nil
}

// objects opens the object store of a deployment.
func (s *Service) objects(ctx context.Context, d deployment) (Platform, *Objects, error) {
	p, err := s.platform(d.platform)
	if err != nil {
		return Platform{}, nil, err
	}
	scope, err := s.scope(ctx, p, d)
	if err != nil {
		return Platform{}, nil, err
	}
	o, err := openObjects(ctx, p, d.platform, scope)
	return p, o, err
}

func openObjects(ctx context.Context, p Platform, name string, scope Scope) (*Objects, error) {
	if !p.Scoped {
		scope = Scope{}
	}
	o, err := p.Objects(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("open the object store of platform %s: %w", name, err)
	}
	return o, nil
}

// Bucket is a bucket as the service describes it.
type Bucket struct {
	object.Bucket
	deployment deployment
	role       typev1.BucketRole
}

// ensureBucket returns the bucket of a role: the recorded one, else the one with the usual name, created when it does
// not exist.
func (s *Service) ensureBucket(ctx context.Context, d deployment, role typev1.BucketRole) (Bucket, error) {
	word, ok := roles[role]
	if !ok {
		return Bucket{}, errs.Fields(errs.Field("role", "must be deployment, benchmarks or experiments"))
	}
	p, o, err := s.objects(ctx, d)
	if err != nil {
		return Bucket{}, err
	}
	name, recorded, err := s.recordedBucket(ctx, p, d, role)
	if err != nil {
		return Bucket{}, err
	}
	if name == "" {
		name = "sebs-" + word + "-" + d.id
		if p.BucketName != nil {
			name = p.BucketName(word, d.id)
		}
		name = o.Store.CorrectName(name)
	}
	// A recorded bucket may have been removed behind the suite's back; it is made again.
	created, err := o.Store.CreateBucket(ctx, name)
	if err != nil {
		return Bucket{}, err
	}
	if created {
		s.log.InfoContext(ctx, "bucket created", "platform", d.platform, "deployment", d.id, "bucket", name)
		// Functions that were deployed before the bucket was lost keep their access.
		if o.Embedded && p.Recorded && role == typev1.BucketRole_BUCKET_ROLE_BENCHMARKS {
			if _, err := o.Grant(ctx, d.id, name); err != nil {
				return Bucket{}, fmt.Errorf("give the functions of deployment %s access to bucket %s: %w", d.id, name, err)
			}
		}
	}
	if p.Recorded && !recorded {
		if err := s.recordBucket(ctx, d, role, name); err != nil {
			return Bucket{}, err
		}
	}
	return Bucket{Bucket: object.Bucket{Name: name}, deployment: d, role: role}, nil
}

// recordedBucket reads the bucket of a role from the deployment's record; "" when there is none.
func (s *Service) recordedBucket(ctx context.Context, p Platform, d deployment, role typev1.BucketRole) (name string, found bool, err error) {
	if !p.Recorded {
		return "", false, nil
	}
	var rec typev1.Deployment
	if _, err := s.records.Get(ctx, d.record(), &rec); err != nil {
		if errs.Is(err, codes.NotFound) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("read deployment %s: %w", d.id, err)
	}
	for _, b := range rec.GetBuckets() {
		if b.GetRole() == role && b.GetBucket() != "" {
			return b.GetBucket(), true, nil
		}
	}
	return "", false, nil
}

// recordBucket binds a bucket to a role in the deployment's record. A deployment without a record is left without:
// the deployer makes records.
func (s *Service) recordBucket(ctx context.Context, d deployment, role typev1.BucketRole, name string) error {
	return s.updateRecord(ctx, d, func(rec *typev1.Deployment) {
		for _, b := range rec.GetBuckets() {
			if b.GetRole() == role {
				b.Bucket = name
				return
			}
		}
		rec.Buckets = append(rec.Buckets, &typev1.BucketBinding{Role: role, Bucket: name})
	})
}

// dropBuckets removes buckets from the deployment's record.
func (s *Service) dropBuckets(ctx context.Context, d deployment, names ...string) error {
	return s.updateRecord(ctx, d, func(rec *typev1.Deployment) {
		rec.Buckets = slices.DeleteFunc(rec.GetBuckets(), func(b *typev1.BucketBinding) bool { return slices.Contains(names, b.GetBucket()) })
	})
}

func (s *Service) updateRecord(ctx context.Context, d deployment, change func(*typev1.Deployment)) error {
	if p, err := s.platform(d.platform); err != nil || !p.Recorded {
		return err
	}
	var rec typev1.Deployment
	_, err := s.records.Update(ctx, d.record(), &rec, false, func() error {
		change(&rec)
		return nil
	})
	if err != nil && !errs.Is(err, codes.NotFound) {
		return fmt.Errorf("update the record of deployment %s: %w", d.id, err)
	}
	return nil
}

// roleOf tells which role a bucket's name has by the naming rule, if it is one of this deployment.
func roleOf(d deployment, bucket string) typev1.BucketRole {
	for role, word := range roles {
		if bucket == "sebs-"+word+"-"+d.id {
			return role
		}
	}
	return typev1.BucketRole_BUCKET_ROLE_UNSPECIFIED
}

// createBucket makes a bucket by its real name; an existing one of the own account is no error.
func (s *Service) createBucket(ctx context.Context, d deployment, name string) (Bucket, error) {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return Bucket{}, err
	}
	if _, err := o.Store.CreateBucket(ctx, name); err != nil {
		return Bucket{}, err
	}
	return Bucket{Bucket: object.Bucket{Name: name}, deployment: d, role: roleOf(d, name)}, nil
}

// getBucket describes a bucket.
func (s *Service) getBucket(ctx context.Context, d deployment, name string) (Bucket, error) {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return Bucket{}, err
	}
	ok, err := o.Store.BucketExists(ctx, name)
	if err != nil {
		return Bucket{}, err
	}
	if !ok {
		return Bucket{}, errs.NotFound("BUCKET_NOT_FOUND", "there is no bucket %q on platform %s", name, d.platform).With("bucket", name)
	}
	return Bucket{Bucket: object.Bucket{Name: name}, deployment: d, role: roleOf(d, name)}, nil
}

// listBuckets returns a page of the store's buckets by name, and the name to continue after.
func (s *Service) listBuckets(ctx context.Context, d deployment, prefix, after string, limit int) ([]Bucket, string, error) {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return nil, "", err
	}
	all, err := o.Store.ListBuckets(ctx, prefix)
	if err != nil {
		return nil, "", err
	}
	var page []Bucket
	for _, b := range all {
		if b.Name <= after {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].Name, nil
		}
		owner := ownerOf(d, b.Name)
		page = append(page, Bucket{Bucket: b, deployment: owner, role: roleOf(owner, b.Name)})
	}
	return page, "", nil
}

// cleanBucket removes a bucket's objects and returns how many there were.
func (s *Service) cleanBucket(ctx context.Context, d deployment, name string) (int64, error) {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return 0, err
	}
	return o.Store.CleanBucket(ctx, name, "")
}

// deleteBucket removes a bucket and its place in the record.
func (s *Service) deleteBucket(ctx context.Context, d deployment, name string, force bool) error {
	_, o, err := s.objects(ctx, d)
	if err != nil {
		return err
	}
	if err := o.Store.RemoveBucket(ctx, name, force); err != nil {
		return err
	}
	owner := ownerOf(d, name)
	if owner.id == anyDeployment {
		return nil
	}
	return s.dropBuckets(ctx, owner, name)
}

// cleanupBuckets removes the deployment's buckets, recorded ones and those with the usual names, and returns their
// names. With dryRun nothing is removed.
func (s *Service) cleanupBuckets(ctx context.Context, d deployment, dryRun bool) ([]string, error) {
	p, o, err := s.objects(ctx, d)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for role, word := range roles {
		name := "sebs-" + word + "-" + d.id
		if p.BucketName != nil {
			name = p.BucketName(word, d.id)
		}
		wanted[o.Store.CorrectName(name)] = true
		recorded, ok, err := s.recordedBucket(ctx, p, d, role)
		if err != nil {
			return nil, err
		}
		// A bucket that somebody gave the deployment instead of its own stays theirs, even if the id is a part of its name.
		if ok && strings.HasPrefix(recorded, "sebs-") && strings.HasSuffix(recorded, "-"+d.id) {
			wanted[recorded] = true
		}
	}
	var removed []string
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		ok, err := o.Store.BucketExists(ctx, name)
		if err == nil && ok && !dryRun {
			err = o.Store.RemoveBucket(ctx, name, true)
		}
		switch {
		case err != nil && !errs.Is(err, codes.NotFound):
			problems = append(problems, err)
		case ok:
			removed = append(removed, name)
		}
	}
	if !dryRun {
		problems = append(problems, s.dropBuckets(ctx, d, slices.Collect(maps.Keys(wanted))...))
	}
	return removed, errors.Join(problems...)
}

// findDeployments lists the resource ids whose benchmarks bucket exists in a credential's account.
func (s *Service) findDeployments(ctx context.Context, platform, credential string) ([]string, error) {
	p, err := s.platform(platform)
	if err != nil {
		return nil, err
	}
	o, err := openObjects(ctx, p, platform, Scope{Credential: credential})
	if err != nil {
		return nil, err
	}
	found, err := o.Store.ListBuckets(ctx, benchmarksPrefix)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(found))
	for _, b := range found {
		if id := strings.TrimPrefix(b.Name, benchmarksPrefix); deploymentName.MatchString(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// benchmarkData names the prefixes of a benchmark in the deployment's benchmarks bucket. The names follow from the
// counts alone, so asking twice gives the same answer.
func (s *Service) benchmarkData(ctx context.Context, d deployment, benchmark string, inputs, outputs int) (Bucket, []string, []string, error) {
	b, err := s.ensureBucket(ctx, d, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	if err != nil {
		return Bucket{}, nil, nil, err
	}
	in, out := make([]string, inputs), make([]string, outputs)
	for i := range in {
		in[i] = fmt.Sprintf("%s-%d-input", benchmark, i)
	}
	for i := range out {
		out[i] = fmt.Sprintf("%s-%d-output", benchmark, i)
	}
	return b, in, out, nil
}
