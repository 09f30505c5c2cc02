package app

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/observe"
	"github.com/sebs-suite/sebs/internal/operations"
	"github.com/sebs-suite/sebs/internal/secret"
)

// Config is what every process of the suite can be told. Sections of services stand beside it in the same file; see
// [Process.Section].
type Config struct {
	// StateDir is private to the process; it is never assumed to be shared.
	StateDir   string            `yaml:"state_dir"`
	Log        observe.LogConfig `yaml:"log"`
	GRPC       GRPCConfig        `yaml:"grpc"`
	HTTP       HTTPConfig        `yaml:"http"`
	TLS        TLSConfig         `yaml:"tls"`
	Auth       AuthConfig        `yaml:"auth"`
	Etcd       EtcdConfig        `yaml:"etcd"`
	NATS       NATSConfig        `yaml:"nats"`
	Operations OperationsConfig  `yaml:"operations"`
	Telemetry  TelemetryConfig   `yaml:"telemetry"`
	Shutdown   ShutdownConfig    `yaml:"shutdown"`
	// Services names the addresses of other services, such as builder: [host:port]; several are used in turn. Those that
	// are not named are found through etcd.
	Services map[string][]string `yaml:"services"`
	// Credentials holds platform, name of the credential, keys and values. Better kept in files; see SEBS_CREDENTIALS_DIR.
	Credentials credentials.Config `yaml:"credentials"`
}

// GRPCConfig says where gRPC is served.
type GRPCConfig struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string `yaml:"listen"`
	// Advertise is the address that other processes use; the one listened on by default.
	Advertise string `yaml:"advertise"`
	// MaxMessageBytes limits one message in either direction.
	MaxMessageBytes int `yaml:"max_message_bytes"`
	// Reflection lets tools list the services.
	Reflection bool `yaml:"reflection"`
}

// HTTPConfig says where metrics, health and raw bodies are served.
type HTTPConfig struct {
	// Listen is host:port; port 0 takes a free one.
	Listen string `yaml:"listen"`
}

// TLSConfig names files. Certificates are read again when they change.
type TLSConfig struct {
	// CertFile and KeyFile are this process's certificate, as server and as client.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile is the authority whose client certificates are accepted as administrators.
	ClientCAFile string `yaml:"client_ca_file"`
	// CAFile is the authority of the other services' certificates; with it calls to them use TLS.
	CAFile string `yaml:"ca_file"`
}

// AuthConfig says whether callers have to say who they are.
type AuthConfig struct {
	// Required refuses callers without a token or a client certificate.
	Required bool `yaml:"required"`
}

// EtcdConfig says how to reach etcd.
type EtcdConfig struct {
	// Endpoints are the URLs of the cluster's members.
	Endpoints []string `yaml:"endpoints"`
	// CAFile is the authority of the members' certificates.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the certificate to show them.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Username and Password log in where the cluster asks for it.
	Username string        `yaml:"username"`
	Password secret.String `yaml:"password"`
}

// NATSConfig says how to reach NATS and how much its streams keep.
type NATSConfig struct {
	// URLs are the addresses of the servers.
	URLs []string `yaml:"urls"`
	// CAFile is the authority of the servers' certificates.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the certificate to show them.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Token or CredentialsFile log in where the servers ask for it.
	Token           secret.String `yaml:"token"`
	CredentialsFile string        `yaml:"credentials_file"`
	// Replicas of every stream: the size of the NATS cluster, 1 to 5.
	Replicas int `yaml:"replicas"`
	// EventsMaxAge and EventsMaxBytes limit the stream of events; the oldest go first.
	EventsMaxAge   time.Duration `yaml:"events_max_age"`
	EventsMaxBytes int64         `yaml:"events_max_bytes"`
	// PublishTimeout bounds the wait for the server's word that it stored a message.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
}

// OperationsConfig says how long finished operations are kept.
type OperationsConfig struct {
	// Retention is how long a finished operation can be read.
	Retention time.Duration `yaml:"retention"`
}

