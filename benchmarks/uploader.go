package benchmarks

import (
	"crypto/md5" //nolint:gosec // names the content in 120.uploader's validator, protects nothing
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// UploaderFile is one of the files 120.uploader fetches from the suite.
type UploaderFile struct {
	// Name is the last element of the file's URL.
	Name string
	// SizeBytes is the length of the content.
	SizeBytes int64
}

// UploaderFiles lists the files of the sizes test, small and large. They are
// as long as the public files that SeBS fetches.
func UploaderFiles() []UploaderFile {
	return []UploaderFile{
		{Name: "test.bin", SizeBytes: 230_000},
		{Name: "small.bin", SizeBytes: 6_700_000},
		{Name: "large.bin", SizeBytes: 98_000_000},
	}
}

// Open returns the content: random bytes, hence incompressible, and the same
// ones each time, for the generator's algorithm is fixed.
func (f UploaderFile) Open() io.Reader {
	var seed [32]byte
	copy(seed[:], "120.uploader/"+f.Name)
	return io.LimitReader(rand.NewChaCha8(seed), f.SizeBytes)
}

// MD5 of the content in hex.
func (f UploaderFile) MD5() (string, error) {
	sum := md5.New() //nolint:gosec // see the import
	if _, err := io.Copy(sum, f.Open()); err != nil {
		return "", fmt.Errorf("digest of %s: %w", f.Name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// UploaderHandler serves UploaderFiles by name: GET and HEAD of "/<name>". The
// URL it is reached at is what input.py of 120.uploader takes from the
// environment variable SEBS_UPLOADER_BASE_URL. Mount it with
// http.StripPrefix where it does not have a listener of its own.
func UploaderHandler() http.Handler {
	mux := http.NewServeMux()
	for _, file := range UploaderFiles() {
		mux.HandleFunc("GET /"+file.Name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.FormatInt(file.SizeBytes, 10))
			if r.Method == http.MethodHead {
				return
			}
			// The only failure is a client that went away, and it will not
			// read a report of it.
			_, _ = io.Copy(w, file.Open())
		})
	}
	return mux
}
