package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/test/awsstand"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// awsLimit bounds one command on AWS, compilers of Java and C++ included.
const awsLimit = 3 * time.Minute

// cloud is a suite that stays up and deploys to a stand-in for AWS.
type cloud struct {
	*awsstand.Stand
	t          *testing.T
	dir, state string
	up         *stand.Process
	commands   atomic.Int64
}

// awsEnvironment is how the suite is told where AWS is and who asks.
func awsEnvironment(s *awsstand.Stand) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.Endpoint, "AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_REGION=" + s.Region,
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=",
	}
}

// startCloud starts a stand-in and a suite whose commands work on it.
func startCloud(t *testing.T, o awsstand.Options, config string) *cloud {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3 to run functions and input.py")
	}
	c := &cloud{Stand: awsstand.Start(t, o), t: t}
	c.dir, c.state = place(t)
	c.suite(config)
	return c
}

// suite starts the suite on the state directory.
func (c *cloud) suite(config string) {
	c.t.Helper()
	args := []string{"up", "--state-dir", c.state, "--sandbox", "process", "--listen", stand.Address(c.t)}
	if config != "" {
		file := filepath.Join(c.dir, "suite.yaml")
		if err := os.WriteFile(file, []byte("version: 1\n"+config), 0o600); err != nil {
			c.t.Fatal(err)
		}
		args = append(args, "--suite-config", file)
	}
	c.up = stand.Command(c.t, binaries, "up", c.dir, args...)
	c.up.Env = awsEnvironment(c.Stand)
	c.up.Run()
	awaitFile(limited(c.t), c.t, filepath.Join(c.state, "suite.json"))
}

// run runs a command to its good end and returns what it wrote.
func (c *cloud) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	// A command of the same name would add to the log of the one before.
	name = fmt.Sprintf("%d-%s", c.commands.Add(1), name)
	p := stand.Command(t, binaries, name, c.dir, append(args, "--state-dir", c.state)...)
	p.Run()
	if code := p.Wait(awsLimit); code != 0 {
		t.Fatalf("sebs %s ended with %d:\n%s", strings.Join(args, " "), code, p.Log())
	}
	return p.Log()
}

// resultFile is what is read of experiments.json and results.json.
type resultFile struct {
	Invocations map[string]map[string]struct {
		RequestID string `json:"request_id"`
		Output    struct {
			Cold      bool   `json:"is_cold"`
			RequestID string `json:"request_id"`
		} `json:"output"`
		Stats struct {
			Cold    bool     `json:"cold_start"`
			Failure bool     `json:"failure"`
			Memory  *float64 `json:"memory_used"`
		} `json:"stats"`
		Billing struct {
			Time   int64 `json:"_billed_time"`
			Memory int64 `json:"_memory"`
		} `json:"billing"`
		Provider struct {
			Execution, Initialization int64
		} `json:"provider_times"`
	} `json:"_invocations"`
	Config struct {
		Deployment struct {
			Name      string
			Resources struct {
				ID string `json:"resources_id"`
			}
		}
	}
}

func readResults(t *testing.T, path string) *resultFile {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := &resultFile{}
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// awsCase is a benchmark that is run from its source to its metrics.
type awsCase struct {
	name, benchmark, language string
	// version is that of an interpreter on this machine, where functions run on one.
	version func(t *testing.T) string
	needs   []string
	args    []string
	// alone is for a case that changes the function of another one.
	alone bool
}

var awsCases = []awsCase{
	{name: "python", benchmark: "110.dynamic-html", language: "python", version: pythonVersion},
	{name: "nodejs", benchmark: "110.dynamic-html", language: "nodejs", version: nodeVersion, needs: []string{"node", "npm"}},
	{name: "java", benchmark: "110.dynamic-html", language: "java", needs: []string{"mvn", "javac"}},
	{name: "cpp", benchmark: "010.sleep", language: "cpp", needs: []string{"cmake", "g++"}},
	{name: "library", benchmark: "110.dynamic-html", language: "python", version: pythonVersion, args: []string{"--trigger", "library"}, alone: true},
	{name: "tables", benchmark: "130.crud-api", language: "python", version: pythonVersion},
	{name: "storage", benchmark: "210.thumbnailer", language: "python", version: pythonVersion},
}

var numbers = regexp.MustCompile(`(\d+)\.(\d+)`)

func versionOf(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	m := numbers.FindStringSubmatch(string(out))
	if m == nil {
		t.Skipf("the version of %s is %q", program, out)
	}
	return m
}

func pythonVersion(t *testing.T) string { return versionOf(t, "python3")[0] }
func nodeVersion(t *testing.T) string   { return versionOf(t, "node")[1] }

// invokeArgs is the command line of a case.
func (c awsCase) invokeArgs(t *testing.T, out string) []string {
	t.Helper()
	for _, program := range c.needs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s to build the function", program)
		}
	}
	args := []string{"benchmark", "invoke", c.benchmark, "test", "--deployment", "aws", "--language", c.language, "--repetitions", "2", "--output-dir", out}
	if c.version != nil {
		args = append(args, "--language-version", c.version(t))
	}
	return append(args, c.args...)
}

