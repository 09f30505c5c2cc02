package eventserver_test

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/events/eventserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

func TestWatchEvents(t *testing.T) {
	t.Parallel()
	r := apptest.Start(t, eventserver.Setup)
	client := eventv1.NewEventServiceClient(r.Conn("event"))
	stream, err := client.WatchEvents(t.Context(), &eventv1.WatchEventsRequest{Filter: "builder.>"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	before := timestamppb.Now()
	publish := func(subject, id string) {
		t.Helper()
		if err := r.Events.Publish(t.Context(), subject, &eventv1.PackageBuilt{Package: "packages/x"}, id, events.About("packages/x")); err != nil {
			t.Fatal(err)
		}
	}
	publish("deployer.function_created", "1")
	publish("builder.package_built", "2")
	got, err := stream.Recv()
	if err != nil || got.GetId() != "2" || got.GetType() != "sebs.v1.builder.package_built" || got.GetSubject() != "packages/x" {
		t.Errorf("received %v, %v", got, err)
	}
	past, err := client.WatchEvents(t.Context(), &eventv1.WatchEventsRequest{StartTime: before})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1", "2"} {
		if got, err := past.Recv(); err != nil || got.GetId() != want {
			t.Errorf("from the past: %v, %v; want %s", got, err, want)
		}
	}
	bad, err := client.WatchEvents(t.Context(), &eventv1.WatchEventsRequest{Filter: "a b"})
	if err == nil {
		_, err = bad.Recv()
	}
	if !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("a bad filter: %v", err)
	}
}
