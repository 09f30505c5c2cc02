package packaging

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/jdk"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/confine"
	"github.com/sebs-suite/sebs/services/builder/pytools"
)

// Names in Java benchmarks.
const (
	pomFile        = "pom.xml"
	pomPlaceholder = "<!-- PLATFORM_DEPENDENCIES -->"
	builtJAR       = "target/function.jar"
	functionJAR    = "function.jar"
	javaEntry      = "src/main/java/function/Function.java"
)

// maxRepositoryBytes bounds the artefacts that are kept between builds. Beyond it they are fetched anew.
const maxRepositoryBytes = 4 << 30

// Maven compiles Java packages with the machine's Maven and JDKs.
type Maven struct {
	confiner *confine.Confiner
	// repository keeps artefacts between builds. It belongs to the service: builds get links to its files, and it takes from
	// them what it lacks.
	repository string
	timeout    time.Duration

	mu sync.Mutex // one change of the repository at a time
}

// NewMaven returns the machine's Maven. The directory repository keeps what it fetches; the timeout bounds one build.
func NewMaven(confiner *confine.Confiner, repository string, timeout time.Duration) *Maven {
	return &Maven{confiner: confiner, repository: repository, timeout: timeout}
}

// javaTools are the programs of a build.
type javaTools struct {
	mvn string
	jdk jdk.Installation
}

// compiler names what decides about the content of class files.
func (t javaTools) compiler() string { return "javac " + strconv.Itoa(t.jdk.Major) }

// tools finds Maven, and the JDK that compiles for a version of the language.
func (m *Maven) tools(version string) (javaTools, error) {
	mvn, err := exec.LookPath("mvn")
	if err != nil || !filepath.IsAbs(mvn) {
		return javaTools{}, errs.FailedPrecondition(pytools.ReasonToolMissing,
			"mvn is not on PATH; Java benchmarks need Apache Maven: install it on the builder's machine (Debian and Ubuntu: apt-get install maven)").With("tool", "mvn")
	}
	major, err := strconv.Atoi(version)
	if err != nil {
		return javaTools{}, fmt.Errorf("read version %q of Java: %w", version, err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/" // no installations are looked for below it
	}
	installations := jdk.Find(os.Getenv, home)
	chosen, ok := jdk.Compiling(installations, major)
	if !ok {
		found := []string{}
		for _, i := range installations {
			kind := "JDK"
			if i.Compiler() == "" {
				kind = "JRE, without a compiler"
			}
			found = append(found, fmt.Sprintf("%s (%s)", i.Version, kind))
		}
		have := "none was found"
		if len(found) > 0 {
			have = "found are " + strings.Join(found, ", ")
		}
		return javaTools{}, errs.FailedPrecondition(pytools.ReasonToolMissing,
			"no JDK on the builder's machine compiles for Java %s; %s; install one (Debian and Ubuntu: apt-get install openjdk-%s-jdk-headless), or choose an older version with --language-version",
			version, have, version).With("tool", "javac")
	}
	return javaTools{mvn: mvn, jdk: chosen}, nil
}

// javaSources are all files of the language's folder but the scripts.
func (p *Plan) javaSources() (map[string]archive.File, error) {
	sources := map[string]archive.File{}
	for _, file := range p.folder {
		name, ok := strings.CutPrefix(file.Path, benchmark.Java+"/")
		if !ok || name == initScript || name == packageScript || strings.HasPrefix(name, "target/") {
			continue
		}
		sources[name] = file.At(name)
	}
	for name, what := range map[string]string{
		pomFile:   "add it, with finalName function, the shade plugin and the comment " + pomPlaceholder + " among its dependencies",
		javaEntry: "add it, with class function.Function and its method Map<String, Object> handler(Map<String, Object>)",
	} {
		// A script may still make it.
		if _, ok := sources[name]; !ok && len(p.scripts) == 0 {
			return nil, errs.InvalidArgument(ReasonFailed, "folder %s/%s holds no %s; %s", p.Benchmark.Name, benchmark.Java, name, what).
				With("benchmark", p.Benchmark.Name)
		}
	}
	return sources, nil
}

// addPOM puts the platform's packages in the place that pom.xml keeps for them.
func (p *Plan) addPOM(project map[string]archive.File) error {
	pom, ok := project[pomFile]
	if !ok {
		return errs.InvalidArgument(ReasonFailed, "folder %s/%s holds no %s, and no script makes it", p.Benchmark.Name, benchmark.Java, pomFile).
			With("benchmark", p.Benchmark.Name)
	}
	content, err := pom.Read(maxTextBytes)
	if err != nil {
		return err
	}
	if !bytes.Contains(content, []byte(pomPlaceholder)) {
		return errs.InvalidArgument(ReasonFailed, "%s/%s/%s has no comment %s; add it among the <dependencies>, where the platform's libraries are to stand",
			p.Benchmark.Name, benchmark.Java, pomFile, pomPlaceholder).With("benchmark", p.Benchmark.Name).With("file", pomFile)
	}
	packages, err := p.platformPackages()
	if err != nil {
		return err
	}
	var wanted bytes.Buffer
	for _, one := range packages {
		group, artifact, _ := strings.Cut(one.Name, ":")
		for _, part := range []struct{ before, text string }{
			{"<dependency><groupId>", group}, {"</groupId><artifactId>", artifact}, {"</artifactId><version>", one.Version},
		} {
			wanted.WriteString(part.before)
			if err := xml.EscapeText(&wanted, []byte(part.text)); err != nil {
				return fmt.Errorf("write %s: %w", pomFile, err)
			}
		}
		wanted.WriteString("</version></dependency>\n")
	}
	project[pomFile] = archive.Bytes(pomFile, bytes.Replace(content, []byte(pomPlaceholder), wanted.Bytes(), 1))
	return nil
}

// javaSettings are what Maven, its plugins and package.sh see of the build.
func (p *Plan) javaSettings(tools javaTools) []string {
	return []string{
		"JAVA_HOME=" + tools.jdk.Home, "JAVA_VERSION=" + p.Choice.Version, "PLATFORM=" + strings.ToUpper(p.Choice.Platform),
		"APP=" + p.Benchmark.Name, "TARGET_ARCHITECTURE=" + p.Choice.Architecture,
		// Builds are short: the second compiler of the virtual machine does not pay.
		"MAVEN_OPTS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
	}
}

// compileJava runs Maven and takes the JAR file it makes apart.
func (b *Builder) compileJava(ctx context.Context, p *Plan, w *workshop, built *Built, report Report) (entries map[string]archive.File, done func() error, err error) {
	tools, err := b.maven.tools(p.Choice.Version)
	if err != nil {
		return nil, nil, err
	}
	built.Installer = "maven, javac " + tools.jdk.Version
	report("dependencies", "compiling with "+built.Installer)
	// Before Maven runs the user's plugins, which could put a link in the script's place.
	script, err := p.placeJavaPackageScript(w)
	if err != nil {
		return nil, nil, err
	}
	if err := b.maven.run(ctx, p, w, tools); err != nil {
		return nil, nil, err
	}
	if err := w.root.Rename(filepath.FromSlash(builtJAR), functionJAR); err != nil {
		return nil, nil, errs.InvalidArgument(ReasonFailed, "Maven made no %s for %s; set <finalName>function</finalName> and packaging jar in %s", builtJAR, p.Benchmark.Name, pomFile).
			With("benchmark", p.Benchmark.Name)
	}
	if script != "" {
		if err := b.runJavaPackageScript(ctx, p, w, tools, script); err != nil {
			return nil, nil, err
		}
	}
	if err := regular(w, functionJAR); err != nil {
		return nil, nil, err
	}
	jar, err := w.root.Open(functionJAR)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", functionJAR, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, jar.Close())
		}
	}()
	info, err := jar.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", functionJAR, err)
	}
	listed, err := archive.Open(jar, info.Size(), Limits)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", functionJAR, err)
	}
	if entries, err = lasting(listed); err != nil {
		return nil, nil, err
	}
	return entries, jar.Close, nil
}

