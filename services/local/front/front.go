// Package front is the HTTP side of the local platform: it takes invocations at a shared address and at a port per function.
//
// Shared: POST /functions/{name}, GET or POST /functions/{name}/alive, POST /events/objects (messages of an object store's
// event sink, behind a secret token). Per function: POST / and GET or POST /alive, as the local servers of SeBS have them.
package front

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/host"
)

// Headers of every answer to an invocation.
const (
	HeaderRequestID   = "X-Sebs-Request-Id"
	HeaderColdStart   = "X-Sebs-Cold-Start"
	HeaderBilledMS    = "X-Sebs-Billed-Ms"
	HeaderDurationUS  = "X-Sebs-Duration-Us"
	HeaderInitUS      = "X-Sebs-Init-Duration-Us"
	HeaderSandbox     = "X-Sebs-Sandbox-Id"
	HeaderMaxMemoryMB = "X-Sebs-Max-Memory-Mb"
	HeaderFailure     = "X-Sebs-Function-Error"
	// HeaderOutputDropped is there when the function printed more than its log keeps: the number of bytes lost.
	HeaderOutputDropped = "X-Sebs-Output-Dropped"
	maxNotificationLen  = 1 << 20
)

// Invoker runs functions.
type Invoker interface {
	Invoke(ctx context.Context, c host.Call) (*host.Outcome, error)
	ObjectEvents(raw []byte) ([]string, error)
}

// Options configure the front.
type Options struct {
	// Address is the shared address, such as 127.0.0.1:0.
	Address string
	// FirstPort and LastPort bound the ports that functions get where they are free; 0 lets the system choose.
	FirstPort, LastPort int
	// EventToken is what senders of object events must give as bearer token or as query parameter token; empty turns the
	// route off.
	EventToken string
	Log        *slog.Logger
}

// Front serves HTTP.
type Front struct {
	options  Options
	host     string // the address to listen on, without port
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup

	mu      sync.Mutex
	invoker Invoker
	own     map[string]*http.Server
	ports   map[int]bool
	closed  bool
}

// Listen opens the shared address. Serve must be called before invocations are answered; until then they are refused.
func Listen(ctx context.Context, o Options) (*Front, error) {
	name, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("HTTP front: address %q: %w", o.Address, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("HTTP front: %w", err)
	}
	f := &Front{options: o, host: name, listener: l, own: map[string]*http.Server{}, ports: map[int]bool{}}
	f.server = f.newServer(http.HandlerFunc(f.serveShared))
	return f, nil
}

// Serve starts to answer, with the invoker.
func (f *Front) Serve(i Invoker) {
	f.mu.Lock()
	f.invoker = i
	f.mu.Unlock()
	f.serving.Go(func() { f.run(f.server, f.listener) })
}

func (f *Front) newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(f.options.Log.Handler(), slog.LevelDebug),
	}
}

func (f *Front) run(s *http.Server, l net.Listener) {
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		f.options.Log.Error("HTTP front stopped", "address", l.Addr().String(), "error", err)
	}
}

// URL is the shared address as a URL.
func (f *Front) URL() string { return "http://" + f.listener.Addr().String() }

// FunctionURL is the URL of a function at the shared address.
func (f *Front) FunctionURL(name string) string { return f.URL() + "/functions/" + name }

// OwnURL is the URL of a function's own port.
func (f *Front) OwnURL(port int) string {
	if port == 0 {
		return ""
	}
	return "http://" + net.JoinHostPort(f.host, strconv.Itoa(port)) + "/"
}

// Open gives a function a port of its own: the wanted one if it is free, else the first free one of the range, else any.
func (f *Front) Open(function string, want int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, errs.Unavailable("FRONT_CLOSED", "the local platform is shutting down")
	}
	if _, ok := f.own[function]; ok {
		return 0, errs.AlreadyExists("PORT_OPEN", "function %q has a port already", function)
	}
	l, err := f.listen(want)
	if err != nil {
		return 0, fmt.Errorf("open a port for function %s: %w", function, err)
	}
	s := f.newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serveOwn(w, r, function) }))
	f.own[function] = s
	port := l.Addr().(*net.TCPAddr).Port
	f.ports[port] = true
	f.serving.Go(func() {
		f.run(s, l)
		f.mu.Lock()
		delete(f.ports, port)
		f.mu.Unlock()
	})
	return port, nil
}

