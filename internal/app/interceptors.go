package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/authn"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/observe"
)

// requestIDHeader carries the id of a request between services, in lower case as gRPC asks.
const requestIDHeader = "x-request-id"

// Headers that carry for whom a call between services is made.
const (
	callerHeader     = "sebs-caller"
	callerRoleHeader = "sebs-caller-role"
)

// maxRequestIDBytes bounds an id that a caller brings.
const maxRequestIDBytes = 128

// interceptor is one step around unary calls and around streams. Both are made from the same functions, so that they
// cannot differ.
type interceptor struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// around makes an interceptor of a function that runs before, around and after a call.
func around(f func(ctx context.Context, method string, stream bool, next func(context.Context) error) error) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			var answer any
			err := f(ctx, info.FullMethod, false, func(ctx context.Context) error {
				var err error
				answer, err = handler(ctx, req)
				return err
			})
			if err != nil {
				return nil, err
			}
			return answer, nil
		},
		stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return f(ss.Context(), info.FullMethod, true, func(ctx context.Context) error {
				return handler(srv, withContext(ctx, ss))
			})
		},
	}
}

// interceptors returns the chain in its order.
func (p *Process) interceptors(m *serverMetrics) []interceptor {
	return []interceptor{
		around(p.recover),
		around(p.requestID),
		around(p.logCall),
		around(m.observe),
		around(p.authenticate),
		p.validation(),
		around(p.deadline),
		around(p.convert),
	}
}

// recover turns a panic into INTERNAL, and whatever is no status yet into one.
func (p *Process) recover(ctx context.Context, method string, _ bool, next func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			p.Log.ErrorContext(ctx, "a call panicked", "method", method, "panic", r, "stack", string(debug.Stack()))
			err = errs.ToStatus(errs.Internal(fmt.Errorf("panic: %v", r))).Err()
		}
	}()
	return errs.ToStatus(next(ctx)).Err()
}

// requestID takes the caller's id or makes one, and answers with it.
func (p *Process) requestID(ctx context.Context, _ string, _ bool, next func(context.Context) error) error {
	id := ""
	if values := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(values) > 0 && plain(values[0]) {
		id = values[0]
	}
	if id == "" {
		id = uuid.NewString()
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, id)); err != nil {
		p.Log.DebugContext(ctx, "the request id cannot be answered", "error", err)
	}
	return next(observe.WithRequestID(ctx, id))
}

// plain reports whether an id is short and harmless in a log.
func plain(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	return strings.IndexFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// logCall writes one line at the end of a call.
func (p *Process) logCall(ctx context.Context, method string, _ bool, next func(context.Context) error) error {
	start := time.Now()
	err := next(ctx)
	code := errs.Code(err)
	level := callLevel(code)
	if !p.Log.Enabled(ctx, level) {
		return err
	}
	attrs := []slog.Attr{
		slog.String("method", method), slog.String("code", code.String()), slog.Duration("duration", time.Since(start)),
	}
	if err != nil {
		attrs = append(attrs, slog.String("reason", errs.Reason(err)), slog.String("error", err.Error()))
	}
	p.Log.LogAttrs(ctx, level, "call", attrs...)
	return err
}

func callLevel(code codes.Code) slog.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return slog.LevelDebug
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return slog.LevelError
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// serverMetrics counts calls; rejected ones too.
type serverMetrics struct {
	handled *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newServerMetrics(r prometheus.Registerer) (*serverMetrics, error) {
	m := &serverMetrics{
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sebs_grpc_server_handled_total", Help: "Calls that ended, by method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sebs_grpc_server_handling_seconds", Help: "Time that calls took, by method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method"}),
	}
	for _, c := range []prometheus.Collector{m.handled, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *serverMetrics) observe(ctx context.Context, method string, _ bool, next func(context.Context) error) error {
	start := time.Now()
	err := next(ctx)
	m.handled.WithLabelValues(method, errs.Code(err).String()).Inc()
	m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	return err
}

// authenticate finds out who calls and whether they may.
func (p *Process) authenticate(ctx context.Context, method string, _ bool, next func(context.Context) error) error {
	if p.Policies.For(method).Role == typev1.Role_ROLE_UNSPECIFIED {
		return next(ctx)
	}
	caller, err := p.Authn.GRPC(ctx)
	if err != nil {
		return err
	}
	if err := p.Policies.Authorize(caller, method); err != nil {
		return err
	}
	return next(authn.WithPrincipal(ctx, behalf(ctx, caller)))
}

// behalf returns for whom another process of the suite makes a call. It is for telling who, not for deciding what: the role
// was checked where the request came in.
func behalf(ctx context.Context, caller authn.Principal) authn.Principal {
	identity := metadata.ValueFromIncomingContext(ctx, callerHeader)
	role := metadata.ValueFromIncomingContext(ctx, callerRoleHeader)
	if caller.Role < typev1.Role_ROLE_ADMIN || strings.HasPrefix(caller.Identity, "tokens/") || len(identity) == 0 || len(role) == 0 || !plain(identity[0]) {
		return caller
	}
	return authn.Principal{Identity: identity[0], Role: typev1.Role(typev1.Role_value[role[0]])}
}

// validation checks every message of a caller against the rules of its type.
func (p *Process) validation() interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := validate(p.validator, req); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		},
		stream: func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &validatingStream{ServerStream: ss, validator: p.validator})
		},
	}
}

