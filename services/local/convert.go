package local

import (
	"cmp"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/services/local/host"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

var languages = map[typev1.Language]string{
	typev1.Language_LANGUAGE_UNSPECIFIED: "python",
	typev1.Language_LANGUAGE_PYTHON:      "python",
	typev1.Language_LANGUAGE_NODEJS:      "nodejs",
	typev1.Language_LANGUAGE_JAVA:        "java",
	typev1.Language_LANGUAGE_CPP:         "cpp",
}

var languageEnums = map[string]typev1.Language{
	"python": typev1.Language_LANGUAGE_PYTHON,
	"nodejs": typev1.Language_LANGUAGE_NODEJS,
	"java":   typev1.Language_LANGUAGE_JAVA,
	"cpp":    typev1.Language_LANGUAGE_CPP,
}

var architectures = map[typev1.Architecture]string{
	typev1.Architecture_ARCHITECTURE_X64:   "x64",
	typev1.Architecture_ARCHITECTURE_ARM64: "arm64",
}

var architectureEnums = map[string]typev1.Architecture{
	"x64":   typev1.Architecture_ARCHITECTURE_X64,
	"arm64": typev1.Architecture_ARCHITECTURE_ARM64,
}

var kinds = map[localv1.SandboxKind]string{
	localv1.SandboxKind_SANDBOX_KIND_DOCKER:  "docker",
	localv1.SandboxKind_SANDBOX_KIND_PROCESS: "process",
}

var kindEnums = map[string]localv1.SandboxKind{
	"docker":  localv1.SandboxKind_SANDBOX_KIND_DOCKER,
	"process": localv1.SandboxKind_SANDBOX_KIND_PROCESS,
}

func configFrom(c *localv1.LocalConfiguration) (host.Config, error) {
	language, ok := languages[c.GetRuntime().GetLanguage()]
	if !ok {
		return host.Config{}, errs.Fields(errs.Field("configuration.runtime.language", "is unknown; use python, nodejs, java or cpp"))
	}
	if c.GetKeepAlive() != nil {
		if err := c.GetKeepAlive().CheckValid(); err != nil {
			return host.Config{}, errs.Fields(errs.Field("configuration.keep_alive", "is no valid duration: %v", err))
		}
	}
	out := host.Config{
		Runtime:        sandbox.Runtime{Language: language, Version: c.GetRuntime().GetVersion()},
		Variant:        c.GetRuntime().GetVariant(),
		Architecture:   architectures[c.GetArchitecture()],
		Handler:        c.GetHandler(),
		Timeout:        time.Duration(c.GetTimeoutSeconds()) * time.Second,
		MemoryMB:       int(c.GetMemoryMb()),
		Environment:    c.GetEnvironment(),
		MaxConcurrency: int(c.GetMaxConcurrency()),
		SandboxKind:    kinds[c.GetSandboxKind()],
		KeepAlive:      c.GetKeepAlive().AsDuration(),
		Labels:         c.GetLabels(),
	}
	if len(c.GetSecretEnvironment()) > 0 {
		out.Secrets = map[string]secret.String{}
		for name, value := range c.GetSecretEnvironment() {
			out.Secrets[name] = secret.New(value)
		}
	}
	return out, nil
}

func runtimeProto(r sandbox.Runtime, variant string) *typev1.Runtime {
	return &typev1.Runtime{Language: languageEnums[r.Language], Version: r.Version, Variant: cmp.Or(variant, "default")}
}

func (s *Server) function(d *host.Definition, sandboxes int) *localv1.LocalFunction {
	c := d.Config
	out := &localv1.LocalFunction{
		FunctionId: d.Name,
		Configuration: &localv1.LocalConfiguration{
			Runtime:           runtimeProto(c.Runtime, c.Variant),
			Architecture:      architectureEnums[c.Architecture],
			Handler:           c.Handler,
			TimeoutSeconds:    int32(c.Timeout / time.Second),
			MemoryMb:          int32(c.MemoryMB),
			Environment:       c.Environment,
			SecretEnvironment: map[string]string{},
			MaxConcurrency:    int32(c.MaxConcurrency),
			SandboxKind:       kindEnums[c.SandboxKind],
			Labels:            c.Labels,
		},
		CodeHash:     d.CodeHash,
		Version:      d.Version,
		Url:          s.urls.FunctionURL(d.Name),
		OwnUrl:       s.urls.OwnURL(d.Port),
		SandboxCount: int32(sandboxes),
		CreateTime:   timestamppb.New(d.Created),
		UpdateTime:   timestamppb.New(d.Updated),
		SandboxKind:  kindEnums[d.Kind],
		ImageUri:     c.Image,
	}
	for name := range c.Secrets {
		out.Configuration.SecretEnvironment[name] = ""
	}
	if c.KeepAlive > 0 {
		out.Configuration.KeepAlive = durationpb.New(c.KeepAlive)
	}
	if t := d.Trigger; t != nil {
		out.StorageTrigger = &localv1.StorageTrigger{Bucket: t.Bucket, Prefix: t.Prefix, ResultsPrefix: t.ResultsPrefix}
	}
	return out
}

func invocation(r *host.Record) *localv1.LocalInvocation {
	out := &localv1.LocalInvocation{
		RequestId:     r.RequestID,
		FunctionId:    r.Function,
		Version:       r.Version,
		StartTime:     timestamppb.New(r.Start),
		DurationUs:    r.Duration.Microseconds(),
		BilledMs:      r.BilledMS,
		MemoryMb:      int32(r.MemoryMB),
		ColdStart:     r.Cold,
		FunctionError: r.Failure,
		ErrorType:     r.ErrorType,
		ErrorMessage:  r.ErrorMessage,
		SandboxId:     r.Sandbox,
		Report:        r.Report(),
	}
	if r.Cold {
		us := r.Init.Microseconds()
		out.InitDurationUs = &us
	}
	if r.MaxMemoryMB > 0 {
		out.MaxMemoryUsedMb = &r.MaxMemoryMB
	}
	return out
}

func sandboxProto(b host.Sandbox) *localv1.Sandbox {
	out := &localv1.Sandbox{
		SandboxId: b.ID, FunctionId: b.Function, Version: b.Version, Kind: kindEnums[b.Kind], Busy: b.Busy,
		InvocationCount: b.Invocations, StartTime: timestamppb.New(b.Started),
	}
	if b.MemoryBytes > 0 {
		out.MemoryBytes = &b.MemoryBytes
	}
	return out
}

// cursor is a position in a list that is ordered by time: behind skip entries of that very time.
type cursor struct {
	at   time.Time
	skip int
}

func (c cursor) token() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.at.UnixNano(), 10) + ":" + strconv.Itoa(c.skip)))
}

