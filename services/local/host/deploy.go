package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Spec is what Deploy needs.
type Spec struct {
	Name   string
	Config Config
	// ArchiveSHA256 is the digest that the archive must have; empty accepts any.
	ArchiveSHA256 string
	CodeHash      string
	// Replace lets an existing function get a new version; otherwise it is an error that it exists.
	Replace bool
}

// Deploy creates a function, or puts a new version in force. The archive is a zip file; it is not read when the code with
// that digest is already there, or when the configuration names an image.
func (h *Host) Deploy(ctx context.Context, spec Spec, archive io.Reader) (*Definition, error) {
	if err := checkName(spec.Name); err != nil {
		return nil, err
	}
	if err := spec.Config.complete(); err != nil {
		return nil, err
	}
	existing, err := h.find(spec.Name)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	if existing != nil && !spec.Replace {
		return nil, alreadyExists(spec.Name)
	}
	if err := h.fetchImage(ctx, spec.Config); err != nil {
		return nil, fmt.Errorf("deploy function %s: %w", spec.Name, err)
	}
	kind, err := h.choose(ctx, &spec.Config)
	if err != nil {
		return nil, fmt.Errorf("deploy function %s: %w", spec.Name, err)
	}
	digest := ""
	if spec.Config.Image == "" {
		digest, err = h.code.put(ctx, spec.ArchiveSHA256, archive)
		if err != nil {
			return nil, fmt.Errorf("deploy function %s: %w", spec.Name, err)
		}
	}
	h.changes.Lock()
	defer h.changes.Unlock()
	if digest != "" && !h.code.has(digest) {
		return nil, errs.Aborted("CODE_REMOVED", "the code of function %q was removed while it was being deployed; deploy it again", spec.Name)
	}
	return h.install(spec, digest, kind)
}

// ImageFetcher is implemented by kinds of sandbox that can bring an image onto this machine.
type ImageFetcher interface {
	// FetchImage brings an image here that is not, or tells why it may not or cannot.
	FetchImage(ctx context.Context, image string) error
}

// fetchImage has the image of a function brought here by the kinds that can.
func (h *Host) fetchImage(ctx context.Context, c Config) error {
	if c.Image == "" {
		return nil
	}
	for _, k := range h.options.Kinds {
		if fetcher, ok := k.(ImageFetcher); ok && (c.SandboxKind == "" || c.SandboxKind == k.Name()) {
			return fetcher.FetchImage(ctx, c.Image)
		}
	}
	return nil // the choice of the kind tells that images need another one
}

// choose picks the kind and completes a runtime without a version.
func (h *Host) choose(ctx context.Context, c *Config) (Kind, error) {
	kind, err := h.chooseKind(ctx, *c)
	if err != nil {
		return nil, err
	}
	if c.Runtime.Version == "" && c.Image == "" {
		for _, r := range kind.Runtimes(ctx) {
			if r.Language == c.Runtime.Language {
				c.Runtime = r.Runtime
				break
			}
		}
	}
	return kind, nil
}

func isNotFound(err error) bool { return errs.Reason(err) == "FUNCTION_NOT_FOUND" }

func alreadyExists(name string) error {
	return errs.AlreadyExists("FUNCTION_EXISTS", "function %q exists on platform local; set replace_existing to put a new version in its place", name).With("function", name)
}

