// Package runtimeapi serves the AWS Lambda Runtime API to one sandbox.
//
// Any runtime that speaks the interface (GET next, POST response, POST error, POST init error) can be driven by it: the
// suite's own bootstraps, third-party runtime clients and Lambda container images. One server belongs to one
// sandbox and hands out one invocation at a time.
package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MaxResponseBytes is the largest answer that a function may give.
const MaxResponseBytes = 6 << 20

// maxErrorBytes bounds the error documents that a runtime sends; stack traces fit, floods do not.
const maxErrorBytes = 256 << 10

// maxDrainBytes bounds how much of an oversized response is read to its end.
const maxDrainBytes = 512 << 20

const prefix = "/2018-06-01/runtime/"

// Invocation is one piece of work for the runtime.
type Invocation struct {
	RequestID string
	// Deadline is when the function's time is up.
	Deadline time.Time
	// FunctionARN names the function in the form that Lambda runtimes expect.
	FunctionARN string
	// TraceID is an X-Ray style trace header; may be empty.
	TraceID string
	Payload []byte
}

// FunctionError is an error document of the runtime.
type FunctionError struct {
	Message    string   `json:"errorMessage"`
	Type       string   `json:"errorType"`
	StackTrace []string `json:"stackTrace,omitempty"`
}

// Error renders the document as "type: message".
func (e *FunctionError) Error() string {
	if e.Type == "" {
		return e.Message
	}
	return e.Type + ": " + e.Message
}

// Result is what came of an invocation.
type Result struct {
	// Body is the answer of the function; nil when Err is set.
	Body []byte
	// Err is the error that the function or the Runtime API reported.
	Err *FunctionError
}

// Outcome says how waiting for an invocation ended.
type Outcome int

// Outcomes of [Server.Invoke].
const (
	// Answered: the runtime gave a response or an error.
	Answered Outcome = iota
	// NotFetched: the sandbox stopped or the deadline passed before the runtime took the invocation.
	NotFetched
	// TimedOut: the deadline passed while the function was running.
	TimedOut
	// Stopped: the sandbox ended while the function was running.
	Stopped
)

type pending struct {
	Invocation
	result chan Result
}

// Server is the Runtime API of one sandbox.
type Server struct {
	listener net.Listener
	http     *http.Server
	served   chan struct{}
	queue    chan *pending
	ready    chan struct{}
	initErr  chan *FunctionError
	closed   chan struct{}

	mu        sync.Mutex
	current   *pending
	readyOnce bool
	closeOnce sync.Once
}

// New serves the Runtime API on the listener until Close. A non-nil allow is asked about every connection; others than
// the sandbox's are turned away.
func New(listener net.Listener, allow func(net.Conn) bool) *Server {
	s := &Server{
		listener: listener,
		served:   make(chan struct{}),
		queue:    make(chan *pending),
		ready:    make(chan struct{}),
		initErr:  make(chan *FunctionError, 1),
		closed:   make(chan struct{}),
	}
	if allow != nil {
		s.listener = &guarded{Listener: listener, allow: allow}
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(s.listener) // Close makes it return; nobody else waits for its error
	}()
	return s
}

type guarded struct {
	net.Listener
	allow func(net.Conn) bool
}

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || g.allow(c) {
			return c, err
		}
		_ = c.Close()
	}
}

// Port is the TCP port that the server listens on.
func (s *Server) Port() int {
	if a, ok := s.listener.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// Ready is closed once the runtime has asked for its first invocation: initialisation is over.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// InitError delivers the error that the runtime reported while initialising.
func (s *Server) InitError() <-chan *FunctionError { return s.initErr }

// Close ends all connections and waits until the server has stopped.
func (s *Server) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closed)
		err = s.http.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
	})
	<-s.served
	return err
}

// Invoke gives the runtime one invocation and waits for what comes of it, until the sandbox stops (stop is closed) or the
// deadline of the invocation passes. Only one call may be under way at a time.
func (s *Server) Invoke(inv Invocation, stop <-chan struct{}) (Result, Outcome) {
	p := &pending{Invocation: inv, result: make(chan Result, 1)}
	timer := time.NewTimer(time.Until(inv.Deadline))
	defer timer.Stop()
	select {
	case s.queue <- p:
	case <-stop:
		return Result{}, NotFetched
	case <-s.closed:
		return Result{}, NotFetched
	case <-timer.C:
		return Result{}, NotFetched
	}
	outcome := Stopped
	select {
	case r := <-p.result:
		return r, Answered
	case <-stop:
	case <-s.closed:
	case <-timer.C:
		outcome = TimedOut
	}
	// A sandbox may end right after it has answered; the answer counts.
	select {
	case r := <-p.result:
		return r, Answered
	default:
	}
	s.take(inv.RequestID)
	return Result{}, outcome
}

// take removes the current invocation if it has the given id.
func (s *Server) take(id string) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.current
	if p == nil || p.RequestID != id {
		return nil
	}
	s.current = nil
	return p
}

