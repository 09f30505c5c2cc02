package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// TestBadInput gives the suite every fault of docs/faults.md, on both kinds of sandbox: each gets a clear error and its
// exit code, the run keeps its other results, and nothing is left behind.
func TestBadInput(t *testing.T) {
	table := newFaultTable()
	t.Run("kinds", func(t *testing.T) {
		for _, kind := range []string{"process", "docker"} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				b := startBench(t, kind)
				for _, f := range faults() {
					t.Run(f.name, func(t *testing.T) { table.add(b.meet(t, f)) })
				}
				b.end()
				t.Run(ownSuite, func(t *testing.T) { table.add(b.interruptOwnSuite(t)) })
			})
		}
	})
	if !t.Failed() {
		table.compare(t)
	}
}

// bench is one suite that the commands of a kind of sandbox join.
type bench struct {
	t          *testing.T
	kind       string
	dir, state string
	benchmarks string
	up         *stand.Process
	conn       *grpc.ClientConn
	languages  map[string]bool
	commands   int
}

func startBench(t *testing.T, kind string) *bench {
	t.Helper()
	dir, state := place(t)
	benchmarks, err := filepath.Abs(filepath.Join("testdata", "badinput"))
	if err != nil {
		t.Fatal(err)
	}
	if kind == "docker" && exec.CommandContext(t.Context(), "docker", "info").Run() != nil {
		t.Skip("needs a Docker Engine")
	}
	b := &bench{t: t, kind: kind, dir: dir, state: state, benchmarks: benchmarks, languages: map[string]bool{}}
	address := stand.Address(t)
	b.up = stand.Command(t, binaries, "up", dir, "up", "--state-dir", state, "--sandbox", kind, "--listen", address)
	b.up.Run()
	awaitFile(limited(t), t, filepath.Join(state, "suite.json"))
	if b.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.conn.Close() })
	host, err := localv1.NewLocalServiceClient(b.conn).GetHost(limited(t), &localv1.GetHostRequest{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[typev1.Language]string{typev1.Language_LANGUAGE_PYTHON: "python", typev1.Language_LANGUAGE_NODEJS: "nodejs", typev1.Language_LANGUAGE_JAVA: "java", typev1.Language_LANGUAGE_CPP: "cpp"}
	for _, offer := range host.GetRuntimes() {
		name := names[offer.GetRuntime().GetLanguage()]
		b.languages[name] = true
		if !runtimes.Runs(name, offer.GetRuntime().GetVersion()) {
			t.Errorf("the host offers %s %s, which the bootstrap does not run on", name, offer.GetRuntime().GetVersion())
		}
	}
	if !b.languages["python"] {
		t.Skipf("needs a python that %s sandboxes can run", kind)
	}
	return b
}

// meet runs one command and checks what it says, what it kept and what it left.
func (b *bench) meet(t *testing.T, f fault) outcome {
	t.Helper()
	if f.language != "" && !b.languages[f.language] {
		t.Skipf("needs a %s that %s sandboxes can run", f.language, b.kind)
	}
	if b.languages[f.lacks] {
		t.Skipf("needs a machine whose %s sandboxes can run no %s", b.kind, f.lacks)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(cancel)
	b.commands++
	results := filepath.Join(b.dir, strconv.Itoa(b.commands))
	args := []string{"--state-dir", b.state, "--progress", "quiet"}
	args = append(args, strings.Fields(f.command)...)
	args = append(args, "--output-dir", results, "--benchmarks-dir", b.benchmarks)
	if f.language != "" {
		args = append(args, "--language", f.language)
	}
	if f.config != "" {
		file := filepath.Join(b.dir, "config-"+strconv.Itoa(b.commands)+".json")
		if err := os.WriteFile(file, []byte(f.config), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	p := stand.Command(t, binaries, "command-"+strconv.Itoa(b.commands), b.dir, args...)
	p.Run()
	if f.interrupt {
		b.awaitBusy(ctx, t)
		p.Interrupt()
	}
	code := p.Wait(time.Minute)
	said := p.Log()
	t.Logf("exit code %d:\n%s", code, said)
	if f.index && strings.Contains(said, "Failed to fetch") {
		t.Skip("needs the Python package index")
	}
	if code != f.exit {
		t.Errorf("exit code %d, want %d", code, f.exit)
	}
	for _, text := range f.says {
		if !strings.Contains(said, text) {
			t.Errorf("the message lacks %q", text)
		}
	}
	// The inside of the suite is no business of its users.
	for _, text := range []string{filepath.Join(b.state, "services"), "/sebs-work", "unexpected error", "panic", "goroutine ", "rpc error"} {
		if strings.Contains(said, text) {
			t.Errorf("the message holds %q", text)
		}
	}
	b.checkResults(t, f, filepath.Join(results, "experiments.json"))
	b.checkRemains(ctx, t)
	return outcome{item: f.name, kind: b.kind, exit: code, message: b.tidy(said)}
}

// checkResults looks at the invocations that the command wrote down.
func (b *bench) checkResults(t *testing.T, f fault, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if f.succeeded+f.failed == 0 {
		if err == nil {
			t.Errorf("results were written of a run that made no invocation:\n%s", raw)
		}
		return
	}
	if err != nil {
		t.Errorf("the results of the run are lost: %v", err)
		return
	}
	var file struct {
		Invocations map[string]map[string]struct {
			Stats struct {
				Failure bool `json:"failure"`
			} `json:"stats"`
		} `json:"_invocations"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var succeeded, failed int
	for _, function := range file.Invocations {
		for _, invocation := range function {
			if invocation.Stats.Failure {
				failed++
			} else {
				succeeded++
			}
		}
	}
	if succeeded != f.succeeded || failed != f.failed {
		t.Errorf("the results hold %d successes and %d failures, want %d and %d", succeeded, failed, f.succeeded, f.failed)
	}
}

// awaitBusy returns when a function runs its second invocation: the first one of an interrupted run succeeds.
func (b *bench) awaitBusy(ctx context.Context, t *testing.T) {
	t.Helper()
	client := localv1.NewLocalServiceClient(b.conn)
	since := time.Time{}
	stand.Await(ctx, t, "a busy sandbox", func() bool {
		list, err := client.ListSandboxes(ctx, &localv1.ListSandboxesRequest{})
		if err != nil || !slices.ContainsFunc(list.GetSandboxes(), (*localv1.Sandbox).GetBusy) {
			since = time.Time{}
			return false
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
}

// checkRemains finds what the command left: running operations, busy sandboxes, sandboxes that the platform does not know,
// and directories.
func (b *bench) checkRemains(ctx context.Context, t *testing.T) {
	t.Helper()
	stand.Await(ctx, t, "the end of all operations", func() bool {
		running, err := longrunningpb.NewOperationsClient(b.conn).ListOperations(ctx, &longrunningpb.ListOperationsRequest{Name: "operations", Filter: "done=false"})
		return err == nil && len(running.GetOperations()) == 0
	})
	client := localv1.NewLocalServiceClient(b.conn)
	stand.Await(ctx, t, "the end of all busy sandboxes", func() bool {
		list, err := client.ListSandboxes(ctx, &localv1.ListSandboxesRequest{})
		return err == nil && !slices.ContainsFunc(list.GetSandboxes(), (*localv1.Sandbox).GetBusy)
	})
	// Warm sandboxes stay as long as their function does.
	functions, err := client.ListLocalFunctions(ctx, &localv1.ListLocalFunctionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, function := range functions.GetFunctions() {
		if _, err := client.DeleteLocalFunction(ctx, &localv1.DeleteLocalFunctionRequest{FunctionId: function.GetFunctionId()}); err != nil {
			t.Errorf("delete %s: %v", function.GetFunctionId(), err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var left []string
	stand.Await(short, t, "the end of what the functions had", func() bool {
		left = append(append(b.containers(short, t), b.processes(t)...), b.directories(t)...)
		return len(left) == 0 || short.Err() != nil
	})
	for _, what := range left {
		t.Errorf("left behind: %s", what)
	}
}

// containers lists the containers of this suite, also ended ones.
func (b *bench) containers(ctx context.Context, t *testing.T) []string {
	t.Helper()
	if b.kind != "docker" {
		return nil
	}
	sum := sha256.Sum256([]byte(filepath.Join(b.state, "services", "local")))
	out, err := exec.CommandContext(ctx, "docker", "ps", "--all", "--quiet", "--filter", "label=sebs.host="+hex.EncodeToString(sum[:8])).Output()
	if err != nil && ctx.Err() == nil {
		t.Errorf("list containers: %v", err)
	}
	var left []string
	for _, id := range strings.Fields(string(out)) {
		left = append(left, "container "+id)
	}
	return left
}

// processes lists processes of the suite beside the one that runs it.
func (b *bench) processes(t *testing.T) []string {
	t.Helper()
	var left []string
	for pid, command := range stand.Below(t, b.state) {
		// The object and table stores may be processes of their own.
		if pid != b.up.PID() && !strings.Contains(command, "services/storage") {
			left = append(left, "process "+strconv.Itoa(pid)+" "+command)
		}
	}
	return left
}

// directories lists the working directories of sandboxes and of scripts.
func (b *bench) directories(t *testing.T) []string {
	t.Helper()
	var left []string
	for _, pattern := range []string{
		filepath.Join(b.state, "services", "local", "sandboxes", "*"),
		filepath.Join(os.TempDir(), "sebs-work-*-"+strconv.Itoa(b.up.PID())+"-*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// ownSuite is the row of a command that is interrupted while it runs the suite itself.
const ownSuite = "Ctrl-C of a command that runs the suite itself"

// interruptOwnSuite interrupts a command that no suite serves but its own, when the suite of the other commands has ended.
func (b *bench) interruptOwnSuite(t *testing.T) outcome {
	t.Helper()
	ctx := limited(t)
	own := &bench{t: t, kind: b.kind, dir: b.dir, state: filepath.Join(b.dir, "own"), benchmarks: b.benchmarks}
	p := stand.Command(t, binaries, "own", b.dir, "benchmark", "invoke", "911.never-returns", "test", "--progress", "plain", "--timeout", "600",
		"--state-dir", own.state, "--sandbox", b.kind, "--output-dir", filepath.Join(b.dir, "own-results"), "--benchmarks-dir", b.benchmarks)
	own.up = p
	p.Run()
	stand.Await(ctx, t, "a function at work", func() bool {
		return strings.Contains(p.Log(), "invoking sebs-") && len(own.containers(ctx, t))+len(own.directories(t)) > 0
	})
	p.Interrupt()
	code := p.Wait(30 * time.Second)
	said := p.Log()
	t.Logf("exit code %d:\n%s", code, said)
	if code != exitInterrupted || !strings.Contains(said, "cancelled operations/") {
		t.Errorf("exit code %d", code)
	}
	nothingRuns(ctx, t, own.state)
	for _, what := range append(own.containers(ctx, t), own.directories(t)...) {
		t.Errorf("left behind: %s", what)
	}
	return outcome{item: ownSuite, kind: b.kind, exit: code, message: b.tidy(said)}
}

// end stops the suite and looks for what is left of it.
func (b *bench) end() {
	b.t.Helper()
	b.up.Interrupt()
	if code := b.up.Wait(30 * time.Second); code != 0 {
		b.t.Errorf("up ended with %d:\n%s", code, b.up.Tail())
	}
	nothingRuns(b.t.Context(), b.t, b.state)
	for _, what := range append(b.containers(b.t.Context(), b.t), b.directories(b.t)...) {
		b.t.Errorf("left behind: %s", what)
	}
}
