package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

// What a relay leads to.
const (
	relayObjects = "objects"
	relayTables  = "tables"
)

// relayKey says what a relay is for. The environment of deployed functions names relays, so their ports are kept over
// restarts in a file.
type relayKey struct {
	Kind string `json:"kind"`
	Host string `json:"host"`
	// Deployment is set for relays to tables, which let through one deployment's tables only.
	Deployment string `json:"deployment,omitempty"`
}

type relayEntry struct {
	relayKey
	Port int `json:"port"`
}

// target finds where a kind of relay leads on a platform; it may start the store.
type target func(ctx context.Context) (address string, err error)

// relays are listeners through which functions reach stores that the suite runs on loopback: from containers over the
// Docker bridge's address, and to tables always, because the table stores themselves know no accounts.
type relays struct {
	log  *slog.Logger
	file string

	mu      sync.Mutex
	closed  bool
	open    map[relayKey]*relay
	ports   map[relayKey]int
	running sync.WaitGroup
	life    context.Context
	stop    context.CancelFunc
}

type relay struct {
	address string
	close   func() error
}

func newRelays(log *slog.Logger) *relays {
	life, stop := context.WithCancel(context.Background())
	return &relays{log: log, open: map[relayKey]*relay{}, ports: map[relayKey]int{}, life: life, stop: stop}
}

// restore reads the ports of the last run and opens its relays again, so that functions that still run find them.
// Entries that cannot be opened, such as those on a bridge that is gone, are left for the next request.
func (r *relays) restore(file string, targetOf func(kind string) target) error {
	r.mu.Lock()
	r.file = file
	r.mu.Unlock()
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ports of store relays: %w", err)
	}
	var entries []relayEntry
	if err := json.Unmarshal(raw, &entries); err != nil {
		return fmt.Errorf("read the ports of store relays from %s: %w; remove the file to get new ones", file, err)
	}
	for _, e := range entries {
		r.mu.Lock()
		r.ports[e.relayKey] = e.Port
		r.mu.Unlock()
		if t := targetOf(e.Kind); t != nil {
			if _, err := r.expose(e.relayKey, e.Port, t); err != nil {
				r.log.Debug("store relay not opened again", "kind", e.Kind, "host", e.Host, "error", err)
			}
		}
	}
	return nil
}

// expose returns the address of a relay, opening it when there is none yet. preferred is the port to try first.
func (r *relays) expose(key relayKey, preferred int, t target) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.open[key]; ok {
		return have.address, nil
	}
	if r.closed {
		return "", errs.Unavailable("STORAGE_CLOSING", "the storage service is stopping")
	}
	if err := checkRelayHost(key.Host); err != nil {
		return "", err
	}
	if p, ok := r.ports[key]; ok {
		preferred = p
	}
	l, err := net.Listen("tcp", net.JoinHostPort(key.Host, strconv.Itoa(preferred)))
	if err != nil && preferred != 0 {
		l, err = net.Listen("tcp", net.JoinHostPort(key.Host, "0"))
	}
	if err != nil {
		return "", errs.Unavailable("STORE_RELAY", "open a way to the %s on %s: %v", key.Kind, key.Host, err)
	}
	r.ports[key] = l.Addr().(*net.TCPAddr).Port
	if err := r.save(); err != nil {
		return "", errors.Join(err, l.Close())
	}
	opened := &relay{address: l.Addr().String()}
	if key.Kind == relayTables {
		opened.close = r.serveTables(l, key.Deployment, t)
	} else {
		opened.close = r.serveBytes(l, t)
	}
	r.open[key] = opened
	return opened.address, nil
}

// save writes the ports; the caller holds the lock.
func (r *relays) save() error {
	if r.file == "" {
		return nil
	}
	entries := make([]relayEntry, 0, len(r.ports))
	for k, p := range r.ports {
		entries = append(entries, relayEntry{k, p})
	}
	slices.SortFunc(entries, func(a, b relayEntry) int {
		return strings.Compare(a.Kind+a.Host+a.Deployment, b.Kind+b.Host+b.Deployment)
	})
	raw, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	tmp := r.file + ".new"
	if err := errors.Join(os.WriteFile(tmp, raw, 0o600), os.Rename(tmp, r.file)); err != nil {
		return fmt.Errorf("write the ports of store relays: %w", err)
	}
	return nil
}

// checkRelayHost allows loopback addresses and those of bridges on this machine: anything else would offer the store
// to the network.
func checkRelayHost(host string) error {
	ip := net.ParseIP(host)
	if ip == nil {
		return errs.Fields(errs.Field("store_host", "%q is not an IP address; use a loopback address or that of the Docker bridge", host))
	}
	if ip.IsLoopback() {
		return nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			n, ok := a.(*net.IPNet)
			if ok && n.IP.Equal(ip) {
				if _, err := os.Stat(filepath.Join("/sys/class/net", i.Name, "bridge")); err == nil {
					return nil
				}
				return errs.PermissionDenied("STORE_HOST_NOT_LOCAL", "store_host %s is the address of %s, which is no bridge; stores are offered on loopback and on the Docker bridge only", host, i.Name)
			}
		}
	}
	return errs.FailedPrecondition("STORE_HOST_UNKNOWN", "store_host %s is no address of this machine", host)
}

// serveBytes passes connections on as they are.
func (r *relays) serveBytes(l net.Listener, t target) (closeRelay func() error) {
	ctx, cancel := context.WithCancel(r.life)
	r.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.pass(ctx, c, t) })
		}
	})
	return func() error {
		cancel()
		return l.Close()
	}
}

// pass copies both ways until both ends have closed.
func (r *relays) pass(ctx context.Context, client net.Conn, t target) {
	defer hangUp(client)
	dialing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	address, err := t(dialing)
	if err != nil {
		r.log.WarnContext(ctx, "store relay has no target", "error", err)
		return
	}
	var d net.Dialer
	server, err := d.DialContext(dialing, "tcp", address)
	if err != nil {
		r.log.WarnContext(ctx, "store relay cannot connect", "error", err)
		return
	}
	defer hangUp(server)
	stop := context.AfterFunc(ctx, func() { hangUp(client, server) })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(server, client)
	}()
	copyHalf(client, server)
	<-done
}

// hangUp ends connections; one that is closed already says so, which is no news.
func hangUp(connections ...net.Conn) {
	for _, c := range connections {
		_ = c.Close()
	}
}

// copyHalf copies one direction and tells the receiver that no more comes.
func copyHalf(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		hangUp(to, from)
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other end may have closed first
	}
}

// serveTables offers one deployment's tables.
func (r *relays) serveTables(l net.Listener, deployment string, t target) (closeRelay func() error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute}
	server := &http.Server{
		Handler:           &tableGate{prefix: tablePrefix(deployment), target: t, transport: transport, log: r.log},
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return r.life },
	}
	r.running.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			r.log.Warn("table relay ended", "error", err)
		}
	})
	return func() error {
		err := server.Close()
		transport.CloseIdleConnections()
		return err
	}
}

// close ends all relays and their connections.
func (r *relays) close() error {
	r.mu.Lock()
	r.closed = true
	var problems []error
	for _, one := range r.open {
		problems = append(problems, one.close())
	}
	clear(r.open)
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
	return errors.Join(problems...)
}
