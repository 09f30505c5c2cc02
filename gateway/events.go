package gateway

import (
	"time"

	"google.golang.org/grpc"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/events"
)

// eventServer streams the facts on the bus to clients.
type eventServer struct {
	eventv1.UnimplementedEventServiceServer
	bus *events.Bus
}

// WatchEvents streams events until the client leaves.
func (s *eventServer) WatchEvents(r *eventv1.WatchEventsRequest, stream grpc.ServerStreamingServer[eventv1.Event]) error {
	var from time.Time
	if r.GetStartTime() != nil {
		from = r.GetStartTime().AsTime()
	}
	var filters []string
	if r.GetFilter() != "" {
		filters = []string{r.GetFilter()}
	}
	// The headers tell the client that it will miss nothing from now on.
	started := func() { _ = stream.SendHeader(nil) }
	return s.bus.Follow(stream.Context(), filters, from, started, stream.Send)
}
