package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/jdk"
	"github.com/sebs-suite/sebs/runtimes"
)

// The suite's runtime for Java.
const (
	oldestJava  = 11
	javaClasses = "java/classes"
	javaMain    = "org.serverlessbench.bootstrap.Bootstrap"
)

// maxSourceBytes bounds a source of a runtime.
const maxSourceBytes = 4 << 20

// Files of C++ packages: the program, and the dynamic loader of the C library that it was linked with.
const (
	nativeProgram = "bin/function"
	nativeLoader  = "lib/ld-linux-x86-64.so.2"
)

// nativeEntry starts a C++ function. A package that brings its loader is started by it directly, so that the image needs no
// shell, and nothing at all below it.
func nativeEntry(files []archive.File) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(f archive.File) bool { return f.Path == name })
	}
	in := func(name string) string { return "/" + path.Join(taskRoot, name) }
	if has(nativeProgram) && has(nativeLoader) {
		return []string{in(nativeLoader), "--library-path", in("lib"), in(nativeProgram)}
	}
	return []string{in("bootstrap")}
}

// runtimeFiles are the files of the suite's runtime for a language below the runtime root, and what starts it.
func runtimeFiles(ctx context.Context, bootstraps Bootstraps, language, dir string) (files []archive.File, entry []string, err error) {
	bootstrap, err := bootstraps.Bootstrap(language)
	if err != nil {
		return nil, nil, fmt.Errorf("find runtime for the image: %w", err)
	}
	for _, file := range bootstrap.Files {
		raw, err := bootstraps.Read(file)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, archive.Bytes(path.Join(language, file.Path), raw))
	}
	script := "/" + path.Join(runtimeRoot, language, bootstrap.Entry)
	switch language {
	case "python":
		return files, []string{"python3", script}, nil
	case "nodejs":
		return files, []string{"node", script}, nil
	case "java":
		files, err = javaRuntime(ctx, bootstrap, bootstraps, dir)
		// The virtual machine takes its share of what the sandbox has; the rest as Lambda starts it.
		return files, []string{
			"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData", "-Dfile.encoding=UTF-8",
			"-XX:MaxRAMPercentage=70", "-cp", "/" + path.Join(runtimeRoot, javaClasses), javaMain,
		}, err
	}
	return nil, nil, errs.Unimplemented(ReasonBaseMissing, "there is no runtime for %s to put into an image; name a base image in builder.base_images that brings one", language)
}

// javaRuntime compiles the runtime, with the oldest JDK of this machine that can, and returns its classes.
func javaRuntime(ctx context.Context, bootstrap runtimes.Bootstrap, bootstraps Bootstraps, dir string) (_ []archive.File, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/" // no installations are looked for below it
	}
	installation, ok := jdk.Compiling(jdk.Find(os.Getenv, home), oldestJava)
	if !ok {
		return nil, errs.FailedPrecondition("JAVA_COMPILER_MISSING",
			"images of Java functions need a JDK of version %d or newer on the builder's machine, or a base image with a Lambda runtime (builder.base_images); install one (Debian and Ubuntu: apt-get install openjdk-17-jdk-headless)", oldestJava)
	}
	work, err := os.MkdirTemp(dir, ".new-java-*")
	if err != nil {
		return nil, fmt.Errorf("compile the runtime of Java: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	classes := filepath.Join(work, "classes")
	if err := os.Mkdir(classes, 0o755); err != nil {
		return nil, fmt.Errorf("compile the runtime of Java: %w", err)
	}
	var sources []string
	for _, file := range bootstrap.Files {
		raw, err := bootstraps.Read(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Join(work, path.Base(file.Path))
		if err := os.WriteFile(name, raw, 0o644); err != nil {
			return nil, fmt.Errorf("compile the runtime of Java: %w", err)
		}
		sources = append(sources, name)
	}
	if err := jdk.Compile(ctx, installation.Compiler(), oldestJava, classes, sources); err != nil {
		return nil, fmt.Errorf("compile the runtime of Java: %w", err)
	}
	return readClasses(classes)
}

// readClasses reads compiled classes into memory: they are small, and their directory goes away.
func readClasses(dir string) (_ []archive.File, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read compiled classes: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	found, err := archive.BuildTree(root, archive.Limits{Files: 1000, Bytes: maxSourceBytes}, nil)
	if err != nil {
		return nil, fmt.Errorf("read compiled classes: %w", err)
	}
	var files []archive.File
	for _, file := range found {
		raw, err := file.Read(maxSourceBytes)
		if err != nil {
			return nil, err
		}
		files = append(files, archive.Bytes(path.Join(javaClasses, file.Path), raw))
	}
	return files, nil
}
