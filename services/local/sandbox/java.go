package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/jdk"
)

const (
	// oldestJava is the first version that the Java bootstrap runs on.
	oldestJava = 11
	// compileLimit bounds the compilation of the bootstrap, which takes about a second.
	compileLimit = 2 * time.Minute
	// javaMain is the bootstrap's class.
	javaMain = "org.serverlessbench.bootstrap.Bootstrap"
	// javaClasses is where it lies below the runtime root once it is compiled.
	javaClasses = "java/classes"
)

// Share of a function's memory that the heap gets, and what is left to the virtual machine itself at least: classes, threads,
// compiled code.
const (
	heapPercent    = 85
	machineMB      = 64
	smallestHeapMB = 16
)

// javaArguments start the bootstrap. The collector and the compiler are those that Lambda chooses. The heap gets the share
// that it has there as well, less where the rest would be too little for the virtual machine: a heap that is too small gives
// an error that says so, a machine that is too small is ended without a word.
func javaArguments(interpreter, classes string, memoryMB int) []string {
	arguments := []string{
		interpreter, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData", "-Dfile.encoding=UTF-8",
	}
	if memoryMB > 0 {
		heap := max(min(memoryMB*heapPercent/100, memoryMB-machineMB), min(memoryMB/2, smallestHeapMB), 2)
		arguments = append(arguments, "-Xmx"+strconv.Itoa(heap)+"m")
	}
	return append(arguments, "-cp", classes, javaMain)
}

// JavaCompiler finds what compiles the Java bootstrap.
func JavaCompiler() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/" // no installations are looked for below it
	}
	installations := jdk.Find(os.Getenv, home)
	if i, ok := jdk.Compiling(installations, oldestJava); ok {
		return i.Compiler(), nil
	}
	have := "no Java was found"
	if len(installations) > 0 {
		have = fmt.Sprintf("Java %s in %s has no javac", installations[0].Version, installations[0].Home)
	}
	return "", errs.FailedPrecondition("JAVA_COMPILER_MISSING",
		"the bootstrap of Java functions is compiled once on this machine, which takes a JDK of version %d or newer; %s; install one (Debian and Ubuntu: apt-get install openjdk-17-jdk-headless)",
		oldestJava, have)
}

// CompileJava makes the classes of the Java bootstrap below the runtime root from the sources beside them, unless they are
// there. The root's name changes with the sources, so classes never grow old. It may be called from several places at once.
func CompileJava(ctx context.Context, runtimeRoot string) error {
	classes := filepath.Join(runtimeRoot, filepath.FromSlash(javaClasses))
	if _, err := os.Stat(classes); err == nil {
		return nil
	}
	compiler, err := JavaCompiler()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(runtimeRoot, "java", "*.java"))
	if err != nil || len(sources) == 0 {
		return fmt.Errorf("bootstrap of Java functions: no sources below %s: %w", runtimeRoot, errors.Join(err, fs.ErrNotExist))
	}
	temporary, err := os.MkdirTemp(filepath.Dir(classes), ".new-")
	if err != nil {
		return fmt.Errorf("compile the bootstrap of Java functions: %w", err)
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	ctx, cancel := context.WithTimeout(ctx, compileLimit)
	defer cancel()
	if err := jdk.Compile(ctx, compiler, oldestJava, temporary, sources); err != nil {
		return fmt.Errorf("compile the bootstrap of Java functions: %w", err)
	}
	// Sandboxes run as other users.
	err = filepath.WalkDir(temporary, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Chmod(name, 0o755)
		}
		return os.Chmod(name, 0o644)
	})
	if err != nil {
		return fmt.Errorf("compile the bootstrap of Java functions: %w", err)
	}
	if err := os.Rename(temporary, classes); err != nil {
		if _, there := os.Stat(classes); there != nil {
			return fmt.Errorf("compile the bootstrap of Java functions: %w", err)
		}
	}
	return nil
}
