package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
	"github.com/sebs-suite/sebs/internal/embedded/tables"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/s3"
)

// CreatedSubject is the NATS subject on which the embedded object store tells of objects created in the benchmarks
// buckets of deployments, as S3 event notifications in JSON, at most once.
const CreatedSubject = "sebs.v1.objects.created"

// localStores are the stores of the local platform: configured ones, or embedded ones that are started here.
type localStores struct {
	cfg LocalConfig
	dir string
	log *slog.Logger
	// notify is called with notifications of created objects; it must not block.
	notify func([]byte)

	mu          sync.Mutex
	objectStore *objects.Store
	objects     *Objects
	tableStore  *tables.Store
	tables      *Tables
}

// open returns the object store, and starts it the first time.
func (l *localStores) open(ctx context.Context, _ Scope) (*Objects, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects != nil {
		return l.objects, nil
	}
	var err error
	if l.cfg.Object.Endpoint != "" {
		l.objects, err = l.configuredObjects()
	} else {
		l.objects, err = l.embeddedObjects(ctx)
	}
	return l.objects, err
}

func (l *localStores) configuredObjects() (*Objects, error) {
	c := l.cfg.Object
	d, err := s3.Open(s3.Config{Endpoint: c.Endpoint, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Region: c.Region})
	if err != nil {
		return nil, err
	}
	return &Objects{
		Store: object.New(d), Driver: "s3", Endpoint: c.Endpoint, Region: c.Region, ReplaceExisting: c.ReplaceExisting,
		Grant: func(context.Context, string, string) (Account, error) {
			switch {
			case c.FunctionAccessKey != "":
				return Account{AccessKey: c.FunctionAccessKey, SecretKey: c.FunctionSecretKey}, nil
			case c.ShareKeys:
				return Account{AccessKey: c.AccessKey, SecretKey: c.SecretKey}, nil
			}
			return Account{}, errs.FailedPrecondition("FUNCTION_ACCOUNT_MISSING", "functions need an account of their own on object store %s: set storage.platforms.local.object.function_access_key and function_secret_key, or share_keys to give them the suite's keys", c.Endpoint)
		},
	}, nil
}

func (l *localStores) embeddedObjects(ctx context.Context) (*Objects, error) {
	opts := objects.Options{Dir: filepath.Join(l.dir, "objects"), Log: l.log}
	if l.notify != nil {
		opts.OnCreated = l.created
	}
	store, err := objects.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	root := store.Root()
	d, err := s3.Open(s3.Config{Endpoint: store.Endpoint(), AccessKey: root.AccessKey, SecretKey: root.SecretKey, Region: objects.Region})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	l.objectStore = store
	return &Objects{
		Store: object.New(d), Driver: "s3", Endpoint: store.Endpoint(), Region: objects.Region, Embedded: true,
		ReplaceExisting: l.cfg.Object.ReplaceExisting,
		Grant: func(ctx context.Context, deployment, bucket string) (Account, error) {
			account, err := store.FunctionAccount(deployment)
			if err != nil {
				return Account{}, err
			}
			policy, err := objects.FunctionPolicy(bucket, account.AccessKey)
			if err != nil {
				return Account{}, err
			}
			if err := d.SetBucketPolicy(ctx, bucket, policy); err != nil {
				return Account{}, fmt.Errorf("set the policy of bucket %s: %w", bucket, err)
			}
			return Account{AccessKey: account.AccessKey, SecretKey: account.SecretKey}, nil
		},
	}, nil
}

// created tells of an object in a benchmarks bucket. Other buckets are the suite's own business.
func (l *localStores) created(e objects.Event) {
	if !strings.HasPrefix(e.Bucket, benchmarksPrefix) {
		return
	}
	raw, err := json.Marshal(map[string]any{"Records": []any{map[string]any{
		"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": objects.Region,
		"eventTime": e.Time.UTC().Format(time.RFC3339Nano), "eventName": "ObjectCreated:Put",
		"s3": map[string]any{
			"s3SchemaVersion": "1.0",
			"bucket":          map[string]any{"name": e.Bucket, "arn": "arn:aws:s3:::" + e.Bucket},
			// S3 writes keys in this form, in which a space is a plus sign.
			"object": map[string]any{"key": url.QueryEscape(e.Key), "size": e.SizeBytes, "eTag": e.ETag},
		},
	}}})
	if err != nil {
		l.log.Error("object notification not sent", "bucket", e.Bucket, "key", e.Key, "error", err)
		return
	}
	l.notify(raw)
}

// reachable asks the object store for a bucket that need not exist.
func (l *localStores) reachable(ctx context.Context) error {
	o, err := l.open(ctx, Scope{})
	if err != nil {
		return err
	}
	_, err = o.Store.BucketExists(ctx, "suite-reachable")
	return err
}

// openTables returns the table store, and starts it the first time, or again when it has ended.
func (l *localStores) openTables(ctx context.Context, _ Scope) (*Tables, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tables != nil && (l.tableStore == nil || l.tableStore.Running()) {
		return l.tables, nil
	}
	c := l.cfg.Table
	embedded := c.Endpoint == ""
	if embedded {
		if l.tableStore != nil {
			l.log.WarnContext(ctx, "the table store had ended and is started again")
			if err := errors.Join(l.tables.Store.Close(), l.tableStore.Close()); err != nil {
				return nil, err
			}
			l.tables, l.tableStore = nil, nil
		}
		store, err := tables.Start(ctx, tables.Options{Dir: l.tableDir(), Log: l.log})
		if err != nil {
			return nil, err
		}
		l.tableStore = store
		c = TableConfig{Endpoint: store.Endpoint()}
	}
	d, err := dynamodb.Open(dynamodb.Config{Endpoint: c.Endpoint, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Region: c.Region})
	if err != nil {
		return nil, err
	}
	// The functions' clients know this API on the local platform under the name of SeBS's table store.
	l.tables = &Tables{Store: nosql.New(d), Driver: "dynamodb", Endpoint: c.Endpoint, Region: c.Region, Embedded: embedded, FunctionType: "scylladb"}
	return l.tables, nil
}

func (l *localStores) tableDir() string { return filepath.Join(l.dir, "tables") }

// tablesUnused tells that no table can exist.
func (l *localStores) tablesUnused() bool {
	return l.cfg.Table.Endpoint == "" && !tables.Used(l.tableDir())
}

// close ends clients first, then the stores that were started here.
func (l *localStores) close(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	if l.objects != nil {
		problems = append(problems, l.objects.Store.Close())
	}
	if l.tables != nil {
		problems = append(problems, l.tables.Store.Close())
	}
	if l.tableStore != nil {
		problems = append(problems, l.tableStore.Close())
	}
	if l.objectStore != nil {
		problems = append(problems, l.objectStore.Close())
	}
	return errors.Join(problems...)
}

// platforms is the table of platforms that these stores serve.
func (l *localStores) platforms() map[string]Platform {
	return map[string]Platform{
		"local": {Objects: l.open, Tables: l.openTables, TablesUnused: l.tablesUnused, Recorded: true},
		// The suite's own archives, packages and results lie beside the local platform's data.
		"suite": {Objects: l.open, BucketName: func(role, id string) string { return "suite-" + role + "-" + id }},
	}
}
