package etcd

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge returns a logger for etcd that hands warnings and errors to log. While the member closes there is nothing to tell:
// it then reports its own closed listeners as errors.
func bridge(log *slog.Logger, closing *atomic.Bool) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return zap.New(&core{log: log.With("component", "etcd"), closing: closing})
}

// expected are warnings about what is so by choice, or passes on its own when a member starts for the first time.
func expected(message string) bool {
	switch message {
	case "Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed",
		"Failed to detect schema version",
		"failed to update storage version":
		return true
	}
	return false
}

// core writes entries of zap to slog.
type core struct {
	log     *slog.Logger
	fields  []zapcore.Field
	closing *atomic.Bool
}

// Enabled keeps etcd's many informational lines out.
func (c *core) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel && !c.closing.Load()
}

// With returns a core that adds fields to every entry.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	all := append(append([]zapcore.Field(nil), c.fields...), fields...)
	return &core{log: c.log, fields: all, closing: c.closing}
}

// Check adds the core to an entry that it wants.
func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) && !expected(entry.Message) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write hands one entry on.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(values)
	}
	for _, f := range fields {
		f.AddTo(values)
	}
	level := slog.LevelWarn
	if entry.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	attrs := make([]slog.Attr, 0, len(values.Fields))
	for key, value := range values.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	c.log.LogAttrs(context.Background(), level, "etcd reports", append(attrs, slog.String("message", entry.Message))...)
	return nil
}

// Sync has nothing to flush.
func (c *core) Sync() error {
	return nil
}
