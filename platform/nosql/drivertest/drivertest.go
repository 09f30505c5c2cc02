// Package drivertest is the conformance suite of table store drivers.
package drivertest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/driver"
)

// Case names one test of the suite, for Except.
type Case string

// The cases of the suite.
const (
	TableLifecycle Case = "table lifecycle"
	RoundTrip      Case = "round trip"
	SingleKey      Case = "single key"
	Replace        Case = "replace"
	UpdateItem     Case = "update item"
	DeleteItem     Case = "delete item"
	QueryPaging    Case = "query paging"
	ClearTable     Case = "clear table"
	MissingThings  Case = "missing things"
	BadInput       Case = "bad input"
	ListPaging     Case = "list paging"
	CancelledCall  Case = "cancelled call"
	Parallel       Case = "parallel"
)

// Except lists cases that a store is known not to pass, with the reason.
type Except map[Case]string

// Run runs the suite on drivers that open makes. Every case has tables of its own.
func Run(t *testing.T, open func(t *testing.T) driver.Store, except Except) {
	cases := []struct {
		name Case
		run  func(*testing.T, *nosql.Store, string)
	}{
		{TableLifecycle, tableLifecycle},
		{RoundTrip, roundTrip},
		{SingleKey, singleKey},
		{Replace, replace},
		{UpdateItem, updateItem},
		{DeleteItem, deleteItem},
		{QueryPaging, queryPaging},
		{ClearTable, clearTable},
		{MissingThings, missingThings},
		{BadInput, badInput},
		{ListPaging, listPaging},
		{CancelledCall, cancelledCall},
		{Parallel, parallel},
	}
	for i, c := range cases {
		t.Run(string(c.name), func(t *testing.T) {
			if reason, ok := except[c.name]; ok {
				t.Skip("known difference: " + reason)
			}
			store := nosql.New(open(t))
			t.Cleanup(func() { _ = store.Close() })
			c.run(t, store, fmt.Sprintf("sebs-suite-%02d-%08x", i, rand.Uint32()))
		})
	}
}

func create(t *testing.T, s *nosql.Store, table, secondary string) {
	t.Helper()
	if _, err := s.CreateTable(t.Context(), nosql.Schema{Table: table, Primary: "pk", Secondary: secondary}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.DeleteTable(context.WithoutCancel(t.Context()), table); err != nil && !errs.Is(err, codes.NotFound) {
			t.Errorf("delete table: %v", err)
		}
	})
}

func keys(p, s string) []nosql.Key {
	return []nosql.Key{{Name: "pk", Value: p}, {Name: "sk", Value: s}}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if err == nil || errs.Code(err) != want {
		t.Errorf("%s: got error %v (%v), want %v", what, errs.Code(err), err, want)
	}
}

func put(t *testing.T, s *nosql.Store, table string, k []nosql.Key, data nosql.Item) {
	t.Helper()
	if err := s.Put(t.Context(), table, k, data); err != nil {
		t.Fatal(err)
	}
}

func tableLifecycle(t *testing.T, s *nosql.Store, table string) {
	ctx := t.Context()
	schema := nosql.Schema{Table: table, Primary: "pk", Secondary: "sk"}
	for i, want := range []bool{true, false} {
		created, err := s.CreateTable(ctx, schema, nil)
		if err != nil || created != want {
			t.Fatalf("create call %d: created=%v, %v; want %v", i+1, created, err, want)
		}
	}
	_, err := s.CreateTable(ctx, nosql.Schema{Table: table, Primary: "other"}, nil)
	wantCode(t, "create with other keys", err, codes.FailedPrecondition)
	have, err := s.DescribeTable(ctx, table)
	if err != nil || have != schema {
		t.Errorf("described as %+v, %v; want %+v", have, err, schema)
	}
	names, err := s.ListTables(ctx, table)
	if err != nil || len(names) != 1 || names[0] != table {
		t.Errorf("listed %v, %v", names, err)
	}
	if err := s.DeleteTable(ctx, table); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "delete again", s.DeleteTable(ctx, table), codes.NotFound)
	if names, err := s.ListTables(ctx, table); err != nil || len(names) != 0 {
		t.Errorf("after deletion listed %v, %v", names, err)
	}
}

