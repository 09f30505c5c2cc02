package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/platform/registry"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/local/front"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
	"github.com/sebs-suite/sebs/services/local/sandbox/docker"
	"github.com/sebs-suite/sebs/services/local/sandbox/process"
)

// frontGrace is how long requests may go on once the process is told to end.
const frontGrace = time.Second

// Setup puts the local platform together and serves it in the process.
func Setup(ctx context.Context, p *app.Process) error {
	config := DefaultConfig()
	if err := p.Section("local", &config); err != nil {
		return err
	}
	dir := filepath.Join(p.StateDir, "local")
	root, err := writeBootstraps(filepath.Join(dir, "runtimes"))
	if err != nil {
		return err
	}
	kinds, notes, err := openKinds(ctx, p, config, dir, root)
	if err != nil {
		return err
	}
	meters, err := newMeters(p.Registry)
	if err != nil {
		return fmt.Errorf("register metrics of the local platform: %w", err)
	}
	f, err := front.Listen(ctx, front.Options{
		Address: config.Listen, FirstPort: config.FirstPort, LastPort: config.LastPort,
		EventToken: config.EventToken.Reveal(), Log: p.Log,
	})
	if err != nil {
		return err
	}
	h, err := host.New(host.Options{
		StateDir: dir, RuntimeRoot: root, Kinds: kinds, DefaultKind: config.Sandbox, Ports: f, Log: p.Log,
		KeepAlive: config.KeepAlive, InitTimeout: config.InitTimeout, MaxConcurrency: config.MaxConcurrency,
		MaxSandboxes: config.MaxSandboxes, NoCPUShare: !config.CPUShare, OnInvocation: meters.observe,
	})
	if err != nil {
		return errors.Join(err, f.Shutdown(ctx))
	}
	// Closed in reverse order: first no more requests, then the functions, then the kinds of sandbox.
	p.OnClose("functions of the local platform", h.Close)
	p.OnClose("HTTP front of the local platform", func(ctx context.Context) error {
		// What still runs after a moment is ended with its sandbox.
		ctx, cancel := context.WithTimeout(ctx, frontGrace)
		defer cancel()
		if err := f.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	if err := hearObjects(p, h); err != nil {
		return err
	}
	f.Serve(h)
	p.RegisterGRPC(NewServer(h, f, notes).Register)
	tell(ctx, p.Log, h, notes)
	p.Log.Info("local platform is ready", "http", f.URL())
	return nil
}

// writeBootstraps puts the bootstrap files of all languages where sandboxes find them, and returns the directory.
func writeBootstraps(dir string) (string, error) {
	catalog, err := runtimes.Load()
	if err != nil {
		return "", fmt.Errorf("load function runtimes: %w", err)
	}
	digests := make([]string, 0, 3)
	all := map[string]runtimes.Bootstrap{}
	for _, language := range []string{"python", "nodejs", "java"} {
		b, err := catalog.Bootstrap(language)
		if err != nil {
			return "", fmt.Errorf("load the runtime of %s: %w", language, err)
		}
		all[language] = b
		digests = append(digests, b.Digest[:16])
	}
	root := filepath.Join(dir, strings.Join(digests, "-"))
	for language, b := range all {
		if err := catalog.Write(b.Files, filepath.Join(root, language)); err != nil {
			return "", fmt.Errorf("write the runtime of %s: %w", language, err)
		}
	}
	return root, nil
}

// openKinds prepares the kinds of sandbox that the configuration allows, the preferred one first.
func openKinds(ctx context.Context, p *app.Process, config Config, dir, root string) ([]host.Kind, map[string]string, error) {
	var kinds []host.Kind
	notes := map[string]string{}
	if config.Sandbox != "process" {
		k, err := openDocker(ctx, p, config, dir, root)
		switch {
		case err == nil:
			p.OnClose("docker sandboxes", k.Close)
			kinds = append(kinds, k)
		case config.Sandbox == "docker" || config.NoEgress:
			return nil, nil, fmt.Errorf("sandboxes of kind docker: %w", err)
		default:
			notes["docker"] = err.Error()
		}
	} else {
		notes["docker"] = "turned off by the configuration"
	}
	switch {
	case config.Sandbox == "docker":
		notes["process"] = "turned off by the configuration"
		return kinds, notes, nil
	case config.NoEgress:
		notes["process"] = "process sandboxes cannot be kept from the network, which no_egress asks for"
		return kinds, notes, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/" // no interpreters are looked for below it
	}
	k, err := process.New(process.Options{
		Directory: filepath.Join(dir, "sandboxes"), RuntimeRoot: root, Finder: process.NewFinder(os.Getenv, home, filepath.Join(dir, "interpreters.json")), Log: p.Log, FirstUID: config.FirstUID,
	})
	if err != nil {
		return nil, nil, err
	}
	p.OnClose("process sandboxes", k.Close)
	return append(kinds, k), notes, nil
}

// engineTimeout bounds the question whether a Docker Engine is there.
const engineTimeout = 5 * time.Second

func openDocker(ctx context.Context, p *app.Process, config Config, dir, root string) (*docker.Kind, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	owner, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("name the owner of containers: %w", err)
	}
	return docker.Open(ctx, docker.Options{
		Owner: owner, Images: config.Images, RuntimeRoot: root, NoEgress: config.NoEgress, Log: p.Log, Pull: docker.Pull(config.PullImages),
		Login: registry.NewKeychain(p.Credentials, config.RegistryCredential, false).Login,
	})
}

// tell says in one line which kind of sandbox functions get by default, and why not another one.
func tell(ctx context.Context, log *slog.Logger, h *host.Host, notes map[string]string) {
	python := sandbox.Runtime{Language: "python"}
	kind, passedOver := h.Choice(ctx, python)
	reasons := make([]string, 0, len(passedOver)+len(notes))
	for _, err := range passedOver {
		reasons = append(reasons, err.Error())
	}
	for name, note := range notes {
		reasons = append(reasons, name+": "+note)
	}
	sort.Strings(reasons)
	log.InfoContext(ctx, "kind of sandbox is chosen", "kind", kind, "not_taken", strings.Join(reasons, "; "))
	for _, k := range h.Kinds() {
		if missing := k.Capabilities().Missing(); len(missing) > 0 {
			log.DebugContext(ctx, "sandboxes do not enforce everything", "kind", k.Name(), "missing", strings.Join(missing, "; "))
		}
	}
}
