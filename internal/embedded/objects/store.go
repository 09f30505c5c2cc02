package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3event"

	"github.com/sebs-suite/sebs/internal/secret"
)

// Region is the region name that the store answers to.
const Region = "us-east-1"

const (
	maxConnections = 4096
	maxRequests    = 1024
	multipartParts = 10000
	startTimeout   = 10 * time.Second
	// stopTimeout is longer than what the server gives running requests.
	stopTimeout = 12 * time.Second
)

// Event tells that an object was created: by one PUT, by a completed multipart upload, or by a copy.
type Event struct {
	Bucket    string
	Key       string
	SizeBytes int64
	ETag      string
	Time      time.Time
}

// Options configure Start. Dir is required.
type Options struct {
	// Dir holds the store's data and credentials. Only one store may use it at a time.
	Dir string
	// Hosts are the addresses to listen on, all with the same port; 127.0.0.1 when empty. The first one is the
	// address that Endpoint names.
	Hosts []string
	// OnCreated is called for every object created, from the request's goroutine: it must not block.
	OnCreated func(Event)
	// AttributesInFiles keeps the attributes of objects in files beside the data also where the file system has
	// extended attributes. A directory must always be opened in the same way.
	AttributesInFiles bool
	// Log takes messages about the store; slog.Default when nil.
	Log *slog.Logger
}

// Store is a running object store. Close it when done.
type Store struct {
	log      *slog.Logger
	accounts *accounts
	files    *files
	server   *s3api.S3ApiServer
	lock     *os.File
	hosts    []string
	port     int
	served   chan error
	closing  sync.Once
	closeErr error
}

// Start opens the directory and serves it. It returns when the store accepts requests.
func Start(ctx context.Context, opts Options) (*Store, error) {
	if opts.Dir == "" {
		return nil, errors.New("start the object store: no directory given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start the object store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the object store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, dir, opts)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return s, nil
}

func start(ctx context.Context, dir string, opts Options) (*Store, error) {
	statePath := filepath.Join(dir, "store.json")
	st, err := loadState(statePath)
	if err != nil {
		return nil, err
	}
	backend, err := openFiles(dir, opts.AttributesInFiles)
	if err != nil {
		return nil, err
	}
	s := &Store{log: opts.Log, accounts: newAccounts(st), files: backend, hosts: opts.Hosts}
	if s.log == nil {
		s.log = slog.Default()
	}
	if len(s.hosts) == 0 {
		s.hosts = []string{"127.0.0.1"}
	}
	dropped, err := dropStale(backend.root, time.Now().Add(-staleUpload))
	if err != nil || dropped > 0 {
		s.log.WarnContext(ctx, "unfinished uploads were dropped", "count", dropped, "error", err)
	}
	// The port of the last run comes first; another program may have taken it since.
	for attempt := range 8 {
		port := st.Port
		if attempt > 0 || port == 0 {
			if port, err = freePort(s.hosts[0]); err != nil {
				break
			}
		}
		err = s.serve(ctx, port, st, opts.OnCreated)
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		backend.Shutdown()
		return nil, fmt.Errorf("start the object store on %s: %w", strings.Join(s.hosts, ", "), err)
	}
	if st.Port != s.port {
		st.Port = s.port
		if err := st.save(statePath); err != nil {
			return nil, errors.Join(err, s.shutdown())
		}
	}
	s.log.DebugContext(ctx, "object store listens", "endpoint", s.Endpoint())
	return s, nil
}

// serve listens on one port of all hosts and returns when requests are accepted, or with the reason why not.
func (s *Store) serve(ctx context.Context, port int, st state, onCreated func(Event)) error {
	listening := make(chan struct{})
	var sender s3event.S3EventSender
	if onCreated != nil {
		sender = &events{created: onCreated, files: s.files}
	}
	server, err := s3api.New(s.files, middlewares.RootUserConfig{Access: st.AccessKey, Secret: st.SecretKey}, Region,
		s.accounts, nil, nil, sender, nil,
		s3api.WithConcurrencyLimiter(maxConnections, maxRequests),
		s3api.WithMpMaxParts(multipartParts),
		s3api.WithQuiet(),
		s3api.WithKeepAlive(),
		s3api.WithOnListen(func() { close(listening) }),
	)
	if err != nil {
		return err
	}
	addresses := make([]string, len(s.hosts))
	for i, h := range s.hosts {
		addresses[i] = net.JoinHostPort(h, strconv.Itoa(port))
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeMultiPort(addresses) }()
	select {
	case <-listening:
	case err := <-served:
		if err == nil {
			err = errors.New("the server ended at once")
		}
		return err
	}
	s.server, s.port, s.served = server, port, served
	// Listening is not serving yet, and a shutdown in between would be lost: an answer tells that it serves.
	if err := s.answers(ctx); err != nil {
		return errors.Join(err, s.end())
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, s.end())
	}
	return nil
}

// answers waits until the store answers a request, whatever it says.
func (s *Store) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Endpoint()+"/", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("wait for the first answer: %w", err)
	}
	return res.Body.Close()
}

