// Package registrytest starts a registry of container images for tests.
package registrytest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// patience is how long the registry may take to begin and to end.
const patience = 20 * time.Second

// Registry is a registry of its own on this machine.
type Registry struct {
	// Address is its host and port.
	Address string
	// Username and Password are the log-in that it asks for; empty when it asks for none.
	Username, Password string
}

// Start starts the Debian package docker-registry, with basic authentication when a user is given. It skips the test where
// that is not installed.
func Start(t testing.TB, username, password string) *Registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("needs docker-registry (Debian package docker-registry)")
	}
	dir := t.TempDir()
	r := &Registry{Address: freeAddress(t), Username: username, Password: password}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\nhttp: {addr: %q}\n",
		filepath.Join(dir, "storage"), r.Address)
	if username != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		passwords := filepath.Join(dir, "passwords")
		if err := os.WriteFile(passwords, []byte(username+":"+string(hash)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %q}\n", passwords)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(context.Background(), program, "serve", file)
	command.Stdout, command.Stderr = t.Output(), t.Output()
	// Without children that could hold the output open.
	command.WaitDelay = time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended: //nolint:errcheck // it was told to end
		case <-time.After(patience):
			_ = command.Process.Kill()
			<-ended //nolint:errcheck // it was killed
		}
	})
	r.await(t)
	return r
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// await waits until the registry answers.
func (r *Registry) await(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		status, err := r.request(t, http.MethodGet, "/v2/")
		if err == nil && status < 500 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not answer: %d, %v", status, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *Registry) request(t testing.TB, method, path string) (status int, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Address+path, nil)
	if err != nil {
		return 0, err
	}
	if r.Username != "" {
		request.SetBasicAuth(r.Username, r.Password)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// Delete removes the manifest of a digest from a repository.
func (r *Registry) Delete(t testing.TB, repository, digest string) {
	t.Helper()
	status, err := r.request(t, http.MethodDelete, "/v2/"+repository+"/manifests/"+digest)
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("delete %s of %s: %d, %v", digest, repository, status, err)
	}
}
