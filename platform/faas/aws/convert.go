package aws

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// runtimes lists what functions can be written in.
func runtimes() []driver.Runtime {
	var all []driver.Runtime
	for _, language := range []struct {
		name     string
		versions []string
	}{
		{"python", []string{"3.9", "3.10", "3.11"}},
		{"nodejs", []string{"20", "22", "24"}},
		{"java", []string{"11", "17"}},
		{"cpp", []string{"all"}},
	} {
		for _, version := range language.versions {
			all = append(all, driver.Runtime{Language: language.name, Version: version})
		}
	}
	return all
}

// lambdaRuntime returns Lambda's name of a runtime.
func lambdaRuntime(r driver.Runtime) types.Runtime {
	switch r.Language {
	case "nodejs":
		return types.Runtime("nodejs" + r.Version + ".x")
	case "cpp":
		return types.RuntimeProvidedal2023
	default:
		return types.Runtime(r.Language + r.Version)
	}
}

// runtimeTag is a runtime as a tag has it.
func runtimeTag(r driver.Runtime) string {
	return escape(r.Language) + "/" + escape(r.Version) + "/" + escape(r.Variant)
}

var lambdaName = regexp.MustCompile(`^(python|nodejs|java)([0-9.]+?)(\.x)?$`)

// runtimeOf reads a runtime from the tag, and from Lambda's name where there is no tag.
func runtimeOf(tags map[string]string, name types.Runtime) driver.Runtime {
	if parts := strings.Split(tags[tagRuntime], "/"); len(parts) == 3 {
		return driver.Runtime{Language: unescape(parts[0]), Version: unescape(parts[1]), Variant: unescape(parts[2])}
	}
	if found := lambdaName.FindStringSubmatch(string(name)); found != nil {
		return driver.Runtime{Language: found[1], Version: found[2]}
	}
	if strings.HasPrefix(string(name), "provided") {
		return driver.Runtime{Language: "cpp", Version: "all"}
	}
	return driver.Runtime{}
}

// lambdaArchitecture returns Lambda's name of an architecture.
func lambdaArchitecture(architecture string) types.Architecture {
	if architecture == "arm64" {
		return types.ArchitectureArm64
	}
	return types.ArchitectureX8664
}

func architectureOf(architectures []types.Architecture) string {
	if slices.Contains(architectures, types.ArchitectureArm64) {
		return "arm64"
	}
	return "x64"
}

// handler returns the entry point, for languages whose layout has the usual one where none is given.
func handler(config driver.Config) *string {
	name := config.Handler
	if name == "" {
		switch config.Runtime.Language {
		case "java":
			name = "org.serverlessbench.Handler::handleRequest"
		case "cpp":
			name = "bootstrap"
		default:
			name = "handler.handler"
		}
	}
	return &name
}

// seconds rounds up: Lambda's timeouts are whole seconds.
func seconds(timeout time.Duration) *int32 {
	return sdk.Int32(int32((timeout + time.Second - 1) / time.Second))
}

// functionName is what this driver takes as a function's name; AWS would read others as ARNs or as parts of a path.
var functionName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

func checkName(name string) error {
	if functionName.MatchString(name) {
		return nil
	}
	return errs.Fields(errs.Field("function",
		"name %q must have 1 to 64 letters, digits, hyphens and underscores, with no hyphen in front; set another one with --function-name", name))
}

// functionOf makes the description of a function, without its triggers. live is the configuration that calls get; it
// differs from that of the answer where calls go through the alias.
func functionOf(answer *lambda.GetFunctionOutput, live *types.FunctionConfiguration) driver.Function {
	c, tags := answer.Configuration, answer.Tags
	fn := driver.Function{
		Name:       sdk.ToString(c.FunctionName),
		Handle:     sdk.ToString(c.FunctionArn),
		Deployment: unescape(tags[TagDeployment]),
		Benchmark:  unescape(tags[TagBenchmark]),
		Digest:     unescape(tags[TagDigest]),
		Config: driver.Config{
			Runtime:      runtimeOf(tags, c.Runtime),
			Architecture: architectureOf(c.Architectures),
			MemoryMB:     int(sdk.ToInt32(c.MemorySize)),
			Timeout:      time.Duration(sdk.ToInt32(c.Timeout)) * time.Second,
			Environment:  make(map[string]string),
			Handler:      sdk.ToString(c.Handler),

			ColdStartMethod: cmp.Or(tags[tagColdStart], ColdStartEnvironment),
		},
		Labels: labelsOf(tags),
		Attributes: map[string]string{
			"role": sdk.ToString(c.Role), "package_type": strings.ToLower(string(c.PackageType)), "code_sha256": sdk.ToString(c.CodeSha256),
		},
		Updated: timeOf(sdk.ToString(c.LastModified)),
	}
	if answer.Code != nil && answer.Code.ResolvedImageUri != nil {
		fn.Attributes["image"] = *answer.Code.ResolvedImageUri
	}
	environment(&fn.Config, c, tags)
	if answer.Concurrency != nil {
		fn.Config.MaxConcurrency = int(sdk.ToInt32(answer.Concurrency.ReservedConcurrentExecutions))
	}
	// A tag that is no number counts as none.
	fn.Config.ProvisionedConcurrency, _ = strconv.Atoi(tags[tagProvisioned])
	fn.State, fn.StateReason = stateOf(c)
	if live != nil {
		fn.Version, _ = strconv.ParseInt(sdk.ToString(live.Version), 10, 64)
		if fn.State == driver.StateActive {
			fn.State, fn.StateReason = stateOf(live)
		}
	}
	return fn
}

// environment copies the variables. Lambda gives all values back; those that are secret are left out.
func environment(config *driver.Config, c *types.FunctionConfiguration, tags map[string]string) {
	if c.Environment == nil {
		return
	}
	secrets := strings.Fields(tags[tagSecrets])
	for name, value := range c.Environment.Variables {
		if tags[tagSecrets] == allSecret || slices.Contains(secrets, name) {
			value = ""
			config.Secrets = append(config.Secrets, name)
		}
		config.Environment[name] = value
	}
	slices.Sort(config.Secrets)
}

// stateOf tells where the last change stands. An inactive function is one whose sandboxes Lambda took away for want of
// calls; the next call brings them back.
func stateOf(c *types.FunctionConfiguration) (driver.State, string) {
	switch {
	case c.State == types.StateFailed:
		return driver.StateFailed, reasonOf(c.StateReason, string(c.StateReasonCode))
	case c.LastUpdateStatus == types.LastUpdateStatusFailed:
		return driver.StateFailed, reasonOf(c.LastUpdateStatusReason, string(c.LastUpdateStatusReasonCode))
	case c.State == types.StatePending, c.LastUpdateStatus == types.LastUpdateStatusInProgress:
		return driver.StatePending, ""
	}
	return driver.StateActive, ""
}

func reasonOf(text *string, code string) string {
	switch {
	case sdk.ToString(text) == "":
		return code
	case code == "":
		return *text
	}
	return *text + " (" + code + ")"
}

// timeOf reads Lambda's form of a time, such as 2026-11-01T10:20:30.456+0000.
func timeOf(text string) time.Time {
	t, err := time.Parse("2006-01-02T15:04:05.000-0700", text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
