package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"google.golang.org/grpc"
)

// State is the outside world of a command.
type State struct {
	// Args are the arguments without the program's name.
	Args []string
	// Getenv reads an environment variable.
	Getenv func(string) string
	// Stdin, Stdout and Stderr are the streams. Data goes to Stdout, progress and errors to Stderr.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal tells whether Stderr is a terminal.
	Terminal bool
	// StartSuite starts every service in this process.
	StartSuite func(ctx context.Context, options SuiteOptions) (Suite, error)
	// Executable is the path of this program, to start it again in the background.
	Executable string
}

// SuiteOptions tell how an embedded suite is started.
type SuiteOptions struct {
	// StateDir is where all data of the suite lies.
	StateDir string
	// Listen is the address of the gateway; empty means a free port on the loopback address.
	Listen string
	// ConfigFile is a configuration file of the services; empty means none.
	ConfigFile string
	// BenchmarksDirs and BenchmarksDataDirs are searched before the shipped catalogue.
	BenchmarksDirs, BenchmarksDataDirs []string
	// Settings are settings of the services' configuration, in the form path=value.
	Settings []string
	// Sandbox is `auto`, `docker` or `process`.
	Sandbox string
	// NoEgress keeps functions from reaching beyond this machine.
	NoEgress bool
	// LogWriter receives the services' logs.
	LogWriter io.Writer
	// Verbose logs more.
	Verbose bool
}

// Suite is a running embedded suite.
type Suite interface {
	// Conn returns a connection to its services.
	Conn() grpc.ClientConnInterface
	// Address returns the address of its gateway, host:port.
	Address() string
	// Failed is closed when a service ended by itself; Err then tells why.
	Failed() <-chan struct{}
	// Err tells why the suite ended by itself.
	Err() error
	// Close stops every service and waits for them.
	Close(ctx context.Context) error
}

// shutdownTimeout bounds the end of an embedded suite; it is longer than the sum of the services' own steps.
const shutdownTimeout = 45 * time.Second

// defaultStateDir returns where the suite keeps its data when no flag says otherwise.
func (s *State) defaultStateDir() string {
	if dir := s.Getenv("SEBS_STATE_DIR"); dir != "" {
		return dir
	}
	if dir := s.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "sebs")
	}
	if runtime.GOOS == "windows" {
		if dir := s.Getenv("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "sebs")
		}
	}
	if home := s.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "sebs")
	}
	return filepath.Join(os.TempDir(), "sebs")
}
