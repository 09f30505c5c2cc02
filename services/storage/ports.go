package storage

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/object"
)

// records is where deployments are recorded (etcd). The records belong to the deployer; storage fills in buckets and
// tables by compare-and-swap.
type records interface {
	Get(ctx context.Context, key string, into proto.Message) (rev int64, err error)
	Update(ctx context.Context, key string, m proto.Message, create bool, change func() error) (int64, error)
}

// Account is a key pair for functions.
type Account struct {
	AccessKey string
	SecretKey secret.String
}

// Objects is the object store that serves a platform.
type Objects struct {
	Store *object.Store
	// Driver, Endpoint and Region describe the store.
	Driver, Endpoint, Region string
	// Embedded tells that the suite runs the store itself, on this machine.
	Embedded bool
	// ReplaceExisting is whether uploads of benchmark data replace existing objects when the caller does not say.
	ReplaceExisting bool
	// Grant lets the functions of a deployment use one bucket and returns the account for it. Nil where functions
	// need no keys.
	Grant func(ctx context.Context, deployment, bucket string) (Account, error)
}

// Tables is the table store that serves a platform.
type Tables struct {
	Store *nosql.Store
	// Driver, Endpoint and Region describe the store.
	Driver, Endpoint, Region string
	// Embedded tells that the suite runs the store itself, on this machine.
	Embedded bool
	// FunctionType is the value of NOSQL_STORAGE_TYPE that functions expect; empty where functions find the store
	// without being told.
	FunctionType string
}

// Scope is the part of a platform that a deployment lies in, by its record. A deployment without a record, and requests
// about the whole platform, have the zero Scope: the default credential in the configured region.
type Scope struct {
	Credential, Region string
}

// Platform says which stores serve a platform. The functions are called on first use and may start a store; they
// must answer the same store each time for the same scope.
type Platform struct {
	Objects func(context.Context, Scope) (*Objects, error)
	// Tables is nil where the platform has none.
	Tables func(context.Context, Scope) (*Tables, error)
	// Scoped is whether the stores depend on the scope; where not, it is always the zero one.
	Scoped bool
	// TablesUnused tells that no table can exist because the table store was never started; listing and cleaning
	// then do not start it. Nil means it is not known.
	TablesUnused func() bool
	// BucketName makes the name of a role's bucket; nil means sebs-<role>-<resource id>.
	BucketName func(role, deployment string) string
	// Recorded is whether the platform's deployments have records.
	Recorded bool
}
