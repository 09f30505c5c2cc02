// Package sebscache reads the cache directories that SeBS leaves, so that its resources and functions can be taken over.
//
// A cache has a file per platform (`local.json`) with the resource id and buckets, and a folder per benchmark whose
// config.json names packages, functions, prefixes and tables. What is read holds no secrets: SeBS writes some in clear
// text, and they are dropped while reading.
package sebscache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
)

// ReasonInvalid stands in the errors of a cache that cannot be read.
const ReasonInvalid = "SEBS_CACHE_INVALID"

// maxFileBytes bounds one file of a cache.
const maxFileBytes = 64 << 20

// Platforms are the platforms that SeBS caches.
var Platforms = []string{"aws", "azure", "gcp", "local", "openwhisk"}

// Cache is what a cache directory holds about one platform.
type Cache struct {
	// Platform is the platform that was asked for.
	Platform string
	// ResourcesID is the resource id; empty when SeBS did not write it down.
	ResourcesID string
	// Region is the region; empty where the platform has none.
	Region string
	// Account is the account, subscription or project; empty where SeBS did not write it down.
	Account string
	// Buckets are real names by role: deployment, benchmarks, experiments.
	Buckets map[string]string
	// Benchmarks are the benchmarks that have anything on the platform, sorted by name.
	Benchmarks []Benchmark
}

// Benchmark is what a cache holds about one benchmark.
type Benchmark struct {
	// Name is the benchmark.
	Name string
	// Functions are its functions, sorted by language and name.
	Functions []Function
	// InputPrefixes and OutputPrefixes are prefixes of keys in the bucket of role benchmarks.
	InputPrefixes, OutputPrefixes []string
	// InputUploaded says whether the input data was uploaded.
	InputUploaded bool
	// Tables are real names by the names that the benchmark uses.
	Tables map[string]string
}

// Function is a deployed function.
type Function struct {
	// Name is its name on the platform, Benchmark what it runs.
	Name, Benchmark string
	// Hash is SeBS's hash of the code; it cannot be computed again and is to be compared only.
	Hash string
	// Language, Version, Variant and Architecture are in SeBS's words, such as python, 3.11, default, x64.
	Language, Version, Variant, Architecture string
	// TimeoutSeconds and MemoryMB are the limits.
	TimeoutSeconds, MemoryMB int
	// Triggers are its triggers.
	Triggers []Trigger
	// Attributes are the platform's own handles, such as `arn`, `url` or `instance_id`. Numbers are in decimal.
	Attributes map[string]string
}

// Trigger is a way to invoke a function.
type Trigger struct {
	// Type is HTTP, Library or Storage.
	Type string
	// URL is where an HTTP trigger listens.
	URL string
	// Attributes are what else there is about it.
	Attributes map[string]string
}

// ReadDir reads the cache in a directory.
func ReadDir(dir, platform string) (Cache, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return Cache{}, errs.InvalidArgument(ReasonInvalid, "%s is not a directory that can be read; name the cache directory of SeBS", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Cache{}, fmt.Errorf("open SeBS cache: %w", err)
	}
	cache, err := Read(root.FS(), platform)
	return cache, errors.Join(err, root.Close())
}

// Read reads the cache in a tree of files. A platform without file and functions gives an empty cache; a file that
// cannot be understood is an error that names it.
func Read(tree fs.FS, platform string) (Cache, error) {
	if !slices.Contains(Platforms, platform) {
		return Cache{}, errs.InvalidArgument(ReasonInvalid, "SeBS has no platform %q; it has %s", platform, strings.Join(Platforms, ", "))
	}
	cache := Cache{Platform: platform, Buckets: map[string]string{}}
	raw, err := readFile(tree, platform+".json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Cache{}, err
	}
	if err == nil {
		if err := parsePlatform(raw, &cache); err != nil {
			return Cache{}, errs.InvalidArgument(ReasonInvalid, "%s.json: %v; correct or remove the file", platform, err)
		}
	}
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return Cache{}, fmt.Errorf("read SeBS cache: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		name := path.Join(entry.Name(), "config.json")
		raw, err := readFile(tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Cache{}, err
		}
		b, found, err := ParseBenchmark(entry.Name(), platform, raw)
		if err != nil {
			return Cache{}, errs.InvalidArgument(ReasonInvalid, "%s: %v; correct or remove the file", name, err)
		}
		if found {
			cache.Benchmarks = append(cache.Benchmarks, b)
		}
	}
	return cache, nil
}

