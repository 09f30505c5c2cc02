// Package inputs runs the input.py of benchmarks: it makes the payload, the input objects and the table items of a
// run, and judges the answers of functions.
//
// input.py is user code. It runs confined in a Python process of its own and reaches objects and tables only through
// calls that this package answers.
package inputs

import (
	"bufio"
	"context"
	_ "embed" // the driver
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

//go:embed driver.py
var driver []byte

// ReasonFailed stands in the errors of an input.py that fails.
const ReasonFailed = "INPUT_FAILED"

// FileName is the name of the file in a benchmark's root folder.
const FileName = "input.py"

// maxTracebackBytes bounds what an error carries of a traceback.
const maxTracebackBytes = 4 << 10

// modulePackages are the packages that input.py files of SeBS import, by module. They are installed when an import
// fails.
var modulePackages = map[string]string{
	"PIL":            "pillow==12.0.0",
	"imageio_ffmpeg": "imageio-ffmpeg==0.6.0",
	"numpy":          "numpy==2.2.6",
}

// Table is what a benchmark wants of one table.
type Table struct {
	// Name is the name that the benchmark uses.
	Name string
	// PrimaryKey and SecondaryKey are names of attributes; SecondaryKey may be empty.
	PrimaryKey, SecondaryKey string
}

// Granted is where a benchmark's objects go.
type Granted struct {
	// Bucket is the real name of the bucket.
	Bucket string
	// InputPrefixes and OutputPrefixes are prefixes of keys in it.
	InputPrefixes, OutputPrefixes []string
}

// Item is one item of a table.
type Item struct {
	// Benchmark and Table are the names that input.py gave.
	Benchmark, Table string
	// Data is a JSON object with the attributes other than the keys.
	Data json.RawMessage
	// PrimaryKey and SecondaryKey are name and value; SecondaryKey may be nil.
	PrimaryKey   [2]string
	SecondaryKey *[2]string
}

// Host serves the calls of input.py.
type Host interface {
	// Objects allots prefixes for the benchmark.
	Objects(ctx context.Context, inputs, outputs int) (Granted, error)
	// Tables creates the benchmark's tables.
	Tables(ctx context.Context, tables []Table) error
	// Upload stores content under a key of an input prefix.
	Upload(ctx context.Context, prefix int, key string, content *os.File) error
	// WriteItem writes an item.
	WriteItem(ctx context.Context, item Item) error
	// Download writes an object's content to w.
	Download(ctx context.Context, bucket, key string, w io.Writer) error
}

// Interpreters finds a Python interpreter.
type Interpreters interface {
	ForInput(ctx context.Context) (pytools.Python, error)
}

// Packages provides a directory with Python packages, installed once.
type Packages interface {
	Directory(ctx context.Context, python pytools.Python, requirement string) (string, error)
}

// Runner runs input.py files.
type Runner struct {
	confiner     *confine.Confiner
	interpreters Interpreters
	packages     Packages
	timeout      time.Duration
	log          *slog.Logger
}

// NewRunner returns a runner. The timeout bounds one run of input.py, its uploads included.
func NewRunner(confiner *confine.Confiner, interpreters Interpreters, packages Packages, timeout time.Duration, log *slog.Logger) *Runner {
	return &Runner{confiner: confiner, interpreters: interpreters, packages: packages, timeout: timeout, log: log}
}

// Generated is what generate_input made.
type Generated struct {
	// Payload is the JSON object to call the function with.
	Payload json.RawMessage
	// UsesObjects and UsesTables say what the function needs at run time.
	UsesObjects, UsesTables bool
	// Granted is where objects are.
	Granted Granted
	// Tables are the tables.
	Tables []Table
}

// Generate runs generate_input for a size (test, small or large). The settings (`NAME=value`) are added to the
// environment of input.py.
func (r *Runner) Generate(ctx context.Context, b benchmark.Benchmark, size string, host Host, settings ...string) (Generated, error) {
	c := &conversation{host: host, benchmark: b.Name, settings: settings}
	result, err := r.run(ctx, b, command{Task: "generate", Size: size}, c)
	if err != nil {
		return Generated{}, fmt.Errorf("generate input of %s: %w", b.Name, err)
	}
	return Generated{Payload: result.Payload, UsesObjects: c.usesObjects, UsesTables: c.tables != nil, Granted: c.granted, Tables: c.tables}, nil
}

// Judgement is what validate_output is asked about.
type Judgement struct {
	// Payload is what the function was called with, Output the result it gave; both are JSON.
	Payload, Output json.RawMessage
	// Language is the function's language.
	Language string
	// Storage says whether input.py may look at objects.
	Storage bool
}

// Validate runs validate_output. An empty reason means that the output is valid.
func (r *Runner) Validate(ctx context.Context, b benchmark.Benchmark, j Judgement, host Host) (reason string, err error) {
	result, err := r.run(ctx, b, command{
		Task: "validate", Payload: j.Payload, Output: j.Output, Language: j.Language, Storage: j.Storage,
	}, &conversation{host: host, benchmark: b.Name})
	if err != nil {
		return "", fmt.Errorf("validate output of %s: %w", b.Name, err)
	}
	if result.Verdict == nil {
		return "", nil
	}
	if *result.Verdict == "" {
		return "validate_output rejected the output without saying why", nil
	}
	return *result.Verdict, nil
}

// run tries again with the package of a module that input.py could not import, if it is a known one.
func (r *Runner) run(ctx context.Context, b benchmark.Benchmark, cmd command, c *conversation) (outcome, error) {
	python, err := r.interpreters.ForInput(ctx)
	if err != nil {
		return outcome{}, err
	}
	if r.confiner.Unprivileged() && !python.Confined {
		r.log.WarnContext(ctx, "no Python interpreter can be run by the unprivileged user; input.py runs as the service's user", "python", python.Path)
	}
	var packages []string
	for range len(modulePackages) + 1 {
		result, err := r.attempt(ctx, b, cmd, c, python, packages)
		var failed *failure
		if !errors.As(err, &failed) {
			return result, err
		}
		requirement, known := modulePackages[failed.message.MissingModule]
		if !known {
			return outcome{}, failed.classify(b)
		}
		dir, err := r.packages.Directory(ctx, python, requirement)
		if err != nil {
			return outcome{}, fmt.Errorf("install %s, which input.py imports: %w", requirement, err)
		}
		packages = append(packages, dir)
	}
	return outcome{}, errs.Internal(errors.New("input.py still misses a module after all known ones were installed"))
}

// attempt runs the driver once.
func (r *Runner) attempt(ctx context.Context, b benchmark.Benchmark, cmd command, c *conversation, python pytools.Python, packages []string) (result outcome, err error) {
	dir, remove, err := r.confiner.WorkDir("input")
	if err != nil {
		return outcome{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := r.furnish(ctx, dir, b, &cmd, packages); err != nil {
		return outcome{}, err
	}
	// Opened before user code runs, which could put a link in the directory's place.
	if c.exchange, err = os.OpenRoot(cmd.ExchangeDir); err != nil {
		return outcome{}, fmt.Errorf("prepare working directory: %w", err)
	}
	defer func() { err = errors.Join(err, c.exchange.Close()) }()
	tail, err := r.confiner.Run(ctx, confine.Program{
		Args: []string{python.Path, "-I", "-B", "-X", "utf8", filepath.Join(dir, "driver.py")},
		Dir:  filepath.Join(dir, "tmp"), Env: confine.Environment(dir, c.settings...), Timeout: r.timeout, Privileged: !python.Confined,
		Converse: func(ctx context.Context, in io.Writer, out io.Reader) error {
			result, err = c.hold(ctx, cmd, in, out)
			return err
		},
	})
	return result, explain(err, tail, b)
}

// explain turns the end of the process into an error about input.py.
func explain(err error, tail string, b benchmark.Benchmark) error {
	var failed *failure
	if err == nil || errors.As(err, &failed) {
		return err
	}
	var ended *confine.FailureError
	switch {
	case errors.As(err, &ended) && ended.TimedOut:
		return errs.DeadlineExceeded(ReasonFailed, "%s of %s did not end within %s and was stopped; make it faster or raise input_timeout in the builder's configuration",
			FileName, b.Name, ended.Timeout).With("benchmark", b.Name).With("log", last(tail))
	case errors.As(err, &ended) || errors.Is(err, io.EOF):
		return errs.InvalidArgument(ReasonFailed, "%s of %s ended its process before it answered; take the exit out of %s; it printed: %s", FileName, b.Name, FileName, last(tail)).
			With("benchmark", b.Name).With("log", last(tail))
	}
	return err
}

// furnish fills the working directory: driver, benchmark folder, data, packages.
func (r *Runner) furnish(ctx context.Context, dir string, b benchmark.Benchmark, cmd *command, packages []string) error {
	folder := filepath.Join(dir, "benchmark")
	cmd.InputFile, cmd.ExchangeDir, cmd.ProjectRoot = filepath.Join(folder, FileName), filepath.Join(dir, "exchange"), filepath.Join(dir, "root")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "driver.py"), driver, 0o644),
		os.Mkdir(folder, 0o755), os.Mkdir(cmd.ExchangeDir, 0o700), os.Mkdir(cmd.ProjectRoot, 0o755),
	); err != nil {
		return fmt.Errorf("prepare working directory: %w", err)
	}
	files, err := benchsource.Files(b.Source)
	if err != nil {
		return err
	}
	if err := archive.Extract(ctx, folder, files); err != nil {
		return err
	}
	if err := r.provideData(ctx, dir, b, cmd); err != nil {
		return err
	}
	cmd.Packages = []string{}
	for i, from := range packages {
		to := filepath.Join(dir, fmt.Sprintf("packages-%d", i))
		if err := provideDir(ctx, from, to); err != nil {
			return fmt.Errorf("provide packages: %w", err)
		}
		cmd.Packages = append(cmd.Packages, to)
	}
	if err := r.confiner.GiveTree(cmd.ExchangeDir); err != nil {
		return fmt.Errorf("prepare working directory: %w", err)
	}
	return nil
}

