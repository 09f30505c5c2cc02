package inputs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// provideDir makes the tree of from visible at to, where the confined user can read it. Files are linked where that
// is possible and copied elsewhere, so that large data takes no second place on the disk. Symbolic links are followed
// as long as they stay inside of from.
func provideDir(ctx context.Context, from, to string) error {
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		target := filepath.Join(to, filepath.FromSlash(name))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		// A file that others cannot read stays unreadable as a link.
		if info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
			if os.Link(filepath.Join(from, filepath.FromSlash(name)), target) == nil {
				return nil
			}
		}
		return copyFile(root, name, target)
	})
}

func copyFile(root *os.Root, name, target string) (err error) {
	source, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	info, err := source.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, source)
	return errors.Join(err, out.Close())
}
