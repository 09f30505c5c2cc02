// Package jdk finds the Java installations of this machine.
//
// Every JDK and JRE since version 9 has a file `release` in its home that tells its version, so nothing has to be started
// to know it.
package jdk

import (
	"bufio"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Installation is one Java installation.
type Installation struct {
	// Home is the directory that JAVA_HOME would name, free of links.
	Home string
	// Version is complete, for example 17.0.15.
	Version string
	// Major is the language version, for example 17.
	Major int
}

// Java is the path of the program java.
func (i Installation) Java() string { return i.program("java") }

// Compiler is the path of the program javac; empty where the installation is a runtime environment without a compiler.
func (i Installation) Compiler() string {
	path := i.program("javac")
	if !executable(path) {
		return ""
	}
	return path
}

func (i Installation) program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(i.Home, "bin", name)
}

// Find lists the installations that JAVA_HOME, PATH and the usual directories (also below the user's home) lead to, newest
// first. The environment's variables are asked of environ.
func Find(environ func(string) string, home string) []Installation {
	var found []Installation
	seen := map[string]bool{}
	add := func(dir string) {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[dir] {
			return
		}
		seen[dir] = true
		if i, ok := read(dir); ok {
			found = append(found, i)
		}
	}
	if dir := environ("JAVA_HOME"); dir != "" {
		add(dir)
	}
	for _, dir := range filepath.SplitList(environ("PATH")) {
		if program, err := filepath.EvalSymlinks(filepath.Join(dir, "java")); dir != "" && err == nil {
			add(filepath.Dir(filepath.Dir(program)))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/jvm/*", "/usr/java/*", "/opt/java/*", "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
		"/Library/Java/JavaVirtualMachines/*/Contents/Home", filepath.Join(home, ".sdkman", "candidates", "java", "*"),
	} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			add(dir)
		}
	}
	slices.SortStableFunc(found, func(a, b Installation) int {
		return cmp.Or(cmp.Compare(b.Major, a.Major), slices.Compare(numbers(b.Version), numbers(a.Version)))
	})
	return found
}

// read reads the file release of an installation.
func read(home string) (Installation, bool) {
	file, err := os.Open(filepath.Join(home, "release"))
	if err != nil {
		return Installation{}, false
	}
	defer func() { _ = file.Close() }()
	i := Installation{Home: home}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "JAVA_VERSION="); ok {
			i.Version = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	major, _, _ := strings.Cut(i.Version, ".")
	i.Major, err = strconv.Atoi(major)
	if errors.Join(err, lines.Err()) != nil || !executable(i.Java()) {
		return Installation{}, false
	}
	return i, true
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && (runtime.GOOS == "windows" || info.Mode().Perm()&0o111 != 0)
}

func numbers(version string) []int {
	var out []int
	for part := range strings.FieldsFuncSeq(version, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(part); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Compiling chooses the installation that compiles for a language version: with a compiler, and the nearest version that is
// not older. It is false when there is none.
func Compiling(installations []Installation, major int) (Installation, bool) {
	var best Installation
	for _, i := range installations {
		if i.Major >= major && i.Compiler() != "" && (best.Major == 0 || i.Major < best.Major) {
			best = i
		}
	}
	return best, best.Major != 0
}