// groups are the folders that SeBS sorts benchmarks into, by the first digit of their number. Validators name them in
// paths; an uploaded folder does not tell its own.
var groups = map[string]string{
	"0": "000.microbenchmarks", "1": "100.webapps", "2": "200.multimedia", "3": "300.utilities", "4": "400.inference", "5": "500.scientific",
}

// provideData puts the benchmark's data where validators of SeBS look for it, below get_project_root().
func (r *Runner) provideData(ctx context.Context, dir string, b benchmark.Benchmark, cmd *command) error {
	if b.Data == nil {
		return nil
	}
	place := b.DataPath
	if place == "" || place == "." {
		place = path.Join(groups[b.Name[:1]], b.Name)
	}
	data := filepath.Join(dir, "root", "benchmarks-data", filepath.FromSlash(place))
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		return fmt.Errorf("provide input data: %w", err)
	}
	cmd.DataDir = &data
	if b.DataDir != "" {
		if !r.confiner.Unprivileged() && os.Symlink(b.DataDir, data) == nil {
			return nil
		}
		if err := provideDir(ctx, b.DataDir, data); err != nil {
			return fmt.Errorf("provide input data: %w", err)
		}
		return nil
	}
	files, err := archive.Tree(b.Data, DataLimits, nil)
	if err != nil {
		return fmt.Errorf("provide input data: %w", err)
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("provide input data: %w", err)
	}
	return archive.Extract(ctx, data, files)
}