func roundTrip(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	data := nosql.Item{
		"text": "ä\n\"", "empty": "", "whole": json.Number("42"), "big": json.Number("12345678901234567890123456789012345678"),
		"fraction": json.Number("-0.125"), "yes": true, "no": false, "nothing": nil, "bytes": []byte{0, 255},
		"list": []any{json.Number("1"), "two", []any{}}, "map": map[string]any{"a": map[string]any{"b": nil}},
	}
	put(t, s, table, keys("p", "s"), data)
	back, err := s.Get(t.Context(), table, keys("p", "s"))
	if err != nil {
		t.Fatal(err)
	}
	data["pk"], data["sk"] = "p", "s"
	if diff := cmp.Diff(data, back); diff != "" {
		t.Errorf("item differs (-want +got):\n%s", diff)
	}
	// Go numbers, as they come from messages.
	put(t, s, table, keys("p", "go"), nosql.Item{"f": 1.5, "i": 7, "l": int64(-8), "w": 3.0})
	back, err = s.Get(t.Context(), table, keys("p", "go"))
	if err != nil {
		t.Fatal(err)
	}
	want := nosql.Item{"pk": "p", "sk": "go", "f": json.Number("1.5"), "i": json.Number("7"), "l": json.Number("-8"), "w": json.Number("3")}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("numbers differ (-want +got):\n%s", diff)
	}
}

func singleKey(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "")
	key := []nosql.Key{{Name: "pk", Value: "only"}}
	put(t, s, table, key, nosql.Item{"v": "x"})
	back, err := s.Get(t.Context(), table, key)
	if err != nil || back["v"] != "x" {
		t.Errorf("got %v, %v", back, err)
	}
	all, err := s.QueryAll(t.Context(), table, key[0])
	if err != nil || len(all) != 1 {
		t.Errorf("queried %v, %v", all, err)
	}
	if n, err := s.ClearTable(t.Context(), table); err != nil || n != 1 {
		t.Errorf("cleared %d, %v", n, err)
	}
}

func replace(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	put(t, s, table, keys("p", "s"), nosql.Item{"a": "1", "b": "2"})
	put(t, s, table, keys("p", "s"), nosql.Item{"a": "3"})
	back, err := s.Get(t.Context(), table, keys("p", "s"))
	if err != nil || back["a"] != "3" || back["b"] != nil {
		t.Errorf("got %v, %v; want only a=3", back, err)
	}
}

func updateItem(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	put(t, s, table, keys("p", "s"), nosql.Item{"a": "1", "name": "reserved words are fine", "size": "2"})
	if err := s.Update(t.Context(), table, keys("p", "s"), nosql.Item{"a": "new", "name": "changed", "odd attribute-name": true}); err != nil {
		t.Fatal(err)
	}
	back, err := s.Get(t.Context(), table, keys("p", "s"))
	if err != nil || back["a"] != "new" || back["name"] != "changed" || back["size"] != "2" || back["odd attribute-name"] != true {
		t.Errorf("got %v, %v", back, err)
	}
	if err := s.Update(t.Context(), table, keys("p", "made"), nosql.Item{"a": "1"}); err != nil {
		t.Errorf("update of an item that is not there: %v", err)
	}
	wantCode(t, "update of a key", s.Update(t.Context(), table, keys("p", "s"), nosql.Item{"pk": "q"}), codes.InvalidArgument)
}

