// Package process runs functions as processes of this machine, with interpreters that are installed on it.
//
// Such a sandbox has its own session and process group, a scrubbed environment and a scratch directory. Where the
// machine allows it (Linux, running as root) it also has a user id and a view of the file system of its own, and control
// groups that limit memory and processor time; [Kind.Capabilities] tells what is in force. It is no security boundary.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Options configure the kind.
type Options struct {
	// Directory holds one folder per running sandbox. It must belong to one host only.
	Directory string
	Finder    *Finder
	// RuntimeRoot is the directory with the bootstrap files, which are made ready when a runtime is asked for, not when its
	// first sandbox starts; empty leaves it to the start.
	RuntimeRoot string
	Log         *slog.Logger
	// FirstUID is the first of 10,000 user ids that sandboxes get where the suite runs as root; 0 keeps the own user.
	FirstUID int
	// SampleInterval is how often the memory of the sandboxes is looked at; 0 means every 100 ms, or every second where that
	// takes a program of its own.
	SampleInterval time.Duration
}

// Kind starts process sandboxes.
type Kind struct {
	directory   string
	runtimeRoot string
	finder      *Finder
	log         *slog.Logger
	system      *system
	stop        context.CancelFunc
	sampled     chan struct{}

	mu        sync.Mutex
	instances map[string]*instance
}

// New prepares the kind and removes what an earlier host left running in the directory.
func New(o Options) (*Kind, error) {
	if err := os.MkdirAll(o.Directory, 0o711); err != nil {
		return nil, fmt.Errorf("create sandbox directory: %w", err)
	}
	if o.SampleInterval <= 0 {
		o.SampleInterval = sampleInterval
	}
	k := &Kind{directory: o.Directory, runtimeRoot: o.RuntimeRoot, finder: o.Finder, log: o.Log, instances: map[string]*instance{}, sampled: make(chan struct{})}
	k.system = newSystem(o)
	if n := k.sweep(); n > 0 {
		k.log.Warn("removed process sandboxes that an earlier host left behind", "count", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	go func() {
		defer close(k.sampled)
		k.sample(ctx, o.SampleInterval)
	}()
	return k, nil
}

// Name is "process".
func (k *Kind) Name() string { return "process" }

// Capabilities tells what this machine does not let the kind enforce.
func (k *Kind) Capabilities() sandbox.Capabilities { return k.system.capabilities() }

// Available tells whether an interpreter for the runtime is there.
func (k *Kind) Available(ctx context.Context, r sandbox.Runtime, image string) error {
	if image != "" {
		return errImage
	}
	p, err := sandbox.ProgramFor(r)
	if err != nil || p.Interpreter == "" {
		return err
	}
	if _, err = k.finder.Find(ctx, p.Interpreter, r.Version); err != nil || k.runtimeRoot == "" {
		return err
	}
	return p.Prepare(ctx, k.runtimeRoot)
}

// Runtimes lists what the kind can run, by language, newest version first.
func (k *Kind) Runtimes(ctx context.Context) []sandbox.Offer {
	var out []sandbox.Offer
	for _, l := range []struct{ language, family string }{{"python", "python"}, {"nodejs", "node"}, {"java", "java"}} {
		for _, i := range k.finder.List(ctx, l.family) {
			parts := strings.Split(i.Version, ".")
			version := parts[0]
			if l.language == "python" && len(parts) > 1 {
				version += "." + parts[1]
			}
			r := sandbox.Runtime{Language: l.language, Version: version}
			if len(out) == 0 || out[len(out)-1].Runtime != r {
				out = append(out, sandbox.Offer{Runtime: r, Provider: i.Path})
			}
		}
	}
	if sandbox.RunsNative() {
		out = append(out, sandbox.Offer{Runtime: sandbox.Native, Provider: sandbox.InPackage})
	}
	return out
}

// RuntimeAPIHost is where the Runtime API of a sandbox must listen.
func (k *Kind) RuntimeAPIHost(context.Context) (listen, advertise string, err error) {
	return "127.0.0.1", "127.0.0.1", nil
}

// record is what the sandbox's folder says about it, so that a later host can end it.
type record struct {
	ID        string `json:"id"`
	PID       int    `json:"pid"`
	StartTime string `json:"start_time"` // of the process, as the system tells it; guards against a reused PID
	UID       int    `json:"uid,omitempty"`
	Cgroup    int    `json:"cgroup,omitempty"`
	Memory    string `json:"cgroup_memory,omitempty"`
	CPU       string `json:"cgroup_cpu,omitempty"`
}

const recordFile = "sandbox.json"

// Start starts a sandbox. The context bounds the start only, not the life of the sandbox.
func (k *Kind) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.Image != "" {
		return nil, errImage
	}
	args, roots, err := k.command(ctx, spec)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(k.directory, spec.ID)
	scratch := filepath.Join(dir, "tmp")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, fmt.Errorf("create sandbox folder: %w", err)
	}
	i, err := k.launch(spec, args, append(roots, spec.TaskRoot, spec.RuntimeRoot), dir, scratch)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return i, nil
}

