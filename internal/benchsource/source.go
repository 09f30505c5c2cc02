// Package benchsource packs benchmark folders, so that a builder on another machine gets exactly what the user has.
//
// A folder's digest covers the path, the executable bit and the content of every file, sorted by path: it does not
// depend on the machine, on file times or on the compression of the archive.
package benchsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/sebs-suite/sebs/internal/archive"
)

// Limits bound a benchmark folder. Input data lies in a tree of its own and does not count.
var Limits = archive.Limits{Files: 20_000, Bytes: 512 << 20}

// left are names of files and folders that tools leave behind and that are no part of a benchmark.
var left = map[string]bool{
	".git": true, ".hg": true, ".svn": true, ".DS_Store": true, ".idea": true, ".vscode": true, ".venv": true,
	"__pycache__": true, ".pytest_cache": true, ".mypy_cache": true, ".ruff_cache": true, "node_modules": true,
}

// Skip says whether a path is left out of a benchmark's source.
func Skip(name string, _ fs.DirEntry) bool {
	base := path.Base(name)
	return left[base] || path.Ext(base) == ".pyc" || strings.HasSuffix(base, "~")
}

// Files lists the files of a benchmark folder, sorted by path.
func Files(tree fs.FS) ([]archive.File, error) {
	return archive.Tree(tree, Limits, Skip)
}

// Pack writes the archive of a benchmark folder and returns the folder's digest.
func Pack(ctx context.Context, w io.Writer, tree fs.FS) (digest string, err error) {
	files, err := Files(tree)
	if err != nil {
		return "", fmt.Errorf("pack benchmark: %w", err)
	}
	if digest, err = Digest(ctx, files); err != nil {
		return "", fmt.Errorf("pack benchmark: %w", err)
	}
	if err := archive.Write(ctx, w, files); err != nil {
		return "", fmt.Errorf("pack benchmark: %w", err)
	}
	return digest, nil
}

// Digest returns the digest of files as 64 hexadecimal digits. The files must be sorted by path.
func Digest(ctx context.Context, files []archive.File) (string, error) {
	sum := sha256.New()
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("digest: %w", err)
		}
		content, err := contentDigest(file)
		if err != nil {
			return "", fmt.Errorf("digest %s: %w", file.Path, err)
		}
		fmt.Fprintf(sum, "%q %t %s\n", file.Path, file.Executable, content)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func contentDigest(file archive.File) (digest string, err error) {
	content, err := file.Open()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
