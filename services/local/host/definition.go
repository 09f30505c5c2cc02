package host

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// Limits of a function's configuration, those of AWS Lambda.
const (
	DefaultMemoryMB = 128
	MinMemoryMB     = 64
	MaxMemoryMB     = 10240
	DefaultTimeout  = 60 * time.Second
	MaxTimeout      = 900 * time.Second
	// MemoryPerVCPU is the memory that comes with one full virtual processor.
	MemoryPerVCPU = 1769
)

// Config is what a function runs with.
type Config struct {
	Runtime      sandbox.Runtime
	Variant      string
	Architecture string // x64 or arm64; empty is the host's
	Handler      string
	Timeout      time.Duration
	MemoryMB     int
	Environment  map[string]string
	Secrets      map[string]secret.String
	// MaxConcurrency is the most sandboxes at once; 0 is the host's default.
	MaxConcurrency int
	// SandboxKind is "docker", "process", or empty for the host's choice.
	SandboxKind string
	// KeepAlive is how long an idle sandbox stays; 0 is the host's default.
	KeepAlive time.Duration
	Labels    map[string]string
	// Image is a container image with an entry point of its own; empty for code packages.
	Image string
}

// StorageTrigger makes events of the objects that appear below a prefix of a bucket.
type StorageTrigger struct {
	Bucket        string `json:"bucket"`
	Prefix        string `json:"prefix"`
	ResultsPrefix string `json:"results_prefix"`
}

// Definition is a deployed function.
type Definition struct {
	Name     string
	Config   Config
	CodeHash string
	// ArchiveSHA256 names the unpacked code; empty for images.
	ArchiveSHA256 string
	// Version grows by one with every change.
	Version int64
	// Port is the function's own port at the HTTP front; 0 when it has none.
	Port    int
	Trigger *StorageTrigger
	Created time.Time
	Updated time.Time
	// Kind is the kind of sandbox chosen for the function.
	Kind string
}

var (
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,139}$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	handlerPattern  = regexp.MustCompile(`^[A-Za-z0-9_./:$-]{1,256}$`)
)

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return errs.Fields(errs.Field("function_id", "%q is no function name; use 1 to 140 letters, digits, '.', '_' and '-', beginning with a letter or digit", name))
	}
	return nil
}

// Architecture is the one that this machine runs: x64 or arm64.
func Architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x64"
	}
	return runtime.GOARCH
}