// command builds the argument list and names the directories that it reads from.
func (k *Kind) command(ctx context.Context, spec sandbox.Spec) (args, roots []string, err error) {
	p, err := sandbox.ProgramFor(spec.Runtime)
	if err != nil {
		return nil, nil, err
	}
	if err := p.Prepare(ctx, spec.RuntimeRoot); err != nil {
		return nil, nil, err
	}
	script := filepath.Join(spec.RuntimeRoot, filepath.FromSlash(p.Script))
	if p.InTask {
		script = filepath.Join(spec.TaskRoot, p.Script)
	}
	if _, err := os.Stat(script); err != nil {
		return nil, nil, fmt.Errorf("bootstrap of %s: %w", spec.Runtime, err)
	}
	if p.Interpreter == "" {
		return p.Command("", spec.RuntimeRoot, spec.TaskRoot, spec.MemoryMB), nil, nil
	}
	found, err := k.finder.Find(ctx, p.Interpreter, spec.Runtime.Version)
	if err != nil {
		return nil, nil, err
	}
	return p.Command(found.Path, spec.RuntimeRoot, spec.TaskRoot, spec.MemoryMB), found.Roots, nil
}

func (k *Kind) launch(spec sandbox.Spec, args, roots []string, dir, scratch string) (*instance, error) {
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("create scratch directory: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create output pipe: %w", err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = spec.TaskRoot
	cmd.Stdout, cmd.Stderr = w, w
	h, err := k.system.start(launchSpec{
		cmd: cmd, id: spec.ID, scratch: scratch, roots: roots, memoryBytes: int64(spec.MemoryMB) << 20,
		environment: func(tmp string) []string { return environment(spec, filepath.Dir(args[0]), tmp) },
	})
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Runtime, err)
	}
	i := &instance{
		kind: k, id: spec.ID, dir: dir, cpus: spec.CPUs, limit: int64(spec.MemoryMB) << 20,
		handle: h, output: newOutput(r, spec.Output), done: make(chan struct{}),
	}
	if spec.Peer != nil {
		spec.Peer(h.connects)
	}
	rec := h.record()
	raw, err := json.Marshal(rec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, recordFile), raw, 0o600)
	}
	go i.output.run()
	go i.watch()
	k.mu.Lock()
	k.instances[spec.ID] = i
	k.mu.Unlock()
	if err != nil {
		_ = i.Kill(context.Background())
		return nil, fmt.Errorf("record the sandbox: %w", err)
	}
	return i, nil
}

// marker is the variable by which processes of a sandbox are found where they share their user with others.
const marker = "SEBS_SANDBOX_ID"

func fromLoopback(c net.Conn) bool {
	t, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// environment is the whole environment of the runtime. Nothing of the host's own environment gets in.
func environment(spec sandbox.Spec, interpreterDir, tmp string) []string {
	vars := map[string]string{
		"PATH": interpreterDir + string(os.PathListSeparator) + "/usr/local/bin:/usr/bin:/bin",
		"LANG": "C.UTF-8", "TZ": "UTC", "HOME": tmp, "TMPDIR": tmp,
	}
	addSystemVariables(vars)
	for name, value := range spec.Env {
		vars[name] = value
	}
	vars["AWS_LAMBDA_RUNTIME_API"] = spec.RuntimeAPI
	vars["LAMBDA_TASK_ROOT"] = spec.TaskRoot
	vars["LAMBDA_RUNTIME_DIR"] = spec.RuntimeRoot
	vars[marker] = spec.ID
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		out = append(out, name+"="+value)
	}
	sort.Strings(out)
	return out
}

// sample watches the memory of all sandboxes: it keeps the peak and ends those above a limit that the system does not
// enforce.
func (k *Kind) sample(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		live := make([]*instance, 0, len(k.instances))
		for _, i := range k.instances {
			live = append(live, i)
		}
		k.mu.Unlock()
		if len(live) == 0 {
			continue
		}
		handles := make([]*handle, len(live))
		for n, i := range live {
			handles[n] = i.handle
		}
		for n, used := range k.system.memory(handles) {
			live[n].observe(used)
		}
	}
}

