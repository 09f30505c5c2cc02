// Package eventserver serves sebs.event.v1: the stream of events for clients.
package eventserver

import (
	"context"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
)

// Setup serves events in a process; one of them has to, which is the gateway's as a rule.
func Setup(_ context.Context, p *app.Process) error {
	s := &server{bus: p.Events}
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) { eventv1.RegisterEventServiceServer(r, s) })
	return nil
}

type server struct {
	eventv1.UnimplementedEventServiceServer
	bus *events.Bus
}

// validFilter is a subject of NATS: words between dots, * for a word, > for the rest.
var validFilter = regexp.MustCompile(`^([a-z0-9_-]+|\*)(\.([a-z0-9_-]+|\*))*(\.>)?$|^>$`)

// WatchEvents streams events until the client has enough. The headers come when nothing can be missed any more.
func (s *server) WatchEvents(req *eventv1.WatchEventsRequest, stream grpc.ServerStreamingServer[eventv1.Event]) error {
	var filters []string
	if f := req.GetFilter(); f != "" {
		if !validFilter.MatchString(f) {
			return errs.Fields(errs.Field("filter", "%q has to be words between dots, with * for one word and > for the rest, such as deployer.>", f))
		}
		filters = append(filters, f)
	}
	var from time.Time
	if start := req.GetStartTime(); start != nil {
		if err := start.CheckValid(); err != nil {
			return errs.Fields(errs.Field("start_time", "is no time: %v", err))
		}
		from = start.AsTime()
	}
	var headers error
	err := s.bus.Follow(stream.Context(), filters, from, func() { headers = stream.SendHeader(metadata.MD{}) }, func(e *eventv1.Event) error {
		if headers != nil {
			return headers
		}
		return stream.Send(e)
	})
	return err
}
