// Package call makes single invocations of functions and turns what came of each into a record.
//
// A [Caller] speaks one kind of trigger: HTTP, the platform's own API (library), or an object in a bucket (storage). It
// never fails: whatever happens stands in the [Outcome], and [Record] makes the sebs.type.v1.InvocationRecord of it. What
// is recorded as a duration comes from the monotonic clock. Which function may be called, how many at once, and where
// records go is the matter of package invoker.
package call

import (
	"context"
	"time"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// DefaultMaxAnswerBytes bounds an answer where nothing else is configured.
const DefaultMaxAnswerBytes = 64 << 20

// Target is a recorded trigger and the function that it belongs to.
type Target struct {
	// Function is the function's resource name.
	Function string
	// FunctionID is the function's name on the platform.
	FunctionID string
	// Platform and Deployment are the parts of the resource name, such as "local" and "sebs-1a2b3c4d".
	Platform, Deployment string
	// Scope says as whom and where the deployment's platform is called.
	Scope driver.Scope
	// Timeout is the function's own time limit, 0 where the record names none.
	Timeout time.Duration
	// Trigger is the recorded trigger.
	Trigger *typev1.Trigger
}

// Input is what one call sends.
type Input struct {
	// ID is unique among all calls; storage triggers name their objects by it.
	ID string
	// Payload is the event as JSON.
	Payload []byte
	// Timeout bounds the whole call.
	Timeout time.Duration
	// Reuse keeps the connection for the next call.
	Reuse bool
	// Async has the platform queue the call, and its result fetched from there; library triggers only.
	Async bool
}

// Outcome is what came of one call.
type Outcome struct {
	// Begin and End carry monotonic readings.
	Begin, End time.Time
	// Startup is the time until the request could be sent, and FirstByte the time until the answer began; nil where the
	// trigger knows neither.
	Startup, FirstByte *time.Duration
	// HTTPStatus is 0 where there was none.
	HTTPStatus int
	// Answer is what the function answered.
	Answer []byte
	// RequestID is the platform's name of the invocation, where it says one.
	RequestID string
	// Cold tells that the platform says so itself; a function's own answer counts more.
	Cold bool
	// Class and Message tell a failure. Class is unspecified when the call gave an answer; a message is a remark on it then.
	Class   typev1.ErrorClass
	Message string
	// Provider is what the platform measured; nil where it does not say at once.
	Provider *driver.InvocationRecord
}

// fail sets class and message, and the end of the call where it is not known yet.
func (o Outcome) fail(class typev1.ErrorClass, message string) Outcome {
	if o.End.IsZero() {
		o.End = time.Now()
	}
	o.Class, o.Message = class, message
	return o
}

// Caller makes calls over one kind of trigger. It is safe for concurrent use.
type Caller interface {
	// Call makes one call and returns what came of it, when it is over or ctx or the input's time is.
	Call(ctx context.Context, target Target, input Input) Outcome
}