// complete sets defaults and reports everything that is wrong.
func (c *Config) complete() error {
	if c.MemoryMB == 0 {
		c.MemoryMB = DefaultMemoryMB
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Architecture == "" {
		c.Architecture = Architecture()
	}
	if c.Handler == "" {
		c.Handler = "handler.handler"
	}
	var wrong []error
	if c.MemoryMB < MinMemoryMB || c.MemoryMB > MaxMemoryMB {
		wrong = append(wrong, errs.Field("configuration.memory_mb", "is %d; it must be between %d and %d", c.MemoryMB, MinMemoryMB, MaxMemoryMB))
	}
	if c.Timeout < time.Second || c.Timeout > MaxTimeout {
		wrong = append(wrong, errs.Field("configuration.timeout_seconds", "is %g; it must be between 1 and %g", c.Timeout.Seconds(), MaxTimeout.Seconds()))
	}
	if c.Architecture != Architecture() {
		wrong = append(wrong, errs.Field("configuration.architecture", "is %s, this host runs %s only; build the package for %s, or only inspect it", c.Architecture, Architecture(), Architecture()))
	}
	if !handlerPattern.MatchString(c.Handler) {
		wrong = append(wrong, errs.Field("configuration.handler", "%q is no handler; use the form module.function", c.Handler))
	}
	if c.MaxConcurrency < 0 {
		wrong = append(wrong, errs.Field("configuration.max_concurrency", "is negative; use 0 for the host's default"))
	}
	if c.KeepAlive < 0 {
		wrong = append(wrong, errs.Field("configuration.keep_alive", "is negative; leave it out for the host's default"))
	}
	if c.Variant != "" && c.Variant != "default" {
		wrong = append(wrong, errs.Field("configuration.runtime.variant", "%q does not run on platform local; use default", c.Variant))
	}
	for name := range c.Environment {
		if !variablePattern.MatchString(name) {
			wrong = append(wrong, errs.Field("configuration.environment", "%q is no variable name; use letters, digits and '_'", name))
		}
	}
	for name := range c.Secrets {
		if !variablePattern.MatchString(name) {
			wrong = append(wrong, errs.Field("configuration.secret_environment", "%q is no variable name; use letters, digits and '_'", name))
		}
	}
	if len(wrong) > 0 {
		return errs.Fields(wrong...)
	}
	return nil
}

// clone copies the definition so that callers cannot change the host's.
func (d *Definition) clone() *Definition {
	c := *d
	c.Config.Environment = maps.Clone(d.Config.Environment)
	c.Config.Secrets = maps.Clone(d.Config.Secrets)
	c.Config.Labels = maps.Clone(d.Config.Labels)
	if d.Trigger != nil {
		t := *d.Trigger
		c.Trigger = &t
	}
	return &c
}

// keepSecrets fills in secrets that are named without a value from the definition before. Secrets are never read back, so
// who changes one thing cannot send the others again.
func (d *Definition) keepSecrets(old *Definition) {
	for name, value := range d.Config.Secrets {
		if before, ok := old.Config.Secrets[name]; ok && value.Empty() {
			d.Config.Secrets[name] = before
		}
	}
}

// stored is the file form of a definition. It holds secrets in clear and is readable by the host's user only.
type stored struct {
	Name           string            `json:"name"`
	Language       string            `json:"language"`
	Version        string            `json:"language_version"`
	Variant        string            `json:"variant,omitempty"`
	Architecture   string            `json:"architecture"`
	Handler        string            `json:"handler"`
	TimeoutMS      int64             `json:"timeout_ms"`
	MemoryMB       int               `json:"memory_mb"`
	Environment    map[string]string `json:"environment,omitempty"`
	Secrets        map[string]string `json:"secret_environment,omitempty"`
	MaxConcurrency int               `json:"max_concurrency,omitempty"`
	SandboxKind    string            `json:"sandbox_kind,omitempty"`
	KeepAliveMS    int64             `json:"keep_alive_ms,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Image          string            `json:"image,omitempty"`
	CodeHash       string            `json:"code_hash"`
	ArchiveSHA256  string            `json:"archive_sha256,omitempty"`
	Revision       int64             `json:"version"`
	Port           int               `json:"port,omitempty"`
	Trigger        *StorageTrigger   `json:"storage_trigger,omitempty"`
	Created        time.Time         `json:"create_time"`
	Updated        time.Time         `json:"update_time"`
	Kind           string            `json:"kind"`
}

// save writes the definition so that a crash leaves the old or the new one.
func (d *Definition) save(dir string) error {
	s := stored{
		Name: d.Name, Language: d.Config.Runtime.Language, Version: d.Config.Runtime.Version, Variant: d.Config.Variant,
		Architecture: d.Config.Architecture, Handler: d.Config.Handler, TimeoutMS: d.Config.Timeout.Milliseconds(),
		MemoryMB: d.Config.MemoryMB, Environment: d.Config.Environment, MaxConcurrency: d.Config.MaxConcurrency,
		SandboxKind: d.Config.SandboxKind, KeepAliveMS: d.Config.KeepAlive.Milliseconds(), Labels: d.Config.Labels,
		Image: d.Config.Image, CodeHash: d.CodeHash, ArchiveSHA256: d.ArchiveSHA256, Revision: d.Version, Port: d.Port,
		Trigger: d.Trigger, Created: d.Created, Updated: d.Updated, Kind: d.Kind,
	}
	if len(d.Config.Secrets) > 0 {
		s.Secrets = map[string]string{}
		for name, value := range d.Config.Secrets {
			s.Secrets[name] = value.Reveal()
		}
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode function %s: %w", d.Name, err)
	}
	temporary := filepath.Join(dir, "function.json.new")
	if err := os.WriteFile(temporary, raw, 0o600); err != nil {
		return fmt.Errorf("write function %s: %w", d.Name, err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, "function.json")); err != nil {
		return fmt.Errorf("write function %s: %w", d.Name, err)
	}
	return nil
}

// load reads a definition.
func load(dir string) (*Definition, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "function.json"))
	if err != nil {
		return nil, fmt.Errorf("read function: %w", err)
	}
	var s stored
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("read function: %w", err)
	}
	if err := checkName(s.Name); err != nil {
		return nil, err
	}
	d := &Definition{
		Name: s.Name, CodeHash: s.CodeHash, ArchiveSHA256: s.ArchiveSHA256, Version: s.Revision, Port: s.Port,
		Trigger: s.Trigger, Created: s.Created, Updated: s.Updated, Kind: s.Kind,
		Config: Config{
			Runtime: sandbox.Runtime{Language: s.Language, Version: s.Version}, Variant: s.Variant, Architecture: s.Architecture,
			Handler: s.Handler, Timeout: time.Duration(s.TimeoutMS) * time.Millisecond, MemoryMB: s.MemoryMB,
			Environment: s.Environment, MaxConcurrency: s.MaxConcurrency, SandboxKind: s.SandboxKind,
			KeepAlive: time.Duration(s.KeepAliveMS) * time.Millisecond, Labels: s.Labels, Image: s.Image,
		},
	}
	if len(s.Secrets) > 0 {
		d.Config.Secrets = map[string]secret.String{}
		for name, value := range s.Secrets {
			d.Config.Secrets[name] = secret.New(value)
		}
	}
	return d, d.Config.complete()
}