// DataLimits bound the input data of one benchmark.
var DataLimits = archive.Limits{Files: 1_000_000, Bytes: 64 << 30}

// conversation is one run's exchange with the driver.
type conversation struct {
	host      Host
	benchmark string
	settings  []string
	exchange  *os.Root

	usesObjects bool
	granted     Granted
	tables      []Table
}

// failure is an exception of input.py.
type failure struct{ message message }

func (f *failure) Error() string { return f.message.Error }

func (f *failure) classify(b benchmark.Benchmark) error {
	trace := last(f.message.Traceback)
	if f.message.MissingModule != "" {
		return errs.InvalidArgument(ReasonFailed, "%s of %s imports module %q, which is not there; use the standard library, Pillow, numpy or imageio-ffmpeg\n%s",
			FileName, b.Name, f.message.MissingModule, trace).With("benchmark", b.Name).With("traceback", trace)
	}
	if trace == "" {
		return errs.InvalidArgument(ReasonFailed, "%s of %s: %s", FileName, b.Name, f.message.Error).With("benchmark", b.Name)
	}
	return errs.InvalidArgument(ReasonFailed, "%s of %s raised %s; correct %s\n%s", FileName, b.Name, f.message.Error, FileName, trace).
		With("benchmark", b.Name).With("traceback", trace)
}

// last returns the end of a text.
func last(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxTracebackBytes {
		return "…" + strings.ToValidUTF8(text[len(text)-maxTracebackBytes:], "")
	}
	return text
}

// hold sends the command and answers calls until the outcome is there.
func (c *conversation) hold(ctx context.Context, cmd command, in io.Writer, out io.Reader) (outcome, error) {
	if err := writeLine(in, cmd); err != nil {
		return outcome{}, fmt.Errorf("talk to input.py: %w", err)
	}
	lines := bufio.NewReaderSize(out, 64<<10)
	for {
		m, err := readMessage(lines)
		if err != nil {
			return outcome{}, fmt.Errorf("talk to input.py: %w", err)
		}
		switch {
		case m.Outcome != nil:
			return *m.Outcome, nil
		case m.Error != "":
			return outcome{}, &failure{m}
		}
		answer, err := c.answer(ctx, m)
		if err != nil {
			return outcome{}, err
		}
		if err := writeLine(in, answer); err != nil {
			return outcome{}, fmt.Errorf("talk to input.py: %w", err)
		}
	}
}

