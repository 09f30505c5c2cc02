package stand

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Etcd is an etcd server.
type Etcd struct {
	*Process
	// Endpoint is its URL.
	Endpoint string
}

// NewEtcd returns an etcd server that does not run yet.
func NewEtcd(t testing.TB, b *Binaries, dir string) *Etcd {
	t.Helper()
	endpoint, peer := "http://"+Address(t), "http://"+Address(t)
	p := newProcess(t, "etcd", b.Path("etcd"), dir,
		"--name", "test", "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "warn", "--unsafe-no-fsync",
		"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "test="+peer)
	p.Ready = answers(endpoint+"/readyz", nil)
	return &Etcd{Process: p, Endpoint: endpoint}
}

// NATS is a NATS server with JetStream.
type NATS struct {
	*Process
	// URL is its address.
	URL string
}

// NewNATS returns a NATS server that does not run yet. It writes to disk before it acknowledges.
func NewNATS(t testing.TB, b *Binaries, dir string) *NATS {
	t.Helper()
	address := Address(t)
	file := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\nmax_payload: 8MB\njetstream { store_dir: %q, sync_interval: always, max_file_store: 20GB }\n", address, filepath.Join(dir, "nats"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, "nats", b.Path("nats"), dir, "--config", file)
	p.Ready = accepts(address)
	return &NATS{Process: p, URL: "nats://" + address}
}

// Service is one of the suite's services.
type Service struct {
	*Process
	// HTTP is where metrics and health are served.
	HTTP string
	// StateDir is its own directory.
	StateDir string
}

// Gateway is the address of the suite for clients.
type Gateway struct {
	*Service
	// URL takes REST and gRPC.
	URL string
}

// Suite is everything together, each part a process.
type Suite struct {
	Etcd        *Etcd
	NATS        *NATS
	Storage     *Service
	Builder     *Service
	Deployers   []*Service
	Invokers    []*Service
	Metrics     *Service
	Experiments *Service
	Local       *Service
	Gateway     *Gateway

	// Binaries are the programs it was made of.
	Binaries *Binaries
	// Authority signed the certificates of a secure suite; nil where there are none.
	Authority *Authority
	t         testing.TB
	dir       string
}

// Options of [Start].
type Options struct {
	// Invokers and Deployers are how many there are; 0 means 1.
	Invokers, Deployers int
	// Sandbox is the kind of the local platform's sandboxes; empty means process.
	Sandbox string
	// Secure has every service show and ask for certificates, and every caller for a credential.
	Secure bool
	// Env is added to the environment of every service.
	Env []string
}

// Start runs the whole suite and returns when everything answers.
func Start(t testing.TB, b *Binaries, o Options) *Suite {
	t.Helper()
	dir := t.TempDir()
	s := &Suite{Binaries: b, t: t, dir: dir, Etcd: NewEtcd(t, b, dir), NATS: NewNATS(t, b, dir)}
	if o.Secure {
		s.Authority = NewAuthority(t, dir, "authority")
	}
	s.Storage = s.service("storage", "storage")
	s.Builder = s.service("builder", "builder")
	for i := range max(o.Deployers, 1) {
		s.Deployers = append(s.Deployers, s.service("deployer", fmt.Sprintf("deployer-%d", i+1)))
	}
	for i := range max(o.Invokers, 1) {
		s.Invokers = append(s.Invokers, s.service("invoker", fmt.Sprintf("invoker-%d", i+1)))
	}
	s.Metrics = s.service("metrics", "metrics")
	s.Experiments = s.service("experiments", "experiments")
	s.Local = s.service("local", "local", "--set", "local.sandbox="+cmp.Or(o.Sandbox, "process"))
	address := Address(t)
	s.Gateway = &Gateway{Service: s.service("gateway", "gateway", "--set", "gateway.listen="+address), URL: "http://" + address}
	if o.Secure {
		cert, key := s.Authority.Issue("gateway-clients")
		s.Gateway.Args = append(s.Gateway.Args, "--set", "gateway.cert_file="+cert, "--set", "gateway.key_file="+key)
		s.Gateway.URL = "https://" + address
	}
	for _, p := range s.Processes() {
		p.Env = append(p.Env, o.Env...)
		p.Run()
	}
	for _, p := range s.Processes() {
		p.WaitUntilReady()
	}
	return s
}

func (s *Suite) service(program, name string, args ...string) *Service {
	s.t.Helper()
	state := filepath.Join(s.dir, name)
	address := Address(s.t)
	args = append([]string{
		"--etcd", s.Etcd.Endpoint, "--nats", s.NATS.URL, "--state-dir", state, "--http-listen", address, "--log-level", "debug",
	}, args...)
	scheme := "http://"
	if s.Authority != nil {
		cert, key := s.Authority.Issue(name)
		for _, set := range []string{
			"tls.cert_file=" + cert, "tls.key_file=" + key, "tls.ca_file=" + s.Authority.File, "tls.client_ca_file=" + s.Authority.File,
			"auth.required=true",
		} {
			args = append(args, "--set", set)
		}
		scheme = "https://"
	}
	p := newProcess(s.t, name, s.Binaries.Path("sebs-"+program), s.dir, args...)
	p.Ready = answers(scheme+address+"/readyz", s.Authority)
	return &Service{Process: p, HTTP: address, StateDir: state}
}

// Processes are all parts, those that others need first.
func (s *Suite) Processes() []*Process {
	all := []*Process{s.Etcd.Process, s.NATS.Process, s.Storage.Process, s.Builder.Process}
	for _, group := range [][]*Service{s.Deployers, s.Invokers} {
		for _, service := range group {
			all = append(all, service.Process)
		}
	}
	return append(all, s.Metrics.Process, s.Experiments.Process, s.Local.Process, s.Gateway.Process)
}

// Dial connects to the gateway over gRPC.
func (s *Suite) Dial() *grpc.ClientConn {
	s.t.Helper()
	transport := insecure.NewCredentials()
	if s.Authority != nil {
		transport = credentials.NewTLS(s.Authority.TLS())
	}
	_, address, _ := strings.Cut(s.Gateway.URL, "://")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// FirstToken makes a token at the command line of the gateway, which writes it to etcd.
func (s *Suite) FirstToken(role string) string {
	s.t.Helper()
	out, err := exec.Command(s.Binaries.Path("sebs-gateway"), "--etcd", s.Etcd.Endpoint, "token", "create", "--role", role).Output()
	if err != nil {
		s.t.Fatalf("make the first token: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// Sandboxes are the processes of functions on the local platform, by id, with their command lines: every process that works
// in the local service's directory of sandboxes or was started with it, except the service.
func (s *Suite) Sandboxes() map[int]string {
	return Below(s.t, filepath.Join(s.Local.StateDir, "local"))
}

// Containers are the containers of the suite's local platform, running or not.
func (s *Suite) Containers() []string {
	s.t.Helper()
	sum := sha256.Sum256([]byte(filepath.Join(s.Local.StateDir, "local")))
	out, err := exec.Command("docker", "ps", "--all", "--quiet", "--filter", "label=sebs.host="+hex.EncodeToString(sum[:8])).Output()
	if err != nil {
		s.t.Fatalf("list containers: %v", err)
	}
	return strings.Fields(string(out))
}

// Below finds the processes whose working directory, command line or environment names a directory.
func Below(t testing.TB, dir string) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("needs /proc to look for processes that were left behind")
	}
	found := make(map[int]string)
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		base := filepath.Join("/proc", e.Name())
		command, _ := os.ReadFile(filepath.Join(base, "cmdline"))
		environment, _ := os.ReadFile(filepath.Join(base, "environ"))
		where, _ := os.Readlink(filepath.Join(base, "cwd"))
		if strings.Contains(string(command), dir) || strings.Contains(string(environment), dir) || strings.HasPrefix(where, dir) {
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found
}

// CLI returns the command line against the gateway, which does not run yet.
func (s *Suite) CLI(name string, args ...string) *Process {
	s.t.Helper()
	args = append(args, "--server", s.Gateway.URL, "--state-dir", filepath.Join(s.dir, "cli"))
	if s.Authority != nil {
		args = append(args, "--ca-file", s.Authority.File)
	}
	return newProcess(s.t, name, s.Binaries.Path("sebs"), s.dir, args...)
}

// Command returns the command line by itself, working in a directory.
func Command(t testing.TB, b *Binaries, name, dir string, args ...string) *Process {
	t.Helper()
	return newProcess(t, name, b.Path("sebs"), dir, args...)
}

// Await polls until a condition holds.
func Await(ctx context.Context, t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := poll(ctx, ok); err != nil {
		t.Fatalf("%s did not come: %v", what, err)
	}
}
