package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/local/runtimeapi"
	"github.com/sebs-suite/sebs/services/local/sandbox"
)

// MaxRequestBytes is the largest event that a function takes.
const MaxRequestBytes = 16 << 20

// Call is one invocation.
type Call struct {
	Function string
	// Payload is the event, a JSON text; empty means {}.
	Payload []byte
	// RequestID may be given for events; empty makes one.
	RequestID string
	// Tail asks for the end of the log.
	Tail bool
}

// Outcome is what came of an invocation.
type Outcome struct {
	Record Record
	// Body is the answer of the function as it gave it, or the error document when Record.Failure is set.
	Body []byte
	// Tail is the end of the log, where asked for.
	Tail string
}

// failure is why an invocation gave no answer of the function.
type failure struct {
	kind    string // one of the Failure… constants
	typ     string // errorType
	message string
	stack   []string
}

// errorBody is the document that a failed invocation answers.
type errorBody struct {
	ErrorType    string   `json:"errorType"`
	ErrorMessage string   `json:"errorMessage"`
	RequestID    string   `json:"requestId"`
	StackTrace   []string `json:"stackTrace,omitempty"`
	LogTail      string   `json:"logTail,omitempty"`
}

// bodyTailBytes is how much of the log goes into an error document.
const bodyTailBytes = 2 << 10

const maxAttempts = 3

// Invoke runs the function once and waits. Errors mean that it was not run: it does not exist, the event is no JSON,
// all sandboxes are busy, or the host is closing. What goes wrong in the function stands in the outcome. A caller that
// goes away does not stop a function that runs: as on the clouds, its time limit does.
func (h *Host) Invoke(ctx context.Context, c Call) (*Outcome, error) {
	f, err := h.enter(&c)
	if err != nil {
		return nil, err
	}
	defer h.background.Done()
	return h.invoke(ctx, f, c, false)
}

// enter checks a call and counts it in, so that Close waits for it.
func (h *Host) enter(c *Call) (*function, error) {
	if len(c.Payload) == 0 {
		c.Payload = []byte("{}")
	}
	if len(c.Payload) > MaxRequestBytes {
		return nil, errs.InvalidArgument("REQUEST_TOO_LARGE", "the event has %d bytes, at most %d are allowed; send large data through the object store", len(c.Payload), MaxRequestBytes)
	}
	if !json.Valid(c.Payload) {
		return nil, errs.InvalidArgument("PAYLOAD_NOT_JSON", "the event of function %q is not valid JSON; send a JSON document", c.Function)
	}
	if c.RequestID == "" {
		c.RequestID = uuid.NewString()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errs.Unavailable("HOST_CLOSING", "the local platform is shutting down")
	}
	f := h.ready[c.Function]
	if f == nil {
		return nil, notFound(c.Function)
	}
	h.background.Add(1)
	return f, nil
}

func (h *Host) invoke(ctx context.Context, f *function, c Call, event bool) (*Outcome, error) {
	var last *box
	for attempt := 1; ; attempt++ {
		b, def, err := f.acquire()
		if err != nil {
			if errs.Reason(err) == "THROTTLED" && h.total.Load() >= int64(h.options.MaxSandboxes) && h.makeRoom(ctx) {
				attempt--
				continue
			}
			return nil, err
		}
		cold := b == nil
		if cold {
			var fail *failure
			began := time.Now()
			b, fail = h.startBox(f, def, true)
			if fail != nil {
				return h.failedStart(f, def, c, began, b, fail, event), nil
			}
		}
		out, fetched := h.run(f, def, b, c, cold, event)
		if fetched {
			return out, nil
		}
		// The sandbox ended between two invocations: the function has not seen this one, another sandbox may take it.
		last = b
		if attempt >= maxAttempts {
			return h.failedStart(f, def, c, time.Now(), last, &failure{
				kind: FailureUnhandled, typ: "Runtime.ExitError",
				message: "sandboxes of the function end before they take the invocation: " + last.instance.Exit().String(),
			}, event), nil
		}
	}
}

