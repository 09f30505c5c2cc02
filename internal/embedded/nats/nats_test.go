package nats_test

import (
	"context"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/secret"
)

func TestKeepsMessagesOverRestart(t *testing.T) {
	t.Parallel()
	cfg := nats.Config{Dir: t.TempDir()}
	first := start(t, cfg)
	conn := connect(t, natsgo.DefaultURL, first.InProcess())
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.a", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg)
	js, err = jetstream.New(connect(t, second.URL()))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), "s.a")
	if err != nil || string(msg.Data) != "hello" {
		t.Errorf("after a restart: %v, %v", msg, err)
	}
}

func TestAsksForTheToken(t *testing.T) {
	t.Parallel()
	server := start(t, nats.Config{Dir: t.TempDir(), Token: secret.New("right")})
	if conn, err := natsgo.Connect(server.URL(), natsgo.Token("wrong")); err == nil {
		conn.Close()
		t.Error("a wrong token connects")
	}
	connect(t, server.URL(), natsgo.Token("right"))
}

func TestRefusesToListenBeyondLoopback(t *testing.T) {
	t.Parallel()
	_, err := nats.Start(t.Context(), nats.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("listening on 0.0.0.0: %v", err)
	}
}

func start(t *testing.T, cfg nats.Config) *nats.Server {
	t.Helper()
	server, err := nats.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

func connect(t *testing.T, url string, opts ...natsgo.Option) *natsgo.Conn {
	t.Helper()
	conn, err := natsgo.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}
