package packaging

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// Names in C++ projects and packages.
const (
	cmakeFile   = "CMakeLists.txt"
	cppEntry    = "main.cpp"
	cppProgram  = "bin/function"
	cppLibDir   = "lib"
	cppCompiled = "build/function"
)

// toolsFor is how long it is believed what compiler and libraries the machine has.
const toolsFor = time.Minute

// cppLibraries are the values of cpp_dependencies that the machine's packages or the runtime itself provide.
var cppLibraries = []string{"runtime", "rapidjson"}

// CMake compiles C++ packages with the machine's cmake and g++.
type CMake struct {
	confiner *confine.Confiner
	timeout  time.Duration

	mu    sync.Mutex
	found cppTools
	until time.Time
}

// NewCMake returns the machine's cmake; the timeout bounds one build.
func NewCMake(confiner *confine.Confiner, timeout time.Duration) *CMake {
	return &CMake{confiner: confiner, timeout: timeout}
}

// cppTools are the programs of a build.
type cppTools struct {
	cmake, compiler string
	// name tells the versions to people.
	name string
	// digest covers everything of the machine that becomes part of a package, or decides about it: versions of the programs,
	// headers, static and shared libraries.
	digest string
}

// installCPP is the remedy where something of a C++ build is missing.
const installCPP = "install it on the builder's machine (Debian and Ubuntu: apt-get install cmake make g++ libcurl4-openssl-dev rapidjson-dev)"

// tools finds the compiler and the libraries of the runtime, and what tells them from others.
func (c *CMake) tools(ctx context.Context) (cppTools, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.found, nil
	}
	var t cppTools
	for _, program := range []struct {
		name string
		path *string
	}{{"cmake", &t.cmake}, {"g++", &t.compiler}, {"make", new(string)}, {"ldd", new(string)}} {
		found, err := exec.LookPath(program.name)
		if err != nil || !filepath.IsAbs(found) {
			return t, errs.FailedPrecondition(pytools.ReasonToolMissing, "%s is not on PATH; C++ benchmarks need it: %s", program.name, installCPP).With("tool", program.name)
		}
		*program.path = found
	}
	sum := sha256.New()
	var names []string
	for _, program := range []string{t.cmake, t.compiler} {
		printed, err := c.ask(ctx, program, "--version")
		if err != nil {
			return t, fmt.Errorf("ask %s for its version: %w", filepath.Base(program), err)
		}
		line, _, _ := strings.Cut(printed, "\n")
		names = append(names, line)
		_, _ = io.WriteString(sum, line+"\n") // a hash takes everything
	}
	files, err := c.inputs(ctx, t)
	if err != nil {
		return t, err
	}
	for _, name := range files {
		if err := hashFile(sum, name); err != nil {
			return t, fmt.Errorf("read what C++ packages are made of: %w", err)
		}
	}
	t.name, t.digest = strings.Join(names, ", "), hex.EncodeToString(sum.Sum(nil))
	c.found, c.until = t, time.Now().Add(toolsFor)
	return t, nil
}

func (c *CMake) ask(ctx context.Context, arguments ...string) (string, error) {
	return c.confiner.Run(ctx, confine.Program{Args: arguments, Env: confine.InstallerEnvironment(), Timeout: 30 * time.Second, Privileged: true})
}