// fromSourceToMetrics runs a benchmark with one cold and one warm call, and fetches what AWS measured.
func (c *cloud) fromSourceToMetrics(t *testing.T, test awsCase) *resultFile {
	t.Helper()
	out := filepath.Join(c.dir, "out-"+test.name)
	c.run(t, "invoke-"+test.name, test.invokeArgs(t, out)...)
	checkStarts(t, readResults(t, filepath.Join(out, "experiments.json")))
	c.run(t, "process-"+test.name, "benchmark", "process", "--output-dir", out)
	results := readResults(t, filepath.Join(out, "results.json"))
	checkStarts(t, results)
	for function, calls := range results.Invocations {
		for id, call := range calls {
			if call.Billing.Time <= 0 || call.Billing.Memory <= 0 || call.Provider.Execution <= 0 || call.Stats.Memory == nil || *call.Stats.Memory <= 0 {
				t.Errorf("%s %s has no metrics: %+v", function, id, call)
			}
			if cold := call.Provider.Initialization > 0; cold != call.Stats.Cold {
				t.Errorf("%s %s: cold is %t, and the initialization took %d us", function, id, call.Stats.Cold, call.Provider.Initialization)
			}
		}
	}
	return results
}

// checkStarts looks for one cold and one warm call, both good and under the id that the function saw.
func checkStarts(t *testing.T, file *resultFile) {
	t.Helper()
	if file.Config.Deployment.Name != "aws" || len(file.Invocations) != 1 {
		t.Errorf("the file is of deployment %q with %d functions", file.Config.Deployment.Name, len(file.Invocations))
	}
	starts := make(map[bool]int)
	for function, calls := range file.Invocations {
		for id, call := range calls {
			starts[call.Stats.Cold]++
			if call.Stats.Failure || call.Output.Cold != call.Stats.Cold || call.Output.RequestID != id || call.RequestID != id {
				t.Errorf("%s %s: %+v", function, id, call)
			}
		}
	}
	if starts[true] != 1 || starts[false] != 1 {
		t.Errorf("%d calls are cold and %d warm, want one each", starts[true], starts[false])
	}
}

func TestBenchmarksOnAWS(t *testing.T) {
	c := startCloud(t, awsstand.Options{}, "")
	ids := make(chan string, len(awsCases))
	t.Run("runs", func(t *testing.T) {
		for _, test := range awsCases {
			t.Run(test.name, func(t *testing.T) {
				if !test.alone {
					t.Parallel()
				}
				ids <- c.fromSourceToMetrics(t, test).Config.Deployment.Resources.ID
			})
		}
	})
	close(ids)
	seen := slices.Compact(slices.Sorted(values(ids)))
	if len(seen) != 1 {
		t.Fatalf("the runs are of deployments %q, want one", seen)
	}
	t.Run("grants", func(t *testing.T) { c.grantsAreBounded(t, seen[0]) })
	t.Run("secrets", c.noSecretsAreLeft)
	t.Run("cleanup", func(t *testing.T) { c.cleanupWithoutState(t, seen[0], "function", "role", "log", "bucket", "table") })
}

