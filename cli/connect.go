package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sebs-suite/sebs/cli/display"
	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/statedir"
	"github.com/sebs-suite/sebs/internal/version"
)

// maxMessageBytes is the size of one gRPC message; larger content is streamed.
const maxMessageBytes = 16 << 20

// session is a connection to a suite, its own or somebody else's.
type session struct {
	conn     grpc.ClientConnInterface
	embedded Suite
	address  string
	close    func(ctx context.Context) error
}

// connectOptions tell what an embedded suite needs to know of the command.
type connectOptions struct {
	benchmarksDirs, dataDirs []string
	noEgress                 bool
	verbose                  bool
	logFile                  string
	// settings are further settings of the services' configuration, in the form path=value.
	settings []string
	// credentials are those of the configuration file.
	credentials []inlineCredential
}

// connect reaches the suite: the server that is named, else the one that runs on the state directory, else one that
// lives as long as the command.
func (a *app) connect(ctx context.Context, show *display.Display, options connectOptions) (*session, error) {
	if a.flags.server != "" {
		if err := refuseCredentials(options, "the one at "+a.flags.server); err != nil {
			return nil, err
		}
		noteSettings(show, options)
		return a.dial(a.flags.server)
	}
	stateDir, err := filepath.Abs(a.flags.stateDir)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--state-dir: %w", err))
	}
	owner, owned, err := statedir.Own(stateDir)
	if err != nil {
		return nil, err
	}
	if !owned {
		if err := refuseCredentials(options, "the one that runs on "+stateDir); err != nil {
			return nil, err
		}
		noteSettings(show, options)
		return a.join(ctx, show, stateDir)
	}
	return a.start(ctx, show, owner, stateDir, options)
}

// noteSettings tells that stores named by files do not reach a suite that runs already.
func noteSettings(show *display.Display, options connectOptions) {
	if len(options.settings) > 0 {
		show.Note("sebs: the stores in the configuration are not used: the running suite has its own")
	}
}

// join uses the suite that another process runs on the state directory.
func (a *app) join(ctx context.Context, show *display.Display, stateDir string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	member, info, err := statedir.Join(ctx, stateDir)
	if err != nil {
		return nil, exitcode.With(exitcode.Unavailable, fmt.Errorf("another process owns the state directory: %w", err))
	}
	if info.Version != version.Get().Version {
		return nil, errors.Join(exitcode.With(exitcode.Precondition, fmt.Errorf(
			"the suite on %s is version %s and this is %s; stop process %d or use another --state-dir",
			stateDir, info.Version, version.Get().Version, info.PID)), member.Leave())
	}
	show.Note("sebs: joined the suite of process %d at %s", info.PID, info.Address)
	s, err := a.dial("http://" + info.Address)
	if err != nil {
		return nil, errors.Join(err, member.Leave())
	}
	closeConn := s.close
	s.close = func(ctx context.Context) error { return errors.Join(closeConn(ctx), member.Leave()) }
	return s, nil
}

// start runs a suite in this process until the session is closed and nobody else has joined it.
func (a *app) start(ctx context.Context, show *display.Display, owner *statedir.Owner, stateDir string, options connectOptions) (*session, error) {
	logs, closeLogs, err := openLog(filepath.Join(stateDir, "logs"), options.logFile)
	if err != nil {
		return nil, errors.Join(err, owner.Release())
	}
	suite, err := a.StartSuite(ctx, SuiteOptions{
		StateDir: stateDir, ConfigFile: a.flags.configFile, BenchmarksDirs: options.benchmarksDirs,
		BenchmarksDataDirs: options.dataDirs, Sandbox: a.flags.sandbox, NoEgress: options.noEgress,
		LogWriter: logs, Verbose: options.verbose, Settings: append(slices.Clone(options.settings), options.credentialSettings()...),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a suite for this command: %w", err), closeLogs(), owner.Release())
	}
	err = owner.Publish(statedir.Info{
		PID: os.Getpid(), Address: suite.Address(), Version: version.Get().Version, StartTime: time.Now(),
	})
	if err != nil {
		return nil, errors.Join(err, suite.Close(ctx), closeLogs(), owner.Release())
	}
	show.Note("sebs: no running suite; started one for this command (state in %s)", stateDir)
	return &session{
		conn: suite.Conn(), embedded: suite, address: suite.Address(),
		close: func(closeCtx context.Context) error {
			if joined, err := owner.HasClients(); err == nil && joined && ctx.Err() == nil {
				show.Note("sebs: other commands use this suite; waiting for them (interrupt to stop now)")
				_ = owner.WaitForClients(ctx)
			}
			bounded, cancel := context.WithTimeout(context.WithoutCancel(closeCtx), shutdownTimeout)
			defer cancel()
			return errors.Join(suite.Close(bounded), closeLogs(), owner.Release())
		},
	}, nil
}

// dial connects to a server by its URL; https means TLS.
func (a *app) dial(server string) (*session, error) {
	target, transport, err := a.transport(server)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	token := a.flags.token
	if token == "" {
		token = a.Getenv("SEBS_TOKEN")
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("sebs-cli/"+version.Get().Version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithChainUnaryInterceptor(unaryCall(token)),
		grpc.WithChainStreamInterceptor(streamCall(token)),
	)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("--server %q: %w", server, err))
	}
	return &session{conn: conn, address: target, close: func(context.Context) error { return conn.Close() }}, nil
}

func (a *app) transport(server string) (string, credentials.TransportCredentials, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", nil, fmt.Errorf("--server %q: want a URL such as http://127.0.0.1:8080 or https://sebs.example.org", server)
	}
	host, port := u.Hostname(), u.Port()
	if u.Scheme == "http" {
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", nil, fmt.Errorf("--server %q: without TLS only this machine is reached; use https", server)
		}
		if port == "" {
			port = "80"
		}
		return net.JoinHostPort(host, port), insecure.NewCredentials(), nil
	}
	if port == "" {
		port = "443"
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.flags.caFile != "" {
		pem, err := os.ReadFile(a.flags.caFile)
		if err != nil {
			return "", nil, fmt.Errorf("--ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return "", nil, fmt.Errorf("--ca-file %s: no certificate in PEM form found", a.flags.caFile)
		}
	}
	return net.JoinHostPort(host, port), credentials.NewTLS(config), nil
}

func unaryCall(token string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return errs.FromStatus(invoke(withToken(ctx, token), method, req, reply, cc, opts...))
	}
}

func streamCall(token string) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		stream, err := open(withToken(ctx, token), desc, cc, method, opts...)
		if err != nil {
			return nil, errs.FromStatus(err)
		}
		return &clientStream{stream}, nil
	}
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// clientStream turns the errors of a stream back into the suite's own.
type clientStream struct{ grpc.ClientStream }

// RecvMsg receives one message; io.EOF tells the end.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return errs.FromStatus(err)
}

// openLog opens the file that takes the services' logs, so that they do not mix with the command's own output.
func openLog(dir, name string) (io.Writer, func() error, error) {
	if name == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("create log directory: %w", err)
		}
		name = filepath.Join(dir, "suite.log")
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open log file: %w", err)
	}
	return file, file.Close, nil
}
