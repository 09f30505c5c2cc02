package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sebs-suite/sebs/platform/nosql/driver"
)

func TestValuesThatCannotBeStored(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"NaN": math.NaN(), "infinity": math.Inf(-1), "channel": make(chan int), "depth": deep, "number": json.Number("1x"), "struct": struct{}{},
	} {
		if _, err := encodeItem(driver.Item{"a": v}); !errors.Is(err, errValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzValues writes any JSON object as an item and reads it back.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":[true,null,"x",{"c":-1.5e10}]}`, `{"":""}`, `{"n":12345678901234567890}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var item driver.Item
		if err := d.Decode(&item); err != nil || item == nil {
			return
		}
		m, err := encodeItem(item)
		if errors.Is(err, errValue) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeItem(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(item, back); diff != "" {
			t.Errorf("differs (-want +got):\n%s", diff)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("")
	f.Add("eyJrIjoidiJ9")
	f.Fuzz(func(t *testing.T, token string) {
		key, err := decodeToken(token)
		if err != nil || key == nil {
			return
		}
		again, err := encodeToken(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeToken(again)
		if err != nil || len(back) != len(key) {
			t.Errorf("token %q comes back with %d of %d attributes, %v", token, len(back), len(key), err)
		}
	})
}
