package tables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

// startTimeout bounds the wait for the server to answer.
const startTimeout = 30 * time.Second

// stopTimeout is how long the server may take to end before it is killed.
const stopTimeout = 5 * time.Second

// Options configure Start. Dir is required.
type Options struct {
	// Dir holds the installation and the tables.
	Dir string
	// Log takes messages about the store; slog.Default when nil.
	Log *slog.Logger
}

// Store is a running table store. Close it when done.
type Store struct {
	endpoint string
	cmd      *exec.Cmd
	output   *locked
	ended    chan struct{}
	failure  error // why the server ended; set before ended is closed
	closing  sync.Once
	closeErr error
}

// Used tells whether a store was ever started in a directory, that is, whether tables can exist there.
func Used(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "data"))
	return err == nil
}

// Start installs the server where it is missing, starts it and returns when it answers. The server lives until Close,
// and no longer than this process.
func Start(ctx context.Context, opts Options) (*Store, error) {
	log := opts.Log
	if log == nil {
		log = slog.Default()
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the table store: %w", err)
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the table store: %w", err)
	}
	began := time.Now()
	installed, err := install(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("start the table store: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("start the table store: %w", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, Available()
	}
	s := &Store{
		endpoint: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		cmd: exec.Command(node, filepath.Join(installed, program), "--host", "127.0.0.1", "--port", strconv.Itoa(port),
			"--path", data, "--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0"),
		output: &locked{},
		ended:  make(chan struct{}),
	}
	s.cmd.Dir, s.cmd.Env = dir, environment()
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	ownGroup(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the table store: %w", err)
	}
	go func() {
		err := s.cmd.Wait()
		s.failure = errors.Join(errEnded, err)
		close(s.ended)
	}()
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	log.DebugContext(ctx, "table store listens", "endpoint", s.endpoint, "start_ms", time.Since(began).Milliseconds())
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// ready asks the server until it answers as a DynamoDB API does.
func (s *Store) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.answers(ctx, client) {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return errs.Unavailable("TABLE_STORE_START", "the table store ended while it started (%v); its last lines: %s", s.failure, s.output.String())
		case <-ctx.Done():
			return errs.Unavailable("TABLE_STORE_START", "the table store does not answer on %s: %v; its last lines: %s", s.endpoint, ctx.Err(), s.output.String())
		}
	}
}

func (s *Store) answers(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.endpoint+"/", strings.NewReader("{}"))
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	// Whatever it says to a request without a target: an answer with this header is one of the API.
	return errors.Join(err, res.Body.Close()) == nil && res.Header.Get("X-Amzn-Requestid") != ""
}

// Endpoint is the store's host and port on loopback, without a scheme; requests are plain HTTP.
func (s *Store) Endpoint() string { return s.endpoint }

// Running tells whether the server still runs; once it has ended, start another one.
func (s *Store) Running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Close asks the server to end, kills it when it does not, and waits for it.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.stop() })
	return s.closeErr
}

func (s *Store) stop() error {
	if !s.Running() {
		return nil
	}
	if err := terminate(s.cmd); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(fmt.Errorf("stop the table store: %w", err), s.kill())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.ended:
		return nil
	case <-timer.C:
		return s.kill()
	}
}

func (s *Store) kill() error {
	if err := killGroup(s.cmd); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the table store: %w", err)
	}
	<-s.ended
	return nil
}

// locked is a tail that several goroutines use.
type locked struct {
	mu   sync.Mutex
	tail tail
}

// Write implements io.Writer.
func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail.Write(p)
}

// String returns the last lines.
func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail.String()
}
