package packaging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
)

// dependencies are what an installer is asked for.
type dependencies struct {
	// Manifest is the content of requirements.txt or package.json as it lies in the package.
	Manifest []byte
	// Lock is the content of package-lock.json where it fits the manifest.
	Lock []byte
	// Included are further requirement files by name, where the manifest refers to other files.
	Included map[string][]byte
	// Any says whether there is anything to install.
	Any bool
}

// dependencies finds the requirements among the files of the build directory.
func (p *Plan) dependencies(files map[string][]byte) (dependencies, error) {
	packages, err := p.platformPackages()
	if err != nil {
		return dependencies{}, err
	}
	if p.Choice.Language == benchmark.NodeJS {
		return nodeDependencies(files, packages)
	}
	return pythonDependencies(files, packages, p.Choice.Version, p.Choice.Architecture)
}

// isManifest says whether a file of the build directory has to do with dependencies.
func isManifest(name string) bool {
	return strings.HasPrefix(name, "requirements.txt") || name == "package.json" || name == "package-lock.json"
}

// pythonDependencies takes the most particular requirements file there is and adds the platform's packages to it,
// whichever it is.
func pythonDependencies(files map[string][]byte, packages []runtimes.Package, version, architecture string) (dependencies, error) {
	candidates := []string{"requirements.txt." + version, "requirements.txt"}
	if architecture == "arm64" {
		candidates = append([]string{"requirements.txt.arm." + version}, candidates...)
	}
	var manifest []byte
	name := "requirements.txt"
	for _, candidate := range candidates {
		if content, ok := files[candidate]; ok {
			manifest, name = bytes.Clone(content), candidate
			break
		}
	}
	if len(manifest) > 0 && !bytes.HasSuffix(manifest, []byte("\n")) {
		manifest = append(manifest, '\n')
	}
	for _, p := range packages {
		manifest = append(manifest, p.Requirement()+"\n"...)
	}
	found := dependencies{Manifest: manifest}
	for line := range strings.Lines(string(manifest)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		found.Any = true
		if err := checkRequirement(name, line); err != nil {
			return dependencies{}, err
		}
		if strings.HasPrefix(line, "-r") || strings.HasPrefix(line, "-c") || strings.HasPrefix(line, "--requirement") || strings.HasPrefix(line, "--constraint") {
			found.Included = files
		}
	}
	return found, nil
}

// checkRequirement refuses requirements that reach into the builder's own disk.
func checkRequirement(file, line string) error {
	lower := strings.ToLower(line)
	local := strings.HasPrefix(line, "-e") || strings.HasPrefix(line, "--editable") || strings.HasPrefix(line, ".") ||
		strings.HasPrefix(line, "/") || strings.Contains(lower, "file:")
	if option, argument, ok := strings.Cut(line, " "); ok && strings.HasPrefix(option, "-") {
		local = local || strings.Contains(argument, "..") || strings.HasPrefix(strings.TrimSpace(argument), "/")
	}
	if local {
		return errs.InvalidArgument(ReasonFailed, "%s: requirement %q names a file of the building machine; name a package or an https address", file, line).
			With("requirement", line)
	}
	return nil
}

// nodeDependencies reads package.json and adds the platform's packages to it.
func nodeDependencies(files map[string][]byte, packages []runtimes.Package) (dependencies, error) {
	manifest, ok := files["package.json"]
	if !ok {
		manifest = []byte("{}\n")
	}
	var content map[string]json.RawMessage
	if err := json.Unmarshal(manifest, &content); err != nil || content == nil {
		return dependencies{}, errs.InvalidArgument(ReasonFailed, "package.json is not a JSON object (%v); correct the file", err)
	}
	wanted := map[string]string{}
	if raw, ok := content["dependencies"]; ok {
		if err := json.Unmarshal(raw, &wanted); err != nil {
			return dependencies{}, errs.InvalidArgument(ReasonFailed, "package.json: key %q must be an object of names and versions", "dependencies")
		}
	}
	for name, version := range wanted {
		if strings.HasPrefix(version, "file:") || strings.HasPrefix(version, "link:") || strings.HasPrefix(version, ".") || strings.HasPrefix(version, "/") {
			return dependencies{}, errs.InvalidArgument(ReasonFailed, "package.json: dependency %q names a file of the building machine (%s); name a version", name, version).
				With("requirement", name)
		}
	}
	found := dependencies{Manifest: manifest, Lock: files["package-lock.json"], Any: len(wanted)+len(packages) > 0}
	if len(packages) == 0 {
		return found, nil
	}
	if wanted == nil {
		wanted = map[string]string{}
	}
	for _, p := range packages {
		wanted[p.Name] = p.Version
	}
	raw, err := json.Marshal(wanted)
	if err != nil {
		return dependencies{}, fmt.Errorf("write package.json: %w", err)
	}
	content["dependencies"] = raw
	if found.Manifest, err = json.MarshalIndent(content, "", "  "); err != nil {
		return dependencies{}, fmt.Errorf("write package.json: %w", err)
	}
	// The lock file does not know the packages that were added.
	found.Lock = nil
	return found, nil
}
