package local

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/services/local/sandbox/docker"
)

// Config is the section "local" of the configuration.
type Config struct {
	// Sandbox is auto, docker or process. auto takes docker where the Engine answers and has the runtime's image.
	Sandbox string `yaml:"sandbox"`
	// Listen is the loopback address of the HTTP front; port 0 takes a free one.
	Listen string `yaml:"listen"`
	// FirstPort and LastPort bound the ports that functions get for themselves, as far as they are free.
	FirstPort int `yaml:"first_port"`
	LastPort  int `yaml:"last_port"`
	// KeepAlive is how long an idle sandbox stays.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// InitTimeout is how long a runtime may take until it asks for work.
	InitTimeout time.Duration `yaml:"init_timeout"`
	// MaxConcurrency is the most sandboxes of one function, where the function names no number.
	MaxConcurrency int `yaml:"max_concurrency"`
	// MaxSandboxes is the most sandboxes of all functions together.
	MaxSandboxes int `yaml:"max_sandboxes"`
	// CPUShare grants processor time by memory: one vCPU at 1,769 MB. Initialisation is never throttled.
	CPUShare bool `yaml:"cpu_share"`
	// FirstUID is the first of 10,000 user ids for process sandboxes of a suite that runs as root; 0 keeps the suite's own.
	FirstUID int `yaml:"first_uid"`
	// Images names the image per runtime for docker sandboxes, with keys such as "python.3.11" or "nodejs.20".
	Images map[string]string `yaml:"images"`
	// PullImages says which images of functions are pulled that are not on this machine: loopback (those of registries on
	// this machine), always or never.
	PullImages string `yaml:"pull_images"`
	// RegistryCredential names the credential of platform `registry` that pulls log in with; empty is the default one.
	RegistryCredential string `yaml:"registry_credential"`
	// NoEgress keeps functions from reaching anything but this machine. Only docker sandboxes can be held back, so no others
	// are used then.
	NoEgress bool `yaml:"no_egress"`
	// EventToken lets an object store's webhook post S3 event notifications to /events/objects of the HTTP front; without
	// it the route is closed.
	EventToken secret.String `yaml:"event_token"`
}

// DefaultConfig is the configuration of a platform that was told nothing.
func DefaultConfig() Config {
	return Config{
		Sandbox: "auto", Listen: "127.0.0.1:0", FirstPort: 9000, LastPort: 9999, KeepAlive: 10 * time.Minute,
		InitTimeout: 30 * time.Second, MaxConcurrency: 100, MaxSandboxes: 1000, CPUShare: true, FirstUID: 400_000,
		PullImages: string(docker.PullLoopback),
	}
}

// Validate reports every problem, each with its key.
func (c *Config) Validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	switch c.Sandbox {
	case "auto", "docker", "process":
	default:
		bad("sandbox", "is %q and has to be auto, docker or process", c.Sandbox)
	}
	switch docker.Pull(c.PullImages) {
	case docker.PullLoopback, docker.PullAlways, docker.PullNever:
	default:
		bad("pull_images", "is %q and has to be loopback, always or never", c.PullImages)
	}
	if c.Sandbox == "process" && c.NoEgress {
		bad("no_egress", "cannot be had with process sandboxes; set sandbox to docker")
	}
	name, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen", "%q is no host:port", c.Listen)
	} else if ip := net.ParseIP(name); name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		bad("listen", "is %q; functions answer without authentication, so only loopback addresses such as 127.0.0.1:0 are allowed", c.Listen)
	}
	if c.FirstPort < 0 || c.LastPort > 65535 || c.LastPort < c.FirstPort {
		bad("first_port", "and last_port are %d and %d; they have to bound a range of ports, or be 0", c.FirstPort, c.LastPort)
	}
	for key, d := range map[string]time.Duration{"keep_alive": c.KeepAlive, "init_timeout": c.InitTimeout} {
		if d <= 0 {
			bad(key, "is %s and has to be more than 0", d)
		}
	}
	if c.MaxConcurrency < 1 {
		bad("max_concurrency", "is %d and has to be at least 1", c.MaxConcurrency)
	}
	if c.MaxSandboxes < 1 {
		bad("max_sandboxes", "is %d and has to be at least 1", c.MaxSandboxes)
	}
	if c.FirstUID != 0 && (c.FirstUID < 10_000 || c.FirstUID > 2_000_000_000) {
		bad("first_uid", "is %d and has to be between 10000 and 2000000000, or 0", c.FirstUID)
	}
	for key, image := range c.Images {
		if !strings.Contains(key, ".") || image == "" {
			bad("images", "%q: %q has to be of the form language.version: image", key, image)
		}
	}
	return errors.Join(problems...)
}
