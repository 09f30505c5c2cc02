package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Reasons of the errors of this package.
const (
	ReasonDenied      = "REGISTRY_DENIED"
	ReasonUnavailable = "REGISTRY_UNAVAILABLE"
	ReasonNotFound    = "IMAGE_NOT_FOUND"
	ReasonName        = "IMAGE_NAME_INVALID"
)

// Client speaks to registries. Make it with [New].
type Client struct {
	keychain  authn.Keychain
	transport *http.Transport
}

// New returns a client that logs in with a keychain. Close it.
func New(keychain authn.Keychain) *Client {
	return &Client{keychain: keychain, transport: http.DefaultTransport.(*http.Transport).Clone()}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// With returns a client that asks another keychain for log-ins before its own, and shares the connections.
func (c *Client) With(keychain authn.Keychain) *Client {
	return &Client{keychain: authn.NewMultiKeychain(keychain, c.keychain), transport: c.transport}
}

// Parse checks a reference such as `127.0.0.1:5000/repository:tag` or `repository@sha256:…`.
func Parse(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, errs.InvalidArgument(ReasonName, "%q is no name of an image: %v; use registry/repository:tag or registry/repository@sha256:digest", reference, err)
	}
	return ref, nil
}

func (c *Client) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(c.keychain), remote.WithTransport(loopbackPlain{c.transport}), remote.WithUserAgent("sebs"),
	}
}

// loopbackPlain speaks plain HTTP with this machine only: the library would also with private networks.
type loopbackPlain struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t loopbackPlain) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !IsLoopback(r.URL.Host) {
		return nil, errors.New("only registries on this machine are asked without TLS")
	}
	return t.next.RoundTrip(r)
}

// Find asks by the manifest whether a registry has an image, and returns the manifest's digest.
func (c *Client) Find(ctx context.Context, reference string) (digest string, found bool, err error) {
	ref, err := Parse(reference)
	if err != nil {
		return "", false, err
	}
	manifest, err := remote.Head(ref, c.options(ctx)...)
	if missing(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, explain(err, ref, "look for image %s", reference)
	}
	return manifest.Digest.String(), true, nil
}

// Image returns an image for an architecture (`amd64` or `arm64`) of linux. Its layers are read when they are used, as
// long as ctx lasts.
func (c *Client) Image(ctx context.Context, reference, architecture string) (v1.Image, error) {
	ref, err := Parse(reference)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(ref, append(c.options(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))...)
	if missing(err) {
		return nil, errs.NotFound(ReasonNotFound, "registry %s has no image %s", ref.Context().RegistryStr(), reference).With("image", reference)
	}
	if err != nil {
		return nil, explain(err, ref, "read image %s", reference)
	}
	return img, nil
}

// Size returns the bytes that a registry keeps of an image: configuration and layers as they are stored. For an index it
// is the sum over its images.
func (c *Client) Size(ctx context.Context, reference string) (int64, error) {
	ref, err := Parse(reference)
	if err != nil {
		return 0, err
	}
	got, err := remote.Get(ref, c.options(ctx)...)
	if missing(err) {
		return 0, errs.NotFound(ReasonNotFound, "registry %s has no image %s", ref.Context().RegistryStr(), reference).With("image", reference)
	}
	if err != nil {
		return 0, explain(err, ref, "read image %s", reference)
	}
	if !got.MediaType.IsIndex() {
		img, err := got.Image()
		if err != nil {
			return 0, explain(err, ref, "read image %s", reference)
		}
		return StoredSize(img)
	}
	index, err := got.ImageIndex()
	if err != nil {
		return 0, explain(err, ref, "read image %s", reference)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return 0, explain(err, ref, "read image %s", reference)
	}
	var total int64
	for _, part := range manifest.Manifests {
		img, err := index.Image(part.Digest)
		if err != nil {
			return 0, explain(err, ref, "read image %s", reference)
		}
		size, err := StoredSize(img)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}

// StoredSize is the bytes of an image's configuration and compressed layers.
func StoredSize(img v1.Image) (int64, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return 0, fmt.Errorf("read manifest: %w", err)
	}
	total := manifest.Config.Size
	for _, layer := range manifest.Layers {
		total += layer.Size
	}
	return total, nil
}

