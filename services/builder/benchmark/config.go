package benchmark

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/nearest"
)

// ReasonConfig stands in the errors of a config.json that cannot be used.
const ReasonConfig = "BENCHMARK_CONFIG_INVALID"

// ConfigFile is the name of a benchmark's description in its root folder.
const ConfigFile = "config.json"

// Names of languages as they stand in config.json.
const (
	Python = "python"
	NodeJS = "nodejs"
	Java   = "java"
	CPP    = "cpp"
)

// Names of modules as they stand in config.json.
const (
	ModuleStorage = "storage"
	ModuleNoSQL   = "nosql"
)

// DefaultVariant is the language variant of sources that lie directly in the language's folder.
const DefaultVariant = "default"

var (
	languageVariants = map[string][]string{
		Python: {DefaultVariant, "pypy"},
		NodeJS: {DefaultVariant, "bun", "llrt"},
		Java:   {DefaultVariant},
		CPP:    {DefaultVariant},
	}
	moduleNames     = []string{ModuleNoSQL, ModuleStorage}
	cppDependencies = []string{"sdk", "runtime", "torch", "opencv", "libjpeg-turbo", "igraph", "boost", "hiredis", "rapidjson"}
)

// Limits of the numbers in config.json; larger ones are a mistake on every platform.
const (
	maxTimeoutSeconds = 24 * 60 * 60
	maxMemoryMB       = 1 << 20
	maxConfigBytes    = 1 << 20
)

// Languages returns the names of every language that config.json may list, sorted.
func Languages() []string {
	names := make([]string, 0, len(languageVariants))
	for name := range languageVariants {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Config is what config.json says about a benchmark.
type Config struct {
	// Timeout is the function's time limit.
	Timeout time.Duration
	// MemoryMB is the function's memory limit in MB.
	MemoryMB int
	// Languages are the languages that the benchmark is written in, in the file's order.
	Languages []Language
	// Modules are the client modules that the functions import: `storage`, `nosql`.
	Modules []string
	// CPPDependencies are the libraries that the C++ sources link.
	CPPDependencies []string
}

// Language is one language of a benchmark.
type Language struct {
	// Name is python, nodejs, java or cpp.
	Name string
	// Variants are the variants of the language, `default` among them unless the file leaves it out.
	Variants []string
}

// LanguageNames returns the languages in the file's order.
func (c Config) LanguageNames() []string {
	names := make([]string, 0, len(c.Languages))
	for _, language := range c.Languages {
		names = append(names, language.Name)
	}
	return names
}

// CheckLanguage refuses a language or variant that the benchmark does not have; benchmark is its name for the error.
func (c Config) CheckLanguage(benchmark, language, variant string) error {
	for _, has := range c.Languages {
		if has.Name != language {
			continue
		}
		if slices.Contains(has.Variants, variant) {
			return nil
		}
		return errs.InvalidArgument("LANGUAGE_VARIANT_UNKNOWN", "benchmark %s has no variant %q of %s; its config.json lists %s",
			benchmark, variant, language, strings.Join(has.Variants, ", ")).With("benchmark", benchmark).With("variant", variant)
	}
	return errs.InvalidArgument("LANGUAGE_NOT_IN_BENCHMARK", "benchmark %s is not written in %q; choose one of %s",
		benchmark, language, strings.Join(c.LanguageNames(), ", ")).With("benchmark", benchmark).With("language", language)
}

// ParseConfig reads the config.json of a benchmark. Unknown keys are ignored. Every fault of the file is named at
// once, each with its key and the remedy; path stands in the error and should be what the user can open.
func ParseConfig(path string, data []byte) (Config, error) {
	p := configParser{path: path}
	if len(data) > maxConfigBytes {
		return Config{}, p.refuse(fmt.Sprintf("is %d bytes long; at most %d are read", len(data), maxConfigBytes))
	}
	fields, err := decodeObject(data)
	if err != nil {
		return Config{}, p.refuse("is not a JSON object: " + err.Error() + "; correct the file")
	}
	config := Config{
		Timeout:         time.Duration(p.number(fields, "timeout", "seconds", maxTimeoutSeconds)) * time.Second,
		MemoryMB:        p.number(fields, "memory", "MB", maxMemoryMB),
		Languages:       p.languages(fields["languages"]),
		Modules:         p.names(fields, "modules", moduleNames, true),
		CPPDependencies: p.names(fields, "cpp_dependencies", cppDependencies, false),
	}
	if len(p.faults) > 0 {
		return Config{}, p.refuse(strings.Join(p.faults, "; "))
	}
	return config, nil
}

// decodeObject reads exactly one JSON object.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	var fields map[string]json.RawMessage
	if err := decoder.Decode(&fields); err != nil {
		var typeError *json.UnmarshalTypeError
		if errors.As(err, &typeError) {
			return nil, fmt.Errorf("the file holds a %s", typeError.Value)
		}
		return nil, err
	}
	if fields == nil {
		return nil, errors.New("the file holds null")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return fields, nil
}

// configParser collects the faults of one file.
type configParser struct {
	path   string
	faults []string
}

func (p *configParser) fault(format string, arguments ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, arguments...))
}

