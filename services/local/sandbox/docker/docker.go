// Package docker runs functions in hardened containers of a Docker Engine.
//
// Containers have no capabilities, cannot win privileges, see a read-only root, and are limited in memory, processor time and
// processes. They carry labels by which a later host finds and removes them. Images of runtimes are never pulled, those of
// functions only as [Options].Pull says.
package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Labels of every container.
const (
	LabelDeployment = "sebs.deployment"
	LabelFunction   = "sebs.function"
	LabelSandbox    = "sebs.sandbox"
	// LabelHost names the state directory whose host made the container.
	LabelHost = "sebs.host"
)

// Paths inside a container, those of AWS Lambda.
const (
	taskRoot    = "/var/task"
	runtimeRoot = "/var/runtime"
)

// desktopHost is how containers of Docker Desktop reach the machine.
const desktopHost = "host.docker.internal"

// Options configure the kind.
type Options struct {
	// Owner names the state directory; containers of other owners are left alone.
	Owner string
	// Images names the image per runtime, with keys such as "python.3.11".
	Images map[string]string
	// Pull says which images of functions may be pulled; empty means PullLoopback.
	Pull Pull
	// Login returns user and password for a registry, empty where there are none; nil never logs in.
	Login func(ctx context.Context, registry string) (username, password string, err error)
	// RuntimeRoot is the directory with the bootstrap files, which are made ready when a runtime is asked for, not when its
	// first sandbox starts; empty leaves it to the start.
	RuntimeRoot string
	// NoEgress puts containers into a network that reaches nothing but this machine.
	NoEgress bool
	Log      *slog.Logger
	// SampleInterval is how often the memory of containers is looked at; 0 means every 100 ms.
	SampleInterval time.Duration
}

// Kind starts containers.
type Kind struct {
	options Options
	owner   string
	client  *client.Client
	desktop bool
	network string // name of the network of the containers
	gateway string // address of this machine in it
	limits  sandbox.Capabilities
	images  *images
	stop    context.CancelFunc
	sampled chan struct{}

	mu        sync.Mutex
	instances map[string]*instance
	starting  map[string]bool // sandbox ids of containers that are being made
}

// Open connects to the Engine that the environment names (DOCKER_HOST and so on) and removes containers that an earlier
// host of the same owner left. It fails when the Engine does not answer.
func Open(ctx context.Context, o Options) (*Kind, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	k, err := open(ctx, c, o)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return k, nil
}

func open(ctx context.Context, c *client.Client, o Options) (*Kind, error) {
	if _, err := c.Ping(ctx); err != nil {
		return nil, errs.Unavailable("DOCKER_UNAVAILABLE", "the Docker Engine does not answer (%v); start it, or use process sandboxes", err)
	}
	info, err := c.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the Docker Engine what it is: %w", err)
	}
	if info.OSType != "linux" {
		return nil, errs.FailedPrecondition("DOCKER_NOT_LINUX", "the Docker Engine runs %s containers; switch it to Linux containers", info.OSType)
	}
	if o.SampleInterval <= 0 {
		o.SampleInterval = 100 * time.Millisecond
	}
	sum := sha256.Sum256([]byte(o.Owner))
	k := &Kind{
		options: o, owner: hex.EncodeToString(sum[:8]), client: c, desktop: strings.Contains(info.OperatingSystem, "Docker Desktop"),
		images: newImages(c, o.Images, info.Architecture == "x86_64" || info.Architecture == "amd64"), sampled: make(chan struct{}), instances: map[string]*instance{}, starting: map[string]bool{},
	}
	if !info.MemoryLimit {
		k.limits.MemoryLimit = "the Engine's kernel does not support it"
	}
	if !info.CPUCfsQuota {
		k.limits.CPULimit = "the Engine's kernel does not support it"
	}
	if !o.NoEgress {
		k.limits.NoEgress = "functions may reach the network; use --no-egress to forbid it"
	}
	if err := k.findNetwork(ctx); err != nil {
		return nil, err
	}
	removed, err := k.Orphans(ctx, false)
	if err != nil {
		return nil, err
	}
	if len(removed) > 0 {
		o.Log.Warn("removed containers that an earlier host left behind", "count", len(removed))
	}
	sampling, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	go func() {
		defer close(k.sampled)
		k.sample(sampling)
	}()
	return k, nil
}