// inputs lists the headers and libraries that the runtime is made of.
func (c *CMake) inputs(ctx context.Context, t cppTools) ([]string, error) {
	var files []string
	for _, header := range []string{"curl/curl.h", "rapidjson/document.h"} {
		rule, err := c.ask(ctx, t.compiler, "-std=c++17", "-x", "c++", "-M", "-include", header, os.DevNull)
		if err != nil {
			return nil, errs.FailedPrecondition(pytools.ReasonToolMissing, "g++ does not find the header %s; C++ benchmarks need it: %s", header, installCPP).With("tool", header)
		}
		_, rule, _ = strings.Cut(rule, ":")
		for _, name := range strings.Fields(rule) {
			if filepath.IsAbs(name) && name != os.DevNull {
				files = append(files, name)
			}
		}
	}
	for _, library := range []string{"libcurl.so", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.a", "libgcc.a", "libgcc_eh.a"} {
		printed, err := c.ask(ctx, t.compiler, "-print-file-name="+library)
		name := strings.TrimSpace(printed)
		if err != nil || !filepath.IsAbs(name) {
			return nil, errs.FailedPrecondition(pytools.ReasonToolMissing, "g++ does not find the library %s; C++ benchmarks need it: %s", library, installCPP).With("tool", library)
		}
		files = append(files, name)
		if library == "libcurl.so" {
			needed, err := c.needed(ctx, confine.Program{Args: []string{"ldd", name}, Env: confine.InstallerEnvironment(), Timeout: 30 * time.Second, Privileged: true})
			if err != nil {
				return nil, err
			}
			for _, one := range needed {
				files = append(files, one)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// needed runs ldd and returns the libraries it names, by the name that the loader looks for.
func (c *CMake) needed(ctx context.Context, program confine.Program) (map[string]string, error) {
	printed, err := c.confiner.Run(ctx, program)
	if err != nil {
		return nil, fmt.Errorf("find shared libraries: %w", err)
	}
	return parseLDD(printed)
}

// parseLDD reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
func parseLDD(printed string) (map[string]string, error) {
	needed := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(printed))
	for lines.Scan() {
		line, _, _ := strings.Cut(strings.TrimSpace(lines.Text()), " (")
		name, target, arrow := strings.Cut(line, " => ")
		switch {
		case arrow && target == "not found":
			return nil, errs.FailedPrecondition(ReasonFailed, "the shared library %s is not on the builder's machine; install the package that holds it", name).With("library", name)
		case arrow && filepath.IsAbs(target):
			needed[path.Base(name)] = target
		case !arrow && filepath.IsAbs(line):
			needed[path.Base(line)] = line
		}
	}
	return needed, nil
}

// libraryDirs are where the machine's packages put libraries. What a program claims to need elsewhere is not read: the claim
// is the user's.
var libraryDirs = []string{"/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/usr/local/lib/", "/usr/local/lib64/"}

// systemLibrary returns the file behind a library's name.
func systemLibrary(name string) (string, error) {
	resolved, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "", fmt.Errorf("find shared library: %w", err)
	}
	if !slices.ContainsFunc(libraryDirs, func(dir string) bool { return strings.HasPrefix(resolved, dir) }) {
		return "", errs.InvalidArgument(ReasonFailed, "the shared library %s lies outside of the system's directories (%s) and is not packaged; install it there, or link it statically",
			name, strings.Join(libraryDirs, ", ")).With("library", name)
	}
	return resolved, nil
}

func hashFile(sum io.Writer, name string) (err error) {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(sum, file)
	return err
}

// checkLibraries refuses libraries of cpp_dependencies that cannot be linked here, by name.
func (p *Plan) checkLibraries() error {
	for _, library := range p.Benchmark.Config.CPPDependencies {
		if !slices.Contains(cppLibraries, library) {
			return errs.Unimplemented(ReasonModuleMissing, "benchmark %s asks for %q in cpp_dependencies of its config.json, which the builder cannot link; it has %s",
				p.Benchmark.Name, library, strings.Join(cppLibraries, ", ")).With("benchmark", p.Benchmark.Name).With("library", library)
		}
	}
	return nil
}

// cmakeSpecial are characters that CMake or the makefiles it writes trip over in names of files, however they are quoted:
// lists are split at semicolons outside of brackets, variables and generator expressions are expanded a second time.
const cmakeSpecial = "\"$;[]\\|"

func unbuildable(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(cmakeSpecial, r) }

// cmakeArguments writes names, which hold nothing that needs an escape (see unbuildable), as arguments, one a line.
func cmakeArguments(names []string) string {
	return `"` + strings.Join(names, "\"\n  \"") + `"`
}

// addCMakeLists writes the build's description for the sources that are there.
func (p *Plan) addCMakeLists(project map[string]archive.File) error {
	if err := p.checkLibraries(); err != nil {
		return err
	}
	if _, ok := project[path.Join(p.Layout.SourceDir, cppEntry)]; !ok {
		return errs.InvalidArgument(ReasonFailed, "folder %s/%s holds no %s, and no script makes it", p.Benchmark.Name, benchmark.CPP, cppEntry).With("benchmark", p.Benchmark.Name)
	}
	var sources, dirs []string
	for _, name := range slices.Sorted(maps.Keys(project)) {
		if ext := path.Ext(name); (ext == ".cpp" || ext == ".hpp") && strings.ContainsFunc(name, unbuildable) {
			return errs.InvalidArgument(ReasonFailed, "source file %q of %s has a name that CMake cannot build: rename it so that it holds no control characters and none of %s",
				name, p.Benchmark.Name, cmakeSpecial).With("benchmark", p.Benchmark.Name).With("file", name)
		}
		if path.Ext(name) == ".cpp" {
			sources = append(sources, name)
		}
		if dir := path.Dir(name); path.Ext(name) == ".hpp" && !slices.Contains(dirs, dir) && dir != p.Layout.SourceDir {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	var text bytes.Buffer
	fmt.Fprintf(&text, `cmake_minimum_required(VERSION 3.16)
project(function LANGUAGES CXX)

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

find_package(CURL REQUIRED)
find_package(Threads REQUIRED)

add_executable(function
  %s)
target_include_directories(function PRIVATE
  %s)
target_compile_definitions(function PRIVATE RAPIDJSON_HAS_STDSTRING=1)
# Names of directories must not get into the program: it depends on the sources alone.
target_compile_options(function PRIVATE -ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -Wno-psabi)
target_link_libraries(function PRIVATE CURL::libcurl Threads::Threads)
target_link_options(function PRIVATE -static-libstdc++ -static-libgcc -Wl,--build-id=none -s)
`, cmakeArguments(sources), cmakeArguments(append([]string{p.Layout.SourceDir}, dirs...)))
	project[cmakeFile] = archive.Bytes(cmakeFile, text.Bytes())
	return nil
}

// compileCPP runs cmake, and puts the program, the libraries it needs with their loader, and the launcher together.
func (b *Builder) compileCPP(ctx context.Context, p *Plan, w *workshop, built *Built, report Report) (entries map[string]archive.File, done func() error, err error) {
	tools, err := b.cmake.tools(ctx)
	if err != nil {
		return nil, nil, err
	}
	built.Installer = tools.name
	report("dependencies", "compiling with "+tools.name)
	environment := confine.Environment(w.dir, "CXX="+tools.compiler, "PLATFORM="+strings.ToUpper(p.Choice.Platform), "APP="+p.Benchmark.Name, "TARGET_ARCHITECTURE="+p.Choice.Architecture)
	for _, arguments := range [][]string{
		{tools.cmake, "-S", ".", "-B", path.Dir(cppCompiled), "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release"},
		{tools.cmake, "--build", path.Dir(cppCompiled), "--parallel", "2"},
	} {
		log, err := b.cmake.confiner.Run(ctx, confine.Program{Args: arguments, Dir: w.project, Env: environment, Timeout: b.cmake.timeout})
		if err != nil {
			return nil, nil, explainCompiler(err, p, w, "cmake", log, b.cmake.timeout)
		}
	}
	needed, err := b.cmake.needed(ctx, confine.Program{Args: []string{"ldd", cppCompiled}, Dir: w.project, Env: environment, Timeout: b.cmake.timeout})
	if err != nil {
		return nil, nil, err
	}
	// The C library loads it by name when a thread ends early.
	unwinder, err := b.cmake.ask(ctx, tools.compiler, "-print-file-name=libgcc_s.so.1")
	if err != nil {
		return nil, nil, fmt.Errorf("find shared libraries: %w", err)
	}
	needed["libgcc_s.so.1"] = strings.TrimSpace(unwinder)
	entries = map[string]archive.File{}
	for name, target := range needed {
		file, err := libraryFile(path.Join(cppLibDir, name), target)
		if err != nil {
			return nil, nil, err
		}
		entries[file.Path] = file
	}
	program, err := w.root.Lstat(filepath.FromSlash(cppCompiled))
	if err != nil {
		return nil, nil, fmt.Errorf("find the compiled program: %w", err)
	}
	entries[cppProgram] = archive.File{
		Path: cppProgram, Executable: true, Size: program.Size(),
		Open: func() (io.ReadCloser, error) { return w.root.Open(filepath.FromSlash(cppCompiled)) },
	}
	for _, file := range p.Layout.Files {
		if file.Path == launcher {
			content, err := b.layouts.Read(file)
			if err != nil {
				return nil, nil, err
			}
			entries[file.Path] = runtimeFile(file, content)
		}
	}
	return entries, func() error { return nil }, nil
}

// libraryFile is a library of the machine as a file of the package.
func libraryFile(name, target string) (archive.File, error) {
	resolved, err := systemLibrary(target)
	if err != nil {
		return archive.File{}, err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return archive.File{}, fmt.Errorf("find shared library: %w", err)
	}
	return archive.File{
		Path: name, Executable: true, Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(resolved) },
	}, nil
}
