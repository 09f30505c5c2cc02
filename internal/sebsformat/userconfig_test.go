package sebsformat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sebs-suite/sebs/internal/secret"
)

func userConfig(t *testing.T, platform string) *UserConfig {
	t.Helper()
	c, err := ReadUserConfig(bytes.NewReader(sample(t, "user-config.json")), UserConfigOptions{Platform: platform})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUserConfigExperiments(t *testing.T) {
	t.Parallel()
	e := userConfig(t, "").Experiments
	if *e.UpdateCode || !*e.UpdateStorage || e.Architecture != "arm64" || e.SystemVariant != "container" || !e.Flags["docker_copy_build_files"] {
		t.Errorf("experiments = %+v", e)
	}
	if e.Runtime != (Runtime{Language: "python", Version: "3.11", Variant: "default"}) {
		t.Errorf("runtime = %+v", e.Runtime)
	}
	want := &PerfCostConfig{
		Benchmark: "110.dynamic-html", Experiments: []string{"cold", "warm", "burst", "sequential"}, InputSize: "small", Repetitions: 20,
		ConcurrentInvocations: 10, MemorySizesMB: []int{128, 256},
	}
	if diff := cmp.Diff(want, e.PerfCost); diff != "" {
		t.Error(diff)
	}
	if *e.NetworkPingPong != (NetworkPingPongConfig{Invocations: 5, Repetitions: 100, Threads: 2}) {
		t.Errorf("network-ping-pong = %+v", e.NetworkPingPong)
	}
	if e.InvocationOverhead.Code != (SizeRange{BeginBytes: 4096, EndBytes: 8192, Points: 3}) || e.InvocationOverhead.Type != "code" {
		t.Errorf("invocation-overhead = %+v", e.InvocationOverhead)
	}
	if *e.EvictionModel != (EvictionModelConfig{Invocations: 2, Repetitions: 4, FunctionCopyIdx: 1, SleepSeconds: 30}) {
		t.Errorf("eviction-model = %+v", e.EvictionModel)
	}
	if len(e.Blocks) != 4 {
		t.Errorf("blocks = %v", e.Blocks)
	}
}

func TestUserConfigPlatforms(t *testing.T) {
	t.Parallel()
	aws := userConfig(t, "")
	if aws.Platform != "aws" || aws.Region != "us-east-1" || aws.ResourcesID != "1a2b3c4d" || aws.Buckets["benchmarks"] != "sebs-benchmarks-1a2b3c4d" {
		t.Errorf("config = %+v", aws)
	}
	if a := aws.AWS; a.LambdaRole != "arn:aws:iam::0:role/r" || a.AccessKey.Reveal() != "AK" || a.UseFunctionURL || a.FunctionURLAuthType != "NONE" || a.ContainerRepository != "repo" {
		t.Errorf("aws = %+v", a)
	}
	if !slices.ContainsFunc(aws.Warnings, func(w string) bool { return strings.Contains(w, "container_deployment") }) {
		t.Errorf("warnings = %q", aws.Warnings)
	}
	azure := userConfig(t, "azure").Azure
	if azure.AppID.Reveal() != "A" || azure.ResourceGroup != "g" || azure.StorageAccounts[0].ConnectionString.Reveal() != "C1" || azure.CosmosDB.URL != "https://c" {
		t.Errorf("azure = %+v", azure)
	}
	gcp := userConfig(t, "gcp").GCP
	if gcp.CredentialsFile != "/keys/gcp.json" || gcp.FunctionGen1.MaxInstances != 5 || gcp.FunctionGen2.VCPUs != 2 || gcp.Container.Environment != "gen2" {
		t.Errorf("gcp = %+v", gcp)
	}
	openwhisk := userConfig(t, "openwhisk").OpenWhisk
	if !openwhisk.BypassSecurity || openwhisk.WskExec != "/usr/bin/wsk" || openwhisk.Storage.MinIO.MappedPort != 9011 || openwhisk.Storage.ScyllaDB.MemoryMB != "750" {
		t.Errorf("openwhisk = %+v", openwhisk)
	}
	local := userConfig(t, "local")
	if local.Local.Storage.MinIO.Address != "127.0.0.1:9000" || len(local.Local.AllocatedPorts) != 2 {
		t.Errorf("local = %+v", local.Local)
	}
}

func TestUserConfigInYAMLIsTheSame(t *testing.T) {
	t.Parallel()
	var tree any
	if err := json.Unmarshal(sample(t, "user-config.json"), &tree); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, platform := range []string{"aws", "azure", "gcp", "openwhisk", "local"} {
		got, err := ReadUserConfig(bytes.NewReader(text), UserConfigOptions{Platform: platform})
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b secret.String) bool { return a.Equal(b) })
		if diff := cmp.Diff(userConfig(t, platform), got, same); diff != "" {
			t.Errorf("%s differs (-JSON +YAML):\n%s", platform, diff)
		}
	}
}

