package host

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Limits of a code archive. Machine learning packages are large; a bomb is larger.
const (
	maxUnpackedBytes = 8 << 30
	maxEntries       = 300_000
	maxLinkBytes     = 4096
)

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// codeStore keeps unpacked code archives by digest. Functions with the same code share one directory, which sandboxes only read.
type codeStore struct {
	dir string
	log *slog.Logger
	mu  sync.Mutex // one unpacking or removal at a time

	counting sync.Mutex
	users    map[string]int // sandboxes by the digest of their code, from before their start until after their end
}

func newCodeStore(dir string, log *slog.Logger) (*codeStore, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create code directory: %w", err)
	}
	leftovers, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	if err != nil {
		return nil, fmt.Errorf("look for unfinished code directories: %w", err)
	}
	for _, l := range leftovers {
		if err := os.RemoveAll(l); err != nil {
			return nil, fmt.Errorf("remove unfinished code directory: %w", err)
		}
	}
	return &codeStore{dir: dir, log: log, users: map[string]int{}}, nil
}

func (s *codeStore) path(digest string) string { return filepath.Join(s.dir, digest) }

func (s *codeStore) has(digest string) bool {
	info, err := os.Stat(s.path(digest))
	return err == nil && info.IsDir()
}

// put unpacks the archive and returns its digest. A given digest must be the archive's; code that is already there is not
// read again.
func (s *codeStore) put(ctx context.Context, want string, archive io.Reader) (string, error) {
	if want != "" && !digestPattern.MatchString(want) {
		return "", errs.Fields(errs.Field("archive_sha256", "%q is no SHA-256 in lower-case hex", want))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if want != "" && s.has(want) {
		return want, nil
	}
	file, err := os.CreateTemp(s.dir, ".new-archive-")
	if err != nil {
		return "", fmt.Errorf("store archive: %w", err)
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, sum), contextReader{ctx, archive})
	if err != nil {
		return "", fmt.Errorf("receive archive: %w", err)
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if want != "" && want != digest {
		return "", errs.InvalidArgument("ARCHIVE_DIGEST_MISMATCH", "the archive's SHA-256 is %s, the request says %s; send the archive again", digest, want)
	}
	if s.has(digest) {
		return digest, nil
	}
	unpacked, err := os.MkdirTemp(s.dir, ".new-code-")
	if err != nil {
		return "", fmt.Errorf("unpack archive: %w", err)
	}
	defer func() { _ = os.RemoveAll(unpacked) }()
	if err := unpack(ctx, file, size, unpacked); err != nil {
		return "", err
	}
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return "", fmt.Errorf("unpack archive: %w", err)
	}
	if err := os.Rename(unpacked, s.path(digest)); err != nil {
		return "", fmt.Errorf("unpack archive: %w", err)
	}
	return digest, nil
}

// hold counts a sandbox that is about to be started on code; letGo takes it back.
func (s *codeStore) hold(digest string) {
	s.counting.Lock()
	defer s.counting.Unlock()
	s.users[digest]++
}

// letGo counts a sandbox out that has ended, or never began.
func (s *codeStore) letGo(digest string) {
	s.counting.Lock()
	defer s.counting.Unlock()
	if s.users[digest]--; s.users[digest] == 0 {
		delete(s.users, digest)
	}
}

// held tells whether a sandbox may use the code.
func (s *codeStore) held(digest string) bool {
	s.counting.Lock()
	defer s.counting.Unlock()
	return s.users[digest] > 0
}

// remove deletes code that no function uses any more.
func (s *codeStore) remove(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.RemoveAll(s.path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("unused code cannot be removed", "digest", digest, "error", err)
	}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func badArchive(format string, args ...any) error {
	return errs.InvalidArgument("ARCHIVE_INVALID", "the code archive cannot be used: "+format, args...)
}

// unpack writes the entries of a zip file below dir.
func unpack(ctx context.Context, file io.ReaderAt, size int64, dir string) error {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return badArchive("%v; send a zip file", err)
	}
	if len(z.File) > maxEntries {
		return badArchive("it has %d entries, at most %d are allowed", len(z.File), maxEntries)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	defer func() { _ = root.Close() }()
	left := int64(maxUnpackedBytes)
	for _, entry := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unpackEntry(root, entry, left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func unpackEntry(root *os.Root, entry *zip.File, left int64) (int64, error) {
	name := strings.TrimSuffix(entry.Name, "/")
	if name == "" || name == "." {
		return 0, nil
	}
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") || !filepath.IsLocal(name) {
		return 0, badArchive("the path %q leads out of the package or is not clean", entry.Name)
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return 0, err
	}
	mode := entry.Mode()
	switch {
	case mode.IsDir():
		return 0, makeDirs(root, name)
	case mode&fs.ModeSymlink != 0:
		return 0, unpackLink(root, entry, name)
	case mode.IsRegular():
		return unpackFile(root, entry, name, left)
	default:
		return 0, badArchive("%q is neither file, directory nor link", entry.Name)
	}
}

// makeDirs creates directories that every user may enter, whatever the umask.
func makeDirs(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if info, err := root.Lstat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return badArchive("directory %q: %v", name, err)
	}
	if err := root.Chmod(name, 0o755); err != nil {
		return fmt.Errorf("unpack directory %q: %w", name, err)
	}
	return nil
}

func unpackLink(root *os.Root, entry *zip.File, name string) error {
	r, err := entry.Open()
	if err != nil {
		return badArchive("%q: %v", entry.Name, err)
	}
	defer func() { _ = r.Close() }()
	raw, err := io.ReadAll(io.LimitReader(r, maxLinkBytes+1))
	if err != nil || len(raw) > maxLinkBytes {
		return badArchive("the link %q cannot be read", entry.Name)
	}
	target := string(raw)
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return badArchive("the link %q leads out of the package", entry.Name)
	}
	if err := root.Symlink(target, name); err != nil {
		return badArchive("link %q: %v", entry.Name, err)
	}
	return nil
}

func unpackFile(root *os.Root, entry *zip.File, name string, left int64) (int64, error) {
	r, err := entry.Open()
	if err != nil {
		return 0, badArchive("%q: %v", entry.Name, err)
	}
	defer func() { _ = r.Close() }()
	mode := fs.FileMode(0o644)
	if entry.Mode()&0o111 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, badArchive("file %q: %v", entry.Name, err)
	}
	n, err := io.Copy(f, io.LimitReader(r, left+1))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	switch {
	case errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF):
		return 0, badArchive("%q is damaged", entry.Name)
	case err != nil:
		return 0, fmt.Errorf("unpack %q: %w", entry.Name, err)
	case n > left:
		return 0, badArchive("it unpacks to more than %d bytes", int64(maxUnpackedBytes))
	}
	if err := root.Chmod(name, mode); err != nil {
		return 0, fmt.Errorf("unpack %q: %w", entry.Name, err)
	}
	// Byte code that comes with the package is valid only beside a source file with the time it names.
	if t := entry.Modified; !t.IsZero() {
		_ = root.Chtimes(name, t, t)
	}
	return n, nil
}
