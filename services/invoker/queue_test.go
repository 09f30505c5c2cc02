package invoker_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/embedded/nats"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/services/invoker"
)

func natsServer(t *testing.T) *nats.Server {
	t.Helper()
	server, err := nats.Start(t.Context(), nats.Config{Dir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.WithoutCancel(t.Context())) })
	return server
}

func connect(t *testing.T, server *nats.Server) *events.Bus {
	t.Helper()
	bus, err := events.Open(events.Config{URLs: []string{server.URL()}, Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.WithoutCancel(t.Context())) })
	return bus
}

// worker is an invoker's queue at work.
type worker struct {
	*invoker.Queue
	// stop takes no more work and waits; kill cuts the connection, as the death of the process would.
	stop, kill func()
}

const testAckWait = 600 * time.Millisecond

func work(t *testing.T, w *world, server *nats.Server) *worker {
	t.Helper()
	bus := connect(t, server)
	hard, giveUp := context.WithCancel(context.WithoutCancel(t.Context()))
	taking, stopTaking := context.WithCancel(context.WithoutCancel(t.Context()))
	queue := invoker.NewQueue(hard, w.invoker, bus, invoker.QueueOptions{AckWait: testAckWait})
	done := make(chan error, 1)
	go func() { done <- queue.Work(taking) }()
	var once sync.Once
	end := func(dead bool) {
		once.Do(func() {
			if dead {
				bus.Conn().Close()
				giveUp()
			}
			stopTaking()
			if err := <-done; err != nil {
				t.Error(err)
			}
			giveUp()
		})
	}
	t.Cleanup(func() { end(true) })
	return &worker{Queue: queue, stop: func() { end(false) }, kill: func() { end(true) }}
}

func wait(t *testing.T, queue *invoker.Queue, name string) *invokerv1.Invocation {
	t.Helper()
	got, err := queue.Get(t.Context(), name, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAQueuedInvocationIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	one, two := newWorld(t, 4), newWorld(t, 4)
	two.records = one.records
	queue := work(t, one, server)
	other := work(t, two, server)
	var names []string
	for range 20 {
		created, err := queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger, Run: "runs/a", PayloadJson: `{"a":1}`})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, created.GetName())
	}
	for _, name := range names {
		// Any invoker answers for all.
		got := wait(t, other.Queue, name)
		if got.GetState() != invokerv1.Invocation_STATE_DONE || got.GetAttempt() != 1 || got.GetRecord().GetErrorClass() != 0 ||
			got.GetRecord().GetRun() != "runs/a" || got.GetRecord().GetScheduledUnixNs() == 0 {
			t.Errorf("%s is %v", name, got)
		}
	}
	if made, published := one.requests.Load()+two.requests.Load(), len(one.results.all())+len(two.results.all()); made != 20 || published != 20 {
		t.Errorf("%d calls made, %d records published of 20", made, published)
	}
	if _, err := queue.Get(t.Context(), "invocations/none", 0); !errs.Is(err, codes.NotFound) {
		t.Errorf("an invocation that does not exist: %v", err)
	}
	if _, err := queue.Get(t.Context(), "invocations/*", 0); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestTheSameRequestIDIsTheSameInvocation(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	w := newWorld(t, 4)
	queue := work(t, w, server)
	request := &invokerv1.CreateInvocationRequest{Trigger: trigger, RequestId: "once"}
	var name string
	for range 5 {
		created, err := queue.Create(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if name != "" && created.GetName() != name {
			t.Errorf("got %s and %s", name, created.GetName())
		}
		name = created.GetName()
	}
	if got := wait(t, queue.Queue, name); got.GetState() != invokerv1.Invocation_STATE_DONE {
		t.Errorf("ended as %v", got)
	}
	queue.stop()
	if n := w.requests.Load(); n != 1 {
		t.Errorf("%d calls were made", n)
	}
}

func TestAWrongRequestIsNotQueued(t *testing.T) {
	t.Parallel()
	queue := work(t, newWorld(t, 1), natsServer(t))
	_, err := queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: "platforms/local/deployments/d/functions/g/triggers/http"})
	if !errs.Is(err, codes.NotFound) {
		t.Errorf("answered %v", err)
	}
}

