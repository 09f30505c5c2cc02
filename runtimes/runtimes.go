package runtimes

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed layout.json python nodejs java cpp
var content embed.FS

// ErrUnknown reports a platform or language that has no runtime here. Errors
// wrapping it list what there is.
var ErrUnknown = errors.New("no such runtime")

// File is one embedded file and the place it takes.
type File struct {
	// Source is the slash-separated path inside this package's embedded tree.
	Source string `json:"source"`
	// Path is the slash-separated path relative to the root of the code
	// package (or of the bootstrap directory).
	Path string `json:"path"`
	// KeepExisting says that a file the benchmark ships at Path wins.
	KeepExisting bool `json:"keep_existing,omitempty"`
}

// Package is a dependency in the package registry of the language.
type Package struct {
	Name string `json:"name"`
	// Version is exact, never a range.
	Version string `json:"version"`
}

// Requirement is the package as a line of a Python requirement file, without
// a newline.
func (p Package) Requirement() string { return p.Name + "==" + p.Version }

// Layout describes a code package of one language on one platform.
type Layout struct {
	Platform string `json:"platform"`
	Language string `json:"language"`
	// Handler is the handler string of the function, "<module>.<name>".
	Handler string `json:"handler"`
	// SourceDir is the directory of the package that takes the benchmark's
	// own files and the client modules.
	SourceDir string `json:"source_dir"`
	// DependencyDir is where installed dependencies go.
	DependencyDir string `json:"dependency_dir"`
	// DependencyFile is the requirement file, at the root of the package.
	DependencyFile string `json:"dependency_file"`
	// RootFiles are names (of benchmark files) that belong to the root of the
	// package and not to SourceDir.
	RootFiles []string `json:"root_files"`
	// Files are added to every package.
	Files []File `json:"files"`
	// Packages are installed for every benchmark.
	Packages []Package `json:"packages,omitempty"`
	// Modules holds per benchmark module ("storage", "nosql") the packages
	// its client needs. Every supported module has an entry, if empty.
	Modules map[string][]Package `json:"modules"`
	// Digest is the SHA-256 in hex over this layout and the content of its
	// files. It changes when, and only when, packages built with it would.
	Digest string `json:"-"`
}

// ModulePackages returns what a benchmark module adds to the dependencies. An
// unknown module is an error that names the known ones.
func (l Layout) ModulePackages(module string) ([]Package, error) {
	packages, ok := l.Modules[module]
	if !ok {
		known := make([]string, 0, len(l.Modules))
		for name := range l.Modules {
			known = append(known, name)
		}
		slices.Sort(known)
		return nil, fmt.Errorf("module %q: %w for %s on platform %s; known modules: %s",
			module, ErrUnknown, l.Language, l.Platform, strings.Join(known, ", "))
	}
	return slices.Clone(packages), nil
}

// Bootstrap is the Runtime API client of a language.
type Bootstrap struct {
	Language string `json:"language"`
	// Entry is the path of the file to start, relative to the directory the
	// files were written to.
	Entry string `json:"entry"`
	// Files are all files of the bootstrap.
	Files []File `json:"files"`
	// Digest is the SHA-256 in hex over the bootstrap's files.
	Digest string `json:"-"`
}

// Catalog answers for the embedded runtimes. It is immutable and safe for
// concurrent use.
type Catalog struct {
	layouts    []Layout
	bootstraps []Bootstrap
}

// Load reads the embedded description of the runtimes and checks that every
// file it names is there.
func Load() (*Catalog, error) {
	raw, err := content.ReadFile("layout.json")
	if err != nil {
		return nil, fmt.Errorf("read layout of the runtimes: %w", err)
	}
	return parse(raw)
}

