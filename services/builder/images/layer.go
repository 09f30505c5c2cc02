package images

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/archive"
)

// epoch is the time of everything in an image, so that equal inputs give equal layers.
var epoch = time.Unix(0, 0).UTC()

// writeTar writes files below a directory of the image, sorted, owned by root, readable by everybody, and with the
// directories that lead to them.
func writeTar(ctx context.Context, w io.Writer, root string, files []archive.File) error {
	files = slices.SortedFunc(slices.Values(files), func(a, b archive.File) int { return strings.Compare(a.Path, b.Path) })
	out := tar.NewWriter(w)
	made := map[string]bool{".": true, "/": true}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(root, file.Path)
		if err := makeDirs(out, made, path.Dir(name)); err != nil {
			return err
		}
		if err := writeFile(out, name, file); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return out.Close()
}

func makeDirs(out *tar.Writer, made map[string]bool, dir string) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := makeDirs(out, made, path.Dir(dir)); err != nil {
		return err
	}
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch})
}

func writeFile(out *tar.Writer, name string, file archive.File) (err error) {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: file.Size, Mode: 0o644, ModTime: epoch}
	if file.Executable {
		header.Mode = 0o755
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	content, err := file.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	_, err = io.Copy(out, content)
	return err
}

// layerFile writes a layer to a file of its own in dir.
func layerFile(ctx context.Context, dir, root string, files []archive.File) (name string, err error) {
	file, err := os.CreateTemp(dir, ".new-layer-*")
	if err != nil {
		return "", fmt.Errorf("make layer: %w", err)
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	err = writeTar(ctx, buffered, root, files)
	if err == nil {
		err = buffered.Flush()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write layer: %w", err), os.Remove(file.Name()))
	}
	return file.Name(), nil
}