func (f *Front) listen(want int) (net.Listener, error) {
	try := func(port int) (net.Listener, error) {
		return net.Listen("tcp", net.JoinHostPort(f.host, strconv.Itoa(port)))
	}
	if want > 0 {
		if l, err := try(want); err == nil {
			return l, nil
		}
	}
	if f.options.FirstPort > 0 {
		for port := f.options.FirstPort; port <= f.options.LastPort; port++ {
			if f.ports[port] {
				continue
			}
			if l, err := try(port); err == nil {
				return l, nil
			}
		}
	}
	return try(0)
}

// Close ends the port of a function.
func (f *Front) Close(function string) {
	f.mu.Lock()
	s := f.own[function]
	delete(f.own, function)
	f.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// Shutdown stops taking requests, waits for those under way until the context ends, and closes all ports.
func (f *Front) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	servers := []*http.Server{f.server}
	for name, s := range f.own {
		servers = append(servers, s)
		delete(f.own, name)
	}
	f.mu.Unlock()
	var wg sync.WaitGroup
	problems := make([]error, len(servers))
	for n, s := range servers {
		wg.Go(func() {
			if problems[n] = s.Shutdown(ctx); problems[n] != nil {
				_ = s.Close()
			}
		})
	}
	wg.Wait()
	_ = f.listener.Close() // not yet served when Serve was never called
	f.serving.Wait()
	return errors.Join(problems...)
}

func (f *Front) serveShared(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, "/functions/"); ok {
		if name, ok = strings.CutSuffix(name, "/alive"); ok {
			alive(w)
			return
		}
		f.serveInvocation(w, r, strings.TrimSuffix(name, "/"))
		return
	}
	switch r.URL.Path {
	case "/alive":
		alive(w)
	case "/events/objects":
		f.serveEvents(w, r)
	default:
		fail(w, http.StatusNotFound, "NotFound", "no such path: "+r.URL.Path+"; functions are at POST /functions/{name}")
	}
}

func (f *Front) serveOwn(w http.ResponseWriter, r *http.Request, function string) {
	switch r.URL.Path {
	case "/":
		f.serveInvocation(w, r, function)
	case "/alive":
		alive(w)
	default:
		fail(w, http.StatusNotFound, "NotFound", "no such path: "+r.URL.Path+"; use POST / or GET /alive")
	}
}

func alive(w http.ResponseWriter) {
	write(w, http.StatusOK, []byte(`{"result":"ok"}`))
}

func (f *Front) serveInvocation(w http.ResponseWriter, r *http.Request, function string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "functions are invoked by POST")
		return
	}
	// A page in a browser can send a plain POST to any address; it cannot leave out its origin.
	if r.Header.Get("Origin") != "" {
		fail(w, http.StatusForbidden, "Forbidden", "requests of web pages are refused")
		return
	}
	payload, err := body(r)
	if err != nil {
		f.refuse(w, err)
		return
	}
	out, err := f.invoker.Invoke(r.Context(), host.Call{Function: function, Payload: payload})
	if err != nil {
		f.refuse(w, err)
		return
	}
	answer(w, out)
}

// body reads the event.
func body(r *http.Request) ([]byte, error) {
	tooLarge := errs.InvalidArgument("REQUEST_TOO_LARGE", "the event is larger than %d bytes; send large data through the object store", host.MaxRequestBytes)
	if r.ContentLength > host.MaxRequestBytes {
		return nil, tooLarge
	}
	if r.ContentLength >= 0 {
		payload := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, payload); err != nil {
			return nil, errs.InvalidArgument("REQUEST_TRUNCATED", "the event ended early: %v", err)
		}
		return payload, nil
	}
	payload, err := io.ReadAll(io.LimitReader(r.Body, host.MaxRequestBytes+1))
	if err != nil {
		return nil, errs.InvalidArgument("REQUEST_TRUNCATED", "the event ended early: %v", err)
	}
	if len(payload) > host.MaxRequestBytes {
		return nil, tooLarge
	}
	return payload, nil
}

