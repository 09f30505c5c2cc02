package objects_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
)

func TestMain(m *testing.M) {
	// The HTTP library keeps one clock for the life of the process, and a cleaner that looks every ten seconds whether
	// its server has ended.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

func start(t *testing.T, opts objects.Options) *objects.Store {
	t.Helper()
	s, err := objects.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t *testing.T, s *objects.Store, a objects.Account) *minio.Client {
	t.Helper()
	transport, err := minio.DefaultTransport(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := minio.New(s.Endpoint(), &minio.Options{
		Creds: credentials.NewStaticV4(a.AccessKey, a.SecretKey.Reveal(), ""), Region: objects.Region, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRestartKeepsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	s := start(t, objects.Options{Dir: dir})
	root, endpoint := s.Root(), s.Endpoint()
	fn, err := s.FunctionAccount("local-1")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s, root)
	if err := c.MakeBucket(ctx, "keep", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, "keep", "a/b", strings.NewReader("text"), 4, minio.PutObjectOptions{UserMetadata: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Start(ctx, objects.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second store on the same directory: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, objects.Options{Dir: dir})
	fnAgain, err := again.FunctionAccount("local-1")
	if err != nil || again.Endpoint() != endpoint || again.Root().AccessKey != root.AccessKey || !again.Root().SecretKey.Equal(root.SecretKey) || !fnAgain.SecretKey.Equal(fn.SecretKey) {
		t.Errorf("after a restart the endpoint is %s (was %s), or keys changed, %v", again.Endpoint(), endpoint, err)
	}
	o, err := client(t, again, root).StatObject(ctx, "keep", "a/b", minio.StatObjectOptions{})
	if err != nil || o.Size != 4 || o.UserMetadata["K"] != "v" {
		t.Errorf("object after a restart: %+v, %v", o, err)
	}
	info, err := os.Stat(filepath.Join(dir, "store.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials file: %v, %v", info, err)
	}
	if now, err := os.Getwd(); err != nil || now != wd {
		t.Errorf("the working directory is %s, was %s, %v", now, wd, err)
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	s := start(t, objects.Options{Dir: t.TempDir()})
	ctx := t.Context()
	one, err := s.FunctionAccount("local-1")
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.FunctionAccount("local-2")
	if err != nil || one.SecretKey.Equal(two.SecretKey) {
		t.Errorf("two deployments have the same secret, %v", err)
	}
	for _, bad := range []string{"", "../x", "UPPER", "a b", strings.Repeat("x", 48)} {
		if _, err := s.FunctionAccount(bad); err == nil {
			t.Errorf("deployment %q has an account", bad)
		}
	}
	// Without a policy an account can do nothing; with one it can use that bucket.
	root := client(t, s, s.Root())
	if err := root.MakeBucket(ctx, "bucket-1", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	put := func(a objects.Account) error {
		_, err := client(t, s, a).PutObject(ctx, "bucket-1", "k", strings.NewReader("x"), 1, minio.PutObjectOptions{})
		return err
	}
	if err := put(one); minio.ToErrorResponse(err).Code != "AccessDenied" {
		t.Errorf("write without a policy: %v", err)
	}
	policy, err := objects.FunctionPolicy("bucket-1", one.AccessKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.SetBucketPolicy(ctx, "bucket-1", string(policy)); err != nil {
		t.Fatal(err)
	}
	if err := put(one); err != nil {
		t.Errorf("write with a policy: %v", err)
	}
	if err := put(two); minio.ToErrorResponse(err).Code != "AccessDenied" {
		t.Errorf("write by another deployment: %v", err)
	}
	forged := objects.Account{AccessKey: one.AccessKey, SecretKey: two.SecretKey}
	if err := put(forged); minio.ToErrorResponse(err).Code != "SignatureDoesNotMatch" {
		t.Errorf("write with another's secret: %v", err)
	}
}

func TestCopyAndErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, objects.Options{Dir: dir})
	ctx := t.Context()
	c := client(t, s, s.Root())
	if err := c.MakeBucket(ctx, "one", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 100)
	if _, err := c.PutObject(ctx, "one", "from/here", bytes.NewReader(data), 100, minio.PutObjectOptions{ContentType: "text/x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "one", Object: "to"}, minio.CopySrcOptions{Bucket: "one", Object: "from/here"}); err != nil {
		t.Fatal(err)
	}
	o, err := c.GetObject(ctx, "one", "to", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(o)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("copy holds %d bytes, %v", len(back), err)
	}
	if info, err := o.Stat(); err != nil || info.ContentType != "text/x" {
		t.Errorf("copy is described as %+v, %v", info, err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "one", Object: "x"}, minio.CopySrcOptions{Bucket: "one", Object: "none"})
	if minio.ToErrorResponse(err).Code != "NoSuchKey" {
		t.Errorf("copy of a missing object: %v", err)
	}
	err = c.RemoveBucket(ctx, "one")
	if e := minio.ToErrorResponse(err); e.Code != "BucketNotEmpty" || strings.Contains(e.BucketName+e.Message+e.Resource, dir) {
		t.Errorf("remove a bucket with objects: %+v", e)
	}
	_, err = c.PutObject(ctx, "none", "k", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	if e := minio.ToErrorResponse(err); e.Code != "NoSuchBucket" || strings.Contains(e.BucketName+e.Message+e.Resource, dir) {
		t.Errorf("write to a missing bucket: %+v", e)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []objects.Event
	s := start(t, objects.Options{Dir: t.TempDir(), OnCreated: func(e objects.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e)
	}})
	ctx := t.Context()
	c := client(t, s, s.Root())
	if err := c.MakeBucket(ctx, "told", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, "told", "a b/ü%20+?", strings.NewReader("123"), 3, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, "told", "big", io.LimitReader(neverending('x'), 17<<20), -1, minio.PutObjectOptions{PartSize: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveObject(ctx, "told", "big", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 || got[0].Key != "a b/ü%20+?" || got[0].SizeBytes != 3 || got[0].Bucket != "told" || got[1].Key != "big" || got[1].SizeBytes != 17<<20 {
		t.Errorf("told of %+v", got)
	}
}

type neverending byte

func (n neverending) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n)
	}
	return len(p), nil
}

func TestStartRefusals(t *testing.T) {
	t.Parallel()
	if _, err := objects.Start(t.Context(), objects.Options{}); err == nil {
		t.Error("started without a directory")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "store.json"), []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Start(t.Context(), objects.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("started with a broken credentials file: %v", err)
	}
	if _, err := objects.Start(t.Context(), objects.Options{Dir: t.TempDir(), Hosts: []string{"192.0.2.1"}}); err == nil {
		t.Error("listens on an address that is not this machine's")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := objects.Start(ctx, objects.Options{Dir: t.TempDir()}); err == nil {
		// Listening may have won the race against the cancelled context; then the store must work and close.
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
