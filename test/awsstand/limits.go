package awsstand

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Limits of functions, from https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html.
const (
	// directLimit is the largest archive that may be part of a request, unpackedLimit what an archive may unpack to.
	directLimit   = 50 << 20
	unpackedLimit = 250 << 20
	// environmentLimit is the size of all environment variables together.
	environmentLimit          = 4 << 10
	minMemory, maxMemory      = 128, 10240
	shortestTime, longestTime = 1, 900
)

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	variableName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]+$`)
	// reserved are variables that Lambda sets itself.
	reserved = []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
	}
)

// checkConfiguration refuses what Lambda refuses in a creation or a change of the configuration.
func checkConfiguration(q *request, name string) *refusal {
	var in struct {
		MemorySize, Timeout *int
		Environment         struct{ Variables map[string]string }
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	invalid := func(format string, args ...any) *refusal {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", format, args...)
	}
	constraint := func(field string, value any, must string) *refusal {
		return refuse(http.StatusBadRequest, "ValidationException",
			"1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, field, must)
	}
	switch {
	case !functionName.MatchString(name):
		return constraint("functionName", name, "Member must satisfy regular expression pattern and have length less than or equal to 64")
	case in.MemorySize != nil && (*in.MemorySize < minMemory || *in.MemorySize > maxMemory):
		return constraint("memorySize", *in.MemorySize, "Member must have value between 128 and 10240")
	case in.Timeout != nil && (*in.Timeout < shortestTime || *in.Timeout > longestTime):
		return constraint("timeout", *in.Timeout, "Member must have value between 1 and 900")
	}
	for name := range in.Environment.Variables {
		switch {
		case slices.Contains(reserved, name):
			return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", name)
		case !variableName.MatchString(name):
			return constraint("environment.variables", name, "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]")
		}
	}
	if raw, err := json.Marshal(in.Environment.Variables); err == nil && len(in.Environment.Variables) > 0 && len(raw) > environmentLimit {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s…", strings.ToValidUTF8(string(raw[:32]), ""))
	}
	return nil
}

// checkArchive refuses archives that Lambda cannot unpack, or that unpack to too much.
func checkArchive(raw []byte) *refusal {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again.")
	}
	size := uint64(0)
	for _, f := range z.File {
		size += f.UncompressedSize64
	}
	if size >= unpackedLimit {
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "Unzipped size must be smaller than %d bytes", unpackedLimit)
	}
	return nil
}