func (h *Host) install(spec Spec, digest string, kind Kind) (*Definition, error) {
	now := time.Now().UTC()
	def := &Definition{
		Name: spec.Name, Config: spec.Config, CodeHash: spec.CodeHash, ArchiveSHA256: digest,
		Version: 1, Created: now, Updated: now, Kind: kind.Name(),
	}
	existing, err := h.find(spec.Name)
	switch {
	case err == nil && !spec.Replace:
		return nil, alreadyExists(spec.Name)
	case err == nil:
		old := existing.definition()
		def.Version, def.Created, def.Port, def.Trigger = old.Version+1, old.Created, old.Port, old.Trigger
		def.keepSecrets(old)
		if err := def.save(existing.dir); err != nil {
			return nil, err
		}
		existing.setDefinition(def.clone())
		h.dropCode(old.ArchiveSHA256)
		return def, nil
	case !isNotFound(err):
		return nil, err
	}
	dir := filepath.Join(h.options.StateDir, "functions", spec.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create function %s: %w", spec.Name, err)
	}
	if h.options.Ports != nil {
		if def.Port, err = h.options.Ports.Open(spec.Name, 0); err != nil {
			return nil, fmt.Errorf("open a port for function %s: %w", spec.Name, err)
		}
	}
	if err := def.save(dir); err != nil {
		if h.options.Ports != nil {
			h.options.Ports.Close(spec.Name)
		}
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	h.mu.Lock()
	h.ready[spec.Name] = newFunction(h, dir, def.clone())
	h.mu.Unlock()
	return def, nil
}

// dropCode lets go of code. It is removed by collectCode once no function and no sandbox uses it. The caller holds changes.
func (h *Host) dropCode(digest string) {
	if digest != "" {
		h.unused[digest] = struct{}{}
	}
}

// collectCode removes code that nobody uses any more. A sandbox holds its code from before it is started, and only the code
// of a definition in force is taken, so none begins to use what is removed here while changes is held.
func (h *Host) collectCode() {
	h.changes.Lock()
	defer h.changes.Unlock()
	for digest := range h.unused {
		if !h.wanted(digest) {
			if h.code.held(digest) {
				continue
			}
			h.code.remove(digest)
		}
		delete(h.unused, digest)
	}
}

// wanted tells whether a definition names the code.
func (h *Host) wanted(digest string) bool {
	return slices.ContainsFunc(h.functions(), func(f *function) bool { return f.definition().ArchiveSHA256 == digest })
}

// Configure puts a new configuration in force; running sandboxes of the old one are retired. Secrets that are named without a value keep
// the one they have, and a function keeps its image.
func (h *Host) Configure(ctx context.Context, name string, c Config) (*Definition, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	f, err := h.find(name)
	if err != nil {
		return nil, err
	}
	c.Image = f.definition().Config.Image
	kind, err := h.choose(ctx, &c)
	if err != nil {
		return nil, fmt.Errorf("configure function %s: %w", name, err)
	}
	return h.change(name, func(d *Definition) {
		old := *d
		d.Config, d.Kind = c, kind.Name()
		d.Config.Image = old.Config.Image
		d.Version++
		d.keepSecrets(&old)
	})
}

// change rewrites a definition.
func (h *Host) change(name string, edit func(*Definition)) (*Definition, error) {
	h.changes.Lock()
	defer h.changes.Unlock()
	f, err := h.find(name)
	if err != nil {
		return nil, err
	}
	def := f.definition().clone()
	edit(def)
	def.Updated = time.Now().UTC()
	if err := def.save(f.dir); err != nil {
		return nil, err
	}
	f.setDefinition(def.clone())
	return def, nil
}

// SetStorageTrigger sets the storage trigger of a function, or removes it when the trigger is nil.
func (h *Host) SetStorageTrigger(name string, t *StorageTrigger) (*Definition, error) {
	if t != nil && t.Bucket == "" {
		return nil, errs.Fields(errs.Field("trigger.bucket", "is empty; name the bucket whose objects are events"))
	}
	return h.change(name, func(d *Definition) { d.Trigger = t })
}

// Delete stops the sandboxes of a function and forgets it with its records and logs.
func (h *Host) Delete(name string) error {
	h.changes.Lock()
	defer h.changes.Unlock()
	f, err := h.find(name)
	if err != nil {
		return err
	}
	if h.options.Ports != nil {
		h.options.Ports.Close(name)
	}
	h.mu.Lock()
	delete(h.ready, name)
	h.mu.Unlock()
	f.mu.Lock()
	f.deleted = true
	digest := f.def.ArchiveSHA256
	f.mu.Unlock()
	f.stopAll()
	f.records.close()
	f.logs.close()
	h.dropCode(digest)
	if err := os.RemoveAll(f.dir); err != nil {
		return fmt.Errorf("delete function %s: %w", name, err)
	}
	return nil
}