// run gives the invocation to a sandbox and puts the sandbox back. It answers false when the sandbox never took it.
func (h *Host) run(f *function, def *Definition, b *box, c Call, cold, event bool) (*Outcome, bool) {
	e := b.log.begin(c.RequestID)
	start := time.Now()
	e.add(start, "START RequestId: "+c.RequestID+" Version: "+strconv.FormatInt(b.version, 10))
	timeout := def.Config.Timeout
	result, how := b.api.Invoke(runtimeapi.Invocation{
		RequestID: c.RequestID, Deadline: start.Add(timeout), FunctionARN: arn(def.Name), Payload: c.Payload,
		TraceID: "",
	}, b.instance.Done())
	duration := time.Since(start)
	late := duration >= timeout
	if how == runtimeapi.NotFetched && !late {
		f.release(b, true)
		return nil, false
	}
	peak := b.instance.MemoryPeak()
	var fail *failure
	switch {
	case how == runtimeapi.TimedOut || how == runtimeapi.NotFetched:
		h.killBox(b)
		duration = timeout
		fail = &failure{kind: FailureTimeout, typ: "Sandbox.Timedout", message: fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds())}
		if limit := int64(b.memoryMB) << 20; peak >= limit-limit/64 {
			// Near its limit a process lives on by giving up and reading again the pages of its own program.
			fail.message += fmt.Sprintf("; it had used all of its %d MB, so memory may be what it lacked", b.memoryMB)
		}
	case how == runtimeapi.Stopped:
		fail = h.ended(b)
		if fail.kind == FailureOutOfMemory {
			peak = int64(b.memoryMB) << 20
		}
	case result.Err != nil:
		endOutput(b, c.Tail)
		fail = &failure{kind: FailureUnhandled, typ: result.Err.Type, message: result.Err.Message, stack: result.Err.StackTrace}
	default:
		endOutput(b, c.Tail)
		if !json.Valid(result.Body) {
			fail = &failure{kind: FailureBadResponse, typ: "Runtime.InvalidResponse", message: fmt.Sprintf("the function's answer is not valid JSON: %s", excerpt(result.Body))}
		}
	}
	rec := Record{
		RequestID: c.RequestID, Function: def.Name, Version: b.version, Start: start, Duration: duration,
		MemoryMB: b.memoryMB, MaxMemoryMB: float64(peak) / (1 << 20), Cold: cold, Sandbox: b.id, Event: event,
	}
	if cold {
		rec.Init = b.init
	}
	out := h.conclude(f, b.log, e, rec, result.Body, fail, c.Tail)
	f.release(b, how != runtimeapi.Answered)
	return out, true
}

// outputDelay is how long the output of an invocation is waited for when its end is part of the answer.
const outputDelay = time.Second

func endOutput(b *box, wait bool) {
	delivered := b.instance.EndOutput()
	if delivered == nil || !wait {
		return
	}
	timer := time.NewTimer(outputDelay)
	defer timer.Stop()
	select {
	case <-delivered:
	case <-timer.C:
	}
}

// ended describes a sandbox that ended while the function was running.
func (h *Host) ended(b *box) *failure {
	select {
	case <-b.instance.Done():
	default: // the Runtime API was closed: the host is shutting down
		return &failure{kind: FailureUnhandled, typ: "Sandbox.Stopped", message: "the sandbox was stopped while the function was running"}
	}
	exit := b.instance.Exit()
	switch {
	case exit.OutOfMemory:
		return &failure{kind: FailureOutOfMemory, typ: "Runtime.OutOfMemory", message: fmt.Sprintf(
			"the function used more than its %d MB of memory and was ended", b.memoryMB)}
	case h.isClosed():
		return &failure{kind: FailureUnhandled, typ: "Sandbox.Stopped", message: "the sandbox was stopped while the function was running: the local platform is shutting down"}
	default:
		return &failure{kind: FailureUnhandled, typ: "Runtime.ExitError", message: "the runtime ended while the function was running: " + exit.String()}
	}
}