func parse(raw []byte) (*Catalog, error) {
	var described struct {
		Layouts    []Layout    `json:"layouts"`
		Bootstraps []Bootstrap `json:"bootstraps"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&described); err != nil {
		return nil, fmt.Errorf("parse layout of the runtimes: %w", err)
	}
	c := &Catalog{layouts: described.Layouts, bootstraps: described.Bootstraps}
	for i := range c.layouts {
		l := &c.layouts[i]
		digest, err := c.digest(l, l.Files)
		if err != nil {
			return nil, fmt.Errorf("layout %s/%s: %w", l.Platform, l.Language, err)
		}
		l.Digest = digest
	}
	for i := range c.bootstraps {
		b := &c.bootstraps[i]
		digest, err := c.digest(b, b.Files)
		if err != nil {
			return nil, fmt.Errorf("bootstrap %s: %w", b.Language, err)
		}
		b.Digest = digest
	}
	return c, nil
}

// digest covers the description and, for each file, place and content. Parts
// are framed by their length, so that no two descriptions collide by moving
// bytes between parts.
func (c *Catalog) digest(description any, files []File) (string, error) {
	h := sha256.New()
	part := func(b []byte) {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	raw, err := json.Marshal(description)
	if err != nil {
		return "", fmt.Errorf("encode description: %w", err)
	}
	part(raw)
	for _, f := range files {
		body, err := c.Read(f)
		if err != nil {
			return "", err
		}
		part([]byte(f.Path))
		part(body)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Layout returns the package layout of a language on a platform, both in lower
// case. ErrUnknown where there is none.
func (c *Catalog) Layout(platform, language string) (Layout, error) {
	known := make([]string, 0, len(c.layouts))
	for _, l := range c.layouts {
		if l.Platform == platform && l.Language == language {
			return l, nil
		}
		known = append(known, l.Platform+"/"+l.Language)
	}
	return Layout{}, fmt.Errorf("language %q on platform %q: %w; there are runtimes for %s",
		language, platform, ErrUnknown, strings.Join(known, ", "))
}

// Bootstrap returns the Runtime API client of a language. ErrUnknown where
// there is none.
func (c *Catalog) Bootstrap(language string) (Bootstrap, error) {
	known := make([]string, 0, len(c.bootstraps))
	for _, b := range c.bootstraps {
		if b.Language == language {
			return b, nil
		}
		known = append(known, b.Language)
	}
	return Bootstrap{}, fmt.Errorf("bootstrap of language %q: %w; there are bootstraps for %s",
		language, ErrUnknown, strings.Join(known, ", "))
}

// Languages lists the languages with a layout on a platform, sorted.
func (c *Catalog) Languages(platform string) []string {
	var languages []string
	for _, l := range c.layouts {
		if l.Platform == platform {
			languages = append(languages, l.Language)
		}
	}
	slices.Sort(languages)
	return languages
}

// Read returns the content of an embedded file.
func (c *Catalog) Read(f File) ([]byte, error) {
	body, err := content.ReadFile(f.Source)
	if err != nil {
		return nil, fmt.Errorf("read runtime file %s: %w", f.Source, err)
	}
	return body, nil
}

// Write puts files under dir, which is made if needed. Files get mode 0644 and
// directories 0755, because a sandbox runs as another user. It replaces files
// of the same name and leaves others alone.
func (c *Catalog) Write(files []File, dir string) error {
	for _, f := range files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return fmt.Errorf("write runtime file %s: path %q leaves the directory", f.Source, f.Path)
		}
		body, err := c.Read(f)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("write runtime file %s: %w", f.Path, err)
		}
		if err := replaceFile(target, body); err != nil {
			return fmt.Errorf("write runtime file %s: %w", f.Path, err)
		}
	}
	return nil
}

// replaceFile writes beside the target and renames, so that an interpreter
// starting at this moment reads either the old file or the new one.
func replaceFile(target string, body []byte) error {
	file, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+"-*")
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// Sources lists the embedded files of a language, slash-separated and sorted.
func (c *Catalog) Sources(language string) ([]string, error) {
	var sources []string
	err := fs.WalkDir(content, path.Clean(language), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			sources = append(sources, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list runtime files of language %q: %w", language, err)
	}
	slices.Sort(sources)
	return sources, nil
}
