package operations

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sebs-suite/sebs/internal/errs"
)

func TestRecordsSurviveTheirStore(t *testing.T) {
	t.Parallel()
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.This", Value: []byte{1, 2, 3}}
	for name, m := range map[string]proto.Message{"known": wrapperspb.String("x"), "unknown": unknown} {
		packed, err := pack(m)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(&record{Name: "operations/builder-1", Metadata: packed, Done: true, Response: packed, Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		op, err := back.operation()
		if err != nil {
			t.Fatal(err)
		}
		want := unknown
		if name == "known" {
			if want, err = anypb.New(m); err != nil {
				t.Fatal(err)
			}
		}
		if !proto.Equal(op.GetMetadata(), want) || !proto.Equal(op.GetResponse(), want) {
			t.Errorf("%s: %v came back as %v", name, want, op)
		}
	}
	for _, raw := range []string{"", "{", `{"name":1}`} {
		if _, err := decode([]byte(raw)); !errs.Is(err, codes.DataLoss) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	broken, err := decode([]byte(`{"name":"operations/a-1","metadata":{"@type":5}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.operation(); !errs.Is(err, codes.DataLoss) {
		t.Errorf("metadata that is none: %v", err)
	}
}

func TestServiceOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"operations/builder-0198": "builder", "operations/builder-": "", "operations/-1": "", "operations/builder": "", "builder-1": "",
		"operations/a/b-1": "", "": "", "operations/": "",
	} {
		if got := ServiceOf(name); got != want {
			t.Errorf("ServiceOf(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("done=true AND kind=build AND service=builder")
	f.Add(" AND ")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilter(text)
		if err != nil && !errs.Is(err, codes.InvalidArgument) {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && got.done != nil && !got.matches(&record{Done: *got.done, Kind: got.kind}) {
			t.Errorf("%q does not match what it asks for", text)
		}
	})
}