// awsSettings are deployments with triggers other than a public function URL, and their own way to enforce cold starts.
var awsSettings = []struct {
	name, resources, trigger string
	left                     []string
}{
	{"api", `{"use-function-url": false, "cold-start-method": "version"}`, "http", []string{"function", "API", "role", "log", "bucket"}},
	{"signed", `{"function-url-auth-type": "AWS_IAM"}`, "http", []string{"function", "role", "log", "bucket"}},
	{"objects", `{}`, "storage", []string{"function", "role", "log", "bucket"}},
}

func TestTriggersOnAWS(t *testing.T) {
	c := startCloud(t, awsstand.Options{}, "")
	for _, test := range awsSettings {
		t.Run(test.name, func(t *testing.T) {
			config := filepath.Join(c.dir, test.name+".json")
			text := `{"deployment": {"name": "aws", "aws": {"region": "` + c.Region + `", "resources": ` + test.resources + `}}}`
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			results := c.fromSourceToMetrics(t, awsCase{
				name: test.name, benchmark: "110.dynamic-html", language: "python", version: pythonVersion,
				args: []string{"--config", config, "--trigger", test.trigger},
			})
			c.noSecretsAreLeft(t)
			c.cleanupWithoutState(t, results.Config.Deployment.Resources.ID, test.left...)
		})
	}
}

func values(ids <-chan string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for id := range ids {
			if !yield(id) {
				return
			}
		}
	}
}

// grantsAreBounded looks at what functions may do: named actions, on what belongs to the deployment.
func (c *cloud) grantsAreBounded(t *testing.T, id string) {
	grants, err := c.Grants(t.Context(), "sebs-lambda-role-"+id)
	if err != nil || len(grants) == 0 {
		t.Fatalf("the role grants %v: %v", grants, err)
	}
	for _, g := range grants {
		t.Logf("%s %s on %s", g.Effect, strings.Join(g.Action, ", "), strings.Join(g.Resource, ", "))
		for _, action := range g.Action {
			if strings.Contains(action, "*") {
				t.Errorf("the action %s has a wildcard", action)
			}
		}
		for _, resource := range g.Resource {
			if !strings.Contains(strings.ReplaceAll(resource, "_", "-"), id) {
				t.Errorf("%s is more than the deployment's own", resource)
			}
		}
	}
}

// cleanupWithoutState loses all that the suite knew, and has it find and remove everything in the account.
func (c *cloud) cleanupWithoutState(t *testing.T, id string, want ...string) {
	before := c.inventory(t.Context(), t)
	kinds := make(map[string]bool)
	for _, item := range before {
		kind, _, _ := strings.Cut(item, " ")
		kinds[kind] = true
	}
	for _, kind := range want {
		if !kinds[kind] {
			t.Errorf("the runs left no %s: %q", kind, before)
		}
	}
	c.up.Interrupt()
	if code := c.up.Wait(30 * time.Second); code != 0 {
		t.Fatalf("up ended with %d:\n%s", code, c.up.Tail())
	}
	if err := os.RemoveAll(c.state); err != nil {
		t.Fatal(err)
	}
	c.suite("")
	if log := c.run(t, "find", "resources", "find", "--deployment", "aws"); !strings.Contains(log, id) {
		t.Fatalf("the deployment is not found:\n%s", log)
	}
	planned := c.run(t, "dry", "resources", "cleanup", "--deployment", "aws", "--dry-run")
	if after := c.inventory(t.Context(), t); !slices.Equal(before, after) {
		t.Errorf("the dry run changed %q to %q", before, after)
	}
	done := c.run(t, "cleanup", "resources", "cleanup", "--deployment", "aws")
	if after := c.inventory(t.Context(), t); len(after) != 0 {
		t.Errorf("left after clean-up: %q", after)
	}
	for _, item := range before {
		name := item[strings.LastIndex(item, " ")+1:]
		for what, log := range map[string]string{"dry run": planned, "clean-up": done} {
			if !strings.Contains(log, name) {
				t.Errorf("the %s does not tell of %s:\n%s", what, item, log)
			}
		}
	}
	t.Logf("%d resources were found and removed: %q", len(before), before)
}

func (c *cloud) inventory(ctx context.Context, t *testing.T) []string {
	t.Helper()
	all, err := c.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
