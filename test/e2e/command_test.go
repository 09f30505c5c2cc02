package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// place is the working directory and the state directory of commands.
func place(t *testing.T) (dir, state string) {
	t.Helper()
	dir = t.TempDir()
	return dir, filepath.Join(dir, "state")
}

func awaitFile(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	stand.Await(ctx, t, path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

func nothingRuns(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	for pid, command := range stand.Below(t, dir) {
		t.Errorf("process %d was left behind: %s", pid, command)
	}
}

func TestTwoCommandsOnOneStateDirectory(t *testing.T) {
	dir, state := place(t)
	ctx := limited(t)
	invoke := func(name, count string) *stand.Process {
		p := stand.Command(t, binaries, name, dir, "benchmark", "invoke", "010.sleep", "test", "--repetitions", count,
			"--state-dir", state, "--output-dir", filepath.Join(dir, name), "--sandbox", "process")
		p.Run()
		return p
	}
	first := invoke("first", "3")
	awaitFile(ctx, t, filepath.Join(state, "suite.json"))
	second := invoke("second", "6")
	for _, p := range []*stand.Process{first, second} {
		if code := p.Wait(testLimit); code != 0 {
			t.Errorf("the %s command ended with %d:\n%s", p.Name, code, p.Tail())
		}
		if _, err := os.Stat(filepath.Join(dir, p.Name, "experiments.json")); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(first.Log(), "started one for this command") || !strings.Contains(second.Log(), "joined the suite of process") {
		t.Errorf("the first says:\n%s\nthe second says:\n%s", first.Tail(), second.Tail())
	}
	nothingRuns(ctx, t, state)
}

func TestAnInterruptedCommandLeavesNothing(t *testing.T) {
	dir, state := place(t)
	p := stand.Command(t, binaries, "interrupted", dir, "benchmark", "invoke", "010.sleep", "test", "--repetitions", "50",
		"--state-dir", state, "--sandbox", "process")
	p.Run()
	ctx := limited(t)
	stand.Await(ctx, t, "the first call", func() bool { return len(stand.Below(t, filepath.Join(state, "services", "local"))) > 0 })
	p.Interrupt()
	if code := p.Wait(30 * time.Second); code != 130 {
		t.Errorf("ended with %d:\n%s", code, p.Tail())
	}
	if !strings.Contains(p.Log(), "cancelled operations/") {
		t.Errorf("says nothing of the cancellation:\n%s", p.Tail())
	}
	nothingRuns(ctx, t, state)
}

func TestAnInterruptedCommandCancelsOnTheServer(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{})
	ctx := limited(t)
	conn := s.Dial()
	results := watchResults(t, s)
	p := s.CLI("interrupted", "benchmark", "invoke", "010.sleep", "test", "--repetitions", "50")
	p.Run()
	stand.Await(ctx, t, "the first call", func() bool { return len(s.Sandboxes()) > 0 })
	p.Interrupt()
	if code := p.Wait(30 * time.Second); code != 130 {
		t.Errorf("ended with %d:\n%s", code, p.Tail())
	}
	list, err := experimentsv1.NewExperimentsServiceClient(conn).ListRuns(ctx, &experimentsv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 1 {
		t.Fatalf("%d runs: %v", len(list.GetRuns()), err)
	}
	run := list.GetRuns()[0]
	if run.GetState() != experimentsv1.Run_STATE_CANCELLED {
		t.Errorf("the run is %s, %q", run.GetState(), run.GetProblems())
	}
	op, err := longrunningpb.NewOperationsClient(conn).GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: run.GetOperation()})
	if err != nil || !op.GetDone() || op.GetError().GetCode() != 1 {
		t.Errorf("the operation is %v: %v", op, err)
	}
	results.nothingLost(ctx, t, s, run.GetName())
	noBusySandboxes(ctx, t, s, conn)
}

// localFile is what `local start` writes.
type localFile struct {
	Functions []struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	} `json:"functions"`
	Inputs []json.RawMessage `json:"inputs"`
}

func TestLocalFunctionsStayUntilTheyAreStopped(t *testing.T) {
	dir, state := place(t)
	ctx := limited(t)
	startAndStop(ctx, t, dir, state)
	nothingRuns(ctx, t, state)
}

