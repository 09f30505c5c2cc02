// Package nosql is the suite's view of table stores: tables with a primary and an optional secondary key of type
// string, on any platform.
//
// Store holds what all platforms share (validation, keys merged into items, classified errors); the packages below it
// are drivers for one kind of store each. The conformance suite for drivers is in drivertest.
package nosql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql/driver"
)

// The types of the driver interface that callers meet.
type (
	// Key is a key attribute and its value.
	Key = driver.Key
	// Schema names a table and its key attributes.
	Schema = driver.Schema
	// Item is one item.
	Item = driver.Item
)

// MaxPage is the most items of one page.
const MaxPage = 1000

var tableName = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// Store is a table store. It may be used by many goroutines at once.
type Store struct {
	driver driver.Store
}

// New puts a Store in front of a driver. Closing the Store closes the driver.
func New(d driver.Store) *Store { return &Store{driver: d} }

// Close releases the driver's connections.
func (s *Store) Close() error { return s.driver.Close() }

// CreateTable makes a table, unless there is one of that name with the same keys, and tells whether it was made now.
// One with other keys is a FailedPrecondition error. A new table gets the tags, where the store keeps such.
func (s *Store) CreateTable(ctx context.Context, want Schema, tags map[string]string) (created bool, err error) {
	if err := errors.Join(checkTable(want.Table), checkAttribute("primary_key", want.Primary)); err != nil {
		return false, err
	}
	if want.Secondary == want.Primary {
		return false, errs.Fields(errs.Field("secondary_key", "must differ from the primary key %q", want.Primary))
	}
	err = s.driver.CreateTable(ctx, want, tags)
	if err == nil {
		return true, nil
	}
	if s.driver.ErrorCode(err) != codes.AlreadyExists {
		return false, s.classify(err, "create table "+want.Table, want.Table)
	}
	have, err := s.driver.DescribeTable(ctx, want.Table)
	if err != nil {
		return false, s.classify(err, "describe table "+want.Table, want.Table)
	}
	if have != want {
		return false, errs.FailedPrecondition("TABLE_KEYS_DIFFER", "table %q exists with the keys (%s, %s), not (%s, %s); remove it first", want.Table, have.Primary, have.Secondary, want.Primary, want.Secondary).With("table", want.Table)
	}
	return false, nil
}

// DescribeTable returns the keys of a table.
func (s *Store) DescribeTable(ctx context.Context, table string) (Schema, error) {
	if err := checkTable(table); err != nil {
		return Schema{}, err
	}
	have, err := s.driver.DescribeTable(ctx, table)
	return have, s.classify(err, "describe table "+table, table)
}

// ListTables returns the names of the tables that start with prefix, sorted.
func (s *Store) ListTables(ctx context.Context, prefix string) ([]string, error) {
	names, err := s.driver.ListTables(ctx, prefix)
	slices.Sort(names)
	return names, s.classify(err, "list tables", "")
}

// DeleteTable removes a table with its items.
func (s *Store) DeleteTable(ctx context.Context, table string) error {
	if err := checkTable(table); err != nil {
		return err
	}
	return s.classify(s.driver.DeleteTable(ctx, table), "delete table "+table, table)
}

// ClearTable removes all items of a table and returns how many there were.
func (s *Store) ClearTable(ctx context.Context, table string) (int64, error) {
	have, err := s.DescribeTable(ctx, table)
	if err != nil {
		return 0, err
	}
	n, err := s.driver.ClearTable(ctx, have)
	return n, s.classify(err, "clear table "+table, table)
}

// Put writes an item; one with the same keys is replaced. The keys become attributes of the item.
func (s *Store) Put(ctx context.Context, table string, keys []Key, data Item) error {
	if err := errors.Join(checkTable(table), checkKeys(keys)); err != nil {
		return err
	}
	item := make(Item, len(data)+len(keys))
	maps.Copy(item, data)
	for _, k := range keys {
		item[k.Name] = k.Value
	}
	return s.classify(s.driver.Put(ctx, table, item), "write to table "+table, table)
}

// Get returns an item with its keys.
func (s *Store) Get(ctx context.Context, table string, keys []Key) (Item, error) {
	if err := errors.Join(checkTable(table), checkKeys(keys)); err != nil {
		return nil, err
	}
	item, err := s.driver.Get(ctx, table, keys)
	if err != nil && s.driver.ErrorCode(err) == codes.NotFound && !errors.Is(err, driver.ErrNoItem) {
		return nil, s.classify(err, "read from table "+table, table)
	}
	if errors.Is(err, driver.ErrNoItem) {
		return nil, errs.NotFound("ITEM_NOT_FOUND", "table %q has no item %s", table, describe(keys)).With("table", table)
	}
	return item, s.classify(err, "read from table "+table, table)
}

