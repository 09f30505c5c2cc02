package images

import (
	"bytes"
	"context"
	_ "embed" // the data file
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/sebs-suite/sebs/internal/errs"
)

//go:embed base_images.json
var baseImages []byte

// Forms of references to base images beside those of registries.
const (
	// Scratch is the image without anything.
	Scratch = "scratch"
	// FromEngine stands before an image that only the Docker Engine of this machine is asked for.
	FromEngine = "docker-daemon:"
)

// ReasonBaseMissing stands in the errors of base images that cannot be had.
const ReasonBaseMissing = "BASE_IMAGE_MISSING"

// Registry is where base images are read from.
type Registry interface {
	Find(ctx context.Context, reference string) (digest string, found bool, err error)
	Image(ctx context.Context, reference, architecture string) (v1.Image, error)
}

// Runtime is what a base image is for.
type Runtime struct {
	Platform, Language, Version string
	// Architecture is x64 or arm64.
	Architecture string
}

// Bases finds base images.
type Bases struct {
	defaults   map[string]map[string][]string
	configured map[string]string
	registry   Registry
	engine     *Engine
}

// NewBases returns the base images that the configuration names by `platform.language`, optionally with `.version` and
// `.architecture` behind, and else those that the data file names.
func NewBases(configured map[string]string, registry Registry, engine *Engine) (*Bases, error) {
	b := &Bases{configured: configured, registry: registry, engine: engine}
	decoder := json.NewDecoder(bytes.NewReader(baseImages))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b.defaults); err != nil {
		return nil, fmt.Errorf("read base_images.json: %w", err)
	}
	return b, nil
}

// Through returns the same base images read by another client of registries, such as one with a log-in.
func (b *Bases) Through(r Registry) *Bases {
	through := *b
	through.registry = r
	return &through
}

// Candidates are the references of base images for a runtime, best first. The configured one stands alone; else own ones
// come before the platform's.
func (b *Bases) Candidates(r Runtime, own []string) []string {
	key := r.Platform + "." + r.Language
	for _, k := range []string{key + "." + r.Version + "." + r.Architecture, key + "." + r.Version, key} {
		if reference := b.configured[k]; reference != "" {
			return []string{fill(reference, r)}
		}
	}
	out := append([]string(nil), own...)
	for _, reference := range b.defaults[r.Platform][r.Language] {
		out = append(out, fill(reference, r))
	}
	return out
}

func fill(reference string, r Runtime) string {
	return strings.NewReplacer("{version}", r.Version, "{architecture}", Architectures[r.Architecture]).Replace(reference)
}

// Base is a base image that was found.
type Base struct {
	// Reference names the image by its digest, or its id in the Docker Engine, so that it is found again as it is.
	Reference string
	// Digest names the content for this architecture.
	Digest string
	Image  v1.Image
}

// Find returns the first of the references that can be had for an architecture.
func (b *Bases) Find(ctx context.Context, r Runtime, references []string) (Base, error) {
	if len(references) == 0 {
		return Base{}, errs.FailedPrecondition(ReasonBaseMissing, "no base image is known for %s %s on platform %s; name one in builder.base_images with the key %s.%s",
			r.Language, r.Version, r.Platform, r.Platform, r.Language)
	}
	var tried []string
	for _, reference := range references {
		base, err := b.Open(ctx, reference, r.Architecture)
		if err == nil {
			return base, nil
		}
		if ctx.Err() != nil {
			return Base{}, err
		}
		tried = append(tried, err.Error())
	}
	return Base{}, errs.FailedPrecondition(ReasonBaseMissing, "no base image for %s %s (%s) on platform %s can be had: %s; make one of them available, or name another in builder.base_images with the key %s.%s.%s",
		r.Language, r.Version, r.Architecture, r.Platform, strings.Join(tried, "; "), r.Platform, r.Language, r.Version)
}

// Open returns the image of one reference for an architecture: from its registry, or from the Docker Engine when the
// registry does not have it or is not reached.
func (b *Bases) Open(ctx context.Context, reference, architecture string) (Base, error) {
	if reference == Scratch {
		return Base{Reference: Scratch, Digest: Scratch, Image: empty.Image}, nil
	}
	if local, ok := strings.CutPrefix(reference, FromEngine); ok {
		return b.fromEngine(ctx, local, architecture)
	}
	base, err := b.fromRegistry(ctx, reference, architecture)
	if err == nil || ctx.Err() != nil || errs.Is(err, codes.InvalidArgument) {
		return base, err
	}
	local, localErr := b.fromEngine(ctx, reference, architecture)
	if localErr == nil {
		return local, nil
	}
	return Base{}, fmt.Errorf("%w; %w", err, localErr)
}

func (b *Bases) fromRegistry(ctx context.Context, reference, architecture string) (Base, error) {
	img, err := b.registry.Image(ctx, reference, Architectures[architecture])
	if err != nil {
		return Base{}, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Base{}, fmt.Errorf("read base image %s: %w", reference, err)
	}
	if file.Architecture != "" && file.Architecture != Architectures[architecture] {
		return Base{}, wrongArchitecture(reference, file.Architecture, architecture)
	}
	digest, err := img.Digest()
	if err != nil {
		return Base{}, fmt.Errorf("read base image %s: %w", reference, err)
	}
	return Base{Reference: repositoryOf(reference) + "@" + digest.String(), Digest: digest.String(), Image: img}, nil
}

// repositoryOf cuts tag and digest off a reference.
func repositoryOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		return reference[:i]
	}
	return reference
}

func wrongArchitecture(reference, has, want string) error {
	return errs.FailedPrecondition(ReasonBaseMissing, "image %s is for %s, not for %s", reference, has, Architectures[want])
}

func (b *Bases) fromEngine(ctx context.Context, reference, architecture string) (Base, error) {
	id, has, found, err := b.engine.Find(ctx, reference)
	if err != nil {
		return Base{}, err
	}
	if !found {
		return Base{}, errs.NotFound(ReasonBaseMissing, "the Docker Engine has no image %s", reference)
	}
	if has != Architectures[architecture] {
		return Base{}, wrongArchitecture(reference, has, architecture)
	}
	img, err := b.engine.Image(ctx, id)
	if err != nil {
		return Base{}, err
	}
	return Base{Reference: FromEngine + id, Digest: id, Image: img}, nil
}