// startAndStop keeps a function running between two commands, and calls it.
func startAndStop(ctx context.Context, t *testing.T, dir, state string) {
	t.Helper()
	file := filepath.Join(dir, "out.json")
	start := stand.Command(t, binaries, "local-start", dir, "local", "start", "010.sleep", "test", file,
		"--measure-interval", "100", "--state-dir", state, "--sandbox", "process")
	start.Run()
	if code := start.Wait(testLimit); code != 0 {
		t.Fatalf("local start ended with %d:\n%s", code, start.Tail())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out localFile
	if err := json.Unmarshal(raw, &out); err != nil || len(out.Functions) != 1 || len(out.Inputs) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	var answer map[string]json.RawMessage
	post(ctx, t, "http://"+out.Functions[0].URL+"/", out.Inputs[0], &answer)
	for _, key := range []string{"begin", "end", "result", "is_cold", "request_id"} {
		if len(answer[key]) == 0 {
			t.Errorf("the answer has no %s: %s", key, answer)
		}
	}
	statistics := filepath.Join(dir, "memory.json")
	stop := stand.Command(t, binaries, "local-stop", dir, "local", "stop", file, statistics, "--state-dir", state)
	stop.Run()
	if code := stop.Wait(testLimit); code != 0 {
		t.Fatalf("local stop ended with %d:\n%s", code, stop.Tail())
	}
	if _, err := os.Stat(statistics); err != nil {
		t.Error(err)
	}
}

func post(ctx context.Context, t *testing.T, url string, body []byte, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s, %v", url, response.Status, err)
	}
}

func TestTheSuiteStaysUp(t *testing.T) {
	dir, state := place(t)
	ctx := limited(t)
	up := stand.Command(t, binaries, "up", dir, "up", "--state-dir", state, "--sandbox", "process", "--listen", stand.Address(t))
	up.Run()
	awaitFile(ctx, t, filepath.Join(state, "suite.json"))
	startAndStop(ctx, t, dir, state)
	// The suite in the foreground is not the one that local stop ends.
	again := stand.Command(t, binaries, "again", dir, "up", "--state-dir", state)
	again.Run()
	if code := again.Wait(testLimit); code != 4 || !strings.Contains(again.Log(), "runs a suite on") {
		t.Errorf("a second up ended with %d:\n%s", code, again.Tail())
	}
	up.Interrupt()
	if code := up.Wait(30 * time.Second); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, up.Tail())
	}
	nothingRuns(ctx, t, state)
}

func TestACommandOutlivesTheGateway(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{})
	p := s.CLI("patient", "benchmark", "invoke", "010.sleep", "test", "--repetitions", "6", "--output-dir", t.TempDir())
	p.Run()
	ctx := limited(t)
	stand.Await(ctx, t, "the first call", func() bool { return len(s.Sandboxes()) > 0 })
	s.Gateway.Kill()
	s.Gateway.Restart()
	if code := p.Wait(testLimit); code != 0 {
		t.Errorf("ended with %d:\n%s", code, p.Log())
	}
}

func TestACommandAfterOneThatWasKilled(t *testing.T) {
	dir, state := place(t)
	ctx := limited(t)
	invoke := func(name string) *stand.Process {
		p := stand.Command(t, binaries, name, dir, "benchmark", "invoke", "010.sleep", "test", "--repetitions", "3",
			"--state-dir", state, "--output-dir", filepath.Join(dir, name), "--sandbox", "process")
		p.Run()
		return p
	}
	killed := invoke("killed")
	sandboxes := func() int { return len(stand.Below(t, filepath.Join(state, "services", "local"))) }
	stand.Await(ctx, t, "the first call", func() bool { return sandboxes() > 0 })
	killed.Kill()
	// What the killed one left is the next one's to clear away: its sandboxes, its files, and its run.
	if code := invoke("next").Wait(testLimit); code != 0 {
		t.Fatalf("the next command cannot start")
	}
	nothingRuns(ctx, t, state)
	stopped := func(states map[string]string) bool {
		for _, s := range states {
			if s == "STATE_RUNNING" {
				return false
			}
		}
		return len(states) == 2
	}
	var states map[string]string
	stand.Await(ctx, t, "the end of the killed command's run", func() bool {
		states = runStates(t, dir, state)
		return stopped(states)
	})
	t.Logf("runs: %v", states)
	nothingRuns(ctx, t, state)
}

// runStates lists the runs of a state directory through a command of its own.
func runStates(t *testing.T, dir, state string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binaries.Path("sebs"), "run", "list", "--output", "json", "--state-dir", state,
		"--sandbox", "process", "--progress", "quiet").Output()
	if err != nil {
		t.Fatalf("run list: %v", err)
	}
	var list struct {
		Runs []struct{ Name, State string }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	states := make(map[string]string)
	for _, run := range list.Runs {
		states[run.Name] = run.State
	}
	return states
}