func TestUserConfigSpellings(t *testing.T) {
	t.Parallel()
	read := func(platform, block string) *UserConfig {
		t.Helper()
		c, err := ReadUserConfig(strings.NewReader(`{"deployment":{"name":"`+platform+`","`+platform+`":`+block+`}}`), UserConfigOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := read("azure", `{"region":"r","credentials":{"appId":"x"}}`); c.Azure.AppID.Reveal() != "x" {
		t.Error("appId is not read")
	}
	if c := read("gcp", `{"region":"r","credentials":{"credentials-json":"/k"}}`); c.GCP.CredentialsFile != "/k" {
		t.Error("credentials.credentials-json is not read")
	}
	if c := read("aws", `{"region":"r","resources":{"lambda-role":"inner"},"lambda-role":"outer"}`); c.AWS.LambdaRole != "inner" {
		t.Errorf("lambda-role = %q", c.AWS.LambdaRole)
	}
	if c := read("openwhisk", `{"wskBypassSecurity":"False"}`); c.OpenWhisk.BypassSecurity {
		t.Error(`wskBypassSecurity "False" counts as true`)
	}
	if c := read("openwhisk", `{"wskBypassSecurity":true}`); !c.OpenWhisk.BypassSecurity {
		t.Error("wskBypassSecurity true is not read")
	}
	if c := read("aws", `{"region":"r","resources":{"benchmarks":"b"}}`); c.Buckets["benchmarks"] != "b" {
		t.Errorf("buckets = %v", c.Buckets)
	}
	c, err := ReadUserConfig(strings.NewReader(`{"experiments":{"invocation-overhead":{"code_package_begin":5,"code_begin":7,"surprise":1}}}`), UserConfigOptions{})
	if err != nil || c.Experiments.InvocationOverhead.Code.BeginBytes != 5 {
		t.Errorf("code_package_begin = %+v, %v", c, err)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "experiments.invocation-overhead.surprise") {
		t.Errorf("warnings = %q", c.Warnings)
	}
}

func TestYAMLKeepsVersions(t *testing.T) {
	t.Parallel()
	const text = "experiments:\n  update_code: true\n  runtime: {language: python, version: 3.10}\n  perf-cost: {repetitions: 0x10}\n"
	c, err := ReadUserConfig(strings.NewReader(text), UserConfigOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Experiments.Runtime.Version != "3.10" || c.Experiments.PerfCost.Repetitions != 16 || !*c.Experiments.UpdateCode {
		t.Errorf("experiments = %+v, %+v", c.Experiments.Runtime, c.Experiments.PerfCost)
	}
	for name, text := range map[string]string{
		"alias": "a: &x 1\nb: *x\n", "twice": "experiments: {}\nexperiments: {}\n", "list as key": "? [a]\n: 1\n", "infinity": "experiments: {flags: .inf}",
	} {
		if _, err := ReadUserConfig(strings.NewReader(text), UserConfigOptions{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestUserConfigNamesEveryProblem(t *testing.T) {
	t.Parallel()
	const text = `{"experiments":{"update_code":"yes","architecture":"mips","runtime":{"language":"cobol"},
		"perf-cost":{"experiments":["cold","tepid"],"repetitions":0,"memory-sizes":[128,"lots"]}},
		"deployment":{"name":"aws","aws":{"credentials":{"access_key":"s3cr3t"},"resources":{"docker":{}}}}}`
	_, err := ReadUserConfig(strings.NewReader(text), UserConfigOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"experiments.update_code: must be true or false", `experiments.architecture: is "mips"; use one of x64, arm64`,
		`experiments.runtime.language: is "cobol"`, `experiments.perf-cost.experiments[1]: is "tepid"`,
		"experiments.perf-cost.repetitions: is 0; it must be at least 1", "experiments.perf-cost.memory-sizes[1]: must be a whole number",
		"deployment.aws.region: is missing; add", "deployment.aws.credentials: has only one of access_key and secret_key",
		"deployment.aws.resources.container_repository: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a secret stands in the error:\n%v", err)
	}
	for name, text := range map[string]string{
		"empty": " ", "list": "[]", "word": "hello", "broken": `{"experiments":`, "YAML": "a: b: c", "platform": `{"deployment":{"name":"moon"}}`,
		"number": "5", "experiments as list": `{"experiments":[]}`, "trailing": `{} {}`,
	} {
		if _, err := ReadUserConfig(strings.NewReader(text), UserConfigOptions{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestUserConfigDoesNotPrintSecrets(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"aws", "azure", "openwhisk"} {
		c := userConfig(t, platform)
		c.Experiments.Blocks = nil
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		printed := fmt.Sprintf("%s %+v %+v %+v", text, c.AWS, c.Azure, c.OpenWhisk)
		for _, secret := range []string{"SK", "C1", `"P"`, "MS"} {
			if strings.Contains(printed, secret) {
				t.Errorf("%s: %q is printed: %s", platform, secret, printed)
			}
		}
	}
}

func TestReadStorageConfig(t *testing.T) {
	t.Parallel()
	s, warnings, err := ReadStorageConfig(bytes.NewReader(sample(t, "storage-start-out.json")))
	if err != nil || len(warnings) != 0 {
		t.Fatalf("warnings %q, %v", warnings, err)
	}
	if s.MinIO.Version != "RELEASE.2024-07-16T23-46-41Z" || s.ScyllaDB.AlternatorPort != 8000 || s.ScyllaDB.CPUs != 1 {
		t.Errorf("storage = %+v, %+v", s.MinIO, s.ScyllaDB)
	}
}

func FuzzReadUserConfig(f *testing.F) {
	f.Add(string(sample(f, "user-config.json")), "aws")
	f.Add("experiments: {runtime: {language: python, version: 3.11}}\ndeployment:\n  name: local\n", "")
	f.Add(`{"deployment":{"name":"gcp","gcp":{"region":"r","credentials":"x"}}}`, "gcp")
	f.Fuzz(func(t *testing.T, text, platform string) {
		if !slices.Contains(platforms, platform) {
			platform = ""
		}
		c, err := ReadUserConfig(strings.NewReader(text), UserConfigOptions{Platform: platform})
		if (c == nil) == (err == nil) {
			t.Errorf("config %v, error %v", c, err)
		}
	})
}
