// Package archive writes and reads the ZIP files that benchmark sources, dependency layers and code packages travel in.
//
// Archives are deterministic: the same files give the same bytes. Entries are in the order of their paths, carry no
// time, and one of two modes (0644, or 0755 for what may be executed). Reading refuses whatever could leave the target
// directory or fill the disk.
package archive

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"

	"github.com/sebs-suite/sebs/internal/errs"
)

// ReasonInvalid stands in the errors of archives that are refused.
const ReasonInvalid = "ARCHIVE_INVALID"

// Limits bound what an archive or a folder may hold.
type Limits struct {
	// Files is the most files.
	Files int
	// Bytes is the most bytes of all files together, unpacked.
	Bytes int64
}

// File is one file of a tree that is to be written.
type File struct {
	// Path is the slash-separated path inside the archive.
	Path string
	// Executable says whether the file may be executed.
	Executable bool
	// Size is the length in bytes.
	Size int64
	// Open returns the content.
	Open func() (io.ReadCloser, error)
	// stored is set for an entry of another archive, which is copied without unpacking it.
	stored *zip.File
}

// CheckPath refuses a path that is not a clean, relative, slash-separated one without odd characters.
func CheckPath(name string) error {
	if !fs.ValidPath(name) || name == "." || len(name) > 1024 || strings.ContainsAny(name, "\\:\x00") {
		return errs.InvalidArgument(ReasonInvalid, "path %q is not allowed in an archive; use relative paths with slashes, without `..`, backslashes and colons", name)
	}
	return nil
}

// Skip says that a path is left out of an archive; a directory that is left out is not entered.
type Skip func(name string, entry fs.DirEntry) bool

// Tree lists the regular files of tree, sorted by path, without those that skip accepts (nil skips nothing). Symbolic
// links and other special files are refused, limits are kept.
func Tree(tree fs.FS, limits Limits, skip Skip) ([]File, error) {
	return list(tree, limits, skip, false)
}

// BuildTree lists the files of a directory that a build has filled, as Tree does, but a symbolic link to a file of the
// same directory counts as a copy of that file. Links to directories and links out of the directory are refused.
func BuildTree(dir *os.Root, limits Limits, skip Skip) ([]File, error) {
	return list(dir.FS(), limits, skip, true)
}

func list(tree fs.FS, limits Limits, skip Skip, followLinks bool) ([]File, error) {
	var (
		files []File
		total int64
	)
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		if skip != nil && skip(name, entry) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if followLinks && entry.Type()&fs.ModeSymlink != 0 {
			info, err = fs.Stat(tree, name)
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return errs.InvalidArgument(ReasonInvalid, "%s is not a regular file (%s); replace links by copies", name, entry.Type())
		}
		if err := CheckPath(name); err != nil {
			return err
		}
		total += info.Size()
		files = append(files, File{
			Path:       name,
			Executable: info.Mode()&0o111 != 0 || path.Ext(name) == ".sh",
			Size:       info.Size(),
			Open:       func() (io.ReadCloser, error) { return tree.Open(name) },
		})
		return limits.check(len(files), total)
	})
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	slices.SortFunc(files, byPath)
	return files, nil
}

func byPath(a, b File) int { return cmp.Compare(a.Path, b.Path) }

func (l Limits) check(files int, size int64) error {
	if files > l.Files {
		return errs.InvalidArgument(ReasonInvalid, "more than %d files; leave out what the function does not need", l.Files)
	}
	if size > l.Bytes {
		return errs.InvalidArgument(ReasonInvalid, "more than %d MB of files; leave out what the function does not need", l.Bytes>>20)
	}
	return nil
}

// Write writes an archive of the files in the order of their paths. Two files of the same path are refused.
func Write(ctx context.Context, w io.Writer, files []File) error {
	files = slices.SortedFunc(slices.Values(files), byPath)
	archive := zip.NewWriter(w)
	compressor, err := flate.NewWriter(io.Discard, flate.DefaultCompression)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	// Entries are written one after the other, so one compressor with its tables serves all of them.
	archive.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		compressor.Reset(out)
		return compressor, nil
	})
	for i, file := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if i > 0 && files[i-1].Path == file.Path {
			return errs.InvalidArgument(ReasonInvalid, "%s stands twice in the archive", file.Path)
		}
		if err := writeFile(archive, file); err != nil {
			return fmt.Errorf("write %s to archive: %w", file.Path, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("finish archive: %w", err)
	}
	return nil
}

