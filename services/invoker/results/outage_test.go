package results_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/resultstream"
)

// stored counts the records in the stream, each batch once.
func stored(t *testing.T, bus *events.Bus) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stream, err := bus.JetStream().Stream(ctx, resultstream.Name)
	if err != nil {
		return 0
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0
	}
	count := 0
	for sequence := info.State.FirstSeq; sequence > 0 && sequence <= info.State.LastSeq; sequence++ {
		msg, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			return 0
		}
		count += len(decode(t, msg.Data).GetRecords())
	}
	return count
}

func TestNothingIsLostWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	config := nats.Config{Dir: t.TempDir(), SyncInterval: time.Minute}
	server, err := nats.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	url := server.URL()
	bus, err := events.Open(events.Config{URLs: []string{url}, Source: "test", PublishTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	dir := t.TempDir()
	p := open(t, bus, dir)
	run(t, p)
	add(p, "runs/a", 0, 300)
	if err := p.Flush(t.Context(), "runs/a"); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(p, "runs/a", 300, 300)
	if err := p.Flush(t.Context(), "runs/a"); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.batch")); err != nil || len(left) == 0 {
		t.Errorf("nothing waits in the spool: %v", err)
	}
	config.Listen = strings.TrimPrefix(url, "nats://")
	if server, err = nats.Start(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	eventually(t, "all records stored once", func() bool { return stored(t, bus) == 600 })
}

func TestAStreamThatWasDeletedIsMadeAgain(t *testing.T) {
	t.Parallel()
	server, err := nats.Start(t.Context(), nats.Config{Dir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	bus, err := events.Open(events.Config{URLs: []string{server.URL()}, Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	p := open(t, bus, t.TempDir())
	for range 2 {
		add(p, "runs/a", 0, 5)
		if err := p.Flush(t.Context(), "runs/a"); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, bus); got != 5 {
			t.Errorf("%d records are stored", got)
		}
		if err := bus.JetStream().DeleteStream(t.Context(), resultstream.Name); err != nil {
			t.Fatal(err)
		}
	}
}
