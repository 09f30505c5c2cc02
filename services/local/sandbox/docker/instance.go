package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

const (
	maxProcesses = 1024
	// user runs the function: nobody, without a home.
	user = "65534:65534"
	// cpuPeriod is the accounting window of the CPU limit in microseconds. Short windows keep pauses short.
	cpuPeriod = 20_000
	minQuota  = 1_000
)

type instance struct {
	kind    *Kind
	id      string
	spec    sandbox.Spec
	pid     int      // of the container's first process
	machine *machine // nil when that process cannot be seen from here

	output *output
	peak   atomic.Int64
	done   chan struct{}
	exit   sandbox.Exit
	cancel context.CancelFunc

	mu      sync.Mutex
	ended   bool           // no new goroutines
	waiting sync.WaitGroup // goroutines of the instance
}

// spawn runs f unless the instance is about to be done; the end waits for it.
func (i *instance) spawn(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.ended {
		i.waiting.Go(f)
	}
}

// Start makes and starts a container. The context bounds the start only.
func (k *Kind) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	config, hostConfig, err := k.describe(ctx, spec)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.starting[spec.ID] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.starting, spec.ID)
		k.mu.Unlock()
	}()
	made, err := k.client.ContainerCreate(ctx, config, hostConfig, nil, nil, "")
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	i, err := k.run(ctx, spec, made.ID)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return nil, errors.Join(err, k.remove(cleanup, made.ID))
	}
	return i, nil
}

// describe builds the container's configuration.
func (k *Kind) describe(ctx context.Context, spec sandbox.Spec) (*container.Config, *container.HostConfig, error) {
	config := &container.Config{
		Image: spec.Image, Env: environment(spec), User: user, AttachStdout: true, AttachStderr: true,
		Labels: map[string]string{
			LabelDeployment: spec.Deployment, LabelFunction: spec.Function, LabelSandbox: spec.ID, LabelHost: k.owner,
		},
	}
	pids := int64(maxProcesses)
	memory := int64(spec.MemoryMB) << 20
	hostConfig := &container.HostConfig{
		NetworkMode: container.NetworkMode(k.network), CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		ReadonlyRootfs: true, Tmpfs: map[string]string{"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=512m"},
		LogConfig: container.LogConfig{Type: "none"},
		Resources: container.Resources{Memory: memory, MemorySwap: memory, PidsLimit: &pids},
	}
	if k.limits.MemoryLimit != "" {
		hostConfig.Memory, hostConfig.MemorySwap = 0, 0
	}
	if spec.Image != "" {
		return config, hostConfig, nil // the image brings its own entry point and code
	}
	program, err := sandbox.ProgramFor(spec.Runtime)
	if err != nil {
		return nil, nil, err
	}
	if config.Image, err = k.images.find(ctx, spec.Runtime); err != nil {
		return nil, nil, err
	}
	config.WorkingDir = taskRoot
	if err := program.Prepare(ctx, spec.RuntimeRoot); err != nil {
		return nil, nil, err
	}
	interpreter := program.Interpreter
	if interpreter == "python" {
		interpreter = "python3"
	}
	config.Entrypoint = program.Command(interpreter, runtimeRoot, taskRoot, spec.MemoryMB)
	hostConfig.Mounts = []mount.Mount{
		{Type: mount.TypeBind, Source: spec.TaskRoot, Target: taskRoot, ReadOnly: true},
		{Type: mount.TypeBind, Source: spec.RuntimeRoot, Target: runtimeRoot, ReadOnly: true},
	}
	return config, hostConfig, nil
}

// environment is what the function sees besides the image's own variables.
func environment(spec sandbox.Spec) []string {
	vars := map[string]string{"LANG": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp", "TMPDIR": "/tmp"}
	for name, value := range spec.Env {
		vars[name] = value
	}
	vars["AWS_LAMBDA_RUNTIME_API"] = spec.RuntimeAPI
	vars["LAMBDA_TASK_ROOT"] = taskRoot
	vars["LAMBDA_RUNTIME_DIR"] = runtimeRoot
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		out = append(out, name+"="+value)
	}
	sort.Strings(out)
	return out
}

// run attaches to a container, starts it and follows it.
func (k *Kind) run(ctx context.Context, spec sandbox.Spec, id string) (*instance, error) {
	life, cancel := context.WithCancel(context.Background())
	attached, err := k.client.ContainerAttach(life, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("attach to container: %w", err)
	}
	ended, failed := k.client.ContainerWait(life, id, container.WaitConditionNextExit)
	if err := k.client.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		attached.Close()
		cancel()
		return nil, fmt.Errorf("start container: %w", err)
	}
	i := &instance{kind: k, id: id, spec: spec, output: newOutput(spec.Output), done: make(chan struct{}), cancel: cancel}
	i.look(ctx)
	k.mu.Lock()
	k.instances[id] = i
	k.mu.Unlock()
	printed := make(chan struct{})
	i.spawn(func() {
		defer close(printed)
		_, _ = stdcopy.StdCopy(i.output.stream(), i.output.stream(), attached.Reader) // ends with the container
		i.output.end()
	})
	go i.watch(attached, ended, failed, printed)
	return i, nil
}

