package gateway

import (
	"context"
	"fmt"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
)

// lineMarshaler writes one line per message of a stream, and files as they are: the delimiter of grpc-gateway would
// come between the parts of a file too.
type lineMarshaler struct {
	*runtime.HTTPBodyMarshaler
}

func newMarshaler() *lineMarshaler {
	return &lineMarshaler{&runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{},
	}}}
}

// Marshal encodes an answer. Messages of a stream, and the error that ends one, come in a map.
func (m *lineMarshaler) Marshal(v any) ([]byte, error) {
	raw, err := m.HTTPBodyMarshaler.Marshal(v)
	switch v.(type) {
	case map[string]any, map[string]proto.Message:
		raw = append(raw, '\n')
	}
	return raw, err
}

// Delimiter is empty: Marshal ends the lines.
func (m *lineMarshaler) Delimiter() []byte { return nil }

// openStream sends the headers of a stream of events before its first one, so that the client knows from when on it
// misses nothing. A stream that failed at once has no headers of the service; its status is still to be decided.
func openStream(ctx context.Context, w http.ResponseWriter, message proto.Message) error {
	method, _ := runtime.RPCMethod(ctx)
	facts, ok := runtime.ServerMetadataFromContext(ctx)
	if message != nil || method != eventv1.EventService_WatchEvents_FullMethodName || !ok || len(facts.HeaderMD) == 0 {
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	if err := http.NewResponseController(w).Flush(); err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	return nil
}
