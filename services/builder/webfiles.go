package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/inputs"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
)

// webFilesVariable tells an input.py where the suite serves files that functions fetch from the web.
const webFilesVariable = "SEBS_UPLOADER_BASE_URL"

// LocalHost tells where functions of the local platform find this machine.
type LocalHost interface {
	GetHost(ctx context.Context, r *localv1.GetHostRequest, opts ...grpc.CallOption) (*localv1.Host, error)
}

// WebFiles serves files over HTTP to functions of the local platform, so that a benchmark that fetches something from
// the web measures neither the web nor needs it. The listener opens with the first benchmark that asks for it.
type WebFiles struct {
	handler http.Handler
	local   LocalHost
	fixed   string
	public  bool
	log     *slog.Logger

	mu     sync.Mutex
	base   string
	server *http.Server
	served chan error
}

// NewWebFiles returns files that the handler serves. A fixed address says that they are served there by somebody else;
// public says that benchmarks are to use the addresses on the web.
func NewWebFiles(handler http.Handler, local LocalHost, fixed string, public bool, log *slog.Logger) *WebFiles {
	return &WebFiles{handler: handler, local: local, fixed: fixed, public: public, log: log}
}

// settings returns the environment variables that a benchmark's input.py asks for.
func (w *WebFiles) settings(ctx context.Context, platform string, b benchmark.Benchmark) ([]string, error) {
	text, err := fs.ReadFile(b.Source, inputs.FileName)
	if w.public || platform != "local" || err != nil || !bytes.Contains(text, []byte(webFilesVariable)) {
		// A missing input.py is reported by the runner.
		return nil, nil
	}
	base, err := w.address(ctx)
	if err != nil {
		return nil, fmt.Errorf("serve files for %s: %w", b.Name, err)
	}
	return []string{webFilesVariable + "=" + base}, nil
}

func (w *WebFiles) address(ctx context.Context) (string, error) {
	if w.fixed != "" {
		return w.fixed, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.base != "" {
		return w.base, nil
	}
	host, err := w.local.GetHost(ctx, &localv1.GetHostRequest{})
	if err != nil {
		return "", fmt.Errorf("ask the local platform for its address: %w", errs.FromStatus(err))
	}
	listen, advertise := webFilesHost(host)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(listen, "0"))
	if err != nil {
		return "", errs.FailedPrecondition("WEB_FILES_UNAVAILABLE",
			"files for functions cannot be served on %s (%v); set uploader_url in the builder's configuration to an address that serves them, or uploader_public to use the web", listen, err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return "", errors.Join(err, listener.Close())
	}
	w.server = &http.Server{Handler: w.handler, ReadHeaderTimeout: 10 * time.Second}
	w.served = make(chan error, 1)
	go func() { w.served <- w.server.Serve(listener) }()
	w.base = "http://" + net.JoinHostPort(advertise, port)
	w.log.InfoContext(ctx, "files for functions are served", "address", w.base)
	return w.base, nil
}

// webFilesHost chooses an address that processes and containers of this machine reach. The address of the Docker
// bridge serves both; a mere name of this machine inside containers (Docker Desktop) serves containers.
func webFilesHost(host *localv1.Host) (listen, advertise string) {
	const loopback = "127.0.0.1"
	store := host.GetDockerStoreHost()
	switch {
	case store == "":
		return loopback, loopback
	case net.ParseIP(store) != nil:
		return store, store
	case host.GetDefaultSandboxKind() == localv1.SandboxKind_SANDBOX_KIND_DOCKER:
		return loopback, store
	}
	return loopback, loopback
}

// Close ends the listener.
func (w *WebFiles) Close(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server == nil {
		return nil
	}
	err := w.server.Close()
	if served := <-w.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	w.server, w.base = nil, ""
	return err
}