// look learns the container's address and how to read its memory.
func (i *instance) look(ctx context.Context) {
	peer := net.IPv4(127, 0, 0, 1) // Docker Desktop forwards from loopback
	info, err := i.kind.client.ContainerInspect(ctx, i.id)
	if err == nil && info.State != nil {
		i.pid = info.State.Pid
	}
	if err == nil && !i.kind.desktop && info.NetworkSettings != nil {
		for _, n := range info.NetworkSettings.Networks {
			peer = net.ParseIP(n.IPAddress)
		}
	}
	if i.spec.Peer != nil {
		i.spec.Peer(func(c net.Conn) bool {
			t, ok := c.RemoteAddr().(*net.TCPAddr)
			return ok && t.IP.Equal(peer)
		})
	}
	if !i.kind.desktop && i.pid > 0 {
		if i.machine = find(i.pid, i.id); i.machine != nil {
			i.output.open(i.pid)
		}
	}
}

// watch waits for the end of the container, takes down how it ended and removes it.
func (i *instance) watch(attached types.HijackedResponse, ended <-chan container.WaitResponse, failed <-chan error, printed <-chan struct{}) {
	code := -1
	select {
	case r := <-ended:
		code = int(r.StatusCode)
	case <-failed: //nolint:errcheck // the Engine went away, or the container was removed under us
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	i.exit = sandbox.Exit{Code: code}
	if info, err := i.kind.client.ContainerInspect(ctx, i.id); err == nil && info.State != nil {
		i.exit.Code = info.State.ExitCode
		i.exit.OutOfMemory = info.State.OOMKilled
	}
	if n := i.exit.Code - 128; n > 0 && n < 65 {
		i.exit.Signal = signalName(n)
	}
	select {
	case <-printed:
	case <-time.After(time.Second):
	}
	attached.Close()
	if err := i.kind.remove(ctx, i.id); err != nil {
		i.kind.options.Log.Warn("container cannot be removed", "container", i.id, "error", err)
	}
	i.cancel()
	i.mu.Lock()
	i.ended = true
	i.mu.Unlock()
	i.waiting.Wait()
	i.kind.mu.Lock()
	delete(i.kind.instances, i.id)
	i.kind.mu.Unlock()
	close(i.done)
}

func (i *instance) ID() string            { return i.id }
func (i *instance) Done() <-chan struct{} { return i.done }
func (i *instance) Exit() sandbox.Exit    { return i.exit }

// Throttle sets the CPU limit in the background: the Engine takes some 20 ms, which no invocation has to wait for.
func (i *instance) Throttle(context.Context) error {
	if i.spec.CPUs <= 0 || i.kind.limits.CPULimit != "" {
		return nil
	}
	i.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		quota := max(int64(i.spec.CPUs*cpuPeriod), minQuota)
		_, err := i.kind.client.ContainerUpdate(ctx, i.id, container.UpdateConfig{Resources: container.Resources{CPUPeriod: cpuPeriod, CPUQuota: quota}})
		if err == nil && i.machine != nil {
			err = i.machine.throttle(i.spec.CPUs)
		}
		select {
		case <-i.done:
		default:
			if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
				i.kind.options.Log.Debug("CPU share of a container is not in force", "container", i.id, "error", err)
			}
		}
	})
	return nil
}

func (i *instance) MemoryUsed(ctx context.Context) (int64, error) {
	select {
	case <-i.done:
		return 0, os.ErrProcessDone
	default:
	}
	if i.machine != nil {
		if used, err := i.machine.memory(); err == nil {
			return used, nil
		}
	}
	stats, err := i.kind.client.ContainerStatsOneShot(ctx, i.id)
	if err != nil {
		return 0, fmt.Errorf("read memory of container %s: %w", i.id, err)
	}
	defer func() { _ = stats.Body.Close() }()
	var s container.StatsResponse
	if err := json.NewDecoder(stats.Body).Decode(&s); err != nil {
		return 0, fmt.Errorf("read memory of container %s: %w", i.id, err)
	}
	cache := s.MemoryStats.Stats["inactive_file"]
	if v1, ok := s.MemoryStats.Stats["total_inactive_file"]; ok {
		cache = v1
	}
	return int64(s.MemoryStats.Usage - min(cache, s.MemoryStats.Usage)), nil
}

func (i *instance) observe(used int64) {
	for {
		old := i.peak.Load()
		if used <= old || i.peak.CompareAndSwap(old, used) {
			return
		}
	}
}

func (i *instance) MemoryPeak() int64 {
	if i.machine != nil {
		i.observe(highWater(i.pid))
	}
	peak := i.peak.Load()
	if limit := int64(i.spec.MemoryMB) << 20; limit > 0 {
		peak = min(peak, limit)
	}
	return peak
}

// EndOutput draws the line with marks in the container's output where this machine lets the host write there, else by waiting
// until the Engine has delivered nothing for a moment.
func (i *instance) EndOutput() <-chan struct{} {
	c := i.output.cut()
	if c.marked {
		i.spawn(func() { i.output.mark(c) })
	} else {
		i.spawn(func() { i.output.settle(c) })
	}
	return c.done
}

func (i *instance) Kill(ctx context.Context) error {
	select {
	case <-i.done:
		return nil
	default:
	}
	err := i.kind.client.ContainerKill(ctx, i.id, "KILL")
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		// The Engine may have lost the container's state; removing by force is stronger.
		err = errors.Join(err, i.kind.remove(ctx, i.id))
		i.kind.options.Log.Warn("container was removed by force", "container", i.id, "error", err)
	}
	select {
	case <-i.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of container %s: %w", i.id, ctx.Err())
	}
}