func TestCancelTakesAnInvocationOutOfTheQueue(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	w := newWorld(t, 1)
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		answer(out, "r", "")
	})
	queue := work(t, w, server)
	create := func() string {
		created, err := queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger})
		if err != nil {
			t.Fatal(err)
		}
		return created.GetName()
	}
	first := create()
	<-entered
	second := create()
	cancelled, err := queue.Cancel(t.Context(), second)
	if err != nil || cancelled.GetState() != invokerv1.Invocation_STATE_CANCELLED {
		t.Errorf("cancelled: %v, %v", cancelled, err)
	}
	if again, err := queue.Cancel(t.Context(), second); err != nil || again.GetState() != invokerv1.Invocation_STATE_CANCELLED {
		t.Errorf("cancelled again: %v, %v", again, err)
	}
	if _, err := queue.Cancel(t.Context(), first); errs.Reason(err) != "INVOCATION_TAKEN" {
		t.Errorf("cancelled at work: %v", err)
	}
	if got, err := queue.Get(t.Context(), first, 10*time.Millisecond); err != nil || got.GetState() != invokerv1.Invocation_STATE_RUNNING {
		t.Errorf("at work: %v, %v", got, err)
	}
	close(release)
	if got := wait(t, queue.Queue, first); got.GetState() != invokerv1.Invocation_STATE_DONE {
		t.Errorf("ended as %v", got)
	}
	if got := wait(t, queue.Queue, create()); got.GetState() != invokerv1.Invocation_STATE_DONE {
		t.Errorf("the next one ended as %v", got)
	}
	if n := w.requests.Load(); n != 2 {
		t.Errorf("%d calls were made, the cancelled one must not be", n)
	}
}

// stuckWorld has a function whose first call never answers.
func stuckWorld(t *testing.T) (w *world, entered chan struct{}) {
	t.Helper()
	w = newWorld(t, 4)
	entered = make(chan struct{}, 10)
	w.answerWith(func(out http.ResponseWriter, in *http.Request) {
		_, _ = io.Copy(io.Discard, in.Body)
		if w.requests.Load() == 1 {
			entered <- struct{}{}
			<-in.Context().Done()
			return
		}
		answer(out, "second", "")
	})
	return w, entered
}

func TestAMeasurementWhoseInvokerDiedIsLost(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	w, entered := stuckWorld(t)
	doomed := work(t, w, server)
	created, err := doomed.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger, Run: "runs/a"})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	doomed.kill()
	survivor := newWorld(t, 4)
	survivor.records = w.records
	got := wait(t, work(t, survivor, server).Queue, created.GetName())
	if got.GetState() != invokerv1.Invocation_STATE_LOST || got.GetRecord().GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNKNOWN ||
		!strings.Contains(got.GetRecord().GetErrorMessage(), "was lost") || got.GetAttempt() != 1 {
		t.Errorf("ended as %v", got)
	}
	if all := survivor.results.all(); len(all) != 1 || all[0].GetRun() != "runs/a" || all[0].GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_UNKNOWN {
		t.Errorf("published %v", all)
	}
	if w.requests.Load()+survivor.requests.Load() != 1 {
		t.Error("a measurement was repeated")
	}
}

func TestAnInvocationWithAttemptsLeftIsRepeated(t *testing.T) {
	t.Parallel()
	server := natsServer(t)
	w, entered := stuckWorld(t)
	doomed := work(t, w, server)
	created, err := doomed.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger, MaxAttempts: 3})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	doomed.kill()
	got := wait(t, work(t, w, server).Queue, created.GetName())
	if got.GetState() != invokerv1.Invocation_STATE_DONE || got.GetAttempt() != 2 || got.GetRecord().GetAttempt() != 2 || got.GetRecord().GetResult().GetRequestId() != "second" {
		t.Errorf("ended as %v", got)
	}
}

func TestAFailedAttemptIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.answerWith(func(out http.ResponseWriter, _ *http.Request) {
		if w.requests.Load() < 3 {
			out.WriteHeader(http.StatusTooManyRequests)
			return
		}
		answer(out, "third", "")
	})
	queue := work(t, w, natsServer(t))
	created, err := queue.Create(t.Context(), &invokerv1.CreateInvocationRequest{Trigger: trigger, MaxAttempts: 3, Run: "runs/a"})
	if err != nil {
		t.Fatal(err)
	}
	got := wait(t, queue.Queue, created.GetName())
	if got.GetState() != invokerv1.Invocation_STATE_DONE || got.GetAttempt() != 3 || got.GetRecord().GetErrorClass() != 0 {
		t.Errorf("ended as %v", got)
	}
	var attempts []int32
	for _, record := range w.results.all() {
		attempts = append(attempts, record.GetAttempt())
	}
	if len(attempts) != 3 || attempts[0] != 1 || attempts[2] != 3 {
		t.Errorf("the records carry attempts %v", attempts)
	}
}