// placeJavaPackageScript writes package.sh beside the project and returns its name; empty where the benchmark has none.
func (p *Plan) placeJavaPackageScript(w *workshop) (name string, err error) {
	script, ok := p.file(path.Join(benchmark.Java, packageScript))
	if !ok {
		return "", nil
	}
	content, err := script.Read(maxTextBytes)
	if err != nil {
		return "", err
	}
	name = filepath.Join(w.dir, packageScript)
	if err := os.WriteFile(name, content, 0o755); err != nil {
		return "", fmt.Errorf("prepare %s: %w", packageScript, err)
	}
	return name, nil
}

// runJavaPackageScript runs package.sh beside the JAR file, with the argument that SeBS gives it.
func (b *Builder) runJavaPackageScript(ctx context.Context, p *Plan, w *workshop, tools javaTools, name string) error {
	return b.runScript(ctx, p, packageScript, confine.Program{
		Args: []string{"/bin/bash", name, "."}, Dir: w.project, Env: confine.Environment(w.dir, p.javaSettings(tools)...), Timeout: b.timeout,
	})
}

// lasting returns the files of a JAR file that depend on the sources alone: without what Maven writes about the machine and
// the time of the build.
func lasting(listed []archive.File) (map[string]archive.File, error) {
	entries := make(map[string]archive.File, len(listed))
	for _, file := range listed {
		var clean func([]byte) []byte
		switch {
		case file.Path == "META-INF/MANIFEST.MF":
			clean = cleanManifest
		case strings.HasPrefix(file.Path, "META-INF/maven/") && path.Base(file.Path) == "pom.properties":
			clean = cleanProperties
		}
		// A new entry: those of the JAR file carry times, and bits that the file had on the machine.
		entries[file.Path] = archive.File{Path: file.Path, Size: file.Size, Open: file.Open}
		if clean == nil {
			continue
		}
		content, err := file.Read(maxTextBytes)
		if err != nil {
			return nil, err
		}
		entries[file.Path] = archive.Bytes(file.Path, clean(content))
	}
	return entries, nil
}

