package benchmarks

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The validator of 120.uploader holds sizes and digests as constants.
func TestUploaderContentIsWhatTheValidatorKnows(t *testing.T) {
	t.Parallel()
	source, err := fs.ReadFile(Files(), "100.webapps/120.uploader/input.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range UploaderFiles() {
		digest, err := file.MD5()
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%q: (%d, %q)", file.Name, file.SizeBytes, digest)
		if !strings.Contains(string(source), line) {
			t.Errorf("input.py does not contain %s", line)
		}
	}
}

func TestUploaderHandler(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(UploaderHandler())
	t.Cleanup(server.Close)

	tests := []struct {
		method, path string
		status       int
		length       int64
	}{
		{http.MethodGet, "/test.bin", http.StatusOK, 230_000},
		{http.MethodHead, "/large.bin", http.StatusOK, 0},
		{http.MethodGet, "/none.bin", http.StatusNotFound, -1},
		{http.MethodPost, "/test.bin", http.StatusMethodNotAllowed, -1},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			t.Parallel()
			request, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			length, err := io.Copy(io.Discard, response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tt.status {
				t.Errorf("status %d, want %d", response.StatusCode, tt.status)
			}
			if tt.length >= 0 && length != tt.length {
				t.Errorf("%d bytes, want %d", length, tt.length)
			}
		})
	}
}
