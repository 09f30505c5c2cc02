package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/cli/exitcode"
)

const inlineConfig = `{"deployment": {"name": "aws", "aws": {
	"credentials": {"access_key": "AKIAINLINE", "secret_key": "inline=secret"},
	"resources": {"container_repository": "images", "docker": {"registry": "registry.example.org", "username": "me", "password": "docker-secret"}}}}}`

func writeInline(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(inlineConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestInlineCredentialsReachOnlyASuiteOfTheCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ map[string]string
		token   string
	}{
		"no token":                {map[string]string{"AWS_REGION": "eu-north-1"}, ""},
		"token of these keys":     {map[string]string{"AWS_REGION": "eu-north-1", "AWS_SESSION_TOKEN": "t"}, "t"},
		"token of the same key":   {map[string]string{"AWS_REGION": "eu-north-1", "AWS_SESSION_TOKEN": "t", "AWS_ACCESS_KEY_ID": "AKIAINLINE"}, "t"},
		"token of another key":    {map[string]string{"AWS_REGION": "eu-north-1", "AWS_SESSION_TOKEN": "t", "AWS_ACCESS_KEY_ID": "AKIAOTHER"}, ""},
		"the older region's name": {map[string]string{"AWS_DEFAULT_REGION": "eu-north-1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			var got SuiteOptions
			execute(t.Context(), &State{
				Args:   []string{"resources", "list", "deployments", "--config", writeInline(t), "--state-dir", t.TempDir()},
				Getenv: func(name string) string { return c.environ[name] },
				Stdin:  strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
				StartSuite: func(_ context.Context, options SuiteOptions) (Suite, error) {
					got = options
					return nil, errNoSuite
				},
			})
			for _, want := range []string{
				"credentials.aws.default.access_key=AKIAINLINE", "credentials.aws.default.secret_key=inline=secret",
				"credentials.aws.default.session_token=" + c.token,
				"credentials.registry.default.registry=registry.example.org", "credentials.registry.default.username=me",
				"credentials.registry.default.password=docker-secret",
			} {
				if !slices.Contains(got.Settings, want) {
					t.Errorf("setting %q is missing: %q (%s)", want, got.Settings, stderr.String())
				}
			}
			if out := stdout.String() + stderr.String(); strings.Contains(out, "secret") {
				t.Errorf("a secret is shown: %s", out)
			}
		})
	}
}

func TestInlineCredentialsAreNotSent(t *testing.T) {
	t.Parallel()
	got := runLine(t, map[string]string{"AWS_REGION": "eu-north-1"},
		"resources", "list", "deployments", "--config", writeInline(t), "--server", "http://127.0.0.1:1")
	if got.code != exitcode.Precondition || !strings.Contains(got.stderr, "a credential of aws, which only a suite that this command starts would get") {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
	if strings.Contains(got.stderr, "secret\"") || strings.Contains(got.stderr, "inline=") {
		t.Errorf("a secret is shown: %s", got.stderr)
	}
}

func TestRegionHasToBeSomewhere(t *testing.T) {
	t.Parallel()
	got := runLine(t, nil, "resources", "list", "deployments", "--config", writeInline(t))
	if got.code != exitcode.Usage || !strings.Contains(got.stderr, "deployment.aws.region: is missing") {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
}

func TestTargetOfAWS(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.json")
	content := `{"deployment": {"name": "aws", "aws": {"region": "eu-north-1", "lambda-role": "arn:aws:iam::123456789012:role/r", "resources": {
		"resources_id": "mine", "storage_buckets": {"benchmarks": "our-data"}, "use-function-url": false}}}}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	app := &app{State: &State{Getenv: func(string) string { return "" }}}
	cmd := app.benchmarkPackageCommand()
	f := &commonFlags{}
	f.config, f.getenv = file, app.Getenv
	set, err := f.settings(cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := set.target
	if target.GetPlatform() != "aws" || target.GetRegion() != "eu-north-1" || target.GetResourcesId() != "mine" {
		t.Errorf("target %v", target)
	}
	if len(target.GetSettings()) != 2 || target.GetSettings()["lambda-role"] != "arn:aws:iam::123456789012:role/r" || target.GetSettings()["use-function-url"] != "false" {
		t.Errorf("settings %v", target.GetSettings())
	}
	if len(target.GetBuckets()) != 1 || target.GetBuckets()[0].GetBucket() != "our-data" || target.GetBuckets()[0].GetRole() != bucketRoles["benchmarks"] {
		t.Errorf("buckets %v", target.GetBuckets())
	}
}

func TestDollarsShowSmallAmounts(t *testing.T) {
	t.Parallel()
	for usd, want := range map[float64]string{0: "$0.00", 12.345: "$12.35", 0.01: "$0.01", 0.00123: "$0.0012", 2.5e-7: "$0.00000025"} {
		if got := dollars(usd); got != want {
			t.Errorf("dollars(%g) = %s, want %s", usd, got, want)
		}
	}
}