// volatileAttributes of a manifest name the building machine or the time.
var volatileAttributes = regexp.MustCompile(`(?i)^(Build-Jdk|Build-Jdk-Spec|Built-By|Created-By|Build-Time|Build-Timestamp|Build-Date|Build-Host|Bnd-LastModified|Build-OS|Tool):`)

// cleanManifest leaves out volatile attributes with the lines that continue them.
func cleanManifest(content []byte) []byte {
	var kept bytes.Buffer
	dropping := false
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, []byte(" ")) {
			dropping = volatileAttributes.Match(line)
		}
		if !dropping {
			kept.Write(line)
		}
	}
	return kept.Bytes()
}

// cleanProperties leaves out comments, in which the time stands, and orders the rest.
func cleanProperties(content []byte) []byte {
	var lines []string
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line+"\n")
		}
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// run runs Maven over a project.
func (m *Maven) run(ctx context.Context, p *Plan, w *workshop, tools javaTools) error {
	repository := filepath.Join(w.dir, "home", ".m2", "repository")
	if err := m.lend(ctx, repository); err != nil {
		return fmt.Errorf("prepare Maven's repository: %w", err)
	}
	root, err := os.OpenRoot(repository)
	if err != nil {
		return fmt.Errorf("prepare Maven's repository: %w", err)
	}
	defer func() { _ = root.Close() }()
	log, err := m.confiner.Run(ctx, confine.Program{
		Args: []string{
			tools.mvn, "-q", "-B", "-Dstyle.color=never", "-DskipTests", "-Dmaven.repo.local=" + repository,
			"-Dproject.build.outputTimestamp=2000-01-01T00:00:00Z", "package",
		},
		Dir: w.project, Env: confine.Environment(w.dir, p.javaSettings(tools)...), Timeout: m.timeout,
	})
	if err != nil {
		return explainMaven(err, p, w, log, m.timeout)
	}
	if err := m.keep(root); err != nil {
		return fmt.Errorf("keep what Maven fetched: %w", err)
	}
	return nil
}

// unfetched recognises Maven's messages about an artefact that it could not get.
var unfetched = []*regexp.Regexp{
	regexp.MustCompile(`Could not find artifact (\S+)`),
	regexp.MustCompile(`Could not transfer artifact (\S+)`),
	regexp.MustCompile(`(?:artifact|plugin) (\S+) (?:has not been downloaded|or one of its dependencies could not be resolved)`),
}

func explainMaven(err error, p *Plan, w *workshop, log string, limit time.Duration) error {
	var failure *confine.FailureError
	if !errors.As(err, &failure) || failure.TimedOut {
		return explainCompiler(err, p, w, "Maven", log, limit)
	}
	for _, pattern := range unfetched {
		if match := pattern.FindStringSubmatch(log); match != nil {
			tail := compileLog(log, w)
			return errs.InvalidArgument(ReasonFailed, "Maven cannot get %s for %s; correct %s, or give the builder's machine a way to the repository\n%s",
				match[1], p.Benchmark.Name, pomFile, tail).With("benchmark", p.Benchmark.Name).With("requirement", match[1]).With("log", tail)
		}
	}
	return explainCompiler(err, p, w, "Maven", log, limit)
}

// artefact says whether a file of a repository is worth keeping. Everything else is Maven's own notes about a machine.
func artefact(name string) bool {
	extension := path.Ext(name)
	return extension == ".jar" || extension == ".pom"
}

// lend makes a repository for one build, with links to the files that are kept. The directories belong to the build, the
// files stay the service's.
func (m *Maven) lend(ctx context.Context, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := os.MkdirAll(m.repository, 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(target, 0o755), m.confiner.Give(filepath.Dir(target))); err != nil {
		return err
	}
	return filepath.WalkDir(m.repository, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		relative, err := filepath.Rel(m.repository, name)
		if err != nil {
			return err
		}
		place := filepath.Join(target, relative)
		if entry.IsDir() {
			return errors.Join(os.MkdirAll(place, 0o755), m.confiner.Give(place))
		}
		if !artefact(name) {
			return nil
		}
		// A link to a file of the build's own user could be written through.
		if m.confiner.Unprivileged() && os.Link(name, place) == nil {
			return nil
		}
		return copyInto(place, func() (io.ReadCloser, error) { return os.Open(name) })
	})
}

// keep takes over the artefacts of a build that are not kept yet.
func (m *Maven) keep(from *os.Root) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var total int64
	err := fs.WalkDir(from.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !entry.Type().IsRegular() || !artefact(name) {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		place := filepath.Join(m.repository, filepath.FromSlash(name))
		if _, err := os.Stat(place); err == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			return err
		}
		temporary := place + ".new"
		err = copyInto(temporary, func() (io.ReadCloser, error) { return from.Open(filepath.FromSlash(name)) })
		if err == nil {
			err = os.Rename(temporary, place)
		}
		return err
	})
	if err == nil && total > maxRepositoryBytes {
		err = os.RemoveAll(m.repository)
	}
	return err
}

// copyInto writes a file that everybody may read.
func copyInto(name string, open func() (io.ReadCloser, error)) (err error) {
	in, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o644), out.Close())
}