// sweep ends what the folders of an earlier host name, and removes the folders.
func (k *Kind) sweep() int {
	entries, err := os.ReadDir(k.directory)
	if err != nil {
		return 0
	}
	count := 0
	for _, e := range entries {
		dir := filepath.Join(k.directory, e.Name())
		raw, err := os.ReadFile(filepath.Join(dir, recordFile))
		var rec record
		if err == nil && json.Unmarshal(raw, &rec) == nil {
			k.system.sweep(rec)
		}
		if err := os.RemoveAll(dir); err != nil {
			k.log.Warn("folder of an old sandbox cannot be removed", "folder", dir, "error", err)
		}
		count++
	}
	return count
}

// Orphans finds nothing later than New, which has ended what an earlier host left: the folders are this host's alone.
func (k *Kind) Orphans(context.Context, bool) ([]string, error) { return nil, nil }

// Close ends all sandboxes.
func (k *Kind) Close(ctx context.Context) error {
	k.stop()
	<-k.sampled
	k.mu.Lock()
	live := make([]*instance, 0, len(k.instances))
	for _, i := range k.instances {
		live = append(live, i)
	}
	k.mu.Unlock()
	var errs []error
	for _, i := range live {
		errs = append(errs, i.Kill(ctx))
	}
	return errors.Join(errs...)
}

type instance struct {
	kind   *Kind
	id     string
	dir    string
	cpus   float64
	limit  int64
	handle *handle
	output *output

	peak     atomic.Int64
	overrun  atomic.Bool
	done     chan struct{}
	exit     sandbox.Exit
	killOnce sync.Once
}

// watch waits for the end of the runtime, then ends and removes everything that is left of the sandbox.
func (i *instance) watch() {
	state := i.handle.wait()
	i.handle.kill()
	i.exit = exitOf(state)
	i.exit.OutOfMemory = i.overrun.Load() || i.handle.outOfMemory()
	select {
	case <-i.output.done:
		_ = i.output.pipe.Close()
	case <-time.After(time.Second): // something that left the process group still holds the pipe
		i.output.close()
	}
	if err := i.handle.remove(); err != nil {
		i.kind.log.Warn("sandbox left something behind", "sandbox", i.id, "error", err)
	}
	if err := os.RemoveAll(i.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		i.kind.log.Warn("folder of a sandbox cannot be removed", "sandbox", i.id, "error", err)
	}
	i.kind.mu.Lock()
	delete(i.kind.instances, i.id)
	i.kind.mu.Unlock()
	close(i.done)
}

func exitOf(state *os.ProcessState) sandbox.Exit {
	if state == nil {
		return sandbox.Exit{Code: -1, Signal: "lost"}
	}
	e := sandbox.Exit{Code: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Code, e.Signal = -1, ws.Signal().String()
	}
	return e
}

func (i *instance) observe(used int64) {
	for {
		old := i.peak.Load()
		if used <= old || i.peak.CompareAndSwap(old, used) {
			break
		}
	}
	if i.limit > 0 && used > i.limit && !i.handle.limitsMemory() {
		i.overrun.Store(true)
		i.handle.kill()
	}
}

func (i *instance) ID() string            { return i.id }
func (i *instance) Done() <-chan struct{} { return i.done }
func (i *instance) Exit() sandbox.Exit    { return i.exit }

func (i *instance) Throttle(context.Context) error { return i.handle.throttle(i.cpus) }

func (i *instance) MemoryUsed(context.Context) (int64, error) {
	select {
	case <-i.done:
		return 0, os.ErrProcessDone
	default:
	}
	return i.kind.system.memory([]*handle{i.handle})[0], nil
}

func (i *instance) MemoryPeak() int64 {
	peak := max(i.peak.Load(), i.handle.peak())
	i.observePeak(peak)
	if i.limit > 0 {
		peak = min(peak, i.limit)
	}
	return peak
}

func (i *instance) observePeak(peak int64) {
	if old := i.peak.Load(); peak > old {
		i.peak.CompareAndSwap(old, peak)
	}
}

func (i *instance) EndOutput() <-chan struct{} {
	i.output.sync()
	i.output.sink.Cut()
	return nil
}

func (i *instance) Kill(ctx context.Context) error {
	i.killOnce.Do(i.handle.kill)
	select {
	case <-i.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of sandbox %s: %w", i.id, ctx.Err())
	}
}