func (h *Host) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// conclude writes the closing log lines and the record, and makes the outcome: with the body, or with the failure in its place.
func (h *Host) conclude(f *function, log *boxLog, e *entry, rec Record, body []byte, fail *failure, tail bool) *Outcome {
	rec.BilledMS = billed(rec.Duration, rec.Init)
	rec.OutputDropped = e.lost()
	out := &Outcome{Body: body}
	now := time.Now()
	if fail != nil {
		rec.Failure, rec.ErrorType, rec.ErrorMessage = fail.kind, fail.typ, fail.message
		out.Body = fail.body(rec.RequestID, e)
		log.end(e, now, fail.line(now, rec.RequestID), "END RequestId: "+rec.RequestID, rec.Report())
	} else {
		log.end(e, now, "END RequestId: "+rec.RequestID, rec.Report())
	}
	if tail {
		out.Tail = e.tail(TailBytes)
	}
	out.Record = rec
	if rec.Event {
		h.keepAnswer(f, rec, out.Body)
	}
	f.record(rec)
	if h.options.OnInvocation != nil {
		h.options.OnInvocation(rec)
	}
	return out
}

func (fail *failure) body(requestID string, e *entry) []byte {
	doc := errorBody{ErrorType: fail.typ, ErrorMessage: fail.message, RequestID: requestID, StackTrace: fail.stack}
	if fail.stack == nil { // a function that raised tells its story itself
		doc.LogTail = e.tail(bodyTailBytes)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return []byte(`{"errorType":"Internal","errorMessage":"the error cannot be encoded"}`)
	}
	return raw
}

// line is the failure as it stands in the log.
func (fail *failure) line(now time.Time, requestID string) string {
	if fail.kind == FailureTimeout {
		return now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + requestID + " " + fail.message
	}
	return "RequestId: " + requestID + " Error: " + fail.typ + ": " + fail.message
}

// failedStart makes the outcome of an invocation that got no sandbox. b carries the log of the sandbox that did not come up;
// it may be nil.
func (h *Host) failedStart(f *function, def *Definition, c Call, began time.Time, b *box, fail *failure, event bool) *Outcome {
	log := newBoxLog()
	id := ""
	if b != nil {
		log, id = b.log, b.id
	}
	e := log.begin(c.RequestID)
	init := time.Since(began)
	out := h.conclude(f, log, e, Record{
		RequestID: c.RequestID, Function: def.Name, Version: def.Version, Start: began, Init: init, MemoryMB: def.Config.MemoryMB,
		Cold: true, Sandbox: id, Event: event,
	}, nil, fail, c.Tail)
	f.logMoves.Lock()
	defer f.logMoves.Unlock()
	if err := f.writeLogs(log.drain(time.Now(), true)); err != nil {
		h.log.Warn("log of a function cannot be written", "function", def.Name, "error", err)
	}
	return out
}

// startBox starts a sandbox, waits until its runtime asks for work and admits it. When that fails the room is given up, and
// the box, if any, carries the log only.
func (h *Host) startBox(f *function, def *Definition, busy bool) (*box, *failure) {
	ctx, cancel := context.WithTimeout(h.ctx, h.options.InitTimeout)
	defer cancel()
	b, err := h.launch(ctx, def)
	if err != nil {
		f.giveUp(def.ArchiveSHA256)
		h.log.Warn("sandbox cannot be started", "function", def.Name, "error", err)
		return nil, &failure{kind: FailureInit, typ: "Sandbox.StartFailed", message: "the sandbox cannot be started: " + err.Error()}
	}
	var fail *failure
	select {
	case <-b.api.Ready():
	case doc := <-b.api.InitError():
		// The runtime ends by itself after this; its last words are worth a moment.
		select {
		case <-b.instance.Done():
		case <-time.After(time.Second):
		}
		fail = &failure{kind: FailureInit, typ: doc.Type, message: doc.Message, stack: doc.StackTrace}
	case <-b.instance.Done():
		fail = h.diedInInit(b)
	case <-ctx.Done():
		fail = &failure{kind: FailureInit, typ: "Sandbox.Timedout", message: fmt.Sprintf("initialization took longer than %.0f seconds", h.options.InitTimeout.Seconds())}
		if h.isClosed() {
			fail = h.stoppedInInit()
		}
	}
	if fail == nil {
		if err := b.instance.Throttle(ctx); err != nil {
			h.log.Warn("CPU share of a sandbox is not in force", "sandbox", b.id, "error", err)
		}
		b.init = time.Since(b.started)
		if f.admit(b, busy) {
			return b, nil
		}
		fail = h.stoppedInInit()
	}
	h.stopBox(b)
	f.giveUp(def.ArchiveSHA256)
	return b, fail
}

