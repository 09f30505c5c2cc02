package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// envPrefix stands in front of the environment variable of every key.
const envPrefix = "SEBS_"

// Source holds what a process was told: a YAML file, the environment, and settings of the command line. Later ones win.
type Source struct {
	name    string
	root    *yaml.Node
	environ map[string]string
	sets    []setting
	claimed map[string]bool
}

// setting is one "path=value" of the command line.
type setting struct {
	path  []string
	value string
}

// LoadSource reads a configuration file, which may be "" for none. environ has the form of os.Environ, sets that of
// "grpc.listen=127.0.0.1:7000".
func LoadSource(file string, environ, sets []string) (*Source, error) {
	var text []byte
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	return NewSource(file, text, environ, sets)
}

// NewSource is [LoadSource] for a text; name stands in messages.
func NewSource(name string, text []byte, environ, sets []string) (*Source, error) {
	s := &Source{name: name, environ: make(map[string]string), claimed: make(map[string]bool)}
	for _, entry := range environ {
		if key, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(key, envPrefix) {
			s.environ[key] = value
		}
	}
	var problems []error
	for _, entry := range sets {
		path, value, ok := strings.Cut(entry, "=")
		if !ok || path == "" {
			problems = append(problems, fmt.Errorf("--set %q has to be path=value", entry))
			continue
		}
		s.sets = append(s.sets, setting{path: strings.Split(path, "."), value: value})
	}
	if err := s.parse(text); err != nil {
		problems = append(problems, err)
	}
	return s, errors.Join(problems...)
}

func (s *Source) parse(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: holds more than one document; keep one", s.name)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return fmt.Errorf("%s: has to be a mapping that starts with 'version: 1'", s.name)
	}
	s.root = document.Content[0]
	version := child(s.root, "version")
	switch {
	case version == nil:
		return fmt.Errorf("%s: version: is missing; write 'version: 1'", s.name)
	case version.Value != "1":
		return fmt.Errorf("%s: version: %q is not known to this binary, which reads version 1", s.name, version.Value)
	}
	return nil
}

// Decode fills into, which holds the defaults, from one section of the source: the name of a key of the file, or "" for
// the file itself. All problems are returned at once, each with the path of its key.
func (s *Source) Decode(section string, into any) error {
	d := decoder{file: s.name}
	value, err := target(into)
	if err != nil {
		return err
	}
	node, path, variable := s.root, "", strings.TrimSuffix(envPrefix, "_")
	if section != "" {
		s.claimed[section] = true
		path, variable = section, variable+"_"+strings.ToUpper(section)
		if s.root != nil {
			node = child(s.root, section)
		}
	}
	if node != nil {
		// Other keys of the file itself are sections, which are checked by Unclaimed.
		d.loose = section == ""
		d.node(node, value, path)
	}
	d.loose = false
	d.environment(value, path, variable, s.environ)
	for _, set := range s.sets {
		rest := set.path
		if section != "" {
			if rest[0] != section {
				continue
			}
			rest = rest[1:]
		} else if !hasField(value, rest[0]) {
			continue
		}
		d.set(value, rest, strings.Join(set.path, "."), set.value)
	}
	return errors.Join(d.problems...)
}

// Unclaimed reports keys of the file and settings that belong to nothing: neither to the fields of into, nor to a section
// that was decoded, nor to known ones.
func (s *Source) Unclaimed(into any, known []string) error {
	value, err := target(into)
	if err != nil {
		return err
	}
	ours := func(key string) bool {
		return key == "version" || s.claimed[key] || slices.Contains(known, key) || hasField(value, key)
	}
	var problems []error
	if s.root != nil {
		for i := 0; i+1 < len(s.root.Content); i += 2 {
			if key := s.root.Content[i]; !ours(key.Value) {
				problems = append(problems, fmt.Errorf("%s: %s: unknown key in line %d; remove it or correct its name", s.name, key.Value, key.Line))
			}
		}
	}
	for _, set := range s.sets {
		if !ours(set.path[0]) {
			problems = append(problems, fmt.Errorf("--set %s: unknown key", strings.Join(set.path, ".")))
		}
	}
	return errors.Join(problems...)
}

func child(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
