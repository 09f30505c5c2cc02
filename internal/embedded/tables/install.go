package tables

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
)

// files are the package description and its lock file, which pins every dependency by hash.
//
//go:embed dynalite/package.json dynalite/package-lock.json
var files embed.FS

// program is the server's entry point below the installation.
var program = filepath.Join("node_modules", "dynalite", "cli.js")

// Available tells whether the tools that Start needs are there; the error says what is missing and what to do.
func Available() error {
	var missing []string
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errs.FailedPrecondition("TABLE_STORE_MISSING",
		"this benchmark needs a table store, and %s cannot be found on PATH; install Node.js with npm, or give the endpoint of a DynamoDB API (ScyllaDB Alternator, DynamoDB Local or DynamoDB) as storage.platforms.local.table.endpoint",
		strings.Join(missing, " and "))
}

// install puts the server below dir unless the same version is there, and returns the directory of the installation.
// The directory's name holds the lock file's digest, so another version is another directory.
func install(ctx context.Context, dir string) (string, error) {
	lock, err := files.ReadFile("dynalite/package-lock.json")
	if err != nil {
		return "", fmt.Errorf("read the lock file: %w", err)
	}
	sum := sha256.Sum256(lock)
	done := filepath.Join(dir, "dynalite-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(done, program)); err == nil {
		return done, nil
	}
	if err := Available(); err != nil {
		return "", err
	}
	// Installed beside and moved as a whole, so that an interrupted installation is never used.
	tmp, err := os.MkdirTemp(dir, ".install-*")
	if err != nil {
		return "", fmt.Errorf("make a directory for the table store: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone already where it was moved
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := files.ReadFile("dynalite/" + name)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o600); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	// Install scripts are not run: the one native module comes with built binaries.
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-progress")
	cmd.Dir, cmd.Env = tmp, environment()
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("install the table store: %w", ctx.Err())
		}
		return "", errs.Unavailable("TABLE_STORE_INSTALL", "install the table store with npm: %v; its last lines: %s", err, output.String())
	}
	if err := os.Rename(tmp, done); err != nil {
		if _, stat := os.Stat(filepath.Join(done, program)); stat == nil {
			return done, nil // another process was faster
		}
		return "", fmt.Errorf("install the table store: %w", err)
	}
	return done, nil
}

// passed are the variables that npm and node may see; nothing else of the suite's environment is theirs.
var passed = []string{
	"PATH", "HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "SystemRoot", "TMPDIR", "TEMP", "TMP", "LANG",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE",
}

func environment() []string {
	var out []string
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	for _, kv := range os.Environ() {
		if strings.HasPrefix(strings.ToLower(kv), "npm_config_") {
			out = append(out, kv)
		}
	}
	return out
}

// tail keeps the last bytes of a program's output.
type tail struct{ buf bytes.Buffer }

const tailBytes = 2 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - tailBytes; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string { return strings.TrimSpace(t.buf.String()) }

// errEnded is the cause of every failure after the server was there.
var errEnded = errors.New("the table store ended")
