// Package sandbox describes the isolated environments that functions of the local platform run in.
//
// A sandbox runs one language runtime, which fetches its work from a Runtime API endpoint. The sub-packages
// provide the kinds: process (an interpreter of this machine) and docker (a container).
package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
)

// Spec says what to start.
type Spec struct {
	// ID names the sandbox; unique over the life of the state directory, safe as a file name.
	ID string
	// Deployment and Function label the sandbox, so that it is found again after a crash.
	Deployment string
	Function   string
	// Runtime is the language and version that the code was built for.
	Runtime Runtime
	// TaskRoot is the directory on this machine that holds the unpacked code package. Sandboxes only read it.
	TaskRoot string
	// RuntimeRoot is the directory on this machine that holds the bootstrap files, one folder per language.
	RuntimeRoot string
	// Image is a container image with an entry point of its own; empty when the code is a package.
	Image string
	// Env is the complete set of variables for the runtime, without those that the kind itself decides
	// (PATH, HOME, TMPDIR, LAMBDA_TASK_ROOT, AWS_LAMBDA_RUNTIME_API).
	Env map[string]string
	// RuntimeAPI is host:port of the Runtime API as seen from inside the sandbox.
	RuntimeAPI string
	// Peer is called once with what tells connections of the sandbox to its Runtime API from those of others; connections
	// wait for it.
	Peer func(allowed func(net.Conn) bool)
	// MemoryMB limits the memory of the whole sandbox.
	MemoryMB int
	// CPUs is the share of processor time in vCPUs granted once the runtime has initialised; 0 is no limit.
	CPUs float64
	// Output receives what the runtime prints (standard output and error, interleaved).
	Output Output
}

// Output takes what a runtime prints. Its methods must not block for long.
type Output interface {
	io.Writer
	// Cut tells that everything printed before a call of [Instance.EndOutput] has been written; there is one Cut for each
	// such call, in their order.
	Cut()
}

// Instance is a running sandbox.
type Instance interface {
	// ID is the identity of the sandbox: Spec.ID for processes, the container id for docker.
	ID() string
	// Done is closed when the runtime has ended and its output has been delivered.
	Done() <-chan struct{}
	// Exit tells how the runtime ended; valid after Done is closed.
	Exit() Exit
	// Throttle applies Spec.CPUs. It is called once initialisation is over, because initialisation runs unthrottled.
	Throttle(ctx context.Context) error
	// MemoryUsed reads how many bytes the sandbox holds now.
	MemoryUsed(ctx context.Context) (int64, error)
	// MemoryPeak is the most that the sandbox has held since it was started, in bytes, as far as it has been observed.
	// It is cheap: it is asked after every invocation.
	MemoryPeak() int64
	// EndOutput draws a line under what the runtime has printed so far: once all of it has been written, the output is cut, and
	// the channel closed. A nil channel means that this is done already. A sandbox that ends delivers its output before Done.
	EndOutput() <-chan struct{}
	// Kill ends everything that runs in the sandbox, waits for its end and removes what it left on the machine.
	// It may be called more than once.
	Kill(ctx context.Context) error
}

// Exit is how a runtime ended.
type Exit struct {
	// Code is the exit status; -1 when a signal ended the runtime.
	Code int
	// Signal names the signal, for example "killed"; empty when the runtime exited by itself.
	Signal string
	// OutOfMemory is true when the memory limit ended the runtime.
	OutOfMemory bool
}

// String describes the end as the operating system would.
func (e Exit) String() string {
	switch {
	case e.OutOfMemory:
		return "out of memory"
	case e.Signal != "":
		return "signal: " + e.Signal
	default:
		return fmt.Sprintf("exit status %d", e.Code)
	}
}

// Runtime is a language with its version, for example python 3.12 or nodejs 20.
type Runtime struct {
	Language string
	Version  string
}

// String renders the runtime as "python 3.12".
func (r Runtime) String() string { return strings.TrimSpace(r.Language + " " + r.Version) }

// Offer is a runtime that a kind can run, and what provides it: an interpreter's path or an image's name.
type Offer struct {
	Runtime
	Provider string
}

// Capabilities says what a kind enforces. An empty string means enforced; otherwise the text is the reason why not.
type Capabilities struct {
	MemoryLimit       string
	CPULimit          string
	PrivateFileSystem string
	UnprivilegedUser  string
	SecurityBoundary  string
	NoEgress          string
}

// Missing lists what is not enforced, as "name: reason", sorted.
func (c Capabilities) Missing() []string {
	var out []string
	for name, reason := range map[string]string{
		"memory limit": c.MemoryLimit, "CPU limit": c.CPULimit, "private file system": c.PrivateFileSystem,
		"unprivileged user": c.UnprivilegedUser, "security boundary": c.SecurityBoundary, "egress control": c.NoEgress,
	} {
		if reason != "" {
			out = append(out, name+": "+reason)
		}
	}
	sort.Strings(out)
	return out
}
