package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sebs-suite/sebs/internal/errs"
)

// ReasonEngine stands in the errors of the Docker Engine.
const ReasonEngine = "DOCKER_UNAVAILABLE"

// Engine is the Docker Engine of this machine, as a place that keeps images. It is asked only when it is needed.
type Engine struct {
	dir    string
	client *client.Client
	mu     sync.Mutex // one export at a time: two of the same image would do the work twice
}

// OpenEngine returns the Engine that the environment names. What is exported of it is kept in dir. Close it.
func OpenEngine(dir string) (*Engine, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	return &Engine{dir: dir, client: c}, nil
}

// Close ends the connections.
func (e *Engine) Close() error { return e.client.Close() }

// Find returns the id of an image and its architecture (amd64, arm64).
func (e *Engine) Find(ctx context.Context, reference string) (id, architecture string, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := e.client.ImageInspect(ctx, reference)
	if errdefs.IsNotFound(err) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, engineError(err)
	}
	return answer.ID, answer.Architecture, true, nil
}

func engineError(err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("ask the Docker Engine: %w", err)
	}
	return errs.Unavailable(ReasonEngine, "the Docker Engine does not answer as it should: %v", err)
}

// Remove takes a name from an image, and the image away when it has no other. An image that is not there is no error.
func (e *Engine) Remove(ctx context.Context, reference string) error {
	_, err := e.client.ImageRemove(ctx, reference, image.RemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return engineError(err)
	}
	return nil
}

// Image exports the image of an id. The layers are compressed once and then kept, so that later builds need not do it.
func (e *Engine) Image(ctx context.Context, id string) (_ v1.Image, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	local := filepath.Join(e.dir, strings.TrimPrefix(id, "sha256:")+".tar")
	if _, err := os.Stat(local); err != nil {
		if err := e.export(ctx, id, local); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	if err := os.Chtimes(local, now, now); err != nil {
		return nil, fmt.Errorf("use exported image: %w", err)
	}
	img, err := tarball.ImageFromPath(local, nil)
	if err != nil {
		return nil, fmt.Errorf("read exported image: %w", err)
	}
	return img, nil
}

// export writes an image with compressed layers to a file.
func (e *Engine) export(ctx context.Context, id, local string) (err error) {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	saved, err := e.client.ImageSave(ctx, []string{id})
	if err != nil {
		return engineError(err)
	}
	defer func() { err = errors.Join(err, saved.Close()) }()
	raw, err := os.CreateTemp(e.dir, ".new-saved-*")
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(raw.Name())) }()
	_, err = io.Copy(raw, saved)
	if err = errors.Join(err, raw.Close()); err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	img, err := tarball.ImageFromPath(raw.Name(), nil)
	if err != nil {
		return fmt.Errorf("read exported image: %w", err)
	}
	packed, err := os.CreateTemp(e.dir, ".new-packed-*")
	if err != nil {
		return fmt.Errorf("export image: %w", err)
	}
	tag, err := name.NewTag("sebs/base:exported")
	if err == nil {
		err = tarball.Write(tag, img, packed)
	}
	err = errors.Join(err, packed.Close())
	if err == nil {
		err = os.Rename(packed.Name(), local)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("export image: %w", err), os.Remove(packed.Name()))
	}
	return nil
}

// Load gives an image to the Engine under a name and returns its id there.
func (e *Engine) Load(ctx context.Context, reference string, img v1.Image) (id string, err error) {
	tag, err := name.NewTag(reference)
	if err != nil {
		return "", errs.InvalidArgument(ReasonName, "%q is no name of an image: %v", reference, err)
	}
	hash, err := img.ConfigName()
	if err != nil {
		return "", fmt.Errorf("read image: %w", err)
	}
	reader, writer := io.Pipe()
	var sending sync.WaitGroup
	sending.Go(func() { writer.CloseWithError(tarball.Write(tag, img, writer)) })
	defer sending.Wait()
	defer func() { _ = reader.Close() }() // ends the writer when the Engine has stopped to read
	answer, err := e.client.ImageLoad(ctx, reader)
	if err != nil {
		return "", engineError(err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	for decoder := json.NewDecoder(answer.Body); ; {
		var message struct {
			Error string `json:"error"`
		}
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", engineError(err)
		}
		if message.Error != "" {
			return "", errs.FailedPrecondition(ReasonEngine, "the Docker Engine does not take image %s: %s", reference, message.Error)
		}
	}
	id, _, found, err := e.Find(ctx, reference)
	if err == nil && !found {
		err = errs.FailedPrecondition(ReasonEngine, "the Docker Engine took image %s (%s) and does not have it", reference, hash)
	}
	return id, err
}
