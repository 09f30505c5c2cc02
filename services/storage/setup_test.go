package storage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/storage"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// TestOneEmbeddedStore shows that a second storage process with a store of its own is refused while the first one runs.
func TestOneEmbeddedStore(t *testing.T) {
	backends := apptest.NewBackends(t)
	first := apptest.StartWith(t, apptest.Options{Backends: backends}, storage.Setup)
	second := func() error {
		dir := t.TempDir()
		source, err := app.NewSource("test.yaml", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		p, err := app.New(ctx, app.Options{
			Name: "second", Source: source, Setups: []app.Setup{storage.Setup}, Log: slog.New(slog.DiscardHandler),
			Adjust: func(c *app.Config) {
				c.StateDir, c.Etcd.Endpoints, c.NATS.URLs = dir, []string{backends.Etcd.Endpoint()}, []string{backends.NATS.URL()}
			},
		})
		cancel()
		if err == nil {
			err = p.Run(ctx)
			if errors.Is(err, context.Canceled) {
				err = nil
			}
		}
		return err
	}
	if err := second(); errs.Reason(err) != "OBJECT_STORE_ELSEWHERE" {
		t.Errorf("beside the first one: %v", err)
	}
	first.Stop()
	if err := second(); err != nil {
		t.Errorf("after the first one: %v", err)
	}
}

// TestSetup runs the service in a process with etcd and NATS.
func TestSetup(t *testing.T) {
	p := apptest.Start(t, storage.Setup)
	ctx := t.Context()
	conn, err := p.Dial("storage")
	if err != nil {
		t.Fatal(err)
	}
	client := storagev1.NewStorageServiceClient(conn)
	told, err := p.Process.Events.Conn().SubscribeSync(storage.CreatedSubject)
	if err != nil {
		t.Fatal(err)
	}
	const parent = "platforms/local/deployments/local-0a1b2c3d"
	if _, err := p.Cache.Create(ctx, "deployments/local/local-0a1b2c3d", &typev1.Deployment{Name: parent}); err != nil {
		t.Fatal(err)
	}
	bucket, err := client.EnsureBucket(ctx, &storagev1.EnsureBucketRequest{Parent: parent, Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS})
	if err != nil {
		t.Fatal(err)
	}
	var rec typev1.Deployment
	if _, err := p.Cache.Get(ctx, "deployments/local/local-0a1b2c3d", &rec); err != nil || len(rec.GetBuckets()) != 1 || rec.GetBuckets()[0].GetBucket() != bucket.GetBucketId() {
		t.Errorf("record: %v, %v", &rec, err)
	}
	stream, err := client.UploadObject(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*storagev1.UploadObjectRequest{
		{Part: &storagev1.UploadObjectRequest_Target{Target: &storagev1.UploadTarget{Bucket: bucket.GetName(), Key: "in/1.json"}}},
		{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: []byte("{}")}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	m, err := told.NextMsg(10 * time.Second)
	if err != nil || !bytes.Contains(m.Data, []byte(`"key":"in%2F1.json"`)) {
		t.Errorf("notification %v, %v", m, err)
	}
}