func (p *configParser) refuse(what string) error {
	return errs.InvalidArgument(ReasonConfig, "%s: %s", p.path, what).With("file", p.path)
}

// number reads a positive whole number.
func (p *configParser) number(fields map[string]json.RawMessage, key, unit string, limit int) int {
	raw, ok := fields[key]
	if !ok {
		p.fault("key %q is missing; add it as a whole number of %s", key, unit)
		return 0
	}
	var value float64
	if err := json.Unmarshal(raw, &value); err != nil || string(raw) == "null" || value != math.Trunc(value) {
		p.fault("key %q is %s; it must be a whole number of %s", key, abbreviate(raw), unit)
		return 0
	}
	if value < 1 || value > float64(limit) {
		p.fault("key %q is %s; it must be between 1 and %d %s", key, abbreviate(raw), limit, unit)
		return 0
	}
	return int(value)
}

// names reads a list of names, each out of known.
func (p *configParser) names(fields map[string]json.RawMessage, key string, known []string, required bool) []string {
	raw, ok := fields[key]
	if !ok {
		if required {
			p.fault("key %q is missing; add it, [] if there is nothing to list", key)
		}
		return nil
	}
	var values []string
	if err := json.Unmarshal(raw, &values); err != nil || values == nil {
		p.fault("key %q is %s; it must be a list of %s", key, abbreviate(raw), strings.Join(known, ", "))
		return nil
	}
	var unique []string
	for _, value := range values {
		if !slices.Contains(known, value) {
			p.fault("key %q holds %q, which is unknown; %s", key, value, nearest.Hint(value, known))
		} else if !slices.Contains(unique, value) {
			unique = append(unique, value)
		}
	}
	return unique
}

// languages reads the list of languages, whose items are names or objects with a name and variants.
func (p *configParser) languages(raw json.RawMessage) []Language {
	if raw == nil {
		p.fault(`key "languages" is missing; add a list such as ["python"]`)
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || len(items) == 0 {
		p.fault(`key "languages" is %s; it must be a list with at least one language`, abbreviate(raw))
		return nil
	}
	var languages []Language
	for i, item := range items {
		language, ok := p.language(i, item)
		if !ok {
			continue
		}
		if slices.ContainsFunc(languages, func(l Language) bool { return l.Name == language.Name }) {
			p.fault("languages[%d] repeats %q; list it once with all its variants", i, language.Name)
			continue
		}
		languages = append(languages, language)
	}
	return languages
}

func (p *configParser) language(i int, raw json.RawMessage) (Language, bool) {
	language := Language{Variants: []string{DefaultVariant}}
	if err := json.Unmarshal(raw, &language.Name); err != nil {
		var object struct {
			Language *string   `json:"language"`
			Variants *[]string `json:"variants"`
		}
		if err := json.Unmarshal(raw, &object); err != nil || object.Language == nil {
			p.fault(`languages[%d] is %s; write a name or {"language": name, "variants": [names]}`, i, abbreviate(raw))
			return Language{}, false
		}
		language.Name = *object.Language
		if object.Variants != nil {
			language.Variants = *object.Variants
		}
	}
	known, ok := languageVariants[language.Name]
	if !ok {
		p.fault("languages[%d] is %q, which is unknown; %s", i, language.Name, nearest.Hint(language.Name, Languages()))
		return Language{}, false
	}
	if len(language.Variants) == 0 {
		p.fault("languages[%d] (%s) lists no variants; leave the key out for %q", i, language.Name, DefaultVariant)
		return Language{}, false
	}
	valid := true
	for _, variant := range language.Variants {
		if !slices.Contains(known, variant) {
			p.fault("languages[%d] (%s) has variant %q, which is unknown; known are %s", i, language.Name, variant, strings.Join(known, ", "))
			valid = false
		}
	}
	return language, valid
}

// abbreviate shows a value of the file in an error.
func abbreviate(raw json.RawMessage) string {
	const limit = 60
	text := strings.ToValidUTF8(string(raw), "?")
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
