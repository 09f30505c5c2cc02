// Package events carries facts, work and results between services over NATS JetStream.
//
// Facts are published with [Bus.Publish] below sebs.v1.events. in the envelope sebs.event.v1.Event, whose fields are those
// of a CloudEvent, and are kept for a limited time. Work queues and result streams are made with [Bus.EnsureStream] and
// [Bus.EnsureQueue]; what goes through them is the caller's matter. Nothing here waits for ever: a bus that is down
// answers UNAVAILABLE within the publish timeout. Payloads of more than 256 KiB travel by reference to the object store,
// which is the caller's matter too.
package events

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
)

// Names of the stream of facts.
const (
	// SubjectPrefix stands in front of the subject of every event.
	SubjectPrefix = "sebs.v1.events."
	// Stream is the stream that keeps the events.
	Stream = "SEBS_V1_EVENTS"
	// typePrefix stands in front of the type of every event.
	typePrefix = "sebs.v1."
)

// Reasons of the errors of this package.
const (
	ReasonUnavailable = "EVENTS_UNAVAILABLE"
	ReasonTooLarge    = "EVENT_TOO_LARGE"
	ReasonBadSubject  = "EVENTS_BAD_SUBJECT"
)

// Defaults of [Config].
const (
	DefaultMaxAge         = 7 * 24 * time.Hour
	DefaultMaxBytes       = 256 << 20
	DefaultPublishTimeout = 5 * time.Second
	duplicateWindow       = 2 * time.Minute
)

// Config says how to reach NATS and how much to keep.
type Config struct {
	// URLs are addresses such as nats://127.0.0.1:4222.
	URLs []string
	// Source names this process in its events, such as "sebs-builder".
	Source string
	// TLS is used for tls addresses; nil means the defaults of NATS.
	TLS *tls.Config
	// Token or CredentialsFile log in where the server asks for it.
	Token           secret.String
	CredentialsFile string
	// Options are further options of the connection, such as an in-process server.
	Options []nats.Option
	// MaxAge and MaxBytes limit the stream of events; the oldest go first.
	MaxAge   time.Duration
	MaxBytes int64
	// Replicas of every stream: the size of the NATS cluster, 1 to 5.
	Replicas int
	// PublishTimeout bounds a publish whose context has no earlier deadline.
	PublishTimeout time.Duration
	// Log receives what happens to the connection. Default: slog.DiscardHandler.
	Log *slog.Logger
}

func (c *Config) complete() error {
	if len(c.URLs) == 0 && len(c.Options) == 0 {
		return errors.New("open events: no NATS address; set nats.urls")
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Replicas <= 0 {
		c.Replicas = 1
	}
	if c.PublishTimeout <= 0 {
		c.PublishTimeout = DefaultPublishTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Bus is a connection to NATS JetStream. It is safe for concurrent use and reconnects on its own.
type Bus struct {
	cfg  Config
	conn *nats.Conn
	js   jetstream.JetStream
}

// Open connects in the background: a server that is away does not fail it. Call [Bus.Prepare] before the first use.
func Open(cfg Config) (*Bus, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	conn, err := nats.Connect(strings.Join(cfg.URLs, ","), connectOptions(cfg)...)
	if err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open events: %w", err)
	}
	return &Bus{cfg: cfg, conn: conn, js: js}, nil
}

func connectOptions(cfg Config) []nats.Option {
	opts := []nats.Option{
		nats.Name(cfg.Source),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.Timeout(3 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				cfg.Log.Warn("lost the connection to NATS; trying again", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { cfg.Log.Info("connected to NATS again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			cfg.Log.Warn("NATS reports an error", "error", err)
		}),
	}
	if cfg.TLS != nil {
		opts = append(opts, nats.Secure(cfg.TLS))
	}
	if !cfg.Token.Empty() {
		opts = append(opts, nats.Token(cfg.Token.Reveal()))
	}
	if cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredentialsFile))
	}
	return append(opts, cfg.Options...)
}

// Prepare makes the stream of events. It is to be called once at start; calling it again does no harm.
func (b *Bus) Prepare(ctx context.Context) error {
	_, err := b.EnsureStream(ctx, jetstream.StreamConfig{
		Name:        Stream,
		Description: "facts about what happens in the suite",
		Subjects:    []string{SubjectPrefix + ">"},
		MaxAge:      b.cfg.MaxAge,
		MaxBytes:    b.cfg.MaxBytes,
		Discard:     jetstream.DiscardOld,
		AllowDirect: true,
	})
	return err
}

// EnsureStream creates or updates a stream. Replicas, storage, and the window of de-duplication take the suite's defaults
// where they are not set. Streams without a limit of size or age are refused: nothing may fill a disk without end.
func (b *Bus) EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	if cfg.MaxBytes <= 0 && cfg.MaxAge <= 0 {
		return nil, errs.Internal(fmt.Errorf("stream %s has neither MaxBytes nor MaxAge", cfg.Name))
	}
	cfg.Storage = jetstream.FileStorage
	if cfg.Replicas <= 0 {
		cfg.Replicas = b.cfg.Replicas
	}
	if cfg.Duplicates <= 0 {
		cfg.Duplicates = duplicateWindow
		if cfg.MaxAge > 0 {
			cfg.Duplicates = min(cfg.Duplicates, cfg.MaxAge)
		}
	}
	ctx, cancel := b.bound(ctx)
	defer cancel()
	stream, err := b.js.CreateOrUpdateStream(ctx, cfg)
	if err != nil {
		return nil, classify("create stream "+cfg.Name, err)
	}
	return stream, nil
}