func deleteItem(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	put(t, s, table, keys("p", "s"), nil)
	for range 2 {
		if err := s.Delete(t.Context(), table, keys("p", "s")); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Get(t.Context(), table, keys("p", "s"))
	wantCode(t, "get after delete", err, codes.NotFound)
}

func queryPaging(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	for i := range 30 {
		put(t, s, table, keys("p", fmt.Sprintf("%03d", i)), nosql.Item{"i": i})
		put(t, s, table, keys("other", fmt.Sprintf("%03d", i)), nil)
	}
	for _, limit := range []int{1, 7, 30, 1000} {
		token, n := "", 0
		for {
			page, next, err := s.Query(t.Context(), table, nosql.Key{Name: "pk", Value: "p"}, token, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("limit %d: page of %d", limit, len(page))
			}
			for _, item := range page {
				if want := fmt.Sprintf("%03d", n); item["sk"] != want || item["pk"] != "p" {
					t.Fatalf("limit %d: item %d is %v", limit, n, item)
				}
				n++
			}
			if next == "" {
				break
			}
			token = next
		}
		if n != 30 {
			t.Errorf("limit %d: %d items", limit, n)
		}
	}
	_, _, err := s.Query(t.Context(), table, nosql.Key{Name: "pk", Value: "p"}, "not a token", 10)
	wantCode(t, "query with a foreign token", err, codes.InvalidArgument)
	if items, err := s.QueryAll(t.Context(), table, nosql.Key{Name: "pk", Value: "none"}); err != nil || len(items) != 0 {
		t.Errorf("query of an empty partition: %v, %v", items, err)
	}
}

func clearTable(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	for i := range 130 {
		put(t, s, table, keys(fmt.Sprint(i%4), fmt.Sprint(i)), nosql.Item{"fill": strings.Repeat("x", 1000)})
	}
	for _, want := range []int64{130, 0} {
		if n, err := s.ClearTable(t.Context(), table); err != nil || n != want {
			t.Errorf("cleared %d, %v; want %d", n, err, want)
		}
	}
	if have, err := s.DescribeTable(t.Context(), table); err != nil || have.Secondary != "sk" {
		t.Errorf("after clearing: %+v, %v", have, err)
	}
}

func missingThings(t *testing.T, s *nosql.Store, table string) {
	ctx := t.Context()
	_, err := s.Get(ctx, table, keys("p", "s"))
	wantCode(t, "get from a missing table", err, codes.NotFound)
	if r := errs.Reason(err); r != "TABLE_NOT_FOUND" {
		t.Errorf("reason %q, want TABLE_NOT_FOUND", r)
	}
	wantCode(t, "put into a missing table", s.Put(ctx, table, keys("p", "s"), nil), codes.NotFound)
	_, err = s.ClearTable(ctx, table)
	wantCode(t, "clear a missing table", err, codes.NotFound)
	create(t, s, table, "sk")
	_, err = s.Get(ctx, table, keys("p", "s"))
	wantCode(t, "get a missing item", err, codes.NotFound)
	if r := errs.Reason(err); r != "ITEM_NOT_FOUND" {
		t.Errorf("reason %q, want ITEM_NOT_FOUND", r)
	}
}

func badInput(t *testing.T, s *nosql.Store, table string) {
	ctx := t.Context()
	create(t, s, table, "sk")
	wantCode(t, "no keys", s.Put(ctx, table, nil, nil), codes.InvalidArgument)
	wantCode(t, "empty key value", s.Put(ctx, table, keys("", "s"), nil), codes.InvalidArgument)
	wantCode(t, "a key of another name", s.Put(ctx, table, []nosql.Key{{Name: "wrong", Value: "p"}}, nil), codes.InvalidArgument)
	wantCode(t, "a secondary key is missing", s.Put(ctx, table, keys("p", "s")[:1], nil), codes.InvalidArgument)
	wantCode(t, "table name", s.Put(ctx, "no/table", keys("p", "s"), nil), codes.InvalidArgument)
	wantCode(t, "a value without a form", s.Put(ctx, table, keys("p", "s"), nosql.Item{"f": make(chan int)}), codes.InvalidArgument)
	_, err := s.CreateTable(ctx, nosql.Schema{Table: table + "-same", Primary: "k", Secondary: "k"}, nil)
	wantCode(t, "equal keys", err, codes.InvalidArgument)
}

func listPaging(t *testing.T, s *nosql.Store, table string) {
	// More than one page of the API, which has 100 names.
	const n = 105
	for i := range n {
		name := fmt.Sprintf("%s-%03d", table, i)
		if _, err := s.CreateTable(t.Context(), nosql.Schema{Table: name, Primary: "pk"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.ListTables(t.Context(), table+"-")
	if err != nil || len(names) != n {
		t.Errorf("listed %d, %v; want %d", len(names), err, n)
	}
	for _, name := range names {
		if err := s.DeleteTable(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

func cancelledCall(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, "put", s.Put(ctx, table, keys("p", "s"), nil), codes.Canceled)
	_, err := s.ListTables(ctx, "")
	wantCode(t, "list", err, codes.Canceled)
}

func parallel(t *testing.T, s *nosql.Store, table string) {
	create(t, s, table, "sk")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := s.Put(t.Context(), table, keys("p", fmt.Sprint(i)), nosql.Item{"i": i}); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if all, err := s.QueryAll(t.Context(), table, nosql.Key{Name: "pk", Value: "p"}); err != nil || len(all) != 100 {
		t.Errorf("%d items, %v", len(all), err)
	}
}
