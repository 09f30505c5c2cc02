package stores

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
)

// Objects is a running object store with one bucket, which an account of
// functions may use.
type Objects struct {
	Bucket string

	address string
	account objects.Account
	client  *minio.Client
}

// StartObjects starts a store for the time of the test.
func StartObjects(t *testing.T, bucket string) *Objects {
	t.Helper()
	store, err := objects.Start(t.Context(), objects.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	root := store.Root()
	client, err := minio.New(store.Endpoint(), &minio.Options{
		Creds:  credentials.NewStaticV4(root.AccessKey, root.SecretKey.Reveal(), ""),
		Region: objects.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{Region: objects.Region}); err != nil {
		t.Fatal(err)
	}
	account, err := store.FunctionAccount("test")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := objects.FunctionPolicy(bucket, account.AccessKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SetBucketPolicy(t.Context(), bucket, string(policy)); err != nil {
		t.Fatal(err)
	}
	return &Objects{Bucket: bucket, address: store.Endpoint(), account: account, client: client}
}

// Env is what a function of a platform's package needs to reach the store.
func (o *Objects) Env(platform string) []string {
	if platform == "aws" {
		return []string{
			"AWS_ENDPOINT_URL_S3=http://" + o.address,
			"AWS_REGION=" + objects.Region,
			"AWS_ACCESS_KEY_ID=" + o.account.AccessKey,
			"AWS_SECRET_ACCESS_KEY=" + o.account.SecretKey.Reveal(),
		}
	}
	return []string{
		"MINIO_ADDRESS=" + o.address,
		"MINIO_ACCESS_KEY=" + o.account.AccessKey,
		"MINIO_SECRET_KEY=" + o.account.SecretKey.Reveal(),
	}
}

// Put stores an object.
func (o *Objects) Put(t *testing.T, key string, body []byte) {
	t.Helper()
	_, err := o.client.PutObject(t.Context(), o.Bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// Get reads an object.
func (o *Objects) Get(t *testing.T, key string) []byte {
	t.Helper()
	object, err := o.client.GetObject(t.Context(), o.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer func() { _ = object.Close() }()
	body, err := io.ReadAll(object)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return body
}

// Keys lists the keys below a prefix, without directory markers.
func (o *Objects) Keys(t *testing.T, prefix string) []string {
	t.Helper()
	var keys []string
	for object := range o.client.ListObjects(t.Context(), o.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if object.Err != nil {
			t.Fatalf("list %s: %v", prefix, object.Err)
		}
		if !strings.HasSuffix(object.Key, "/") {
			keys = append(keys, object.Key)
		}
	}
	return keys
}
