package storage

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
)

// bridgeAddress finds the address of a bridge of this machine.
func bridgeAddress(t *testing.T) string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if _, err := os.Stat(filepath.Join("/sys/class/net", i.Name, "bridge")); err != nil {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
				return n.IP.String()
			}
		}
	}
	t.Skip("needs docker: this machine has no bridge")
	return ""
}

func (b *bench) address(t *testing.T, host string) (string, error) {
	t.Helper()
	env, err := b.client.GetFunctionEnvironment(t.Context(), &storagev1.GetFunctionEnvironmentRequest{Parent: localA, Benchmark: "b", UsesObjects: true, StoreHost: host})
	if err != nil {
		return "", errs.FromStatus(err)
	}
	for _, v := range env.GetVariables() {
		if v.GetName() == "MINIO_ADDRESS" {
			return v.GetValue(), nil
		}
	}
	return "", errors.New("no MINIO_ADDRESS")
}

func TestStoreHosts(t *testing.T) {
	t.Parallel()
	b := start(t)
	store, err := b.local.open(t.Context(), Scope{})
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"":                     store.Endpoint,
		"127.0.0.1":            store.Endpoint,
		"host.docker.internal": "host.docker.internal:" + port,
	} {
		if got, err := b.address(t, host); err != nil || got != want {
			t.Errorf("store host %q: %q, %v; want %q", host, got, err, want)
		}
	}
	if _, err := b.address(t, "192.0.2.1"); errs.Code(err) != codes.FailedPrecondition {
		t.Errorf("an address that is not this machine's: %v", err)
	}
	for _, ip := range plainAddresses(t) {
		if _, err := b.address(t, ip); errs.Code(err) != codes.PermissionDenied {
			t.Errorf("the address %s of the network: %v; want PERMISSION_DENIED", ip, err)
		}
	}
}

// plainAddresses lists this machine's addresses that are neither loopback nor a bridge's.
func plainAddresses(t *testing.T) []string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range interfaces {
		if _, err := os.Stat(filepath.Join("/sys/class/net", i.Name, "bridge")); err == nil {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
				out = append(out, n.IP.String())
			}
		}
	}
	return out
}

func TestRelayOnBridge(t *testing.T) {
	t.Parallel()
	host := bridgeAddress(t)
	b := start(t)
	address, err := b.address(t, host)
	if err != nil || !strings.HasPrefix(address, host+":") {
		t.Fatalf("address %q, %v", address, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusForbidden || !strings.Contains(string(raw), "AccessDenied") {
		t.Errorf("through the bridge: %d %s, %v", res.StatusCode, raw, err)
	}
	if again, err := b.address(t, host); err != nil || again != address {
		t.Errorf("asked for again: %q, %v", again, err)
	}
}
