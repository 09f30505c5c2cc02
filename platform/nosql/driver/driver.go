// Package driver is what a table store must offer to stand behind nosql.Store.
//
// Drivers do not validate names and return the errors of their client library; nosql.Store validates and turns errors
// into the suite's own with ErrorCode. Retries on throttling are the driver's.
package driver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
)

// Key is a key attribute and its value. Keys are strings.
type Key struct {
	Name, Value string
}

// Schema names a table and its key attributes.
type Schema struct {
	Table string
	// Primary is the partition key.
	Primary string
	// Secondary is the sort key; empty where the table has none.
	Secondary string
}

// Item is one item. Values are nil, bool, string, json.Number, []byte, []any and map[string]any; on writing also the
// Go numbers.
type Item map[string]any

// Store is one account of one table store. All methods may be called by many goroutines at once.
type Store interface {
	// CreateTable makes a table and returns when it can be used; codes.AlreadyExists when there is one. The tags say
	// whose it is, where the store keeps such; nil leaves the table without.
	CreateTable(ctx context.Context, s Schema, tags map[string]string) error
	// DescribeTable returns the keys of a table; codes.NotFound when there is none.
	DescribeTable(ctx context.Context, table string) (Schema, error)
	// ListTables returns the names that start with prefix, in any order.
	ListTables(ctx context.Context, prefix string) ([]string, error)
	// DeleteTable removes a table with its items and returns when it is gone; codes.NotFound when there is none.
	DeleteTable(ctx context.Context, table string) error
	// ClearTable removes all items and returns how many there were.
	ClearTable(ctx context.Context, s Schema) (int64, error)

	// Put writes an item that holds its keys; one with the same keys is replaced.
	Put(ctx context.Context, table string, item Item) error
	// Get returns an item, keys included; codes.NotFound when there is none.
	Get(ctx context.Context, table string, keys []Key) (Item, error)
	// Update sets attributes of an item and leaves its others; an item that is not there is made.
	Update(ctx context.Context, table string, keys []Key, set Item) error
	// Delete removes an item; one that is not there is no error.
	Delete(ctx context.Context, table string, keys []Key) error
	// Query returns up to limit items of one partition in the order of the secondary key, from the place that token
	// marks ("" is the start), and the token of the rest ("" at the end).
	Query(ctx context.Context, table string, primary Key, token string, limit int) (items []Item, next string, err error)

	// ErrorCode classifies an error that one of the other methods returned.
	ErrorCode(err error) codes.Code
	// Close releases connections.
	Close() error
}

// ErrNoItem is the error of Get, or its cause, when the table is there and the item is not.
var ErrNoItem = errors.New("no such item")