// EnsureQueue creates or updates a work queue: every message goes to one worker and is gone when it was acknowledged. A
// full queue refuses new work.
func (b *Bus) EnsureQueue(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	cfg.Retention = jetstream.WorkQueuePolicy
	cfg.Discard = jetstream.DiscardNew
	return b.EnsureStream(ctx, cfg)
}

// PublishOption adds to an event.
type PublishOption func(*eventv1.Event)

// About names the resource that the event is about, such as "platforms/local/deployments/x/functions/y".
func About(resource string) PublishOption {
	return func(e *eventv1.Event) { e.Subject = resource }
}

// Publish tells a fact. The subject is "<service>.<event>", such as "builder.package_built". Events of the same msgID
// within two minutes are one event; an empty msgID makes a new one. It returns when JetStream has stored the event.
func (b *Bus) Publish(ctx context.Context, subject string, m proto.Message, msgID string, opts ...PublishOption) error {
	service, _, ok := strings.Cut(subject, ".")
	if !ok || strings.ContainsAny(subject, "*> \t\r\n") {
		return errs.InvalidArgument(ReasonBadSubject, "publish %q: the subject has to be <service>.<event>", subject)
	}
	if msgID == "" {
		msgID = uuid.NewString()
	}
	data, err := anypb.New(m)
	if err != nil {
		return errs.Internal(fmt.Errorf("publish %s: %w", subject, err))
	}
	event := &eventv1.Event{
		Id:     msgID,
		Source: "/sebs/" + service,
		Type:   typePrefix + subject,
		Time:   timestamppb.Now(),
		Data:   data,
	}
	for _, opt := range opts {
		opt(event)
	}
	msg := nats.NewMsg(SubjectPrefix + subject)
	Inject(ctx, msg.Header)
	event.Traceparent = msg.Header.Get("traceparent")
	if msg.Data, err = proto.Marshal(event); err != nil {
		return errs.Internal(fmt.Errorf("publish %s: %w", subject, err))
	}
	return b.PublishMsg(ctx, msg, msgID)
}

// PublishMsg stores a message in the stream that its subject belongs to, once for a msgID within the stream's window.
func (b *Bus) PublishMsg(ctx context.Context, msg *nats.Msg, msgID string) error {
	if limit := b.conn.MaxPayload(); limit > 0 && int64(len(msg.Data)) > limit {
		return errs.InvalidArgument(ReasonTooLarge,
			"publish %s: %d bytes are more than the %d that the bus takes; pass large data by reference to the object store",
			msg.Subject, len(msg.Data), limit)
	}
	ctx, cancel := b.bound(ctx)
	defer cancel()
	opts := []jetstream.PublishOpt{}
	if msgID != "" {
		opts = append(opts, jetstream.WithMsgID(msgID))
	}
	_, err := b.js.PublishMsg(ctx, msg, opts...)
	return classify("publish "+msg.Subject, err)
}

// JetStream returns the interface of JetStream for work queues and result streams.
func (b *Bus) JetStream() jetstream.JetStream {
	return b.js
}

// Conn returns the connection.
func (b *Bus) Conn() *nats.Conn {
	return b.conn
}

// Ping reports whether JetStream answers.
func (b *Bus) Ping(ctx context.Context) error {
	ctx, cancel := b.bound(ctx)
	defer cancel()
	if b.conn.Status() != nats.CONNECTED {
		return classify("ask NATS", nats.ErrDisconnected)
	}
	_, err := b.js.AccountInfo(ctx)
	return classify("ask NATS", err)
}

// Close sends what is buffered and closes the connection.
func (b *Bus) Close(ctx context.Context) error {
	var err error
	if b.conn.IsConnected() {
		if _, bounded := ctx.Deadline(); !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, b.cfg.PublishTimeout)
			defer cancel()
		}
		err = b.conn.FlushWithContext(ctx)
	}
	b.conn.Close()
	if err != nil {
		return fmt.Errorf("close events: %w", err)
	}
	return nil
}

// bound sets the publish timeout where ctx has no earlier deadline.
func (b *Bus) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.cfg.PublishTimeout)
}

// Inject writes the trace of ctx into the headers of a message.
func Inject(ctx context.Context, header nats.Header) {
	propagation.TraceContext{}.Inject(ctx, carrier(header))
}

// Extract returns ctx with the trace that the headers of a message name.
func Extract(ctx context.Context, header nats.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier(header))
}

// carrier gives OpenTelemetry access to headers without changing the case of their names.
type carrier nats.Header

// Get returns a header.
func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }

// Set sets a header.
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

// Keys returns the names of all headers.
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// classify turns an error of NATS into one with a category.
func classify(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		return errs.NotFound("EVENTS_STREAM_NOT_FOUND", "%s: no such stream or consumer", op).Wrap(err)
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		if slices.Contains([]jetstream.ErrorCode{errCodeStorageFull, errCodeMemoryFull, errCodeStoreFailed}, api.ErrorCode) {
			return errs.ResourceExhausted(0, "EVENTS_FULL",
				"%s: JetStream has no room left; free disk space or raise its limits", op).Wrap(err)
		}
		if api.Code < 500 {
			return errs.Internal(fmt.Errorf("%s: %w", op, err))
		}
	}
	return errs.Unavailable(ReasonUnavailable,
		"%s: the event bus (NATS JetStream) does not answer; look whether it runs and whether nats.urls is right", op).Wrap(err)
}

// Codes of JetStream that say that there is no room left.
const (
	errCodeStorageFull jetstream.ErrorCode = 10047
	errCodeMemoryFull  jetstream.ErrorCode = 10028
	errCodeStoreFailed jetstream.ErrorCode = 10077
)
