package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/secret"
)

type section struct {
	MemoryMB  int               `yaml:"memory_mb"`
	Roots     []string          `yaml:"roots"`
	Timeout   time.Duration     `yaml:"timeout"`
	Password  secret.String     `yaml:"password"`
	Optional  *bool             `yaml:"optional"`
	Labels    map[string]string `yaml:"labels"`
	HTTPProxy string
	Nested    struct {
		Ratio float64 `yaml:"ratio"`
		Count uint8   `yaml:"count"`
	} `yaml:"nested"`
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	text := `
version: 1
builder:
  memory_mb: 256
  roots: [a, b]
  timeout: 90s
  password: from-file
  http_proxy: p
  labels: {x: y}
  nested: {ratio: 0.5, count: 7}
`
	s, err := NewSource("test.yaml", []byte(text),
		[]string{"SEBS_BUILDER_MEMORY_MB=512", "SEBS_BUILDER_NESTED_RATIO=0.75", "SEBS_BUILDER_OPTIONAL=true", "SEBS_BUILDER_LABELS_TEAM=z", "HOME=/x"},
		[]string{"builder.memory_mb=1_024", "builder.roots=c,d", "builder.labels.more=w"})
	if err != nil {
		t.Fatal(err)
	}
	got := section{MemoryMB: 128, Timeout: time.Second}
	if err := s.Decode("builder", &got); err != nil {
		t.Fatal(err)
	}
	if got.MemoryMB != 1024 || !slices.Equal(got.Roots, []string{"c", "d"}) || got.Timeout != 90*time.Second || got.HTTPProxy != "p" ||
		got.Password.Reveal() != "from-file" || got.Optional == nil || !*got.Optional || got.Nested.Ratio != 0.75 || got.Nested.Count != 7 ||
		got.Labels["x"] != "y" || got.Labels["team"] != "z" || got.Labels["more"] != "w" {
		t.Errorf("decoded %+v", got)
	}
	untouched := section{MemoryMB: 128}
	if err := s.Decode("deployer", &untouched); err != nil || untouched.MemoryMB != 128 {
		t.Errorf("a section that is not there: %+v, %v", untouched, err)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	text := `
version: 1
builder:
  memory_mb: many
  memroy_mb: 1
  timeout: 5
  nested: {ratio: x, count: 300, other: 1}
  roots: {a: b}
  optional: true
  optional: false
`
	s, err := NewSource("test.yaml", []byte(text), []string{"SEBS_BUILDER_OPTIONAL=perhaps"}, []string{"builder.nope=1", "builder.nested.count=-1"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Decode("builder", &section{})
	if err == nil {
		t.Fatal("nothing was found")
	}
	for _, want := range []string{
		"builder.memory_mb: ", "builder.memroy_mb: unknown key", "builder.timeout: ", "builder.nested.ratio: ", "builder.nested.count: ",
		"builder.nested.other: unknown key", "builder.roots: has to be a list", "builder.optional: is set twice", "SEBS_BUILDER_OPTIONAL", "builder.nope: unknown key",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no problem %q in:\n%v", want, err)
		}
	}
}

func TestTheFileItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"no version":    {"grpc: {listen: x}", "version"},
		"other version": {"version: 2", "version 1"},
		"no mapping":    {"- a", "mapping"},
		"two documents": {"version: 1\n---\nversion: 1", "document"},
		"not YAML":      {"version: 1\n\tx", "test.yaml"},
	} {
		if _, err := NewSource("test.yaml", []byte(c.text), nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "version: 1", "# nothing\n"} {
		if _, err := NewSource("test.yaml", []byte(text), nil, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := NewSource("", nil, nil, []string{"novalue"}); err == nil {
		t.Error("--set without a value was taken")
	}
	s, err := NewSource("test.yaml", []byte("version: 1\nbuidler: {a: b}\ngrpc: {listen: 127.0.0.1:1}"), nil, []string{"nowhere.x=1"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig("x")
	err = s.Unclaimed(&cfg, serviceNames())
	if err == nil || !strings.Contains(err.Error(), "buidler: unknown key in line 2") || !strings.Contains(err.Error(), "nowhere.x") {
		t.Errorf("unknown sections: %v", err)
	}
}

func TestNothingBeyondLoopbackWithoutTLSAndAuthentication(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, cert string
		auth, ok     bool
	}{
		{"127.0.0.1:0", "", false, true},
		{"[::1]:7000", "", false, true},
		{"localhost:7000", "", false, true},
		{"0.0.0.0:7000", "", false, false},
		{":7000", "", false, false},
		{"192.0.2.1:7000", "c.pem", false, false},
		{"192.0.2.1:7000", "", true, false},
		{"192.0.2.1:7000", "c.pem", true, true},
		{"nonsense", "", false, false},
	} {
		cfg := DefaultConfig("x")
		cfg.GRPC.Listen, cfg.Auth.Required = c.listen, c.auth
		if c.cert != "" {
			cfg.TLS.CertFile, cfg.TLS.KeyFile = c.cert, "k.pem"
		}
		err := cfg.Validate()
		if (err == nil) != c.ok {
			t.Errorf("%s, certificate %q, authentication %t: %v", c.listen, c.cert, c.auth, err)
		}
		if err != nil && !strings.Contains(err.Error(), "grpc.listen") {
			t.Errorf("%s: the problem does not name its key: %v", c.listen, err)
		}
	}
}

func TestValidateNamesEveryKey(t *testing.T) {
	t.Parallel()
	err := (&Config{}).Validate()
	if err == nil {
		t.Fatal("an empty configuration is good")
	}
	for _, key := range []string{
		"state_dir", "log", "grpc.max_message_bytes", "etcd.endpoints", "nats.urls", "nats.replicas", "operations.retention", "shutdown.grace", "grpc.listen", "http.listen",
	} {
		if !strings.Contains(err.Error(), key+":") {
			t.Errorf("no problem for %s in:\n%v", key, err)
		}
	}
	good := DefaultConfig("x")
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

func TestProgramCommands(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sebs.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nnats: {token: hunter2, replicas: 3}\nbuilder: {x: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		args    []string
		code    int
		out     string
		problem string
	}{
		{"check", []string{"--config", file, "config", "check"}, exitOK, "good", ""},
		{"dump", []string{"--config", file, "--listen", "127.0.0.1:9", "config", "dump"}, exitOK, "replicas: 3", ""},
		{"default", []string{"config", "default"}, exitOK, "replicas: 1", ""},
		{"bad", []string{"--set", "nats.replicas=9", "--http-listen", "x", "config", "check"}, exitUsage, "", "nats.replicas"},
		{"bad too", []string{"--set", "nats.replicas=9", "--http-listen", "x", "config", "check"}, exitUsage, "", "http.listen"},
		{"unknown command", []string{"serve"}, exitUsage, "", "unknown command"},
		{"unknown subcommand", []string{"config", "x"}, exitUsage, "", "unknown command"},
		{"token without create", []string{"token"}, exitUsage, "", "token create"},
		{"token of an unknown role", []string{"token", "create", "--role", "king"}, exitUsage, "", "viewer"},
		{"unknown flag", []string{"--nope"}, exitUsage, "", "nope"},
		{"no file", []string{"--config", file + "x"}, exitUsage, "", "read configuration"},
		{"help", []string{"--help"}, exitOK, "--listen", ""},
		{"version", []string{"--version"}, exitOK, "sebs-test", ""},
	} {
		var out, problems bytes.Buffer
		code := run("sebs-test", c.args, nil, &out, &problems, nil)
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(problems.String(), c.problem) {
			t.Errorf("%s: exit code %d\n%s\n%s", c.name, code, out.String(), problems.String())
		}
		if strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s shows a secret", c.name)
		}
	}
}

func TestSnake(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"MemoryMB": "memory_mb", "HTTPProxy": "http_proxy", "A": "a", "UserID": "user_id", "ListenAddr": "listen_addr"} {
		if got := snake(in); got != want {
			t.Errorf("snake(%s) = %s, want %s", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("version: 1\nbuilder: {memory_mb: 1, nested: {ratio: .5}, labels: {a: b}}")
	f.Add("version: 1\nbuilder: [&a {x: *a}]")
	f.Add("version: 1\nbuilder: null")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := NewSource("fuzz.yaml", []byte(text), nil, nil)
		if err != nil {
			return
		}
		first, second := section{}, section{}
		a, b := s.Decode("builder", &first), s.Decode("builder", &second)
		if (a == nil) != (b == nil) {
			t.Errorf("decoded twice: %v, %v", a, b)
		}
	})
}