func (h *Host) stoppedInInit() *failure {
	why := "the function was deleted"
	if h.isClosed() {
		why = "the local platform is shutting down"
	}
	return &failure{kind: FailureInit, typ: "Sandbox.Stopped", message: why}
}

func (h *Host) diedInInit(b *box) *failure {
	// An error document may have arrived together with the end.
	select {
	case doc := <-b.api.InitError():
		return &failure{kind: FailureInit, typ: doc.Type, message: doc.Message, stack: doc.StackTrace}
	default:
	}
	exit := b.instance.Exit()
	if exit.OutOfMemory {
		return &failure{kind: FailureOutOfMemory, typ: "Runtime.OutOfMemory", message: fmt.Sprintf(
			"initialization used more than the function's %d MB of memory and was ended", b.memoryMB)}
	}
	return &failure{kind: FailureInit, typ: "Runtime.ExitError", message: "the runtime ended while it was initialising: " + exit.String()}
}

// launch starts the Runtime API and the sandbox.
func (h *Host) launch(ctx context.Context, def *Definition) (*box, error) {
	kind, err := h.kindNamed(def.Kind)
	if err != nil {
		return nil, err
	}
	listen, advertise, err := kind.RuntimeAPIHost(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := runtimeapi.Listen(ctx, listen)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	peer := &gate{open: make(chan struct{})}
	b := &box{
		id: id, version: def.Version, kind: def.Kind, code: def.ArchiveSHA256, memoryMB: def.Config.MemoryMB, log: newBoxLog(),
		api: runtimeapi.New(listener, peer.allows), started: time.Now(),
	}
	spec := sandbox.Spec{
		ID: id, Deployment: def.Config.Labels["deployment"], Function: def.Name, Runtime: def.Config.Runtime,
		RuntimeRoot: h.options.RuntimeRoot, Image: def.Config.Image, Env: variables(def, id),
		RuntimeAPI: advertise + ":" + strconv.Itoa(b.api.Port()), MemoryMB: def.Config.MemoryMB, Output: b.log,
		Peer: peer.set,
	}
	if def.ArchiveSHA256 != "" {
		spec.TaskRoot = h.code.path(def.ArchiveSHA256)
	}
	if !h.options.NoCPUShare {
		spec.CPUs = float64(def.Config.MemoryMB) / MemoryPerVCPU
	}
	b.instance, err = kind.Start(ctx, spec)
	peer.set(nil) // a kind that named nobody has no sandbox
	if err != nil {
		return nil, errors.Join(err, b.api.Close())
	}
	b.id = b.instance.ID()
	return b, nil
}

// gate lets one sandbox reach a Runtime API, once it is known how to tell it.
type gate struct {
	once    sync.Once
	open    chan struct{}
	allowed func(net.Conn) bool
}

func (g *gate) set(allowed func(net.Conn) bool) {
	g.once.Do(func() {
		g.allowed = allowed
		close(g.open)
	})
}

// allows waits until the sandbox is known.
func (g *gate) allows(c net.Conn) bool {
	<-g.open
	return g.allowed != nil && g.allowed(c)
}

func arn(name string) string { return "arn:aws:lambda:local:000000000000:function:" + name }

// variables is the environment of the runtime: the function's own, then what Lambda runtimes expect.
func variables(def *Definition, id string) map[string]string {
	env := map[string]string{}
	maps.Copy(env, def.Config.Environment)
	for name, value := range def.Config.Secrets {
		env[name] = value.Reveal()
	}
	version := strconv.FormatInt(def.Version, 10)
	for name, value := range map[string]string{
		"_HANDLER":                        def.Config.Handler,
		"AWS_LAMBDA_FUNCTION_NAME":        def.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(def.Config.MemoryMB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/sebs/local/" + def.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      time.Now().UTC().Format("2006/01/02") + "/[" + version + "]" + id,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_EXECUTION_ENV":               "SEBS_" + def.Config.Runtime.Language + cmp.Or(def.Config.Runtime.Version, ""),
		"PYTHONUNBUFFERED":                "1",
	} {
		env[name] = value
	}
	return env
}

// excerpt shows the beginning of a document.
func excerpt(b []byte) string {
	const limit = 120
	if len(b) > limit {
		return strconv.QuoteToASCII(string(b[:limit])) + "…"
	}
	return strconv.QuoteToASCII(string(b))
}
