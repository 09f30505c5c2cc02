package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// bareHost is the least Runtime API host that there can be: one sandbox, no routing, limits or accounting.
type bareHost struct {
	address string
	server  *http.Server
	served  chan error
	events  chan []byte
	answers chan []byte
	command *exec.Cmd
}

func newBare(listen string) (*bareHost, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	h := &bareHost{address: listener.Addr().String(), served: make(chan error, 1), events: make(chan []byte), answers: make(chan []byte, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case event := <-h.events:
			header := w.Header()
			header.Set("Content-Type", "application/json")
			header.Set("Lambda-Runtime-Aws-Request-Id", "00000000-0000-4000-8000-000000000000")
			header.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
			_, _ = w.Write(event)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		if !strings.HasSuffix(r.URL.Path, "/response") {
			body = append([]byte("error: "), body...)
		}
		h.answers <- body
	})
	h.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { h.served <- h.server.Serve(listener) }()
	return h, nil
}

// startBare runs the echo benchmark's bootstrap as a plain process.
func (b *bench) startBare(ctx context.Context) (*bareHost, error) {
	code, boot, err := b.layOut(ctx)
	if err != nil {
		return nil, err
	}
	h, err := newBare("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h.command = exec.CommandContext(ctx, "python3", boot)
	h.command.Dir = code
	h.command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "AWS_LAMBDA_RUNTIME_API=" + h.address, "_HANDLER=handler.handler", "LAMBDA_TASK_ROOT=" + code,
		"AWS_LAMBDA_FUNCTION_NAME=bench",
	}
	if err := h.command.Start(); err != nil {
		return nil, errors.Join(err, h.server.Close())
	}
	return h, nil
}

func (h *bareHost) invoke(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case h.events <- payload:
	case <-ctx.Done():
		return fmt.Errorf("the runtime does not ask for work: %w", ctx.Err())
	}
	select {
	case answer := <-h.answers:
		if strings.HasPrefix(string(answer), "error: ") {
			return errors.New(string(answer))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the runtime does not answer: %w", ctx.Err())
	}
}

// stop ends the host, and with it the bootstrap, which leaves when nobody answers its request for work. It waits for
// that, so that the end of one measurement does not disturb the next.
func (h *bareHost) stop() {
	_ = h.server.Close()
	if err := <-h.served; !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "bench: the bare host ended:", err)
	}
	if h.command == nil || h.command.Process == nil {
		return
	}
	kill := time.AfterFunc(10*time.Second, func() { _ = h.command.Process.Kill() })
	defer kill.Stop()
	_ = h.command.Wait()
}
