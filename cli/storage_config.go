package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// storeSettings turns the self-hosted stores that configuration files name into settings of the storage service. A store
// without an address is one that `storage start` has not filled in; the suite then runs its own.
func (f *simpleFlags) storeSettings(platform string, files []string) ([]string, error) {
	stores := &sebsformat.SelfHostedStorage{}
	if f.config != "" {
		config, err := (&commonFlags{simpleFlags: *f, deployment: platform}).readConfig(nil)
		if err != nil {
			return nil, err
		}
		if config.Local != nil {
			mergeStores(stores, config.Local.Storage)
		}
	}
	for _, name := range files {
		read, err := readStores(name)
		if err != nil {
			return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--storage-configuration %s: %w", name, err))
		}
		mergeStores(stores, read)
	}
	const object, table = "storage.platforms.local.object.", "storage.platforms.local.table."
	var sets []string
	if m := stores.MinIO; m != nil && m.Address != "" {
		// SeBS hands functions the keys of its store; a store that it started has no others.
		sets = append(sets, object+"endpoint="+m.Address, object+"access_key="+m.AccessKey.Reveal(),
			object+"secret_key="+m.SecretKey.Reveal(), object+"share_keys=true")
	}
	if s := stores.ScyllaDB; s != nil && s.Address != "" {
		sets = append(sets, table+"endpoint="+s.Address)
	}
	return sets, nil
}

func readStores(name string) (_ *sebsformat.SelfHostedStorage, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	stores, _, err := sebsformat.ReadStorageConfig(file)
	return stores, err
}

// mergeStores takes over the stores that a later file names.
func mergeStores(into, from *sebsformat.SelfHostedStorage) {
	if from == nil {
		return
	}
	if from.MinIO != nil {
		into.MinIO = from.MinIO
	}
	if from.ScyllaDB != nil {
		into.ScyllaDB = from.ScyllaDB
	}
}