// TelemetryConfig says where traces go; nowhere without an endpoint.
type TelemetryConfig struct {
	// OTLPEndpoint is host:port of a collector.
	OTLPEndpoint string `yaml:"otlp_endpoint"`
	// Insecure leaves TLS out on the way to the collector.
	Insecure bool `yaml:"insecure"`
	// SampleRatio is the share of requests that are traced, 0 to 1.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// ShutdownConfig bounds the steps of an orderly end.
type ShutdownConfig struct {
	// Drain is the pause after NOT_SERVING in which balancers notice.
	Drain time.Duration `yaml:"drain"`
	// Grace bounds the end of calls that run.
	Grace time.Duration `yaml:"grace"`
	// Step bounds every other step.
	Step time.Duration `yaml:"step"`
}

// DefaultConfig returns the configuration of a process that was told nothing.
func DefaultConfig(name string) Config {
	return Config{
		StateDir: filepath.Join(".sebs", "state", name),
		Log:      observe.LogConfig{Level: "info", Format: "text"},
		GRPC:     GRPCConfig{Listen: "127.0.0.1:0", MaxMessageBytes: 16 << 20, Reflection: true},
		HTTP:     HTTPConfig{Listen: "127.0.0.1:0"},
		Etcd:     EtcdConfig{Endpoints: []string{"http://127.0.0.1:2379"}},
		NATS: NATSConfig{
			URLs: []string{"nats://127.0.0.1:4222"}, Replicas: 1, EventsMaxAge: events.DefaultMaxAge,
			EventsMaxBytes: events.DefaultMaxBytes, PublishTimeout: events.DefaultPublishTimeout,
		},
		Operations: OperationsConfig{Retention: operations.DefaultRetention},
		Telemetry:  TelemetryConfig{SampleRatio: 1},
		Shutdown:   ShutdownConfig{Grace: 5 * time.Second, Step: 10 * time.Second},
	}
}

// serviceNames are the sections that one configuration file for all processes may have besides those of [Config]: those of
// the services, and those of the clouds, which several services read.
func serviceNames() []string {
	return []string{"storage", "builder", "deployer", "invoker", "metrics", "experiments", "local", "gateway", "aws"}
}

// Validate reports every problem, each with its key.
func (c *Config) Validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.StateDir == "" {
		bad("state_dir", "is empty; name a directory that only this process uses")
	}
	if err := c.Log.Validate(); err != nil {
		bad("log", "%v", err)
	}
	if c.GRPC.MaxMessageBytes < 1<<20 {
		bad("grpc.max_message_bytes", "is %d and has to be at least 1048576", c.GRPC.MaxMessageBytes)
	}
	if len(c.Etcd.Endpoints) == 0 {
		bad("etcd.endpoints", "is empty; name at least one URL such as http://127.0.0.1:2379")
	}
	if len(c.NATS.URLs) == 0 {
		bad("nats.urls", "is empty; name at least one address such as nats://127.0.0.1:4222")
	}
	if c.NATS.Replicas < 1 || c.NATS.Replicas > 5 {
		bad("nats.replicas", "is %d and has to be between 1 and 5", c.NATS.Replicas)
	}
	if c.Telemetry.SampleRatio < 0 || c.Telemetry.SampleRatio > 1 {
		bad("telemetry.sample_ratio", "is %v and has to be between 0 and 1", c.Telemetry.SampleRatio)
	}
	for key, d := range map[string]time.Duration{
		"nats.events_max_age": c.NATS.EventsMaxAge, "nats.publish_timeout": c.NATS.PublishTimeout,
		"operations.retention": c.Operations.Retention, "shutdown.grace": c.Shutdown.Grace, "shutdown.step": c.Shutdown.Step,
	} {
		if d <= 0 {
			bad(key, "is %s and has to be more than 0", d)
		}
	}
	if c.Shutdown.Drain < 0 {
		bad("shutdown.drain", "is %s and must not be negative", c.Shutdown.Drain)
	}
	for prefix, pair := range map[string][2]string{
		"tls": {c.TLS.CertFile, c.TLS.KeyFile}, "etcd": {c.Etcd.CertFile, c.Etcd.KeyFile}, "nats": {c.NATS.CertFile, c.NATS.KeyFile},
	} {
		if (pair[0] == "") != (pair[1] == "") {
			bad(prefix+".cert_file", "and %s.key_file have to be set together", prefix)
		}
	}
	for name, addresses := range c.Services {
		for _, address := range addresses {
			if _, _, err := net.SplitHostPort(address); err != nil {
				bad("services."+name, "%q is no host:port", address)
			}
		}
	}
	problems = append(problems, c.exposed("grpc.listen", c.GRPC.Listen), c.exposed("http.listen", c.HTTP.Listen))
	slices.SortStableFunc(problems, func(a, b error) int { return compareText(a, b) })
	return errors.Join(problems...)
}

func compareText(a, b error) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	case a.Error() < b.Error():
		return -1
	}
	return 1
}

// exposed refuses an address beyond loopback that has no TLS or no authentication.
func (c *Config) exposed(key, listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%s: %q is no host:port", key, listen)
	}
	if authn.IsLoopback(host) {
		return nil
	}
	var missing []string
	if c.TLS.CertFile == "" || c.TLS.KeyFile == "" {
		missing = append(missing, "tls.cert_file and tls.key_file")
	}
	if !c.Auth.Required {
		missing = append(missing, "auth.required: true")
	}
	if len(missing) == 0 {
		return nil
	}
	text := missing[0]
	if len(missing) > 1 {
		text += ", and " + missing[1]
	}
	return fmt.Errorf("%s: %q can be reached from other machines, which needs TLS and authentication; set %s, or listen on 127.0.0.1",
		key, listen, text)
}