func (c *conversation) answer(ctx context.Context, m message) (reply, error) {
	switch m.Call {
	case "declare":
		return c.declare(ctx, m)
	case "upload":
		return c.upload(ctx, m)
	case "write_item":
		if m.PrimaryKey == nil {
			return reply{Error: "the primary key is missing"}, nil
		}
		item := Item{Benchmark: m.Benchmark, Table: m.Table, Data: m.Data, PrimaryKey: *m.PrimaryKey, SecondaryKey: m.SecondaryKey}
		if err := c.host.WriteItem(ctx, item); err != nil {
			return reply{}, fmt.Errorf("write item to table %s: %w", m.Table, err)
		}
		return reply{}, nil
	case "download":
		return c.download(ctx, m)
	}
	return reply{Error: fmt.Sprintf("there is no call %q", m.Call)}, nil
}

func (c *conversation) declare(ctx context.Context, m message) (reply, error) {
	if m.Buckets != nil {
		inputs, outputs := m.Buckets[0], m.Buckets[1]
		if inputs < 0 || outputs < 0 || inputs > 100 || outputs > 100 {
			return reply{Error: fmt.Sprintf("buckets_count returned (%d, %d); both must be between 0 and 100", inputs, outputs)}, nil
		}
		granted, err := c.host.Objects(ctx, inputs, outputs)
		if err != nil {
			return reply{}, fmt.Errorf("allot prefixes: %w", err)
		}
		c.usesObjects, c.granted = inputs+outputs > 0, granted
	}
	if m.Tables != nil {
		c.tables = []Table{}
		for name, keys := range m.Tables {
			primary := keys["primary_key"]
			if primary == nil || *primary == "" {
				return reply{Error: fmt.Sprintf("allocate_nosql gives table %q no primary_key", name)}, nil
			}
			table := Table{Name: name, PrimaryKey: *primary}
			if secondary := keys["secondary_key"]; secondary != nil {
				table.SecondaryKey = *secondary
			}
			c.tables = append(c.tables, table)
		}
		if err := c.host.Tables(ctx, c.tables); err != nil {
			return reply{}, fmt.Errorf("create tables: %w", err)
		}
	}
	return reply{Bucket: c.granted.Bucket, InputPrefixes: c.granted.InputPrefixes, OutputPrefixes: c.granted.OutputPrefixes}, nil
}

func (c *conversation) upload(ctx context.Context, m message) (answer reply, err error) {
	if m.Prefix < 0 || m.Prefix >= len(c.granted.InputPrefixes) {
		return reply{Error: fmt.Sprintf("upload to prefix %d, but buckets_count declared %d input prefixes", m.Prefix, len(c.granted.InputPrefixes))}, nil
	}
	content, err := openExchanged(c.exchange, m.File, os.O_RDONLY)
	if err != nil {
		return reply{}, fmt.Errorf("read file to upload: %w", err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if err := c.host.Upload(ctx, m.Prefix, m.Key, content); err != nil {
		return reply{}, fmt.Errorf("upload %s: %w", m.Key, err)
	}
	return reply{}, nil
}

func (c *conversation) download(ctx context.Context, m message) (answer reply, err error) {
	content, err := openExchanged(c.exchange, m.File, os.O_WRONLY)
	if err != nil {
		return reply{}, fmt.Errorf("open file to download to: %w", err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if err := c.host.Download(ctx, m.Bucket, m.Key, content); err != nil {
		if errs.Is(err, codes.NotFound) {
			return reply{Error: fmt.Sprintf("object %s does not exist in bucket %s", m.Key, m.Bucket)}, nil
		}
		return reply{}, fmt.Errorf("download %s: %w", m.Key, err)
	}
	return reply{}, nil
}

// openExchanged opens a file that the driver made in the exchange directory. The name is a plain one, links out of the
// directory are not followed, and only regular files are opened: user code can write there as well.
func openExchanged(exchange *os.Root, name string, flags int) (*os.File, error) {
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return nil, errs.InvalidArgument(ReasonFailed, "%q is not the name of an exchanged file", name)
	}
	info, err := exchange.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errs.InvalidArgument(ReasonFailed, "exchanged file %q is not a regular file", name)
	}
	return exchange.OpenFile(name, flags, 0)
}