// Progress is told how many bytes of how many are with the registry.
type Progress func(complete, total int64)

// Push sends an image, without the layers that the registry has, and returns the digest of its manifest.
func (c *Client) Push(ctx context.Context, reference string, img v1.Image, progress Progress) (digest string, err error) {
	hash, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("compute digest of image %s: %w", reference, err)
	}
	return hash.String(), c.push(ctx, reference, progress, func(ref name.Reference, options []remote.Option) error {
		return remote.Write(ref, img, options...)
	})
}

// PushIndex sends an index of images with the images.
func (c *Client) PushIndex(ctx context.Context, reference string, index v1.ImageIndex, progress Progress) (digest string, err error) {
	hash, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("compute digest of image %s: %w", reference, err)
	}
	return hash.String(), c.push(ctx, reference, progress, func(ref name.Reference, options []remote.Option) error {
		return remote.WriteIndex(ref, index, options...)
	})
}

func (c *Client) push(ctx context.Context, reference string, progress Progress, write func(name.Reference, []remote.Option) error) error {
	ref, err := Parse(reference)
	if err != nil {
		return err
	}
	var (
		updates = make(chan v1.Update, 16)
		written = make(chan struct{})
		reader  sync.WaitGroup
	)
	reader.Go(func() {
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					return
				}
				if u.Error == nil && progress != nil {
					progress(u.Complete, u.Total)
				}
			case <-written:
				return
			}
		}
	})
	err = write(ref, append(c.options(ctx), remote.WithProgress(updates)))
	close(written)
	reader.Wait()
	if err != nil {
		return explain(err, ref, "push image %s", reference)
	}
	return nil
}

// missing tells whether a registry said that it does not have the image or the repository.
func missing(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// explain turns what went wrong between this machine and a registry into an error for people.
func explain(err error, ref name.Reference, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	host := ref.Context().RegistryStr()
	if errs.Reason(err) != "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, plain(err))
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return errs.Unavailable(ReasonUnavailable, "%s: registry %s cannot be reached or broke off: %v", what, host, plain(err)).With("registry", host)
	}
	said := answered(answer)
	switch {
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return errs.PermissionDenied(ReasonDenied,
			"%s: registry %s refuses (%s); set registry, username and password of the credential in credentials.registry of the service's configuration, and check that the account may do this", what, host, said).With("registry", host)
	case answer.StatusCode == http.StatusNotFound:
		return errs.NotFound(ReasonNotFound, "%s: registry %s does not have it (%s)", what, host, said).With("registry", host)
	case answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= http.StatusInternalServerError:
		return errs.Unavailable(ReasonUnavailable, "%s: registry %s is in trouble (%s); try again later", what, host, said).With("registry", host)
	}
	return errs.FailedPrecondition(ReasonUnavailable, "%s: registry %s refuses (%s)", what, host, said).With("registry", host)
}

// answered tells status, codes and messages of an answer. The library's own text holds addresses, which can be signed.
func answered(e *transport.Error) string {
	text := fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode))
	var said []string
	for _, d := range e.Errors {
		said = append(said, strings.TrimSpace(string(d.Code)+" "+d.Message))
	}
	if len(said) > 0 {
		text += ": " + strings.Join(said, ", ")
	}
	return text
}

// plain takes the query out of addresses in an error.
func plain(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	where := "its address"
	if parsed, parseErr := url.Parse(u.URL); parseErr == nil {
		where = parsed.Host
	}
	return fmt.Errorf("%s %s: %w", u.Op, where, u.Err)
}
