package benchmark

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/nearest"
)

// ReasonNotFound stands in the error of a benchmark that no root holds.
const ReasonNotFound = "BENCHMARK_NOT_FOUND"

// searchDepth is how many folders below a root a benchmark may lie; SeBS has it two below.
const searchDepth = 4

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName refuses what cannot be the name of a benchmark, before it becomes part of a path or a resource name.
func CheckName(name string) error {
	if namePattern.MatchString(name) && !strings.Contains(name, "..") {
		return nil
	}
	return errs.InvalidArgument("BENCHMARK_NAME_INVALID",
		"benchmark name %q is not valid; use up to 64 letters, digits, dots, dashes and underscores, as in 110.dynamic-html", name)
}

// Root is one tree of folders that is searched.
type Root struct {
	// Label says where the tree is, for people: a directory, or the name of the shipped catalogue.
	Label string
	// FS is the tree.
	FS fs.FS
}

// DirRoot returns the root that is the directory dir. The directory must exist.
func DirRoot(dir string) (Root, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return Root{}, fmt.Errorf("resolve benchmark root %s: %w", dir, err)
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return Root{}, errs.InvalidArgument("BENCHMARK_ROOT_MISSING", "benchmark root %s cannot be read (%s); correct --benchmarks-dir, --benchmarks-data-dir or the builder's configuration", absolute, plain(err))
	}
	if !info.IsDir() {
		return Root{}, errs.InvalidArgument("BENCHMARK_ROOT_MISSING", "benchmark root %s is a file; name the directory that holds the benchmarks", absolute)
	}
	return Root{Label: absolute, FS: os.DirFS(absolute)}, nil
}

// plain drops the operation and path that a file system error repeats.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// Benchmark is a folder found in a root.
type Benchmark struct {
	// Name is the folder's own name.
	Name string
	// Path is the folder's slash-separated path inside its root; `.` for a source that was uploaded by itself.
	Path string
	// Root is the label of the root.
	Root string
	// Source is the folder.
	Source fs.FS
	// Config is its config.json.
	Config Config
	// Data is the folder with input data and DataPath its path inside the data root; nil and empty when there is none.
	Data     fs.FS
	DataPath string
	// DataDir is the data folder on this machine's disk; empty when Data is not a directory on disk.
	DataDir string
}

// Catalogue looks benchmarks up by name.
type Catalogue struct {
	roots []Root
	data  []Root
}

// NewCatalogue returns a catalogue over trees of benchmarks and trees of input data, both in order of precedence.
func NewCatalogue(roots, data []Root) *Catalogue {
	return &Catalogue{roots: slices.Clone(roots), data: slices.Clone(data)}
}

// Find returns the first benchmark with the name. An unknown name is NotFound and names the nearest.
func (c *Catalogue) Find(name string) (Benchmark, error) {
	if err := CheckName(name); err != nil {
		return Benchmark{}, err
	}
	for _, root := range c.roots {
		where, err := find(root, name, isBenchmark)
		if err != nil {
			return Benchmark{}, err
		}
		if where != "" {
			return c.open(root, where)
		}
	}
	return Benchmark{}, c.unknown(name)
}

func (c *Catalogue) unknown(name string) error {
	known, err := c.names()
	if err != nil {
		return err
	}
	labels := make([]string, 0, len(c.roots))
	for _, root := range c.roots {
		labels = append(labels, root.Label)
	}
	return errs.NotFound(ReasonNotFound, "benchmark %q does not exist in %s; %s; `sebs benchmark list` shows all, --benchmarks-dir adds a directory",
		name, strings.Join(labels, ", "), nearest.Hint(name, known)).With("benchmark", name)
}

