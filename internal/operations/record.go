package operations

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sebs-suite/sebs/internal/errs"
)

// namePrefix stands in front of the id in the name of an operation.
const namePrefix = "operations/"

// record is what etcd holds of an operation under operations/<id>.
type record struct {
	Name     string `json:"name"`
	Service  string `json:"service"`
	Kind     string `json:"kind"`
	Done     bool   `json:"done"`
	Metadata value  `json:"metadata,omitzero"`
	Response value  `json:"response,omitzero"`
	Error    value  `json:"error,omitzero"`
	// Request lets another process take the operation up. It is gone when the operation is done.
	Request     value     `json:"request,omitzero"`
	RequestID   string    `json:"request_id,omitempty"`
	RequestHash string    `json:"request_hash,omitempty"`
	Owner       string    `json:"owner,omitempty"`
	Attempt     int       `json:"attempt"`
	Created     time.Time `json:"created"`
	Ended       time.Time `json:"ended,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
}

// operation returns the record as clients see it.
func (r *record) operation() (*longrunningpb.Operation, error) {
	op := &longrunningpb.Operation{Name: r.Name, Done: r.Done}
	var err error
	if op.Metadata, err = r.Metadata.any(); err != nil {
		return nil, fmt.Errorf("read metadata of %s: %w", r.Name, err)
	}
	if !r.Done {
		return op, nil
	}
	if !r.Error.empty() {
		packed, err := r.Error.any()
		if err != nil {
			return nil, fmt.Errorf("read error of %s: %w", r.Name, err)
		}
		status := &spb.Status{}
		if err := packed.UnmarshalTo(status); err != nil {
			return nil, errs.DataLoss("OPERATION_MALFORMED", "the error of %s is not readable: %v", r.Name, err)
		}
		op.Result = &longrunningpb.Operation_Error{Error: status}
		return op, nil
	}
	response, err := r.Response.any()
	if err != nil {
		return nil, fmt.Errorf("read response of %s: %w", r.Name, err)
	}
	op.Result = &longrunningpb.Operation_Response{Response: response}
	return op, nil
}

func decode(raw []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, errs.DataLoss("OPERATION_MALFORMED", "the record of an operation is not readable: %v", err)
	}
	return r, nil
}

// value is a protobuf message of any type in its JSON form. Where the type is not linked into this process, its bytes are
// carried along unchanged.
type value struct {
	raw json.RawMessage
}

// opaque is the form of a message whose type this process does not know.
type opaque struct {
	Type  string `json:"@type"`
	Bytes []byte `json:"@bytes"`
}

func pack(m proto.Message) (value, error) {
	if m == nil {
		return value{}, nil
	}
	packed, ok := m.(*anypb.Any)
	if !ok {
		var err error
		if packed, err = anypb.New(m); err != nil {
			return value{}, errs.Internal(fmt.Errorf("pack %s: %w", m.ProtoReflect().Descriptor().FullName(), err))
		}
	}
	raw, err := protojson.Marshal(packed)
	if err != nil {
		raw, err = json.Marshal(opaque{Type: packed.GetTypeUrl(), Bytes: packed.GetValue()})
	}
	if err != nil {
		return value{}, errs.Internal(err)
	}
	return value{raw: raw}, nil
}

func (v value) any() (*anypb.Any, error) {
	if v.empty() {
		return nil, nil
	}
	var kept opaque
	if err := json.Unmarshal(v.raw, &kept); err == nil && kept.Bytes != nil {
		return &anypb.Any{TypeUrl: kept.Type, Value: kept.Bytes}, nil
	}
	packed := &anypb.Any{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(v.raw, packed); err != nil {
		return nil, errs.DataLoss("OPERATION_MALFORMED", "a stored message is not readable: %v", err)
	}
	return packed, nil
}

func (v value) empty() bool {
	return len(v.raw) == 0 || string(v.raw) == "null"
}

// IsZero lets encoding/json leave an empty value out.
func (v value) IsZero() bool { return v.empty() }

// MarshalJSON writes the message's JSON form.
func (v value) MarshalJSON() ([]byte, error) {
	if v.empty() {
		return []byte("null"), nil
	}
	return v.raw, nil
}

// UnmarshalJSON keeps the JSON form for later.
func (v *value) UnmarshalJSON(raw []byte) error {
	v.raw = append(json.RawMessage(nil), raw...)
	return nil
}

// ServiceOf returns the service that owns an operation of the given name, such as "builder" for
// "operations/builder-0198…", or "" for a name that is none.
func ServiceOf(name string) string {
	id, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return ""
	}
	service, rest, ok := strings.Cut(id, "-")
	if !ok || service == "" || rest == "" || strings.ContainsAny(id, "/\x00\n") {
		return ""
	}
	return service
}

func checkName(name string) error {
	if ServiceOf(name) == "" {
		return errs.Fields(errs.Field("name", "%q is no operation; it has to be operations/<service>-<id>", name))
	}
	return nil
}
