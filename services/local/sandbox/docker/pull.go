package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	dockerregistry "github.com/docker/docker/api/types/registry"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/registry"
)

// Pull says from where images of functions are pulled that are not on this machine.
type Pull string

// The values of Pull.
const (
	// PullLoopback pulls from registries on this machine, where the suite's own builder pushes to.
	PullLoopback Pull = "loopback"
	PullAlways   Pull = "always"
	PullNever    Pull = "never"
)

// pullTimeout bounds one pull.
const pullTimeout = 15 * time.Minute

// FetchImage pulls an image that is not on this machine, if that is allowed.
func (k *Kind) FetchImage(ctx context.Context, name string) error {
	present, err := k.images.present(ctx, name)
	if err != nil || present {
		return err
	}
	if strings.HasPrefix(name, "sha256:") {
		return absent(name, "")
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return errs.Fields(errs.Field("image_uri", "%q is no name of an image: %v", name, err))
	}
	host := reference.Domain(ref)
	switch {
	case k.options.Pull == PullNever:
		return absent(name, "local.pull_images forbids to pull any")
	case k.options.Pull != PullAlways && !registry.IsLoopback(host):
		return absent(name, "only images of registries on this machine are pulled unasked")
	}
	if err := k.pull(ctx, name, host); err != nil {
		return err
	}
	k.images.forget(name)
	return k.images.check(ctx, name)
}

func (k *Kind) pull(ctx context.Context, name, host string) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	var options image.PullOptions
	if k.options.Login != nil {
		username, password, err := k.options.Login(ctx, host)
		if err != nil {
			return fmt.Errorf("pull image %s: %w", name, err)
		}
		if username != "" {
			if options.RegistryAuth, err = dockerregistry.EncodeAuthConfig(dockerregistry.AuthConfig{Username: username, Password: password, ServerAddress: host}); err != nil {
				return fmt.Errorf("pull image %s: %w", name, err)
			}
		}
	}
	began := time.Now()
	answer, err := k.client.ImagePull(ctx, name, options)
	if err != nil {
		return failedPull(name, host, err.Error())
	}
	defer func() { _ = answer.Close() }()
	// The Engine tells its progress in a row of JSON objects; a failure is one of them.
	for decoder := json.NewDecoder(answer); ; {
		var message struct {
			Error string `json:"error"`
		}
		err := decoder.Decode(&message)
		if errors.Is(err, io.EOF) {
			k.options.Log.InfoContext(ctx, "an image of a function was pulled", "image", name, "duration", time.Since(began))
			return nil
		}
		if err != nil {
			return failedPull(name, host, err.Error())
		}
		if message.Error != "" {
			return failedPull(name, host, message.Error)
		}
	}
}

func failedPull(name, host, why string) error {
	return errs.FailedPrecondition("IMAGE_PULL_FAILED",
		"the Docker Engine could not pull image %s: %s; check that registry %s runs, has the image, and takes the log-in in credentials.registry, or run `docker pull %s`", name, why, host, name).With("image", name)
}

// forget looks again for an image at the next question.
func (i *images) forget(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.known, name)
}