// List returns every benchmark, sorted by name, each from the first root that has it. A benchmark whose config.json
// is at fault is left out and its error stands in faults, so that the rest stays usable.
func (c *Catalogue) List() (found []Benchmark, faults []error, err error) {
	seen := map[string]bool{}
	for _, root := range c.roots {
		err := walk(root, func(where string) error {
			name := path.Base(where)
			if seen[name] || CheckName(name) != nil || !isBenchmark(root.FS, where) {
				return nil
			}
			seen[name] = true
			b, err := c.open(root, where)
			if err != nil {
				faults = append(faults, err)
			} else {
				found = append(found, b)
			}
			return fs.SkipDir
		})
		if err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(found, func(a, b Benchmark) int { return strings.Compare(a.Name, b.Name) })
	return found, faults, nil
}

func (c *Catalogue) names() ([]string, error) {
	var names []string
	for _, root := range c.roots {
		err := walk(root, func(where string) error {
			if !isBenchmark(root.FS, where) {
				return nil
			}
			names = append(names, path.Base(where))
			return fs.SkipDir
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// AttachData sets the data folder of b from the data roots, if one has a folder of its name that is not empty.
func (c *Catalogue) AttachData(b *Benchmark) error {
	for _, root := range c.data {
		where, err := find(root, b.Name, isFilled)
		if err != nil {
			return err
		}
		if where == "" {
			continue
		}
		data, err := fs.Sub(root.FS, where)
		if err != nil {
			return fmt.Errorf("open input data of %s: %w", b.Name, err)
		}
		b.Data, b.DataPath = data, where
		if filepath.IsAbs(root.Label) {
			b.DataDir = filepath.Join(root.Label, filepath.FromSlash(where))
		}
		return nil
	}
	return nil
}

func (c *Catalogue) open(root Root, where string) (Benchmark, error) {
	source, err := fs.Sub(root.FS, where)
	if err != nil {
		return Benchmark{}, fmt.Errorf("open benchmark %s: %w", where, err)
	}
	b, err := Open(path.Base(where), path.Join(root.Label, where), source)
	if err != nil {
		return Benchmark{}, err
	}
	b.Root, b.Path = root.Label, where
	return b, c.AttachData(&b)
}

// Open reads the benchmark that source holds under the given name; label says where it lies, for errors.
func Open(name, label string, source fs.FS) (Benchmark, error) {
	if err := CheckName(name); err != nil {
		return Benchmark{}, err
	}
	file := label + "/" + ConfigFile
	data, err := fs.ReadFile(source, ConfigFile)
	if err != nil {
		return Benchmark{}, errs.InvalidArgument(ReasonConfig, "%s: cannot be read (%s); a benchmark folder needs it", file, plain(err)).With("file", file)
	}
	config, err := ParseConfig(file, data)
	if err != nil {
		return Benchmark{}, err
	}
	return Benchmark{Name: name, Path: ".", Root: label, Source: source, Config: config}, nil
}

// isBenchmark says whether a folder is a benchmark rather than a group of them.
func isBenchmark(tree fs.FS, where string) bool {
	info, err := fs.Stat(tree, path.Join(where, ConfigFile))
	return err == nil && !info.IsDir()
}

// isFilled says whether a folder holds anything; an empty one is a submodule that was not fetched.
func isFilled(tree fs.FS, where string) bool {
	entries, err := fs.ReadDir(tree, where)
	return err == nil && len(entries) > 0
}

// find returns the path of the first folder that has the name and is accepted; empty when there is none.
func find(root Root, name string, accept func(fs.FS, string) bool) (string, error) {
	var found string
	err := walk(root, func(where string) error {
		if path.Base(where) != name || !accept(root.FS, where) {
			return nil
		}
		found = where
		return fs.SkipAll
	})
	return found, err
}

// walk calls visit for each folder of a root in alphabetical order, but not for hidden ones and not deeper than
// searchDepth. Folders that cannot be read are passed over: one of them must not hide all others.
func walk(root Root, visit func(where string) error) error {
	err := fs.WalkDir(root.FS, ".", func(where string, entry fs.DirEntry, err error) error {
		if err != nil {
			if where == "." {
				return err
			}
			return fs.SkipDir
		}
		if !entry.IsDir() || where == "." {
			return nil
		}
		if base := path.Base(where); strings.HasPrefix(base, ".") || base == "node_modules" || strings.Count(where, "/") >= searchDepth {
			return fs.SkipDir
		}
		return visit(where)
	})
	if err != nil {
		return fmt.Errorf("search benchmark root %s: %w", root.Label, err)
	}
	return nil
}