type validatingStream struct {
	grpc.ServerStream
	validator protovalidate.Validator
}

// RecvMsg reads a message and checks it.
func (s *validatingStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return validate(s.validator, m)
}

func validate(v protovalidate.Validator, m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	err := v.Validate(message)
	if err == nil {
		return nil
	}
	var found *protovalidate.ValidationError
	if !errors.As(err, &found) {
		return errs.Internal(fmt.Errorf("validate %s: %w", message.ProtoReflect().Descriptor().FullName(), err))
	}
	problems := make([]error, len(found.Violations))
	for i, violation := range found.Violations {
		problems[i] = errs.Field(protovalidate.FieldPathString(violation.Proto.GetField()), "%s", explain(violation))
	}
	return errs.Fields(problems...)
}

// forms say in words what the patterns of names mean.
var forms = map[string]string{
	"^[A-Za-z0-9._-]+$": "letters, digits, dots, dashes and underscores",
}

// maxShownValue bounds what an error repeats of a wrong value.
const maxShownValue = 100

// explain tells what is wrong with a field, with its value where that is a number or a name.
func explain(violation *protovalidate.Violation) string {
	text := violation.Proto.GetMessage()
	if text == "" {
		text = "does not satisfy " + violation.Proto.GetRuleId()
	}
	if !violation.FieldValue.IsValid() {
		return text
	}
	switch value := violation.FieldValue.Interface().(type) {
	case string:
		// Other texts than names are not repeated: there may be a secret among them.
		if violation.Proto.GetRuleId() == "string.pattern" && violation.RuleValue.IsValid() {
			if form, known := forms[violation.RuleValue.String()]; known && len(value) <= maxShownValue {
				return fmt.Sprintf("%q is not valid; use %s", value, form)
			}
		}
	case int32, int64, uint32, uint64, float32, float64:
		return fmt.Sprintf("is %v; it %s", value, text)
	}
	return text
}

// deadline gives a call the deadline of its method's policy where the caller set none, and ends streams when the process
// does.
func (p *Process) deadline(ctx context.Context, method string, stream bool, next func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Policies.For(method).Deadline(stream))
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.lame, func() { cancel(errStopping) })()
	err := next(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

// convert turns errors into statuses and logs what clients are not told.
func (p *Process) convert(ctx context.Context, method string, _ bool, next func(context.Context) error) error {
	err := next(ctx)
	if err == nil {
		return nil
	}
	st := errs.ToStatus(err)
	if st.Code() == codes.Internal || err.Error() != st.Message() {
		level := slog.LevelDebug
		if st.Code() == codes.Internal {
			level = slog.LevelError
		}
		p.Log.LogAttrs(ctx, level, "cause of a failed call", slog.String("method", method), slog.String("error", err.Error()))
	}
	if st.Code() == codes.Internal {
		return errs.ToStatus(named(err, observe.RequestID(ctx))).Err()
	}
	return st.Err()
}

// named adds the request id to an internal error, so that its cause is found in the log.
func named(err error, id string) error {
	var classified *errs.Error
	if !errors.As(err, &classified) {
		classified = errs.Internal(err)
	}
	if errs.Metadata(classified, "request_id") != "" {
		return err
	}
	return classified.With("request_id", id)
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // gRPC hands the context of a stream to its handler this way.
}

// Context returns the context.
func (s *contextStream) Context() context.Context { return s.ctx }

func withContext(ctx context.Context, ss grpc.ServerStream) grpc.ServerStream {
	return &contextStream{ServerStream: ss, ctx: ctx}
}