func readFile(tree fs.FS, name string) (raw []byte, err error) {
	file, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	raw, err = io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.FromSlash(name), err)
	}
	if len(raw) > maxFileBytes {
		return nil, errs.InvalidArgument(ReasonInvalid, "%s is larger than %d MB", name, maxFileBytes>>20)
	}
	return raw, nil
}

// parsePlatform reads <platform>.json.
func parsePlatform(raw []byte, cache *Cache) error {
	var file struct {
		Region      *string `json:"region"`
		Credentials struct {
			AccountID      *string `json:"account_id"`
			SubscriptionID *string `json:"subscription_id"`
			ProjectID      *string `json:"project_id"`
		} `json:"credentials"`
		Resources struct {
			ResourcesID    *string            `json:"resources_id"`
			StorageBuckets map[string]*string `json:"storage_buckets"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return plain(err)
	}
	cache.Region, cache.ResourcesID = text(file.Region), text(file.Resources.ResourcesID)
	for _, account := range []*string{file.Credentials.AccountID, file.Credentials.SubscriptionID, file.Credentials.ProjectID} {
		if account != nil {
			cache.Account = *account
		}
	}
	for role, name := range file.Resources.StorageBuckets {
		if text(name) != "" {
			cache.Buckets[role] = *name
		}
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// plain shortens the errors of the JSON decoder.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("key %q holds a %s", wrong.Field, wrong.Value)
	}
	return err
}

// languageEntry is what a platform's object holds under a language.
type languageEntry struct {
	Functions map[string]json.RawMessage `json:"functions"`
}

// storageEntry and tablesEntry are what an object holds under `storage` and `nosql`.
type storageEntry struct {
	Buckets struct {
		Input         []string `json:"input"`
		Output        []string `json:"output"`
		InputUploaded bool     `json:"input_uploaded"`
	} `json:"buckets"`
}

type tablesEntry struct {
	Tables map[string]string `json:"tables"`
	// Azure and GCP use the names that the benchmark uses.
	Containers []string `json:"containers"`
	Kinds      []string `json:"kinds"`
}

// ParseBenchmark reads the config.json of one benchmark's folder in a cache. found is false when it holds nothing about
// the platform.
func ParseBenchmark(name, platform string, raw []byte) (b Benchmark, found bool, err error) {
	var file map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &file); err != nil {
		return Benchmark{}, false, plain(err)
	}
	b = Benchmark{Name: name, Tables: map[string]string{}}
	own, found := file[platform]
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if key == "storage" || key == "nosql" {
			continue
		}
		functions, err := parseLanguage(name, key, own[key])
		if err != nil {
			return Benchmark{}, false, fmt.Errorf("%s.%s: %w", platform, key, err)
		}
		b.Functions = append(b.Functions, functions...)
	}
	objects, tables := own["storage"], own["nosql"]
	if platform == "local" || platform == "openwhisk" {
		// Self-hosted stores are cached under their own names.
		objects, tables = file["minio"]["storage"], file["scylladb"]["nosql"]
	}
	if err := b.parseStores(objects, tables); err != nil {
		return Benchmark{}, false, err
	}
	return b, found || len(objects) > 0 || len(tables) > 0, nil
}

func (b *Benchmark) parseStores(objects, tables json.RawMessage) error {
	if len(objects) > 0 {
		var entry storageEntry
		if err := json.Unmarshal(objects, &entry); err != nil {
			return fmt.Errorf("storage: %w", plain(err))
		}
		b.InputPrefixes, b.OutputPrefixes, b.InputUploaded = entry.Buckets.Input, entry.Buckets.Output, entry.Buckets.InputUploaded
	}
	if len(tables) > 0 {
		var entry tablesEntry
		if err := json.Unmarshal(tables, &entry); err != nil {
			return fmt.Errorf("nosql: %w", plain(err))
		}
		maps.Copy(b.Tables, entry.Tables)
		for _, table := range append(entry.Containers, entry.Kinds...) {
			b.Tables[table] = table
		}
	}
	return nil
}

func parseLanguage(benchmark, language string, raw json.RawMessage) ([]Function, error) {
	var entry languageEntry
	if err := json.Unmarshal(raw, &entry); err != nil {
		return nil, plain(err)
	}
	var functions []Function
	for _, name := range slices.Sorted(maps.Keys(entry.Functions)) {
		function, err := parseFunction(benchmark, language, name, entry.Functions[name])
		if err != nil {
			return nil, fmt.Errorf("functions.%s: %w", name, err)
		}
		functions = append(functions, function)
	}
	return functions, nil
}

func parseFunction(benchmark, language, name string, raw json.RawMessage) (Function, error) {
	var entry struct {
		Name      string `json:"name"`
		Hash      string `json:"hash"`
		Benchmark string `json:"benchmark"`
		Config    struct {
			Timeout      *float64 `json:"timeout"`
			Memory       *float64 `json:"memory"`
			Architecture string   `json:"architecture"`
			Runtime      struct {
				Language string `json:"language"`
				Version  string `json:"version"`
				Variant  string `json:"language-variant"`
			} `json:"runtime"`
		} `json:"config"`
		Triggers []map[string]json.RawMessage `json:"triggers"`
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return Function{}, plain(err)
	}
	f := Function{
		Name: or(entry.Name, name), Benchmark: or(entry.Benchmark, benchmark), Hash: entry.Hash,
		Language: or(entry.Config.Runtime.Language, language), Version: entry.Config.Runtime.Version,
		Variant: or(entry.Config.Runtime.Variant, "default"), Architecture: or(entry.Config.Architecture, "x64"),
	}
	var err error
	if f.TimeoutSeconds, err = whole("timeout", entry.Config.Timeout); err != nil {
		return Function{}, err
	}
	if f.MemoryMB, err = whole("memory", entry.Config.Memory); err != nil {
		return Function{}, err
	}
	for i, fields := range entry.Triggers {
		trigger := Trigger{Attributes: attributes(fields, "type", "url")}
		if err := scalar(fields["type"], &trigger.Type); err != nil || trigger.Type == "" {
			return Function{}, fmt.Errorf("triggers[%d] has no type", i)
		}
		if err := scalar(fields["url"], &trigger.URL); err != nil {
			return Function{}, fmt.Errorf("triggers[%d]: url is not a text", i)
		}
		f.Triggers = append(f.Triggers, trigger)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return Function{}, plain(err)
	}
	f.Attributes = attributes(all, "name", "hash", "benchmark", "config", "triggers")
	return f, nil
}

// scalar reads a text that may be absent or null.
func scalar(raw json.RawMessage, into *string) error {
	if raw == nil {
		return nil
	}
	var value *string
	if err := json.Unmarshal(raw, &value); err != nil {
		return err
	}
	*into = text(value)
	return nil
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

// whole reads a limit, which may be absent.
func whole(key string, value *float64) (int, error) {
	if value == nil {
		return 0, nil
	}
	if *value != math.Trunc(*value) || *value < 0 || *value > 1<<30 {
		return 0, fmt.Errorf("config.%s is %g; it must be a whole number", key, *value)
	}
	return int(*value), nil
}

// attributes returns texts, numbers and truth values, except those of the given keys and whatever may be a secret.
// Objects are left out: SeBS keeps connection strings and store keys in them.
func attributes(fields map[string]json.RawMessage, without ...string) map[string]string {
	kept := map[string]string{}
	for key, raw := range fields {
		if slices.Contains(without, key) || secretive(key) {
			continue
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			continue
		}
		switch v := value.(type) {
		case string:
			kept[key] = v
		case float64, bool:
			kept[key] = string(raw)
		}
	}
	return kept
}

// secretive says whether a key of that name may hold a secret.
func secretive(key string) bool {
	key = strings.ToLower(key)
	for _, part := range []string{"secret", "password", "credential", "connection_string", "connection-string", "access_key", "access-key", "token"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}