// findNetwork finds, or for containers without egress makes, the network, and the address of this machine in it.
func (k *Kind) findNetwork(ctx context.Context) error {
	k.network = "bridge"
	if k.options.NoEgress {
		k.network = "sebs-internal-" + k.owner
		_, err := k.client.NetworkCreate(ctx, k.network, network.CreateOptions{
			Driver: "bridge", Internal: true, Labels: map[string]string{LabelHost: k.owner},
		})
		if err != nil && !errdefs.IsConflict(err) && !strings.Contains(err.Error(), "already exists") {
			return fmt.Errorf("create a network without egress: %w", err)
		}
	}
	if k.desktop {
		return nil
	}
	n, err := k.client.NetworkInspect(ctx, k.network, network.InspectOptions{})
	if err != nil {
		return fmt.Errorf("look up the Docker network %s: %w", k.network, err)
	}
	for _, c := range n.IPAM.Config {
		if ip := net.ParseIP(c.Gateway); ip != nil && ip.To4() != nil {
			k.gateway = c.Gateway
			return nil
		}
		// Some Engines name no gateway for the bridge that they made at their first start, although it has one.
		if ip := localAddress(c.Subnet); ip != "" {
			k.gateway = ip
			return nil
		}
	}
	return errs.FailedPrecondition("DOCKER_NO_GATEWAY", "the Docker network %s has no IPv4 gateway, by which containers reach this machine; check the Engine's network settings", k.network)
}

// localAddress is this machine's IPv4 address in a subnet; empty when it has none.
func localAddress(subnet string) string {
	_, want, err := net.ParseCIDR(subnet)
	if err != nil {
		return ""
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && want.Contains(n.IP) {
			return n.IP.String()
		}
	}
	return ""
}

// Name is "docker".
func (k *Kind) Name() string { return "docker" }

// Capabilities tells what the Engine does not let the kind enforce.
func (k *Kind) Capabilities() sandbox.Capabilities { return k.limits }

// RuntimeAPIHost is where the Runtime API must listen: on the bridge, or on loopback with Docker Desktop, which forwards to it.
func (k *Kind) RuntimeAPIHost(context.Context) (listen, advertise string, err error) {
	if k.desktop {
		return "127.0.0.1", desktopHost, nil
	}
	return k.gateway, k.gateway, nil
}

// Available tells whether there is an image for the runtime.
func (k *Kind) Available(ctx context.Context, r sandbox.Runtime, image string) error {
	if image != "" {
		return k.images.check(ctx, image)
	}
	program, err := sandbox.ProgramFor(r)
	if err != nil {
		return err
	}
	if _, err = k.images.find(ctx, r); err != nil || k.options.RuntimeRoot == "" {
		return err
	}
	return program.Prepare(ctx, k.options.RuntimeRoot)
}

// Runtimes lists the runtimes that images are there for, newest version of a language first.
func (k *Kind) Runtimes(ctx context.Context) []sandbox.Offer { return k.images.list(ctx) }

func (k *Kind) ownFilter() filters.Args {
	return filters.NewArgs(filters.Arg("label", LabelHost+"="+k.owner))
}

// Orphans lists containers of this owner that this host does not run, and removes them unless dryRun.
func (k *Kind) Orphans(ctx context.Context, dryRun bool) ([]string, error) {
	list, err := k.client.ContainerList(ctx, container.ListOptions{All: true, Filters: k.ownFilter()})
	if err != nil {
		return nil, fmt.Errorf("list containers of the suite: %w", err)
	}
	var out []string
	var problems []error
	for _, c := range list {
		k.mu.Lock()
		_, mine := k.instances[c.ID]
		mine = mine || k.starting[c.Labels[LabelSandbox]]
		k.mu.Unlock()
		if mine {
			continue
		}
		if !dryRun {
			if err := k.remove(ctx, c.ID); err != nil {
				problems = append(problems, err)
				continue
			}
		}
		out = append(out, c.ID)
	}
	return out, errors.Join(problems...)
}

func (k *Kind) remove(ctx context.Context, id string) error {
	err := k.client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // conflict: it is being removed already
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// sample keeps the memory peaks of all containers.
func (k *Kind) sample(ctx context.Context) {
	tick := time.NewTicker(k.options.SampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, i := range k.live() {
			if used, err := i.MemoryUsed(ctx); err == nil {
				i.observe(used)
			}
		}
	}
}

func (k *Kind) live() []*instance {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*instance, 0, len(k.instances))
	for _, i := range k.instances {
		out = append(out, i)
	}
	return out
}

// Close removes all containers and the network that the kind made.
func (k *Kind) Close(ctx context.Context) error {
	k.stop()
	<-k.sampled
	var problems []error
	for _, i := range k.live() {
		problems = append(problems, i.Kill(ctx))
	}
	if k.options.NoEgress {
		if err := k.client.NetworkRemove(ctx, k.network); err != nil && !errdefs.IsNotFound(err) {
			problems = append(problems, fmt.Errorf("remove the network without egress: %w", err))
		}
	}
	return errors.Join(append(problems, k.client.Close())...)
}
