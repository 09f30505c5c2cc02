package inputs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// recorder is a Host that keeps what it is told.
type recorder struct {
	granted Granted
	objects map[string][]byte
	tables  []Table
	items   []Item
	fail    error
}

func (h *recorder) Objects(_ context.Context, inputs, outputs int) (Granted, error) {
	h.granted = Granted{Bucket: "sebs-benchmarks-test"}
	for i := range inputs {
		h.granted.InputPrefixes = append(h.granted.InputPrefixes, fmt.Sprintf("b-%d-input", i))
	}
	for i := range outputs {
		h.granted.OutputPrefixes = append(h.granted.OutputPrefixes, fmt.Sprintf("b-%d-output", i))
	}
	return h.granted, h.fail
}

func (h *recorder) Tables(_ context.Context, tables []Table) error {
	h.tables = tables
	return h.fail
}

func (h *recorder) Upload(_ context.Context, prefix int, key string, content *os.File) error {
	data, err := io.ReadAll(content)
	h.objects[h.granted.InputPrefixes[prefix]+"/"+key] = data
	return err
}

func (h *recorder) WriteItem(_ context.Context, item Item) error {
	h.items = append(h.items, item)
	return nil
}

func (h *recorder) Download(_ context.Context, bucket, key string, w io.Writer) error {
	data, ok := h.objects[key]
	if !ok || bucket != "sebs-benchmarks-test" {
		return errs.NotFound("OBJECT_NOT_FOUND", "no object %s", key)
	}
	_, err := w.Write(data)
	return err
}

// noPackages refuses to install anything.
type noPackages struct{ wanted string }

func (p *noPackages) Directory(_ context.Context, _ pytools.Python, requirement string) (string, error) {
	p.wanted = requirement
	return "", errors.New("nothing is installed in this test")
}

func newRunner(t *testing.T, packages Packages) *Runner {
	t.Helper()
	user, err := confine.UnprivilegedUser("")
	if err != nil {
		t.Fatal(err)
	}
	confiner := confine.New("", user)
	finder := pytools.NewFinder(confiner, "")
	if _, err := finder.ForInput(t.Context()); err != nil {
		t.Skipf("needs Python: %v", err)
	}
	return NewRunner(confiner, finder, packages, time.Minute, slog.New(slog.DiscardHandler))
}

func folder(input string) benchmark.Benchmark {
	return benchmark.Benchmark{Name: "900.sample", Source: fstest.MapFS{
		"config.json": {Data: []byte(`{"timeout": 1, "memory": 128, "languages": ["python"], "modules": []}`)},
		"input.py":    {Data: []byte(input)},
		"helper.py":   {Data: []byte("FACTOR = 3\n")},
	}}
}

const everything = `
import os, sys, subprocess
from helper import FACTOR

print("this must not disturb the conversation")
subprocess.run([sys.executable, "-c", "print('nor this')"])

def buckets_count() -> tuple[int, int]:
    return (2, 1)

def allocate_nosql() -> dict:
    return {"carts": {"primary_key": "cart", "secondary_key": "product"}, "plain": {"primary_key": "id"}}

def generate_input(data_dir: str | None, size, bucket, ins, outs, upload, nosql):
    with open("made.bin", "wb") as f:
        f.write(b"0123456789" * FACTOR)
    upload(1, "sub/made.bin", os.path.abspath("made.bin"))
    upload(0, "photo.txt", os.path.join(data_dir, "photo.txt"))
    nosql("900.sample", "carts", {"price": 1.5, "count": 2, "name": "ü"}, ("cart", "c1"), ("product", "p1"))
    nosql("900.sample", "plain", {}, ("id", "1"))
    return {"size": size, "bucket": bucket, "in": ins, "out": outs, "big": 12345678901234567890}

def validate_output(data_dir, input_config, output, language, storage=None):
    from sebs.utils import get_project_root
    path = os.path.join(get_project_root(), "benchmarks-data", "900.group", "900.sample", "photo.txt")
    if open(path).read() != open(os.path.join(data_dir, "photo.txt")).read():
        return "root differs"
    storage.download("sebs-benchmarks-test", "b-0-input/photo.txt", "again.txt")
    if open("again.txt").read() != "a photo":
        return "download differs"
    if output["ok"] != input_config["size"]:
        return f"{language}: expected {input_config['size']}, got {output['ok']}"
    return None
`