// answer writes the outcome of an invocation that reached the function.
func answer(w http.ResponseWriter, out *host.Outcome) {
	rec := &out.Record
	h := w.Header()
	h[HeaderRequestID] = []string{rec.RequestID}
	h[HeaderColdStart] = []string{strconv.FormatBool(rec.Cold)}
	h[HeaderBilledMS] = []string{strconv.FormatInt(rec.BilledMS, 10)}
	h[HeaderDurationUS] = []string{strconv.FormatInt(rec.Duration.Microseconds(), 10)}
	h[HeaderMaxMemoryMB] = []string{strconv.FormatFloat(rec.MaxMemoryMB, 'f', 1, 64)}
	h[HeaderSandbox] = []string{rec.Sandbox}
	if rec.Cold {
		h[HeaderInitUS] = []string{strconv.FormatInt(rec.Init.Microseconds(), 10)}
	}
	if rec.OutputDropped > 0 {
		h[HeaderOutputDropped] = []string{strconv.FormatInt(rec.OutputDropped, 10)}
	}
	if rec.Failure != "" {
		h[HeaderFailure] = []string{rec.Failure}
	}
	write(w, status(rec), out.Body)
}

// status maps how an invocation ended to an HTTP status.
func status(rec *host.Record) int {
	switch {
	case rec.Failure == "":
		return http.StatusOK
	case rec.Failure == host.FailureTimeout || rec.ErrorType == "Sandbox.Timedout":
		return http.StatusGatewayTimeout
	case rec.Failure == host.FailureUnhandled && !strings.HasPrefix(rec.ErrorType, "Runtime.") && !strings.HasPrefix(rec.ErrorType, "Sandbox."):
		return http.StatusInternalServerError // the function raised
	default:
		return http.StatusBadGateway
	}
}

// refuse writes an error of an invocation that did not reach the function.
func (f *Front) refuse(w http.ResponseWriter, err error) {
	code := errs.Code(err)
	kind, status := errs.Reason(err), http.StatusInternalServerError
	message := err.Error()
	switch code {
	case codes.NotFound:
		kind, status = "ResourceNotFound", http.StatusNotFound
	case codes.InvalidArgument:
		status = http.StatusBadRequest
		if kind == "REQUEST_TOO_LARGE" {
			status = http.StatusRequestEntityTooLarge
		}
		kind = "InvalidRequestContent"
	case codes.ResourceExhausted:
		kind, status = "TooManyRequests", http.StatusTooManyRequests
		w.Header().Set("Retry-After", "1")
	case codes.Unavailable:
		kind, status = "ServiceUnavailable", http.StatusServiceUnavailable
	case codes.FailedPrecondition, codes.Unimplemented:
		status = http.StatusBadGateway
	default:
		f.options.Log.Error("invocation failed", "error", err)
		kind, message = "Internal", "internal error; the host's log tells more"
	}
	fail(w, status, kind, message)
}

func (f *Front) serveEvents(w http.ResponseWriter, r *http.Request) {
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if given == "" {
		given = r.URL.Query().Get("token")
	}
	if f.options.EventToken == "" || subtle.ConstantTimeCompare([]byte(given), []byte(f.options.EventToken)) != 1 {
		fail(w, http.StatusForbidden, "Forbidden", "object events need the token of the local platform")
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxNotificationLen))
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidRequestContent", "the message ended early")
		return
	}
	if len(raw) == 0 || !strings.Contains(string(raw), `"Records"`) { // event sinks send a test message first
		write(w, http.StatusOK, []byte(`{"requestIds":[]}`))
		return
	}
	ids, err := f.invoker.ObjectEvents(raw)
	if err != nil {
		f.refuse(w, err)
		return
	}
	doc, err := json.Marshal(map[string][]string{"requestIds": append([]string{}, ids...)})
	if err != nil {
		f.refuse(w, err)
		return
	}
	write(w, http.StatusOK, doc)
}

// fail writes an error of a request that never became an invocation, so there is no request id.
func fail(w http.ResponseWriter, status int, kind, message string) {
	doc, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message, "requestId": ""})
	if err != nil {
		doc = []byte("{}")
	}
	write(w, status, doc)
}

// write sends head and body; small answers leave in one packet, because the length is known beforehand.
func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone away
}
