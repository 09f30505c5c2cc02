// Package credentials finds a platform's credentials by name.
//
// A request names a credential (default "default"); every service resolves it for itself: from its configuration, then from
// the directory in SEBS_CREDENTIALS_DIR, and else it fails. So any replica and any resumed operation can. Nothing is cached
// and nothing is printed: values are secrets.
package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

// Default is the name of the credential of a request that names none.
const Default = "default"

// DirVariable is the environment variable that names a directory of credential files.
const DirVariable = "SEBS_CREDENTIALS_DIR"

// Reasons of the errors of this package.
const (
	ReasonNotOnService = "CREDENTIALS_NOT_ON_SERVICE"
	ReasonMalformed    = "CREDENTIALS_MALFORMED"
	ReasonKeyMissing   = "CREDENTIALS_KEY_MISSING"
)

// maxFileBytes bounds a credential file; service account keys have 2 to 3 KiB.
const maxFileBytes = 64 << 10

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Set holds the values of one credential, such as access_key and secret_key.
type Set struct {
	// Platform and Name say which credential this is.
	Platform, Name string
	// Source says where it was found: "configuration", or the path of a file.
	Source string
	values map[string]secret.String
}

// Value returns one value; empty where the credential does not have it.
func (s Set) Value(key string) secret.String {
	return s.values[key]
}

// Require returns one value, or an error that says where to set it.
func (s Set) Require(key string) (secret.String, error) {
	if v := s.values[key]; !v.Empty() {
		return v, nil
	}
	return secret.String{}, errs.FailedPrecondition(ReasonKeyMissing,
		"credential %q of %s has no %s; set it in %s", s.Name, s.Platform, key, s.Source)
}

// Config is the section of the configuration: platform, name of the credential, keys and values.
type Config map[string]map[string]map[string]secret.String

// Resolver finds credentials. Make it with [NewResolver].
type Resolver struct {
	config Config
	getenv func(string) string
}

// NewResolver takes the section of the configuration and the function that reads the environment, such as os.Getenv.
func NewResolver(config Config, getenv func(string) string) *Resolver {
	return &Resolver{config: config, getenv: getenv}
}

// Resolve finds a credential of a platform by name; an empty name is "default". Files are
// $SEBS_CREDENTIALS_DIR/<platform>/<name>.yaml or .json with a mapping of texts, and must not be readable by others.
func (r *Resolver) Resolve(platform, name string) (Set, error) {
	if name == "" {
		name = Default
	}
	if !validName.MatchString(platform) || !validName.MatchString(name) {
		return Set{}, errs.Fields(errs.Field("credential",
			"%q of platform %q has to be lower-case letters, digits, - and _, at most 63", name, platform))
	}
	if values, ok := r.config[platform][name]; ok {
		return Set{Platform: platform, Name: name, Source: "configuration", values: values}, nil
	}
	dir := r.getenv(DirVariable)
	if dir != "" {
		for _, ext := range []string{".yaml", ".json"} {
			path := filepath.Join(dir, platform, name+ext)
			values, err := readFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return Set{}, fmt.Errorf("read credential %s of %s: %w", name, platform, err)
			}
			return Set{Platform: platform, Name: name, Source: path, values: values}, nil
		}
	}
	return Set{}, errs.FailedPrecondition(ReasonNotOnService,
		"credential %q of %s is not on this service; set credentials.%s.%s in its configuration, or put %s.yaml into the folder %s of the directory in %s",
		name, platform, platform, name, name, platform, DirVariable).With("platform", platform).With("credential", name)
}

func readFile(path string) (map[string]secret.String, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, errs.FailedPrecondition(ReasonMalformed, "%s can be read by others; set its mode to 0600", path)
	}
	if info.Size() > maxFileBytes {
		return nil, errs.FailedPrecondition(ReasonMalformed, "%s has %d bytes, more than %d", path, info.Size(), maxFileBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var texts map[string]string
	if err := yaml.Unmarshal(raw, &texts); err != nil {
		// The decoder's own message quotes the file, which is secret.
		return nil, errs.FailedPrecondition(ReasonMalformed, "%s is no mapping of names to texts", path)
	}
	values := make(map[string]secret.String, len(texts))
	for key, value := range texts {
		values[strings.ToLower(key)] = secret.New(value)
	}
	return values, nil
}