func TestGenerateAndValidate(t *testing.T) {
	t.Parallel()
	runner := newRunner(t, &noPackages{})
	data := filepath.Join(t.TempDir(), "900.group", "900.sample")
	if err := errors.Join(os.MkdirAll(data, 0o755), os.WriteFile(filepath.Join(data, "photo.txt"), []byte("a photo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b := folder(everything)
	b.Data, b.DataDir, b.DataPath = os.DirFS(data), data, "900.group/900.sample"
	host := &recorder{objects: map[string][]byte{}}
	got, err := runner.Generate(t.Context(), b, "small", host)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"size": "small", "bucket": "sebs-benchmarks-test", "in": ["b-0-input", "b-1-input"], "out": ["b-0-output"], "big": 12345678901234567890}`
	if string(got.Payload) != want {
		t.Errorf("payload = %s, want %s", got.Payload, want)
	}
	if !got.UsesObjects || !got.UsesTables || len(host.tables) != 2 {
		t.Errorf("uses objects %t, tables %t, made %v; want both and two tables", got.UsesObjects, got.UsesTables, host.tables)
	}
	wantObjects := map[string][]byte{"b-1-input/sub/made.bin": bytes.Repeat([]byte("0123456789"), 3), "b-0-input/photo.txt": []byte("a photo")}
	if diff := cmp.Diff(wantObjects, host.objects); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	wantItems := []Item{
		{Benchmark: "900.sample", Table: "carts", Data: json.RawMessage(`{"price": 1.5, "count": 2, "name": "\u00fc"}`), PrimaryKey: [2]string{"cart", "c1"}, SecondaryKey: &[2]string{"product", "p1"}},
		{Benchmark: "900.sample", Table: "plain", Data: json.RawMessage(`{}`), PrimaryKey: [2]string{"id", "1"}},
	}
	if diff := cmp.Diff(wantItems, host.items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	for output, reason := range map[string]string{`{"ok": "small"}`: "", `{"ok": "large"}`: "nodejs: expected small, got large"} {
		got, err := runner.Validate(t.Context(), b, Judgement{Payload: got.Payload, Output: json.RawMessage(output), Language: "nodejs", Storage: true}, host)
		if err != nil || got != reason {
			t.Errorf("Validate(%s) = %q, %v; want %q", output, got, err, reason)
		}
	}
}

func TestWithoutObjectsAndTables(t *testing.T) {
	t.Parallel()
	b := folder(`
def generate_input(*arguments):
    assert arguments == (None, "test", None, [], [], None, None), arguments
    return {"sleep": 1}
`)
	got, err := newRunner(t, &noPackages{}).Generate(t.Context(), b, "test", &recorder{})
	if err != nil || string(got.Payload) != `{"sleep": 1}` || got.UsesObjects || got.UsesTables {
		t.Errorf("Generate = %+v, %v; want the payload alone", got, err)
	}
}

func TestFaultsOfInput(t *testing.T) {
	t.Parallel()
	runner := newRunner(t, &noPackages{})
	const begin = "def generate_input(data_dir, size, bucket, ins, outs, upload, nosql):\n"
	tests := map[string]struct {
		input string
		host  *recorder
		code  codes.Code
		says  []string
	}{
		"raises":                {input: begin + "    raise ValueError('no such size')\n", code: codes.InvalidArgument, says: []string{"input.py of 900.sample raised ValueError: no such size", "File \"input.py\", line 2, in generate_input", "correct input.py"}},
		"does not parse":        {input: "def generate_input(:\n", code: codes.InvalidArgument, says: []string{"SyntaxError"}},
		"has no function":       {input: "x = 1\n", code: codes.InvalidArgument, says: []string{"input.py defines no function generate_input"}},
		"returns no dict":       {input: begin + "    return [1]\n", code: codes.InvalidArgument, says: []string{"must return a dict, not list"}},
		"returns no JSON":       {input: begin + "    return {'a': object()}\n", code: codes.InvalidArgument, says: []string{"not JSON serializable"}},
		"returns no number":     {input: begin + "    return {'a': float('nan')}\n", code: codes.InvalidArgument, says: []string{"not JSON compliant"}},
		"leaves":                {input: begin + "    import sys; sys.exit(3)\n", code: codes.InvalidArgument, says: []string{"SystemExit: 3"}},
		"dies":                  {input: begin + "    import os; print('last words', flush=True); os._exit(3)\n", code: codes.InvalidArgument, says: []string{"ended its process", "last words"}},
		"unknown module":        {input: "import nosuchmodule\n", code: codes.InvalidArgument, says: []string{`imports module "nosuchmodule", which is not there`}},
		"prefix out of range":   {input: "def buckets_count(): return (1, 0)\n" + begin + "    upload(1, 'k', __file__)\n", code: codes.InvalidArgument, says: []string{"upload to prefix 1, but buckets_count declared 1"}},
		"wrong counts":          {input: "def buckets_count(): return (-1, 0)\n" + begin + "    return {}\n", code: codes.InvalidArgument, says: []string{"must be between 0 and 100"}},
		"missing file":          {input: "def buckets_count(): return (1, 0)\n" + begin + "    upload(0, 'k', '/nonexistent')\n", code: codes.InvalidArgument, says: []string{"FileNotFoundError"}},
		"storage is not there":  {input: "def buckets_count(): return (1, 0)\n" + begin + "    return {}\n", host: &recorder{fail: errs.Unavailable("STORE_DOWN", "the store does not answer")}, code: codes.Unavailable, says: []string{"the store does not answer"}},
		"table without primary": {input: "def allocate_nosql(): return {'t': {'secondary_key': 'x'}}\n" + begin + "    return {}\n", code: codes.InvalidArgument, says: []string{`table "t" no primary_key`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := test.host
			if host == nil {
				host = &recorder{objects: map[string][]byte{}}
			}
			_, err := runner.Generate(t.Context(), folder(test.input), "test", host)
			if errs.Code(err) != test.code {
				t.Fatalf("Generate = %v (%s), want %s", err, errs.Code(err), test.code)
			}
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error does not say %q:\n%v", says, err)
				}
			}
		})
	}
}

func TestMissingValidator(t *testing.T) {
	t.Parallel()
	reason, err := newRunner(t, &noPackages{}).Validate(t.Context(), folder("x = 1\n"), Judgement{Payload: json.RawMessage(`{}`), Output: json.RawMessage(`1`)}, &recorder{})
	if err != nil || !strings.Contains(reason, "no function validate_output") {
		t.Errorf("Validate = %q, %v; want the reason that there is no validator", reason, err)
	}
}

func TestTimeLimitOfInput(t *testing.T) {
	t.Parallel()
	runner := newRunner(t, &noPackages{})
	runner.timeout = 300 * time.Millisecond
	_, err := runner.Generate(t.Context(), folder("import time\ntime.sleep(600)\n"), "test", &recorder{})
	if !errs.Is(err, codes.DeadlineExceeded) || !strings.Contains(err.Error(), "did not end within 300ms") {
		t.Errorf("Generate = %v, want that it did not end in time", err)
	}
}

func TestCancellationOfInput(t *testing.T) {
	t.Parallel()
	runner := newRunner(t, &noPackages{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runner.Generate(ctx, folder("import time\ntime.sleep(600)\n"), "test", &recorder{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Generate = %v, want context.Canceled", err)
	}
}

func TestEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not for input.py")
	b := folder(`
import os
def generate_input(*_):
    return {"uid": os.getuid(), "leaked": [k for k in os.environ if k.startswith("AWS")], "home": os.environ["HOME"]}
`)
	runner := newRunner(t, &noPackages{})
	got, err := runner.Generate(t.Context(), b, "test", &recorder{})
	if err != nil {
		t.Fatal(err)
	}
	var seen struct {
		UID    int
		Leaked []string
		Home   string
	}
	if err := json.Unmarshal(got.Payload, &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen.Leaked) > 0 || seen.Home == os.Getenv("HOME") {
		t.Errorf("input.py sees %v and home %s", seen.Leaked, seen.Home)
	}
	if runner.confiner.Unprivileged() && seen.UID == 0 {
		t.Log("no interpreter on this machine can be run by the unprivileged user")
	}
}

func TestExchangeCannotBeReplaced(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the service"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := folder(`
import os, shutil
def buckets_count(): return (1, 0)
def generate_input(data_dir, size, bucket, ins, outs, upload, nosql):
    host = upload.__self__
    os.rename(host._exchange, host._exchange + "-gone")
    os.symlink(` + fmt.Sprintf("%q", filepath.Dir(secret)) + `, host._exchange)
    host.call("upload", prefix=0, key="stolen", file="secret")
    return {}
`)
	host := &recorder{objects: map[string][]byte{}}
	if _, err := newRunner(t, &noPackages{}).Generate(t.Context(), b, "test", host); err == nil {
		t.Error("Generate succeeds although the exchange directory was replaced")
	}
	if len(host.objects) > 0 {
		t.Errorf("uploaded %v", host.objects)
	}
}

func TestKnownModuleIsInstalled(t *testing.T) {
	t.Parallel()
	packages := &noPackages{}
	b := folder("from imageio_ffmpeg import get_ffmpeg_exe\n")
	if _, err := newRunner(t, packages).Generate(t.Context(), b, "test", &recorder{}); err == nil || !strings.HasPrefix(packages.wanted, "imageio-ffmpeg==") {
		t.Errorf("Generate = %v after asking for %q; want that imageio-ffmpeg is asked for", err, packages.wanted)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"call": "upload", "prefix": 0, "key": "k", "file": "0"}`))
	f.Add([]byte(`{"call": "declare", "buckets": [1, 2], "tables": {"t": {"primary_key": "a"}}}`))
	f.Add([]byte(`{"outcome": {"payload": {}}}`))
	f.Add([]byte(`{"error": "x", "outcome": {}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err == nil && m.Call == "" && m.Outcome == nil && m.Error == "" {
			t.Errorf("parseMessage(%q) gives an empty message", line)
		}
	})
}
