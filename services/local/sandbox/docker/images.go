package docker

import (
	"context"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Repositories of runtime images: the suite's own, and the one of SeBS with the versions that its tags carry.
const (
	ownPrefix  = "sebs/run.local."
	sebsPrefix = "spcleth/serverless-benchmarks:run.local."
)

var sebsSuffixes = []string{"-1.2.1", "-1.2.0", ""}

// reasonMissing stands in the errors of images that are not on this machine.
const reasonMissing = "IMAGE_MISSING"

// foundFor is how long it is believed that an image is there or not.
const foundFor = 5 * time.Second

// images knows which runtime images are on this machine.
type images struct {
	client     *client.Client
	configured map[string]string
	native     bool // the Engine runs packages that bring their own program

	mu    sync.Mutex
	known map[string]knowledge // by image name
}

type knowledge struct {
	present bool
	until   time.Time
}

func newImages(c *client.Client, configured map[string]string, native bool) *images {
	return &images{client: c, configured: configured, native: native, known: map[string]knowledge{}}
}

func key(r sandbox.Runtime) string { return r.Language + "." + r.Version }

// candidates lists the names that an image for the runtime may have, best first.
func (i *images) candidates(r sandbox.Runtime) []string {
	if name := i.configured[key(r)]; name != "" {
		return []string{name}
	}
	out := []string{ownPrefix + key(r)}
	for _, suffix := range sebsSuffixes {
		out = append(out, sebsPrefix+key(r)+suffix)
	}
	return out
}

// find returns the image for a runtime. Without a version it takes the newest that is there.
func (i *images) find(ctx context.Context, r sandbox.Runtime) (string, error) {
	if r.Version == "" {
		for _, o := range i.list(ctx) {
			if o.Language == r.Language {
				return o.Provider, nil
			}
		}
		return "", missing(r, ownPrefix+r.Language+".<version>")
	}
	names := i.candidates(r)
	for _, name := range names {
		present, err := i.present(ctx, name)
		if err != nil {
			return "", err
		}
		if present {
			return name, nil
		}
	}
	// A package that brings its program brings the C library as well: any image does.
	if r.Language == sandbox.Native.Language && i.native {
		if all := i.list(ctx); len(all) > 0 {
			return all[0].Provider, nil
		}
	}
	return "", missing(r, names[0])
}

// check tells whether an image is there.
func (i *images) check(ctx context.Context, name string) error {
	present, err := i.present(ctx, name)
	if err == nil && !present {
		err = absent(name, "images are not pulled unasked")
	}
	return err
}

// absent tells how a function's image comes here. An image that is named by its id alone was built here and is in no registry.
func absent(name, why string) error {
	if strings.HasPrefix(name, "sha256:") {
		return errs.FailedPrecondition(reasonMissing, "the image %s is not on this machine any more; build it again with --update-code", name).With("image", name)
	}
	return errs.FailedPrecondition(reasonMissing, "the image %s is not on this machine, and %s; run `docker pull %s`, or set local.pull_images to always", name, why, name).With("image", name)
}

// missing names the commands that bring the image.
func missing(r sandbox.Runtime, name string) error {
	base := map[string]string{"python": "python:" + r.Version + "-slim", "nodejs": "node:" + r.Version + "-slim", "java": "eclipse-temurin:" + r.Version + "-jre"}[r.Language]
	remedy := "build an image of that name that can run the package's bootstrap"
	if base != "" && r.Version != "" {
		remedy = fmt.Sprintf("make it with `docker pull %s && docker tag %s %s`", base, base, name)
	}
	return errs.FailedPrecondition(reasonMissing,
		"the image %s for %s is not on this machine, and images are never pulled unasked; %s, or use process sandboxes", name, r, remedy).
		With("image", name)
}

func (i *images) present(ctx context.Context, name string) (bool, error) {
	i.mu.Lock()
	k, ok := i.known[name]
	i.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		return k.present, nil
	}
	_, err := i.client.ImageInspect(ctx, name)
	if err != nil && !errdefs.IsNotFound(err) {
		return false, errs.Unavailable("DOCKER_UNAVAILABLE", "the Docker Engine cannot say whether image %s is there: %v", name, err)
	}
	i.mu.Lock()
	i.known[name] = knowledge{present: err == nil, until: time.Now().Add(foundFor)}
	i.mu.Unlock()
	return err == nil, nil
}

var runtimeTag = regexp.MustCompile(`^(?:sebs/|spcleth/serverless-benchmarks:)run\.local\.(python|nodejs|java)\.([0-9][0-9.]*?)(?:-[0-9.]+)?(?::latest)?$`)

// list finds all runtimes that images are there for.
func (i *images) list(ctx context.Context) []sandbox.Offer {
	found := map[sandbox.Runtime]string{}
	all, err := i.client.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil
	}
	for _, img := range all {
		for _, tag := range img.RepoTags {
			m := runtimeTag.FindStringSubmatch(tag)
			if m == nil {
				continue
			}
			r := sandbox.Runtime{Language: m[1], Version: m[2]}
			if _, ok := found[r]; !ok || strings.HasPrefix(tag, "sebs/") {
				found[r] = strings.TrimSuffix(tag, ":latest")
			}
		}
	}
	for k, name := range i.configured {
		language, version, _ := strings.Cut(k, ".")
		r := sandbox.Runtime{Language: language, Version: version}
		delete(found, r)
		if present, err := i.present(ctx, name); err == nil && present {
			found[r] = name
		}
	}
	out := make([]sandbox.Offer, 0, len(found))
	for r, name := range found {
		out = append(out, sandbox.Offer{Runtime: r, Provider: name})
	}
	sort.Slice(out, func(a, b int) bool {
		if out[a].Language != out[b].Language {
			return out[a].Language > out[b].Language // python before nodejs
		}
		return newer(out[a].Version, out[b].Version)
	})
	if _, own := found[sandbox.Native]; len(out) > 0 && i.native && !own {
		out = append(out, sandbox.Offer{Runtime: sandbox.Native, Provider: out[0].Provider})
	}
	return out
}

// newer compares versions such as 3.9 and 3.11.
func newer(a, b string) bool {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, errA := strconv.Atoi(x)
		n, errB := strconv.Atoi(y)
		if errA != nil || errB != nil {
			return x > y
		}
		if m != n {
			return m > n
		}
	}
	return len(a) > len(b)
}
