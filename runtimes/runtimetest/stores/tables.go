package stores

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dynaliteVersion is the version of the table store, a package of npm.
const dynaliteVersion = "4.0.0"

// Tables is a running table store.
type Tables struct {
	address string
}

// StartTables starts a store for the time of the test. The test is skipped where
// Node.js or the package cannot be had.
func StartTables(t *testing.T) *Tables {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH for the table store")
	}
	program := filepath.Join(installDynalite(t), "node_modules", "dynalite", "cli.js")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, program, "--host", "127.0.0.1", //nolint:gosec // found on PATH
		"--port", fmt.Sprint(address.Port), "--createTableMs", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// Its first line says that it listens.
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, "listening") {
		t.Fatalf("the table store did not start: %q, %v", line, err)
	}
	return &Tables{address: address.String()}
}

// installDynalite returns the directory with the package, filling it once per
// machine.
func installDynalite(t *testing.T) string {
	t.Helper()
	return Install(t, "dynalite-"+dynaliteVersion, func(dir string) *exec.Cmd {
		npm, err := exec.LookPath("npm")
		if err != nil {
			t.Skip("needs npm on PATH to install the table store")
		}
		return exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", //nolint:gosec // found on PATH
			"--prefix", dir, "dynalite@"+dynaliteVersion)
	})
}

// Install returns a directory in the user's cache that the command made by
// install has filled once. The test is skipped when the command fails for lack
// of a network; any other failure fails it.
func Install(t *testing.T, name string, install func(dir string) *exec.Cmd) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a cache directory of the user: %v", err)
	}
	parent := filepath.Join(cache, "sebs", "test")
	target := filepath.Join(parent, name)
	if _, err := os.Stat(target); err == nil {
		return target
	}
	if err := os.MkdirAll(parent, 0o750); err != nil {
		t.Skipf("needs a writable cache directory: %v", err)
	}
	dir, err := os.MkdirTemp(parent, ".install-*")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := install(dir).CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		for _, sign := range []string{"name resolution", "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "dns error", "unreachable", "establish a new connection"} {
			if strings.Contains(string(out), sign) {
				t.Skipf("needs the network to install %s: %v", name, err)
			}
		}
		t.Fatalf("install %s: %v\n%s", name, err, out)
	}
	// Another test binary may have been faster; then its directory serves.
	if err := os.Rename(dir, target); err != nil {
		_ = os.RemoveAll(dir)
		if _, statErr := os.Stat(target); statErr != nil {
			t.Fatal(err)
		}
	}
	return target
}

// Env is what a function of a platform's package needs to reach the store and
// its tables, given as the benchmark's name and the real one.
func (s *Tables) Env(platform string, tables map[string]string) []string {
	env := []string{"NOSQL_STORAGE_TYPE=scylladb", "NOSQL_STORAGE_ENDPOINT=" + s.address}
	if platform == "aws" {
		env = []string{
			"AWS_ENDPOINT_URL_DYNAMODB=http://" + s.address, "AWS_REGION=us-east-1",
			"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_SESSION_TOKEN=none",
		}
	}
	for name, table := range tables {
		env = append(env, "NOSQL_STORAGE_TABLE_"+name+"="+table)
	}
	return env
}

// Create makes a table with two keys of type string.
func (s *Tables) Create(t *testing.T, table, primary, secondary string) {
	t.Helper()
	type pair map[string]string
	s.call(t, "CreateTable", map[string]any{
		"TableName":   table,
		"BillingMode": "PAY_PER_REQUEST",
		"AttributeDefinitions": []pair{
			{"AttributeName": primary, "AttributeType": "S"}, {"AttributeName": secondary, "AttributeType": "S"},
		},
		"KeySchema": []pair{
			{"AttributeName": primary, "KeyType": "HASH"}, {"AttributeName": secondary, "KeyType": "RANGE"},
		},
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		var state struct{ Table struct{ TableStatus string } }
		if err := json.Unmarshal(s.call(t, "DescribeTable", map[string]any{"TableName": table}), &state); err != nil {
			t.Fatal(err)
		}
		if state.Table.TableStatus == "ACTIVE" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("table %s is %s", table, state.Table.TableStatus)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Put writes an item of strings and numbers.
func (s *Tables) Put(t *testing.T, table string, item map[string]any) {
	t.Helper()
	typed := map[string]map[string]string{}
	for name, value := range item {
		if text, ok := value.(string); ok {
			typed[name] = map[string]string{"S": text}
		} else {
			typed[name] = map[string]string{"N": fmt.Sprint(value)}
		}
	}
	s.call(t, "PutItem", map[string]any{"TableName": table, "Item": typed})
}

func (s *Tables) call(t *testing.T, operation string, request any) []byte {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.address+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	r.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	// The store checks the form of a signature, not the signature.
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=None/20000101/None/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", operation, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", operation, err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %d: %s", operation, response.StatusCode, answer)
	}
	return answer
}
