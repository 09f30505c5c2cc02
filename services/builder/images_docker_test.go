package builder

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/registry/registrytest"
	"github.com/sebs-suite/sebs/services/builder/images"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/docker"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// pythonBase is the image of Debian with Python that the local platform's sandboxes have too.
const pythonBase = "sebs/run.local.python.3.11"

// needsBase skips a test on a machine whose Docker Engine does not have the base image.
func needsBase(t testing.TB) {
	t.Helper()
	engine, err := images.OpenEngine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, _, found, err := engine.Find(t.Context(), pythonBase); err != nil || !found {
		t.Skipf("needs a Docker Engine with the image %s: %v", pythonBase, err)
	}
}

// newDockerHost is a local platform with docker sandboxes.
func newDockerHost(t testing.TB, pull docker.Pull, login *registrytest.Registry) *host.Host {
	t.Helper()
	// Functions run as nobody, who must be able to enter.
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	options := docker.Options{Owner: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Pull: pull}
	if login != nil {
		options.Login = func(_ context.Context, registry string) (string, string, error) {
			if registry != login.Address {
				return "", "", nil
			}
			return login.Username, login.Password, nil
		}
	}
	kind, err := docker.Open(t.Context(), options)
	if err != nil {
		t.Skipf("needs docker: %v", err)
	}
	h, err := host.New(host.Options{StateDir: dir, RuntimeRoot: dir, Kinds: []host.Kind{kind}, Log: options.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := kind.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// removeImage removes what a test has given to the Docker Engine.
func removeImage(t testing.TB, reference string) {
	t.Helper()
	engine, err := images.OpenEngine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := engine.Remove(ctx, reference); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

func deployImage(t testing.TB, h *host.Host, p *builderv1.Package) error {
	t.Helper()
	_, err := h.Deploy(t.Context(), host.Spec{
		Name: "picture", CodeHash: p.GetDigest(), Replace: true,
		Config: host.Config{Runtime: sandbox.Runtime{Language: "python", Version: "3.11"}, MemoryMB: 256, Timeout: 20 * time.Second, Handler: p.GetHandler(), Image: p.GetImageUri()},
	}, strings.NewReader(""))
	return err
}

// asFunction says how the sandbox looks from inside.
const asFunction = `
import os
def handler(event):
    def writable(path):
        try:
            open(path, "w").close()
            return True
        except OSError:
            return False
    return {"result": {"event": event["n"], "uid": os.getuid(), "root": writable("/x"), "task": writable("/var/task/x"), "tmp": writable("/tmp/x"),
                       "cwd": os.getcwd(), "env": os.environ.get("LAMBDA_TASK_ROOT")}}
`

// invokeImage checks one call and tells whether it was cold.
func invokeImage(t testing.TB, h *host.Host) (cold bool) {
	t.Helper()
	out, err := h.Invoke(t.Context(), host.Call{Function: "picture", Payload: []byte(`{"n": 7}`), Tail: true})
	if err != nil {
		t.Fatal(err)
	}
	// On AWS the answer is what an HTTP trigger sends.
	var sent struct {
		Body string `json:"body"`
	}
	body := out.Body
	if err := json.Unmarshal(body, &sent); err == nil && sent.Body != "" {
		body = []byte(sent.Body)
	}
	var answer struct {
		Result struct {
			Result map[string]any `json:"result"`
		} `json:"result"`
		IsCold bool `json:"is_cold"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || out.Record.Failure != "" {
		t.Fatalf("answer %s (%s): %v\n%s", out.Body, out.Record.Failure, err, out.Tail)
	}
	got := answer.Result.Result
	want := map[string]any{"event": 7.0, "uid": 65534.0, "root": false, "task": false, "tmp": true, "cwd": "/var/task", "env": "/var/task"}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("inside the sandbox %s = %v, want %v", key, got[key], value)
		}
	}
	if !strings.Contains(out.Tail, "REPORT RequestId") || answer.IsCold != out.Record.Cold {
		t.Errorf("cold %v by the function, %v by the host; log %s", answer.IsCold, out.Record.Cold, out.Tail)
	}
	return answer.IsCold
}

func TestImageRunsOnTheLocalPlatform(t *testing.T) {
	needsBase(t)
	r := registrytest.Start(t, "builder", "s3cret-of-the-registry")
	o := onRegistry(r)
	o.bases = map[string]string{"local.python": images.FromEngine + pythonBase}
	b := newImageBench(t, pictures(asFunction), o)
	begun := time.Now()
	built := b.container(t, nil)
	t.Logf("built and pushed %d bytes in %s", built.GetSizeBytes(), time.Since(begun))
	begun = time.Now()
	again := b.container(t, func(r *builderv1.CreatePackageRequest) { r.Force = true })
	t.Logf("built and pushed again in %s", time.Since(begun))
	if again.GetImageUri() != built.GetImageUri() {
		t.Errorf("equal inputs gave %s, then %s", built.GetImageUri(), again.GetImageUri())
	}

	strict := newDockerHost(t, docker.PullNever, nil)
	if err := deployImage(t, strict, built); errs.Reason(err) != "IMAGE_MISSING" || !strings.Contains(err.Error(), "docker pull "+built.GetImageUri()) {
		t.Errorf("Deploy of an image that is not there = %v", err)
	}
	anonymous := newDockerHost(t, "", nil)
	if err := deployImage(t, anonymous, built); errs.Reason(err) != "IMAGE_PULL_FAILED" || strings.Contains(err.Error(), r.Password) {
		t.Errorf("Deploy without a log-in = %v", err)
	}
	removeImage(t, built.GetImageUri()) // at the end, when the platform is closed
	h := newDockerHost(t, "", r)
	if err := deployImage(t, h, built); err != nil {
		t.Fatal(err)
	}
	if !invokeImage(t, h) || invokeImage(t, h) {
		t.Error("not cold, then warm")
	}
	// A new configuration keeps the image and retires the sandboxes.
	if _, err := h.Configure(t.Context(), "picture", host.Config{Runtime: sandbox.Runtime{Language: "python", Version: "3.11"}, MemoryMB: 512, Timeout: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if !invokeImage(t, h) {
		t.Error("not cold after a change of the configuration")
	}
}

func TestImageWithoutARegistryIsLoaded(t *testing.T) {
	needsBase(t)
	b := newImageBench(t, pictures(asFunction), imageOptions{bases: map[string]string{"local.python": images.FromEngine + pythonBase}, version: "v0.0.0-test"})
	built := b.container(t, nil)
	const tag = "function.local.901.picture.python-3.11-x64-0.0.0-test"
	removeImage(t, engineFunctions+":"+tag)
	if !strings.HasPrefix(built.GetImageUri(), "sha256:") {
		t.Fatalf("image = %s, want an id", built.GetImageUri())
	}
	found, err := b.client.FindImage(t.Context(), &builderv1.FindImageRequest{Repository: engineFunctions, Tag: tag})
	if err != nil || !found.GetFound() || found.GetDigest() != built.GetImageUri() {
		t.Errorf("FindImage = %v, %v", found, err)
	}
	if again := b.container(t, nil); !again.GetCached() || again.GetImageUri() != built.GetImageUri() {
		t.Errorf("the second build = %v", again)
	}
	h := newDockerHost(t, "", nil)
	if err := deployImage(t, h, built); err != nil {
		t.Fatal(err)
	}
	if !invokeImage(t, h) {
		t.Error("the first call is not cold")
	}
	if err := deployImage(t, h, &builderv1.Package{ImageUri: "sha256:" + strings.Repeat("0", 64)}); errs.Reason(err) != "IMAGE_MISSING" || !strings.Contains(err.Error(), "--update-code") {
		t.Errorf("Deploy of an image that is gone = %v", err)
	}
}

func TestEngineImageIsPushed(t *testing.T) {
	needsBase(t)
	r := registrytest.Start(t, "", "")
	b := newImageBench(t, nil, onRegistry(r))
	op, err := b.client.PushImage(t.Context(), &builderv1.PushImageRequest{RepositoryUri: r.Address + "/sebs/benchmarks", Tag: "none"})
	if errs.Reason(errs.FromStatus(err)) != ReasonImageNotBuilt {
		t.Errorf("PushImage of what nobody has = %v, %v", op, err)
	}
	// A base image of a platform that only the Engine has.
	op, err = b.client.BuildImage(t.Context(), &builderv1.BuildImageRequest{
		Spec:         &builderv1.ImageSpec{Platform: "local", Runtime: python("3.11"), Architecture: typev1.Architecture_ARCHITECTURE_X64},
		BuilderImage: images.FromEngine + pythonBase,
	})
	base := result(t, op, err, &builderv1.BuildImageResponse{})
	if want := r.Address + "/sebs/benchmarks:build.local.python.3.11-1.0.0"; base.GetImageUri() != want || base.GetSizeMb() < 10 {
		t.Errorf("base image = %v, want %s", base, want)
	}
}
