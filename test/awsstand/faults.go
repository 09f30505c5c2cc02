package awsstand

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Faults scripts what goes wrong, or merely takes its time, as it does on AWS. The zero value is a good day: functions are
// pending for one poll.
type Faults struct {
	// PendingPolls is how many polls (GetFunction, GetFunctionConfiguration) see a function that was created as Pending, or
	// one that was updated as InProgress; 0 means 1, less than 0 none.
	PendingPolls int
	// HiddenPolls is how many polls after its creation do not find a function yet.
	HiddenPolls int
	// RoleRefusals is how many creations of functions with a role are refused before Lambda can assume the role.
	RoleRefusals int
	// Throttles refuse requests.
	Throttles []Throttle
	// LogDelay is how long log lines take until CloudWatch Logs shows them.
	LogDelay time.Duration
	// InsightsPolls is how many polls see a Logs Insights query Running.
	InsightsPolls int
	// TokenLife is how long tokens for the registry are good; 0 means 12 h.
	TokenLife time.Duration
}

// Throttle refuses requests as AWS does when there are too many.
type Throttle struct {
	// Service is a name such as lambda or iam; empty means all.
	Service string
	// Operations are names such as CreateFunction; none means all.
	Operations []string
	// Every refuses each request whose number is divisible by it; 0 refuses none.
	Every int
	// Rate is how many requests per second are let through, Burst how many at once; Rate 0 lets all through.
	Rate  float64
	Burst int
	// RetryAfter is told to the client; 0 tells nothing.
	RetryAfter time.Duration
}

// script is the state of the faults.
type script struct {
	mu     sync.Mutex
	faults Faults
	roles  map[string]int
	gates  []gate
}

// gate counts for one throttle.
type gate struct {
	seen   int
	tokens float64
	last   time.Time
}

func newScript(f Faults) *script {
	s := &script{}
	s.set(f)
	return s
}

func (s *script) set(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.roles, s.gates = f, make(map[string]int), make([]gate, len(f.Throttles))
	for i, t := range f.Throttles {
		s.gates[i] = gate{tokens: float64(max(t.Burst, 1)), last: time.Now()}
	}
}

func (s *script) get() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// refusesRole counts an attempt to create a function with a role.
func (s *script) refusesRole(role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[role]++
	return s.roles[role] <= s.faults.RoleRefusals
}

// throttles counts a request; the first throttle that refuses it is returned.
func (s *script) throttles(service, operation string) *Throttle {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults.Throttles {
		t, g := &s.faults.Throttles[i], &s.gates[i]
		if (t.Service != "" && t.Service != service) || (len(t.Operations) > 0 && !slices.Contains(t.Operations, operation)) {
			continue
		}
		g.seen++
		if t.Every > 0 && g.seen%t.Every == 0 {
			return t
		}
		if t.Rate <= 0 {
			continue
		}
		now := time.Now()
		g.tokens = math.Min(float64(max(t.Burst, 1)), g.tokens+t.Rate*now.Sub(g.last).Seconds())
		g.last = now
		if g.tokens < 1 {
			return t
		}
		g.tokens--
	}
	return nil
}

// SetFaults scripts anew what goes wrong from now on.
func (s *Stand) SetFaults(f Faults) { s.script.set(f) }

// Call is a request that the stand took.
type Call struct {
	Time time.Time
	// Service and Operation are AWS's names, such as lambda and CreateFunction; of S3 it is the method and the first
	// sub-resource, such as "PUT ?notification".
	Service, Operation string
	// Status is the HTTP status of the answer, and Code the code of the error that the stand refused with, if it did.
	Status int
	Code   string
	// AccessKey signed it.
	AccessKey string
}

// journal remembers calls.
type journal struct {
	mu    sync.Mutex
	calls []Call
}

func (j *journal) add(c Call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, c)
}

// Calls lists the requests taken so far, in the order in which they ended.
func (s *Stand) Calls() []Call {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return slices.Clone(s.calls.calls)
}

// Count is how many requests for an operation were taken, refused ones included.
func (s *Stand) Count(service, operation string) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Service == service && c.Operation == operation {
			n++
		}
	}
	return n
}
