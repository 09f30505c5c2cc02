package builder

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/benchsource"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/inputs"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
)

// ReasonSourceNotFound stands in the error of an archive that was not uploaded.
const ReasonSourceNotFound = "SOURCE_NOT_FOUND"

// sources finds benchmarks, in the catalogue or among uploaded archives.
type sources struct {
	catalogue *benchmark.Catalogue
	store     *Store
	dir       string
}

func sourceKey(digest string) string { return "sources/" + digest + ".zip" }

// find returns the benchmark that a request names. Its files can be read until done is called.
func (s *sources) find(ctx context.Context, request *builderv1.BenchmarkSource) (b benchmark.Benchmark, done func() error, err error) {
	var opened closers
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if request.GetSource() == "" {
		if b, err = s.catalogue.Find(request.GetBenchmark()); err != nil {
			return b, nil, err
		}
	} else {
		tree, err := s.open(ctx, "source.source", request.GetSource(), benchsource.Limits, &opened)
		if err != nil {
			return b, nil, err
		}
		if b, err = benchmark.Open(request.GetBenchmark(), request.GetSource(), tree); err != nil {
			return b, nil, err
		}
		// Only the source was uploaded: data may still lie here.
		if err := s.catalogue.AttachData(&b); err != nil {
			return b, nil, err
		}
	}
	if request.GetData() != "" {
		if b.Data, err = s.open(ctx, "source.data", request.GetData(), inputs.DataLimits, &opened); err != nil {
			return b, nil, err
		}
		b.DataPath, b.DataDir = b.Path, ""
	}
	return b, opened.close, nil
}

// closers are closed together.
type closers []io.Closer

func (c *closers) close() error {
	var problems []error
	for _, one := range *c {
		problems = append(problems, one.Close())
	}
	return errors.Join(problems...)
}

// open opens an uploaded archive, fetching it first when this process does not have it.
func (s *sources) open(ctx context.Context, field, name string, limits archive.Limits, opened *closers) (fs.FS, error) {
	digest, err := digestOf(field, "sources", name)
	if err != nil {
		return nil, err
	}
	local := filepath.Join(s.dir, digest+".zip")
	if _, err := os.Stat(local); err != nil {
		if err := s.fetch(ctx, digest, local); err != nil {
			return nil, err
		}
	}
	file, err := os.Open(local)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if err := used(local); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), file.Close())
	}
	*opened = append(*opened, file)
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if _, err := archive.Open(file, info.Size(), limits); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	reader, err := zip.NewReader(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return reader, nil
}

func (s *sources) fetch(ctx context.Context, digest, local string) error {
	temporary, err := newFile(s.dir)
	if err != nil {
		return err
	}
	found, err := s.store.Fetch(ctx, sourceKey(digest), temporary)
	if err == nil && !found {
		err = errs.NotFound(ReasonSourceNotFound, "source sources/%s is not there; upload it again", digest).With("source", digest)
	}
	return temporary.settle(local, err)
}

// newFile makes a file that is to be renamed when it is complete.
func newFile(dir string) (*unsettled, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	file, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	return &unsettled{file}, nil
}

type unsettled struct{ *os.File }

// settle closes the file and gives it its name, or removes it if err is not nil or the name is empty.
func (u *unsettled) settle(name string, err error) error {
	err = errors.Join(err, u.Close())
	if err == nil && name != "" {
		if err = os.Rename(u.Name(), name); err == nil {
			return nil
		}
	}
	return errors.Join(err, os.Remove(u.Name()))
}

// receiver reads the chunks of an upload.
type receiver func() ([]byte, error)

// keep stores an uploaded archive and returns its digest.
func (s *sources) keep(ctx context.Context, header *builderv1.SourceHeader, next receiver) (_ *builderv1.Source, err error) {
	if err := benchmark.CheckName(header.GetBenchmark()); err != nil {
		return nil, err
	}
	limits := benchsource.Limits
	if header.GetKind() == builderv1.SourceKind_SOURCE_KIND_DATA {
		limits = inputs.DataLimits
	}
	file, err := newFile(s.dir)
	if err != nil {
		return nil, err
	}
	settled := ""
	defer func() { err = file.settle(settled, err) }()
	sum := sha256.New()
	size, err := receive(file.File, sum, next, limits)
	if err != nil {
		return nil, err
	}
	files, err := archive.Open(file.File, size, limits)
	if err != nil {
		return nil, err
	}
	digest, err := benchsource.Digest(ctx, files)
	if err != nil {
		return nil, err
	}
	if header.GetKind() != builderv1.SourceKind_SOURCE_KIND_DATA {
		reader, err := zip.NewReader(file.File, size)
		if err != nil {
			return nil, fmt.Errorf("read uploaded source: %w", err)
		}
		if _, err := benchmark.Open(header.GetBenchmark(), header.GetBenchmark(), reader); err != nil {
			return nil, err
		}
	}
	if err := s.store.Put(ctx, sourceKey(digest), file.File, hex.EncodeToString(sum.Sum(nil))); err != nil {
		return nil, err
	}
	settled = filepath.Join(s.dir, digest+".zip")
	return &builderv1.Source{Name: "sources/" + digest, Benchmark: header.GetBenchmark(), Digest: digest, SizeBytes: size}, nil
}

// receive writes chunks to a file until there are no more.
func receive(file *os.File, sum hash.Hash, next receiver, limits archive.Limits) (size int64, err error) {
	for {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
		size += int64(len(chunk))
		if size > limits.Bytes {
			return 0, errs.InvalidArgument(archive.ReasonInvalid, "the archive is larger than %d MB; leave out what the function does not need", limits.Bytes>>20)
		}
		sum.Write(chunk)
		if _, err := file.Write(chunk); err != nil {
			return 0, fmt.Errorf("store uploaded archive: %w", err)
		}
	}
}
