package pytools

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sebs-suite/sebs/services/builder/confine"
)

// uvVersion is the release of uv that is fetched when none is installed.
const uvVersion = "0.13.9"

// wheel is a file of the Python index, pinned by its digest.
type wheel struct{ file, sha256 string }

// uvWheels are the wheels of that release by operating system and architecture, as Go names them.
var uvWheels = map[string]wheel{
	"linux/amd64": {
		"uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
		"d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
	},
	"linux/arm64": {
		"uv-0.13.9-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
		"5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
	},
	"darwin/amd64":  {"uv-0.13.9-py3-none-macosx_10_12_x86_64.whl", "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5"},
	"darwin/arm64":  {"uv-0.13.9-py3-none-macosx_11_0_arm64.whl", "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63"},
	"windows/amd64": {"uv-0.13.9-py3-none-win_amd64.whl", "6a44b2ed8111d2f60d2b92627c5dccda3f7ed7570b18ce115e569cd68c28246b"},
	"windows/arm64": {"uv-0.13.9-py3-none-win_arm64.whl", "eeb92051c2123b9730c46b04cc843cfa4bc7d7b0aec56df431a2215ef4cb0273"},
}

// maxWheelBytes bounds a download; the wheels are below 20 MB.
const maxWheelBytes = 128 << 20

// defaultIndex is the public index of Python packages.
const defaultIndex = "https://pypi.org/simple"

// indexURL returns the index that the user's installers use as well.
func indexURL() string {
	for _, name := range []string{"UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"} {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return defaultIndex
}

// fetchUV puts uv into dir, unless an earlier call did, and returns the path of the executable.
func fetchUV(ctx context.Context, client *http.Client, index, dir string) (string, error) {
	pinned, ok := uvWheels[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("no wheel of uv is pinned for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	executable := filepath.Join(dir, "uv-"+uvVersion)
	if runtime.GOOS == "windows" {
		executable += ".exe"
	}
	if _, err := os.Stat(executable); err == nil {
		return executable, nil
	}
	address, err := findFile(ctx, client, index, "uv", pinned.file)
	if err != nil {
		return "", err
	}
	content, err := get(ctx, client, address, "")
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != pinned.sha256 {
		return "", fmt.Errorf("%s from the Python index has SHA-256 %x, expected %s; it is not used", pinned.file, sum, pinned.sha256)
	}
	return executable, unpackExecutable(content, executable)
}

// findFile asks the index where a file of a project lies.
func findFile(ctx context.Context, client *http.Client, index, project, file string) (string, error) {
	page, err := url.Parse(strings.TrimSuffix(index, "/") + "/" + project + "/")
	if err != nil {
		return "", errors.New("the address of the Python index is no URL")
	}
	body, err := get(ctx, client, page.String(), "application/vnd.pypi.simple.v1+json, text/html;q=0.2")
	if err != nil {
		return "", err
	}
	link, err := findLink(body, file)
	if err != nil {
		return "", err
	}
	target, err := page.Parse(link)
	if err != nil {
		return "", fmt.Errorf("link of %s in the Python index: %w", file, err)
	}
	// An index that asks for a password asks for it for its files too.
	if target.User == nil && target.Host == page.Host {
		target.User = page.User
	}
	return target.String(), nil
}

// findLink reads the JSON or the HTML form of an index page.
func findLink(body []byte, file string) (string, error) {
	var listing struct {
		Files []struct {
			Filename string `json:"filename"`
			URL      string `json:"url"`
		} `json:"files"`
	}
	if err := json.Unmarshal(body, &listing); err == nil {
		for _, f := range listing.Files {
			if f.Filename == file {
				return f.URL, nil
			}
		}
		return "", fmt.Errorf("the Python index has no file %s", file)
	}
	for part := range strings.SplitSeq(string(body), `href="`) {
		link, _, closed := strings.Cut(part, `"`)
		withoutFragment, _, _ := strings.Cut(link, "#")
		if closed && path.Base(withoutFragment) == file {
			return strings.ReplaceAll(withoutFragment, "&amp;", "&"), nil
		}
	}
	return "", fmt.Errorf("the Python index has no file %s", file)
}

// get reads a whole answer. The address does not stand in errors: it may hold a password.
func get(ctx context.Context, client *http.Client, address, accept string) (content []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the address of the Python index is no URL")
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := client.Do(request)
	if err != nil {
		var addressError *url.Error
		if errors.As(err, &addressError) {
			err = addressError.Err
		}
		return nil, fmt.Errorf("ask the Python index at %s: %w", request.URL.Host, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the Python index at %s: it answered %s", request.URL.Host, response.Status)
	}
	content, err = io.ReadAll(io.LimitReader(response.Body, maxWheelBytes+1))
	if err == nil && len(content) > maxWheelBytes {
		err = fmt.Errorf("the answer of the Python index at %s is longer than %d MB", request.URL.Host, maxWheelBytes>>20)
	}
	return content, err
}

// unpackExecutable writes the program inside a wheel to target, completely or not at all.
func unpackExecutable(content []byte, target string) (err error) {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return fmt.Errorf("read wheel of uv: %w", err)
	}
	name := "uv"
	if runtime.GOOS == "windows" {
		name = "uv.exe"
	}
	program, err := archive.Open("uv-" + uvVersion + ".data/scripts/" + name)
	if err != nil {
		return fmt.Errorf("read wheel of uv: %w", err)
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("store uv: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(target), ".uv-*")
	if err != nil {
		return fmt.Errorf("store uv: %w", err)
	}
	_, err = io.Copy(file, program)
	err = errors.Join(err, file.Chmod(0o755), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), target)
	}
	if err != nil {
		return fmt.Errorf("store uv: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return nil
}

// uvAt returns the installer that is the executable at path, if it answers.
func (t *Installers) uvAt(ctx context.Context, executable string) (Installer, error) {
	printed, err := t.confiner.Run(ctx, confine.Program{
		Args: []string{executable, "--version"}, Env: confine.InstallerEnvironment(), Timeout: probeTimeout, Privileged: true,
	})
	if err != nil {
		return Installer{}, err
	}
	fields := strings.Fields(printed)
	if len(fields) < 2 || fields[0] != "uv" {
		return Installer{}, fmt.Errorf("%s does not say that it is uv", executable)
	}
	return Installer{Name: "uv", Version: fields[1], path: executable}, nil
}
