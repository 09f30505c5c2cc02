package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/version"
)

// makeWeb builds the HTTP server: metrics, health, version and what the services handle.
func (p *Process) makeWeb() {
	p.HandleHTTP("GET /metrics", promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{Registry: p.Registry}))
	p.HandleHTTP("GET /version", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"process": p.Name, "version": version.Get().String(), "services": p.hosted})
	}))
	// Health asks for no credential: those who ask are machines that decide where to send others.
	p.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	p.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.checks.state(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	var handler http.Handler = p.mux
	if host, _, err := net.SplitHostPort(p.Config.HTTP.Listen); err == nil && authn.IsLoopback(host) {
		handler = authn.GuardLoopback(handler)
	}
	p.web = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// authenticated lets callers with a role through. A handler that changes something checks the role itself.
func (p *Process) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := p.Authn.HTTP(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, errs.ToStatus(err).Message(), http.StatusUnauthorized)
			return
		}
		if caller.Role < typev1.Role_ROLE_VIEWER {
			http.Error(w, "the role viewer is needed", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r.WithContext(authn.WithPrincipal(r.Context(), caller)))
	})
}

func (p *Process) serveWeb() error {
	listener := p.webSocket
	if p.tls.serves() {
		listener = tls.NewListener(listener, p.tls.server())
	}
	if err := p.web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// closeWeb lets requests end within the limit and cuts the rest.
func (p *Process) closeWeb(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, p.Config.Shutdown.Grace)
	defer cancel()
	if err := p.web.Shutdown(limited); err != nil {
		return p.web.Close()
	}
	return nil
}
