package storage

import (
	"errors"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

// Config is the section "storage" of the configuration.
type Config struct {
	Platforms PlatformsConfig `yaml:"platforms"`
}

// PlatformsConfig has one entry for each platform whose stores can be chosen.
type PlatformsConfig struct {
	Local LocalConfig `yaml:"local"`
}

// LocalConfig names the stores that serve the local platform, and the suite's own objects. Without endpoints the suite
// runs stores of its own.
type LocalConfig struct {
	Object ObjectConfig `yaml:"object"`
	Table  TableConfig  `yaml:"table"`
}

// ObjectConfig names an S3 store.
type ObjectConfig struct {
	// Endpoint is host:port, or a URL; empty runs an embedded store.
	Endpoint  string        `yaml:"endpoint"`
	AccessKey string        `yaml:"access_key"`
	SecretKey secret.String `yaml:"secret_key"`
	Region    string        `yaml:"region"`
	// FunctionAccessKey and FunctionSecretKey are the account that functions get. It should be limited to the
	// benchmarks buckets.
	FunctionAccessKey string        `yaml:"function_access_key"`
	FunctionSecretKey secret.String `yaml:"function_secret_key"`
	// ShareKeys gives functions the suite's own keys, as SeBS does, where the store has no other account.
	ShareKeys bool `yaml:"share_keys"`
	// ReplaceExisting is whether uploads of benchmark data replace existing objects when the caller does not say.
	ReplaceExisting bool `yaml:"replace_existing"`
}

// TableConfig names a store with DynamoDB's API.
type TableConfig struct {
	// Endpoint is host:port, or a URL; empty runs an embedded store when a benchmark needs tables.
	Endpoint  string        `yaml:"endpoint"`
	AccessKey string        `yaml:"access_key"`
	SecretKey secret.String `yaml:"secret_key"`
	Region    string        `yaml:"region"`
}

// Validate reports all problems at once.
func (c *Config) Validate() error {
	var problems []error
	o := c.Platforms.Local.Object
	if o.Endpoint != "" && (o.AccessKey == "" || o.SecretKey.Empty()) {
		problems = append(problems, errs.Field("platforms.local.object", "access_key and secret_key are needed with an endpoint"))
	}
	if o.Endpoint == "" && (o.AccessKey != "" || !o.SecretKey.Empty()) {
		problems = append(problems, errs.Field("platforms.local.object.endpoint", "is needed with keys; without keys the suite runs its own store"))
	}
	if (o.FunctionAccessKey == "") != o.FunctionSecretKey.Empty() {
		problems = append(problems, errs.Field("platforms.local.object", "function_access_key and function_secret_key go together"))
	}
	t := c.Platforms.Local.Table
	if (t.AccessKey == "") != t.SecretKey.Empty() {
		problems = append(problems, errs.Field("platforms.local.table", "access_key and secret_key go together"))
	}
	return errors.Join(problems...)
}
