package driver

import "time"

// Ability tells whether a platform can do a thing, and why not where it cannot.
type Ability struct {
	// Supported tells whether the platform can do it.
	Supported bool
	// Reason says why not; empty where it is supported.
	Reason string
}

// Yes is an ability that is there.
func Yes() Ability { return Ability{Supported: true} }

// No is an ability that is missing, with the reason.
func No(reason string) Ability { return Ability{Reason: reason} }

// Capabilities is what a platform can do.
type Capabilities struct {
	// Triggers tells for each type of trigger whether the platform has it.
	Triggers map[TriggerType]Ability
	// Runtimes lists language and version pairs that can run. Variant empty
	// stands for the default variant.
	Runtimes []Runtime
	// Architectures lists what can run, "x64" or "arm64".
	Architectures []string
	// MinMemoryMB and MaxMemoryMB bound the memory setting; 0 is unbounded.
	MinMemoryMB, MaxMemoryMB int
	// MaxTimeout bounds the timeout setting; 0 is unbounded.
	MaxTimeout time.Duration
	// MaxPayloadBytes bounds the input of a synchronous call; 0 is unbounded.
	MaxPayloadBytes int64
	// MaxCodeBytes bounds the archive; 0 is unbounded.
	MaxCodeBytes int64

	// ContainerImages tells whether a function can be a container image.
	ContainerImages Ability
	// AsyncInvoke tells whether the platform queues calls by itself.
	AsyncInvoke Ability
	// AsyncResults tells whether the outcome of a call that the platform queued can be
	// fetched; the driver is then an AsyncResulter.
	AsyncResults Ability
	// ColdStartControl tells whether cold starts can be enforced.
	ColdStartControl Ability
	// MemoryApplied tells whether the memory setting has an effect.
	MemoryApplied Ability
	// TimeoutApplied tells whether the timeout setting has an effect.
	TimeoutApplied Ability
	// Logs tells whether logs can be read.
	Logs Ability
	// InvocationMetrics tells whether records of single invocations can be read.
	InvocationMetrics Ability
	// BilledDuration tells whether records carry billed time.
	BilledDuration Ability
	// StoreHosts names for a runtime the host under which its functions reach
	// stores on this machine. A runtime without an entry uses the loopback address,
	// or stores elsewhere.
	StoreHosts map[Runtime]string
	// Notes are limits of this installation that fit none of the above, by what they
	// are about.
	Notes map[string]string
}