// freePort asks the system for a port that is free now.
func freePort(host string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Endpoint is the store's host and port, without a scheme; requests are plain HTTP.
func (s *Store) Endpoint() string {
	return net.JoinHostPort(s.hosts[0], strconv.Itoa(s.port))
}

// Root returns the account that may do everything. It never leaves the process.
func (s *Store) Root() Account {
	return Account{AccessKey: s.accounts.root.Access, SecretKey: secret.New(s.accounts.root.Secret)}
}

// FunctionAccount returns the account of a deployment's functions. It can do nothing until a bucket's policy names
// it (FunctionPolicy).
func (s *Store) FunctionAccount(deployment string) (Account, error) {
	return s.accounts.function(deployment)
}

// Close stops listening, lets running requests end for at most ten seconds, and releases the directory.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = errors.Join(s.shutdown(), s.lock.Close()) })
	return s.closeErr
}

func (s *Store) shutdown() error {
	err := s.end()
	s.files.Shutdown()
	return err
}

// end stops serving.
func (s *Store) end() error {
	err := s.server.ShutDown()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case ended := <-s.served:
		// The listener's end, which was asked for.
		s.log.Debug("object store ended", "reason", ended)
	case <-timer.C:
		err = errors.Join(err, errors.New("it did not end in time"))
	}
	if err != nil {
		return fmt.Errorf("stop the object store: %w", err)
	}
	return nil
}

// events turns the gateway's notifications into calls.
type events struct {
	created func(Event)
	files   *files
}

// SendEvent implements s3event.S3EventSender.
func (e *events) SendEvent(ctx fiber.Ctx, m s3event.EventMeta) {
	switch m.EventName {
	case s3event.EventObjectCreatedPut, s3event.EventObjectCreatedPost, s3event.EventObjectCreatedCopy, s3event.EventCompleteMultipartUpload:
	default:
		return
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(ctx.Path(), "/"), "/")
	if !ok {
		return
	}
	// The path is decoded by now. Its bytes live in a buffer that is reused after the request.
	ev := Event{Bucket: strings.Clone(bucket), Key: strings.Clone(key), SizeBytes: m.ObjectSize, Time: time.Now()}
	if m.EventName == s3event.EventCompleteMultipartUpload {
		// The gateway does not tell the size of objects that came in parts.
		if info, err := os.Stat(filepath.Join(e.files.path(ev.Bucket), filepath.FromSlash(ev.Key))); err == nil {
			ev.SizeBytes = info.Size()
		}
	}
	if m.ObjectETag != nil {
		ev.ETag = strings.Clone(strings.Trim(*m.ObjectETag, `"`))
	}
	e.created(ev)
}

// Close implements s3event.S3EventSender.
func (e *events) Close() error { return nil }
