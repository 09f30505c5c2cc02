package storage

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sebs-suite/sebs/internal/embedded/tables"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

const localB = "platforms/local/deployments/local-bbbb0000"

func needsTables(t *testing.T) {
	t.Helper()
	if err := tables.Available(); err != nil {
		t.Skipf("needs npm: %v", err)
	}
}

func createCart(t *testing.T, b *bench, parent string) *storagev1.Table {
	t.Helper()
	out, err := b.client.CreateBenchmarkTables(t.Context(), &storagev1.CreateBenchmarkTablesRequest{
		Parent: parent, Benchmark: "130.crud-api",
		Tables: []*storagev1.TableSpec{{LogicalName: "shopping_cart", PrimaryKey: "cart_id", SecondaryKey: "product_id"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.GetTables()[0]
}

func TestTables(t *testing.T) {
	t.Parallel()
	needsTables(t)
	b := start(t)
	ctx := t.Context()
	b.record(t, "local", "local-aaaa0000")
	table := createCart(t, b, localA)
	if table.GetTableId() != "sebs-benchmarks-local-aaaa0000-130.crud-api-shopping_cart" || !table.GetCreated() {
		t.Errorf("created %v", table)
	}
	if again := createCart(t, b, localA); again.GetCreated() || again.GetTableId() != table.GetTableId() {
		t.Errorf("asked for again: %v", again)
	}
	_, err := b.client.CreateTable(ctx, &storagev1.CreateTableRequest{Parent: localA, Benchmark: "130.crud-api", Spec: &storagev1.TableSpec{LogicalName: "shopping_cart", PrimaryKey: "other"}})
	wantCode(t, "create with other keys", err, codes.FailedPrecondition, "TABLE_KEYS_DIFFER")
	var rec typev1.Deployment
	if _, err := b.records.Get(ctx, "deployments/local/local-aaaa0000", &rec); err != nil || len(rec.GetTables()) != 1 || rec.GetTables()[0].GetLogicalName() != "shopping_cart" {
		t.Errorf("record: %v, %v", rec.GetTables(), err)
	}
	createCart(t, b, localB)
	list, err := b.client.ListTables(ctx, &storagev1.ListTablesRequest{Parent: localA, Benchmark: "130.crud-api"})
	if err != nil || len(list.GetTables()) != 1 || list.GetTables()[0].GetSpec().GetLogicalName() != "shopping_cart" {
		t.Errorf("listed %v, %v", list, err)
	}
	// Without a record the names are read from the table's name.
	list, err = b.client.ListTables(ctx, &storagev1.ListTablesRequest{Parent: localB})
	if err != nil || len(list.GetTables()) != 1 || list.GetTables()[0].GetBenchmark() != "130.crud-api" || list.GetTables()[0].GetSpec().GetLogicalName() != "shopping_cart" {
		t.Errorf("listed %v, %v", list, err)
	}
	got, err := b.client.GetTable(ctx, &storagev1.GetTableRequest{Name: table.GetName()})
	if err != nil || got.GetSpec().GetPrimaryKey() != "cart_id" || got.GetSpec().GetSecondaryKey() != "product_id" {
		t.Errorf("described as %v, %v", got, err)
	}
	_, err = b.client.GetTable(ctx, &storagev1.GetTableRequest{Name: localA + "/tables/sebs-benchmarks-local-bbbb0000-130.crud-api-shopping_cart"})
	wantCode(t, "a table of another deployment", err, codes.InvalidArgument, "")

	testItems(t, b, table.GetName())

	for i, dry := range []bool{true, false, false} {
		out, err := b.client.CleanupTables(ctx, &storagev1.CleanupTablesRequest{Parent: localA, DryRun: dry})
		if want := []int{1, 1, 0}[i]; err != nil || len(out.GetTables()) != want {
			t.Errorf("cleanup %d (dry run %v): %v, %v; want %d", i, dry, out, err, want)
		}
	}
	if _, err := b.client.GetTable(ctx, &storagev1.GetTableRequest{Name: localB + "/tables/sebs-benchmarks-local-bbbb0000-130.crud-api-shopping_cart"}); err != nil {
		t.Errorf("the other deployment's table: %v", err)
	}
}

func testItems(t *testing.T, b *bench, table string) {
	t.Helper()
	ctx := t.Context()
	data, err := structpb.NewStruct(map[string]any{"name": "Gothic Game", "price": 42, "quantity": 2.5, "tags": []any{"a", true, nil}})
	if err != nil {
		t.Fatal(err)
	}
	key := func(name, value string) *storagev1.ItemKey { return &storagev1.ItemKey{Name: name, Value: value} }
	for _, product := range []string{"p1", "p2", "p3"} {
		if _, err := b.client.WriteItem(ctx, &storagev1.WriteItemRequest{Table: table, PrimaryKey: key("cart_id", "c1"), SecondaryKey: key("product_id", product), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	item, err := b.client.GetItem(ctx, &storagev1.GetItemRequest{Table: table, PrimaryKey: key("cart_id", "c1"), SecondaryKey: key("product_id", "p2")})
	if err != nil {
		t.Fatal(err)
	}
	want := data.AsMap()
	want["cart_id"], want["product_id"] = "c1", "p2"
	if diff := cmp.Diff(want, item.GetItem().AsMap()); diff != "" {
		t.Errorf("item differs (-want +got):\n%s", diff)
	}
	page, err := b.client.QueryItems(ctx, &storagev1.QueryItemsRequest{Table: table, PrimaryKey: key("cart_id", "c1"), PageSize: 2})
	if err != nil || len(page.GetItems()) != 2 || page.GetNextPageToken() == "" {
		t.Fatalf("page %v, %v", page, err)
	}
	page, err = b.client.QueryItems(ctx, &storagev1.QueryItemsRequest{Table: table, PrimaryKey: key("cart_id", "c1"), PageSize: 2, PageToken: page.GetNextPageToken()})
	if err != nil || len(page.GetItems()) != 1 || page.GetNextPageToken() != "" {
		t.Errorf("second page %v, %v", page, err)
	}
	_, err = b.client.GetItem(ctx, &storagev1.GetItemRequest{Table: table, PrimaryKey: key("cart_id", "none"), SecondaryKey: key("product_id", "p2")})
	wantCode(t, "a missing item", err, codes.NotFound, "ITEM_NOT_FOUND")
	cleared, err := b.client.ClearTable(ctx, &storagev1.ClearTableRequest{Name: table})
	if err != nil || cleared.GetRemovedCount() != 3 {
		t.Errorf("cleared %v, %v", cleared, err)
	}
}

// TestFunctionTables shows that functions reach their deployment's tables and no others.
func TestFunctionTables(t *testing.T) {
	t.Parallel()
	needsTables(t)
	b := start(t)
	ctx := t.Context()
	own, other := createCart(t, b, localA), createCart(t, b, localB)
	env, err := b.client.GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{Parent: localA, Benchmark: "130.crud-api", UsesTables: true})
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{}
	for _, v := range env.GetVariables() {
		vars[v.GetName()] = v.GetValue()
	}
	if vars["NOSQL_STORAGE_TYPE"] != "scylladb" || vars["NOSQL_STORAGE_TABLE_shopping_cart"] != own.GetTableId() || vars["NOSQL_STORAGE_ENDPOINT"] == "" {
		t.Fatalf("environment %v", vars)
	}
	d, err := dynamodb.Open(dynamodb.Config{Endpoint: vars["NOSQL_STORAGE_ENDPOINT"], MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := nosql.New(d)
	t.Cleanup(func() { _ = f.Close() })
	keys := []nosql.Key{{Name: "cart_id", Value: "c"}, {Name: "product_id", Value: "p"}}
	if err := f.Put(ctx, own.GetTableId(), keys, nosql.Item{"n": 1}); err != nil {
		t.Fatalf("write to the own table: %v", err)
	}
	if items, err := f.QueryAll(ctx, own.GetTableId(), keys[0]); err != nil || len(items) != 1 {
		t.Errorf("query the own table: %v, %v", items, err)
	}
	if err := f.Update(ctx, own.GetTableId(), keys, nosql.Item{"n": 2}); err != nil {
		t.Errorf("update in the own table: %v", err)
	}
	for what, err := range map[string]error{
		"write to another table": f.Put(ctx, other.GetTableId(), keys, nil),
		"delete the own table":   f.DeleteTable(ctx, own.GetTableId()),
		"create a table":         second(f.CreateTable(ctx, nosql.Schema{Table: "sebs-benchmarks-local-aaaa0000-x-y", Primary: "k"}, nil)),
		"list tables":            second(f.ListTables(ctx, "")),
	} {
		if errs.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: got %v (%v), want PERMISSION_DENIED", what, errs.Code(err), err)
		}
	}
	again, err := b.client.GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{Parent: localA, Benchmark: "130.crud-api", UsesTables: true})
	if err != nil || len(again.GetVariables()) != 3 || again.GetVariables()[1].GetValue() != vars["NOSQL_STORAGE_ENDPOINT"] {
		t.Errorf("asked for again: %v, %v", again, err)
	}
	testGateForms(t, vars["NOSQL_STORAGE_ENDPOINT"], other.GetTableId())
}

func second[T any](_ T, err error) error { return err }

// testGateForms sends what a client library would not: forms that hide a table from the gate must not pass.
func testGateForms(t *testing.T, endpoint, other string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ours := "sebs-benchmarks-local-aaaa0000-130.crud-api-shopping_cart"
	for _, c := range []struct{ operation, body string }{
		{"Scan", `{"TableName":"` + other + `","tablename":"` + ours + `"}`},
		{"Scan", `{"tablename":"` + ours + `"}`},
		{"Scan", `{"TableName":"` + ours + `","TableName":"` + other + `"}`},
		{"Scan", `{"TableName":"arn:aws:dynamodb:us-east-1:0:table/` + ours + `"}`},
		{"BatchGetItem", `{"RequestItems":{"` + ours + `":{},"` + other + `":{}}}`},
		{"TransactWriteItems", `{"TransactItems":[{"Delete":{"TableName":"` + other + `"}}]}`},
		{"Scan", `not json`},
		{"ListTables", `{}`},
		{"", `{"TableName":"` + ours + `"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+endpoint+"/", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+c.operation)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		if closeErr := res.Body.Close(); err != nil || closeErr != nil {
			t.Fatal(err, closeErr)
		}
		if res.StatusCode != http.StatusBadRequest || !(bytes.Contains(raw, []byte("AccessDenied")) || bytes.Contains(raw, []byte("SerializationException"))) {
			t.Errorf("%s %s: answered %d %s", c.operation, c.body, res.StatusCode, raw)
		}
	}
}

// TestTableStoreRestart shows that items survive, and that functions find the store again under the same address.
func TestTableStoreRestart(t *testing.T) {
	t.Parallel()
	needsTables(t)
	b := start(t)
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "relays.json")
	if err := b.service.Restore(file); err != nil {
		t.Fatal(err)
	}
	table := createCart(t, b, localA)
	endpoint := func(s *Service) string {
		vars, err := s.functionEnvironment(ctx, deployment{"local", "local-aaaa0000"}, "130.crud-api", "", false, true)
		if err != nil {
			t.Fatal(err)
		}
		return vars[1].value
	}
	before := endpoint(b.service)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("relay file: %v, %v", info, err)
	}
	if err := b.service.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.local.tableStore.Close(); err != nil { // as if it had crashed: the next request starts another
		t.Fatal(err)
	}
	next := New(b.local.platforms(), b.records, b.service.log)
	t.Cleanup(func() {
		if err := next.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := next.Restore(file); err != nil {
		t.Fatal(err)
	}
	d, err := dynamodb.Open(dynamodb.Config{Endpoint: before, MaxAttempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	f := nosql.New(d)
	t.Cleanup(func() { _ = f.Close() })
	keys := []nosql.Key{{Name: "cart_id", Value: "c"}, {Name: "product_id", Value: "p"}}
	if err := f.Put(ctx, table.GetTableId(), keys, nil); err != nil {
		t.Errorf("a function after the restart: %v", err)
	}
	if after := endpoint(next); after != before {
		t.Errorf("the endpoint was %s and is %s", before, after)
	}
}