// Update sets attributes of an item and leaves its others; an item that is not there is made.
func (s *Store) Update(ctx context.Context, table string, keys []Key, set Item) error {
	if err := errors.Join(checkTable(table), checkKeys(keys)); err != nil {
		return err
	}
	if len(set) == 0 {
		return errs.Fields(errs.Field("data", "has no attribute to set"))
	}
	for _, k := range keys {
		if _, ok := set[k.Name]; ok {
			return errs.Fields(errs.Field("data", "sets the key attribute %q; keys cannot be changed", k.Name))
		}
	}
	return s.classify(s.driver.Update(ctx, table, keys, set), "update an item of table "+table, table)
}

// Delete removes an item; one that is not there is no error.
func (s *Store) Delete(ctx context.Context, table string, keys []Key) error {
	if err := errors.Join(checkTable(table), checkKeys(keys)); err != nil {
		return err
	}
	return s.classify(s.driver.Delete(ctx, table, keys), "delete an item of table "+table, table)
}

// Query returns a page of the items of one partition in the order of the secondary key, and the token of the rest.
func (s *Store) Query(ctx context.Context, table string, primary Key, token string, limit int) ([]Item, string, error) {
	if err := errors.Join(checkTable(table), checkKeys([]Key{primary})); err != nil {
		return nil, "", err
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	items, next, err := s.driver.Query(ctx, table, primary, token, limit)
	return items, next, s.classify(err, "query table "+table, table)
}

// QueryAll returns all items of one partition.
func (s *Store) QueryAll(ctx context.Context, table string, primary Key) ([]Item, error) {
	var all []Item
	token := ""
	for {
		page, next, err := s.Query(ctx, table, primary, token, MaxPage)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		token = next
	}
}

// classify wraps a driver's error once.
func (s *Store) classify(err error, operation, table string) error {
	if err == nil {
		return nil
	}
	code := s.driver.ErrorCode(err)
	if errors.Is(err, context.Canceled) {
		code = codes.Canceled
	} else if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	var e *errs.Error
	switch code {
	case codes.NotFound:
		e = errs.NotFound("TABLE_NOT_FOUND", "%s: there is no table %q", operation, table)
	case codes.AlreadyExists:
		e = errs.AlreadyExists("TABLE_EXISTS", "%s: it exists already", operation)
	case codes.InvalidArgument:
		e = errs.InvalidArgument("TABLE_STORE_REJECTED", "%s: the store rejects the request: %s", operation, err.Error())
	case codes.FailedPrecondition:
		e = errs.FailedPrecondition("TABLE_BUSY", "%s: the table is being made or removed; try again when that is done", operation)
	case codes.PermissionDenied:
		e = errs.PermissionDenied("TABLE_ACCESS_DENIED", "%s: the account may not do this", operation)
	case codes.Unauthenticated:
		e = errs.Unauthenticated("TABLE_CREDENTIALS", "%s: the store does not accept the credentials", operation)
	case codes.ResourceExhausted:
		e = errs.ResourceExhausted(time.Second, "TABLE_STORE_BUSY", "%s: the store asks to slow down", operation)
	case codes.Canceled:
		e = errs.Canceled("CANCELED", "%s: canceled", operation)
	case codes.DeadlineExceeded:
		e = errs.DeadlineExceeded("DEADLINE", "%s: the deadline passed", operation)
	case codes.Unavailable:
		e = errs.Unavailable("TABLE_STORE_UNAVAILABLE", "%s: the table store cannot be reached", operation)
	case codes.Unimplemented:
		e = errs.Unimplemented("TABLE_STORE_UNSUPPORTED", "%s: this store does not support it", operation)
	default:
		return fmt.Errorf("%s: %w", operation, err)
	}
	if table != "" {
		e = e.With("table", table)
	}
	return e.Wrap(err)
}

func checkTable(name string) error {
	if !tableName.MatchString(name) {
		return errs.Fields(errs.Field("table", "%q is no table name; use 3 to 255 letters, digits, dots, dashes and underscores", name))
	}
	return nil
}

func checkAttribute(field, name string) error {
	if name == "" || len(name) > 255 {
		return errs.Fields(errs.Field(field, "must have 1 to 255 bytes, not %d", len(name)))
	}
	return nil
}

func checkKeys(keys []Key) error {
	if len(keys) == 0 || len(keys) > 2 {
		return errs.Fields(errs.Field("primary_key", "is needed; a secondary key may follow"))
	}
	for i, k := range keys {
		field := [...]string{"primary_key", "secondary_key"}[i]
		if err := checkAttribute(field+".name", k.Name); err != nil {
			return err
		}
		if k.Value == "" || len(k.Value) > 1024 {
			return errs.Fields(errs.Field(field+".value", "must have 1 to 1024 bytes, not %d", len(k.Value)))
		}
	}
	return nil
}

func describe(keys []Key) string {
	out := ""
	for i, k := range keys {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%s=%q", k.Name, k.Value)
	}
	return out
}