// ServeHTTP implements the four routes of the Runtime API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "NotFound", "no such resource; the Runtime API lives under "+prefix)
	case path == "invocation/next" && r.Method == http.MethodGet:
		s.next(w, r)
	case path == "init/error" && r.Method == http.MethodPost:
		s.reportInitError(w, r)
	case strings.HasPrefix(path, "invocation/") && r.Method == http.MethodPost:
		id, verb, _ := strings.Cut(strings.TrimPrefix(path, "invocation/"), "/")
		switch verb {
		case "response":
			s.respond(w, r, id)
		case "error":
			s.fail(w, r, id)
		default:
			refuse(w, http.StatusNotFound, "NotFound", "no such resource: "+r.URL.Path)
		}
	default:
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("no such resource: %s %s", r.Method, r.URL.Path))
	}
}

func (s *Server) next(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if !s.readyOnce {
		s.readyOnce = true
		close(s.ready)
	}
	s.mu.Unlock()
	var p *pending
	select {
	case p = <-s.queue:
	case <-r.Context().Done():
		return
	case <-s.closed:
		return
	}
	s.mu.Lock()
	s.current = p
	s.mu.Unlock()
	h := w.Header()
	h["Lambda-Runtime-Aws-Request-Id"] = []string{p.RequestID}
	h["Lambda-Runtime-Deadline-Ms"] = []string{strconv.FormatInt(p.Deadline.UnixMilli(), 10)}
	h["Lambda-Runtime-Invoked-Function-Arn"] = []string{p.FunctionARN}
	if p.TraceID != "" {
		h["Lambda-Runtime-Trace-Id"] = []string{p.TraceID}
	}
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(p.Payload))}
	_, _ = w.Write(p.Payload) // a sandbox that went away is noticed by its end, not here
}

func (s *Server) respond(w http.ResponseWriter, r *http.Request, id string) {
	body, err := readBody(r, MaxResponseBytes)
	p := s.take(id)
	if p == nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "the request id is not the one of the current invocation")
		return
	}
	switch {
	case errors.Is(err, errTooLarge):
		p.result <- Result{Err: &FunctionError{
			Type:    "Function.ResponseSizeTooLarge",
			Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", MaxResponseBytes),
		}}
		// A runtime that is cut off while sending would crash instead of reading the refusal.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDrainBytes))
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", fmt.Sprintf("the response is larger than %d bytes", MaxResponseBytes))
		return
	case err != nil:
		p.result <- Result{Err: &FunctionError{Type: "Runtime.TruncatedResponse", Message: "the runtime did not send its whole response: " + err.Error()}}
		refuse(w, http.StatusBadRequest, "TruncatedResponse", "the response ended early")
		return
	}
	p.result <- Result{Body: body}
	accept(w)
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, id string) {
	doc := readError(r)
	p := s.take(id)
	if p == nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "the request id is not the one of the current invocation")
		return
	}
	p.result <- Result{Err: doc}
	accept(w)
}

func (s *Server) reportInitError(w http.ResponseWriter, r *http.Request) {
	doc := readError(r)
	select {
	case s.initErr <- doc:
	default: // only the first one counts
	}
	accept(w)
}

var errTooLarge = errors.New("body too large")

// readBody reads at most limit bytes; a body beyond it gives errTooLarge.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errTooLarge
	}
	return body, err
}

// readError reads an error document. What is no JSON object is taken as the message, so that nothing gets lost.
func readError(r *http.Request) *FunctionError {
	raw, _ := io.ReadAll(io.LimitReader(r.Body, maxErrorBytes))
	kind := r.Header.Get("Lambda-Runtime-Function-Error-Type")
	return ParseError(raw, kind)
}

// ParseError reads an error document as runtimes send it; fallback names the error where the document does not.
func ParseError(raw []byte, fallback string) *FunctionError {
	doc := &FunctionError{}
	var loose struct {
		Message    any `json:"errorMessage"`
		Type       any `json:"errorType"`
		StackTrace any `json:"stackTrace"`
	}
	if err := json.Unmarshal(raw, &loose); err != nil {
		doc.Message = strings.ToValidUTF8(string(raw), "�")
	} else {
		doc.Message, doc.Type = text(loose.Message), text(loose.Type)
		if frames, ok := loose.StackTrace.([]any); ok {
			for _, f := range frames {
				doc.StackTrace = append(doc.StackTrace, text(f))
			}
		} else if s := text(loose.StackTrace); s != "" {
			doc.StackTrace = strings.Split(s, "\n")
		}
	}
	if doc.Type == "" {
		doc.Type = fallback
	}
	if doc.Type == "" {
		doc.Type = "Runtime.Unknown"
	}
	if doc.Message == "" {
		doc.Message = "the runtime gave no message"
	}
	return doc
}

// text renders a JSON value as a plain string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(b)
	}
}

var accepted = []byte(`{"status":"OK"}` + "\n")

func accept(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(accepted))}
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(accepted)
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	body, err := json.Marshal(FunctionError{Message: message, Type: kind})
	if err != nil {
		body = []byte("{}")
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Listen opens a loopback or bridge listener for a Runtime API; address is a host without port.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the Runtime API on %s: %w", address, err)
	}
	return l, nil
}