func parseCursor(token string) (cursor, error) {
	if token == "" {
		return cursor{}, nil
	}
	bad := errs.Fields(errs.Field("page_token", "is not one of this service; leave it out for the first page"))
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return cursor{}, bad
	}
	at, skip, _ := strings.Cut(string(raw), ":")
	ns, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return cursor{}, bad
	}
	n, err := strconv.Atoi(skip)
	if err != nil || n < 0 {
		return cursor{}, bad
	}
	return cursor{at: time.Unix(0, ns), skip: n}, nil
}

// page cuts one page out of entries ordered by time. fits is asked with every entry and may end the page early, though not
// before its first entry.
func page[T any](all []T, c cursor, size int, timeOf func(*T) time.Time, fits func(*T) bool) (out []T, next string) {
	from := 0
	for from < len(all) && !c.at.IsZero() && timeOf(&all[from]).Before(c.at) {
		from++
	}
	for skip := c.skip; skip > 0 && from < len(all) && timeOf(&all[from]).Equal(c.at); skip-- {
		from++
	}
	for to := from; to < len(all); to++ {
		if to-from >= size || (to > from && fits != nil && !fits(&all[to])) {
			last := timeOf(&all[to-1])
			n := 0
			for i := to - 1; i >= 0 && timeOf(&all[i]).Equal(last); i-- {
				n++
			}
			return all[from:to], cursor{at: last, skip: n}.token()
		}
		if to == from && fits != nil {
			fits(&all[to])
		}
	}
	return all[from:], ""
}