func writeFile(archive *zip.Writer, file File) error {
	if err := CheckPath(file.Path); err != nil {
		return err
	}
	if file.stored != nil {
		return copyStored(archive, file)
	}
	header := &zip.FileHeader{Name: file.Path, Method: zip.Deflate}
	header.SetMode(mode(file.Executable))
	entry, err := archive.CreateHeader(header)
	if err != nil {
		return err
	}
	content, err := file.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, content)
	return errors.Join(err, content.Close())
}

// Bytes returns a file with the given content.
func Bytes(name string, content []byte) File {
	return File{Path: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// At returns the same file under another path.
func (f File) At(name string) File {
	f.Path = name
	return f
}

// Read returns the content of a file that is not longer than limit bytes.
func (f File) Read(limit int64) (content []byte, err error) {
	if f.Size > limit {
		return nil, errs.InvalidArgument(ReasonInvalid, "%s is %d bytes long; at most %d are allowed", f.Path, f.Size, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if content, err = io.ReadAll(io.LimitReader(r, limit)); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return content, nil
}

// copyStored takes an entry over in its compressed form.
func copyStored(archive *zip.Writer, file File) error {
	header := file.stored.FileHeader
	header.Name = file.Path
	raw, err := archive.CreateRaw(&header)
	if err != nil {
		return err
	}
	content, err := file.stored.OpenRaw()
	if err != nil {
		return err
	}
	_, err = io.Copy(raw, content)
	return err
}

func mode(executable bool) fs.FileMode {
	if executable {
		return 0o755
	}
	return 0o644
}

// Open reads the list of files of an archive and refuses it when it breaks the rules of the package. The files can be
// written to another archive under the same or another path without being compressed again.
func Open(r io.ReaderAt, size int64, limits Limits) ([]File, error) {
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, errs.InvalidArgument(ReasonInvalid, "not a ZIP archive: %v", err)
	}
	var (
		files []File
		total int64
		seen  = make(map[string]bool, len(archive.File))
	)
	for _, entry := range archive.File {
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		if err := CheckPath(entry.Name); err != nil {
			return nil, err
		}
		if !entry.Mode().IsRegular() {
			return nil, errs.InvalidArgument(ReasonInvalid, "%s is not a regular file (%s); replace links by copies", entry.Name, entry.Mode().Type())
		}
		if seen[entry.Name] {
			return nil, errs.InvalidArgument(ReasonInvalid, "%s stands twice in the archive", entry.Name)
		}
		seen[entry.Name] = true
		if entry.UncompressedSize64 > uint64(limits.Bytes) {
			return nil, limits.check(0, limits.Bytes+1)
		}
		total += int64(entry.UncompressedSize64)
		files = append(files, File{
			Path: entry.Name, Executable: entry.Mode()&0o111 != 0, Size: int64(entry.UncompressedSize64),
			Open: entry.Open, stored: entry,
		})
		if err := limits.check(len(files), total); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, byPath)
	return files, nil
}

// Extract writes files below the directory dir, which must exist. Nothing is written outside of it, existing files
// are replaced, and a file that turns out longer than it claimed to be ends the work with an error.
func Extract(ctx context.Context, dir string, files []File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open target directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("extract archive: %w", err)
		}
		if err := extractFile(root, file); err != nil {
			return fmt.Errorf("extract %s: %w", file.Path, err)
		}
	}
	return nil
}

func extractFile(root *os.Root, file File) (err error) {
	if err := CheckPath(file.Path); err != nil {
		return err
	}
	name := filepath.FromSlash(file.Path)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	content, err := file.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	target, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode(file.Executable))
	if err != nil {
		return err
	}
	written, err := io.Copy(target, io.LimitReader(content, file.Size+1))
	if err := errors.Join(err, target.Close()); err != nil {
		return err
	}
	if written != file.Size {
		return errs.InvalidArgument(ReasonInvalid, "the file holds %d bytes or more, %d were announced", written, file.Size)
	}
	return nil
}
