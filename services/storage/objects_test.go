package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/s3"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

const (
	localA     = "platforms/local/deployments/local-aaaa0000"
	benchmarks = typev1.BucketRole_BUCKET_ROLE_BENCHMARKS
)

func wantCode(t *testing.T, what string, err error, want codes.Code, reason string) {
	t.Helper()
	err = errs.FromStatus(err)
	if err == nil || errs.Code(err) != want || (reason != "" && errs.Reason(err) != reason) {
		t.Errorf("%s: got %v %q (%v), want %v %q", what, errs.Code(err), errs.Reason(err), err, want, reason)
	}
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx := t.Context()
	b.record(t, "local", "local-aaaa0000")
	names := map[typev1.BucketRole]string{
		typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT:  "sebs-deployment-local-aaaa0000",
		benchmarks:                                "sebs-benchmarks-local-aaaa0000",
		typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS: "sebs-experiments-local-aaaa0000",
	}
	for role, want := range names {
		for range 2 { // the second call finds it
			got := b.ensure(t, localA, role)
			if got.GetBucketId() != want || got.GetName() != localA+"/buckets/"+want || got.GetRole() != role {
				t.Errorf("role %v: %v", role, got)
			}
		}
	}
	var rec typev1.Deployment
	if _, err := b.records.Get(ctx, "deployments/local/local-aaaa0000", &rec); err != nil || len(rec.GetBuckets()) != 3 {
		t.Errorf("record holds %v, %v; want three buckets", rec.GetBuckets(), err)
	}
	if got := b.ensure(t, "platforms/suite/deployments/main", typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT); got.GetBucketId() != "suite-deployment-main" {
		t.Errorf("suite bucket is %v", got)
	}
	found, err := b.client.FindDeployments(ctx, &storagev1.FindDeploymentsRequest{Parent: "platforms/local"})
	if err != nil || !slices.Equal(found.GetResourcesIds(), []string{"local-aaaa0000"}) {
		t.Errorf("found %v, %v", found, err)
	}
	page, err := b.client.ListBuckets(ctx, &storagev1.ListBucketsRequest{Parent: localA, PageSize: 3})
	if err != nil || len(page.GetBuckets()) != 3 || page.GetNextPageToken() == "" {
		t.Fatalf("page %v, %v", page, err)
	}
	page, err = b.client.ListBuckets(ctx, &storagev1.ListBucketsRequest{Parent: localA, PageSize: 3, PageToken: page.GetNextPageToken()})
	if err != nil || len(page.GetBuckets()) != 1 || page.GetNextPageToken() != "" {
		t.Errorf("second page %v, %v", page, err)
	}
	wholeStore(t, b)
	_, err = b.client.GetBucket(ctx, &storagev1.GetBucketRequest{Name: localA + "/buckets/none"})
	wantCode(t, "get a missing bucket", err, codes.NotFound, "BUCKET_NOT_FOUND")

	b.mustUpload(t, localA+"/buckets/sebs-benchmarks-local-aaaa0000", "x/y", []byte("1"))
	_, err = b.client.DeleteBucket(ctx, &storagev1.DeleteBucketRequest{Name: localA + "/buckets/sebs-benchmarks-local-aaaa0000"})
	wantCode(t, "delete a bucket with objects", err, codes.FailedPrecondition, "BUCKET_NOT_EMPTY")
	for i, dry := range []bool{true, false, false} {
		out, err := b.client.CleanupBuckets(ctx, &storagev1.CleanupBucketsRequest{Parent: localA, DryRun: dry})
		if want := []int{3, 3, 0}[i]; err != nil || len(out.GetBuckets()) != want {
			t.Errorf("cleanup %d (dry run %v): %v, %v; want %d", i, dry, out, err, want)
		}
	}
	if _, err := b.records.Get(ctx, "deployments/local/local-aaaa0000", &rec); err != nil || len(rec.GetBuckets()) != 0 {
		t.Errorf("record still holds %v, %v", rec.GetBuckets(), err)
	}
}

// wholeStore asks for buckets without naming a deployment. It leaves what it found.
func wholeStore(t *testing.T, b *bench) {
	t.Helper()
	ctx := t.Context()
	const store, local = "platforms/local/deployments/-", "platforms/local/deployments/local-bbbb0000"
	own := b.ensure(t, local, typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS).GetBucketId()
	if _, err := b.client.CreateBucket(ctx, &storagev1.CreateBucketRequest{Parent: local, BucketId: "a-bucket-of-others"}); err != nil {
		t.Fatal(err)
	}
	page, err := b.client.ListBuckets(ctx, &storagev1.ListBucketsRequest{Parent: store})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, bucket := range page.GetBuckets() {
		names[bucket.GetName()] = true
	}
	for _, want := range []string{
		local + "/buckets/" + own, localA + "/buckets/sebs-benchmarks-local-aaaa0000", store + "/buckets/a-bucket-of-others",
	} {
		if !names[want] {
			t.Errorf("the store has %v; want %s", names, want)
		}
	}
	for _, name := range []string{own, "a-bucket-of-others"} {
		if _, err := b.client.DeleteBucket(ctx, &storagev1.DeleteBucketRequest{Name: store + "/buckets/" + name}); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	_, err = b.client.GetBucket(ctx, &storagev1.GetBucketRequest{Name: local + "/buckets/" + own})
	wantCode(t, "get a deleted bucket", err, codes.NotFound, "BUCKET_NOT_FOUND")
	_, err = b.client.ListBuckets(ctx, &storagev1.ListBucketsRequest{Parent: "platforms/-/deployments/-"})
	wantCode(t, "list without a platform", err, codes.InvalidArgument, "")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx := t.Context()
	for _, c := range []struct {
		parent, reason string
		code           codes.Code
		mention        string
	}{
		{"platforms/aws/deployments/x1", "PLATFORM_NOT_SUPPORTED", codes.Unimplemented, "aws"},
		{"platforms/moon/deployments/x1", "UNKNOWN_PLATFORM", codes.InvalidArgument, "moon"},
		{"platforms/local/deployments/UPPER", errs.ReasonInvalidFields, codes.InvalidArgument, "UPPER"},
		{"platforms/local/deployments/../x", errs.ReasonInvalidFields, codes.InvalidArgument, "parent"},
		{"nonsense", errs.ReasonInvalidFields, codes.InvalidArgument, "nonsense"},
	} {
		_, err := b.client.EnsureBucket(ctx, &storagev1.EnsureBucketRequest{Parent: c.parent, Role: benchmarks})
		wantCode(t, c.parent, err, c.code, c.reason)
		if err != nil && !strings.Contains(err.Error(), c.mention) {
			t.Errorf("%s: %v does not mention %q", c.parent, err, c.mention)
		}
	}
	_, err := b.client.CreateTable(ctx, &storagev1.CreateTableRequest{Parent: "platforms/suite/deployments/main", Benchmark: "x", Spec: &storagev1.TableSpec{LogicalName: "t", PrimaryKey: "k"}})
	wantCode(t, "tables of the suite", err, codes.Unimplemented, "TABLES_NOT_SUPPORTED")
	bucket := b.ensure(t, localA, benchmarks).GetName()
	for _, key := range []string{"../x", "/x", "a//b", ""} {
		_, err := b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: key}, strings.NewReader("x"))
		wantCode(t, fmt.Sprintf("key %q", key), err, codes.InvalidArgument, "")
	}
	_, err = b.upload(ctx, &storagev1.UploadTarget{Bucket: localA + "/buckets/..", Key: "k"}, strings.NewReader("x"))
	wantCode(t, "bucket ..", err, codes.InvalidArgument, "")
	// Cleaning up does not start a table store to find that it is empty.
	out, err := b.client.CleanupTables(ctx, &storagev1.CleanupTablesRequest{Parent: localA})
	if err != nil || len(out.GetTables()) != 0 || b.local.tableStore != nil {
		t.Errorf("clean-up without tables: %v, %v, store started: %v", out, err, b.local.tableStore != nil)
	}
}

func TestUploadDownload(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx := t.Context()
	bucket := b.ensure(t, localA, benchmarks).GetName()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])

	out, err := b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: "in/data.bin", Sha256: digest, ContentType: "application/zip"}, bytes.NewReader(data))
	if err != nil || out.GetSkipped() || out.GetObject().GetSizeBytes() != int64(len(data)) {
		t.Fatalf("upload of unknown size: %v, %v", out, err)
	}
	var back bytes.Buffer
	facts, err := b.download(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: "in/data.bin"}, &back)
	if err != nil || !bytes.Equal(back.Bytes(), data) {
		t.Fatalf("download: %d bytes, %v", back.Len(), err)
	}
	if facts.GetSha256() != digest || facts.GetCrc32C() == "" || facts.GetContentType() != "application/zip" || facts.GetBucket() != bucket {
		t.Errorf("facts %v", facts)
	}
	back.Reset()
	facts, err = b.download(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket, Key: "in/data.bin", OffsetBytes: 16, LengthBytes: 4}, &back)
	if err != nil || back.String() != "0123" || facts.GetSizeBytes() != int64(len(data)) {
		t.Errorf("range: %q, %v, %v", back.String(), facts, err)
	}

	keep, replace := false, true
	out, err = b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: "in/data.bin", ReplaceExisting: &keep}, strings.NewReader("other"))
	if err != nil || !out.GetSkipped() || out.GetObject().GetSizeBytes() != int64(len(data)) {
		t.Errorf("upload that keeps: %v, %v", out, err)
	}
	out, err = b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: "in/data.bin", ReplaceExisting: &replace}, strings.NewReader("other"))
	if err != nil || out.GetSkipped() || out.GetObject().GetSizeBytes() != 5 {
		t.Errorf("upload that replaces: %v, %v", out, err)
	}
	for _, size := range []int{10, 20 << 20} {
		_, err = b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: "bad", Sha256: digest}, bytes.NewReader(make([]byte, size)))
		wantCode(t, "wrong digest", err, codes.InvalidArgument, "OBJECT_DIGEST_MISMATCH")
	}
	announced := int64(100)
	_, err = b.upload(ctx, &storagev1.UploadTarget{Bucket: bucket, Key: "bad", SizeBytes: &announced}, strings.NewReader("short"))
	wantCode(t, "wrong size", err, codes.InvalidArgument, "OBJECT_LENGTH_MISMATCH")
	_, err = b.client.GetObject(ctx, &storagev1.GetObjectRequest{Bucket: bucket, Key: "bad"})
	wantCode(t, "refused object", err, codes.NotFound, "OBJECT_NOT_FOUND")
	stream, err := b.client.UploadObject(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&storagev1.UploadObjectRequest{Part: &storagev1.UploadObjectRequest_Chunk{Chunk: []byte("x")}}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_, err = stream.CloseAndRecv()
	wantCode(t, "chunk before the target", err, codes.InvalidArgument, "UPLOAD_PROTOCOL")
}

func TestDownloadBucket(t *testing.T) {
	t.Parallel()
	b := start(t)
	bucket := b.ensure(t, localA, benchmarks).GetName()
	files := map[string]string{"a.txt": "one", "sub/b.txt": "two", "sub/deep/c.txt": "three", "other/d.txt": "four"}
	facts := map[string]*storagev1.Object{}
	for key, text := range files {
		facts[key] = b.mustUpload(t, bucket, key, []byte(text))
	}
	read := func(in *storagev1.DownloadBucketRequest) map[string]string {
		stream, err := b.client.DownloadBucket(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		got, key := map[string]string{}, ""
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return got
			}
			if err != nil {
				t.Fatal(err)
			}
			if o := m.GetObject(); o != nil {
				key = o.GetKey()
				got[key] = ""
				continue
			}
			got[key] += string(m.GetChunk())
		}
	}
	if got := read(&storagev1.DownloadBucketRequest{Bucket: bucket}); len(got) != 4 || got["sub/deep/c.txt"] != "three" {
		t.Errorf("whole bucket: %v", got)
	}
	if got := read(&storagev1.DownloadBucketRequest{Bucket: bucket, Prefix: "sub/"}); len(got) != 2 || got["sub/b.txt"] != "two" {
		t.Errorf("prefix: %v", got)
	}
	same := facts["a.txt"]
	sameSize := &storagev1.Object{Key: "sub/b.txt", SizeBytes: 3, Crc32C: same.GetCrc32C()}
	got := read(&storagev1.DownloadBucketRequest{Bucket: bucket, Have: []*storagev1.Object{
		{Key: "a.txt", SizeBytes: 3, Crc32C: same.GetCrc32C()}, sameSize, {Key: "other/d.txt", SizeBytes: 4},
	}})
	if _, ok := got["a.txt"]; ok || len(got) != 3 {
		t.Errorf("with a.txt there, another content of equal size, and no checksum: %v", got)
	}
}

func TestHTTPContent(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.ensure(t, localA, benchmarks)
	url := b.http + "/v1/content/" + localA + "/buckets/sebs-benchmarks-local-aaaa0000/in/some%20file.txt"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	do := func(method, url string, body string, header ...string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return res, string(raw)
	}
	if res, body := do("PUT", url, "0123456789", "Content-Type", "text/plain"); res.StatusCode != http.StatusCreated {
		t.Fatalf("put: %d %s", res.StatusCode, body)
	}
	if res, _ := do("PUT", url, "x", "If-None-Match", "*"); res.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("put where one exists: %d", res.StatusCode)
	}
	for _, c := range []struct {
		rng, want, content string
		status             int
	}{
		{"", "0123456789", "", 200},
		{"bytes=2-4", "234", "bytes 2-4/10", 206},
		{"bytes=7-", "789", "bytes 7-9/10", 206},
		{"bytes=-2", "89", "bytes 8-9/10", 206},
		{"bytes=5-99", "56789", "bytes 5-9/10", 206},
		{"bytes=1-2,4-5", "0123456789", "", 200},
		{"lines=1-2", "0123456789", "", 200},
	} {
		res, body := do("GET", url, "", "Range", c.rng)
		if res.StatusCode != c.status || body != c.want || res.Header.Get("Content-Range") != c.content || res.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("range %q: %d %q %q", c.rng, res.StatusCode, body, res.Header.Get("Content-Range"))
		}
	}
	if res, _ := do("GET", url, "", "Range", "bytes=10-"); res.StatusCode != http.StatusRequestedRangeNotSatisfiable || res.Header.Get("Content-Range") != "bytes */10" {
		t.Errorf("range behind the end: %d", res.StatusCode)
	}
	if res, body := do("HEAD", url, ""); res.StatusCode != http.StatusOK || body != "" || res.ContentLength != 10 {
		t.Errorf("head: %d %q %d", res.StatusCode, body, res.ContentLength)
	}
	if res, body := do("GET", url+"x", ""); res.StatusCode != http.StatusNotFound || !strings.Contains(body, "OBJECT_NOT_FOUND") {
		t.Errorf("missing: %d %s", res.StatusCode, body)
	}
}

func TestCreatedEvents(t *testing.T) {
	t.Parallel()
	b := start(t)
	bucket := b.ensure(t, localA, benchmarks).GetName()
	suite := b.ensure(t, "platforms/suite/deployments/main", typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT).GetName()
	b.mustUpload(t, suite, "package", []byte("not told"))
	b.mustUpload(t, bucket, "in/1 ä.json", []byte("{}"))
	b.mustUpload(t, bucket, "in/big", make([]byte, 9<<20)) // in parts
	for _, want := range []struct {
		key  string
		size int64
	}{{"in%2F1+%C3%A4.json", 2}, {"in%2Fbig", 9 << 20}} {
		select {
		case raw := <-b.events:
			var n struct {
				Records []struct {
					EventName string `json:"eventName"`
					S3        struct {
						Bucket struct{ Name string }
						Object struct {
							Key  string
							Size int64
						}
					} `json:"s3"`
				}
			}
			if err := json.Unmarshal(raw, &n); err != nil || len(n.Records) != 1 {
				t.Fatalf("notification %s: %v", raw, err)
			}
			if r := n.Records[0]; r.S3.Bucket.Name != "sebs-benchmarks-local-aaaa0000" || r.S3.Object.Key != want.key || r.S3.Object.Size != want.size || !strings.HasPrefix(r.EventName, "ObjectCreated:") {
				t.Errorf("notification %s, want key %s of %d bytes", raw, want.key, want.size)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no notification of %s", want.key)
		}
	}
}

// TestFunctionAccount shows that the account of a deployment's functions reaches its benchmarks bucket and nothing else.
func TestFunctionAccount(t *testing.T) {
	t.Parallel()
	b := start(t)
	ctx := t.Context()
	const localB = "platforms/local/deployments/local-bbbb0000"
	other := b.ensure(t, localB, benchmarks)
	b.mustUpload(t, other.GetName(), "secret", []byte("x"))
	env, err := b.client.GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{Parent: localA, Benchmark: "010.sleep", UsesObjects: true})
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{}
	for _, v := range env.GetVariables() {
		vars[v.GetName()] = v.GetValue()
		if v.GetSecret() != (v.GetName() == "MINIO_SECRET_KEY") {
			t.Errorf("%s: secret=%v", v.GetName(), v.GetSecret())
		}
	}
	d, err := s3.Open(s3.Config{Endpoint: vars["MINIO_ADDRESS"], AccessKey: vars["MINIO_ACCESS_KEY"], SecretKey: secretOf(vars["MINIO_SECRET_KEY"]), MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := object.New(d)
	t.Cleanup(func() { _ = f.Close() })
	own := "sebs-benchmarks-local-aaaa0000"
	for _, size := range []int{10, 9 << 20} {
		if _, err := f.Put(ctx, own, "out/x", bytes.NewReader(make([]byte, size)), object.PutOptions{SizeBytes: int64(size)}); err != nil {
			t.Errorf("write %d bytes to the own bucket: %v", size, err)
		}
	}
	body, _, err := f.Get(ctx, own, "out/x", object.Range{})
	if err != nil {
		t.Errorf("read the own bucket: %v", err)
	} else if err := body.Close(); err != nil {
		t.Error(err)
	}
	if page, _, err := f.List(ctx, own, "", "", 10); err != nil || len(page) != 1 {
		t.Errorf("list the own bucket: %v, %v", page, err)
	}
	if err := f.Delete(ctx, own, "out/x"); err != nil {
		t.Errorf("delete from the own bucket: %v", err)
	}
	denied := map[string]func() error{
		"read another bucket":    func() error { _, err := f.Stat(ctx, other.GetBucketId(), "secret"); return err },
		"list another bucket":    func() error { _, _, err := f.List(ctx, other.GetBucketId(), "", "", 1); return err },
		"write another bucket":   func() error { return putOne(ctx, f, other.GetBucketId()) },
		"delete in another":      func() error { return f.Delete(ctx, other.GetBucketId(), "secret") },
		"create a bucket":        func() error { _, err := f.CreateBucket(ctx, "sebs-benchmarks-mine"); return err },
		"remove the own bucket":  func() error { return f.RemoveBucket(ctx, own, false) },
		"change its policy":      func() error { return f2(d.SetBucketPolicy(ctx, own, []byte(`{}`)), d) },
		"write a suite's bucket": func() error { return putOne(ctx, f, "suite-deployment-main") },
	}
	b.ensure(t, "platforms/suite/deployments/main", typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT)
	for what, try := range denied {
		if err := try(); errs.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: got %v (%v), want PERMISSION_DENIED", what, errs.Code(err), err)
		}
	}
	if list, err := f.ListBuckets(ctx, ""); err == nil && len(list) > 0 {
		t.Errorf("the account sees the buckets %v", list)
	}
	if o, err := b.client.GetObject(ctx, &storagev1.GetObjectRequest{Bucket: other.GetName(), Key: "secret"}); err != nil || o.GetSizeBytes() != 1 {
		t.Errorf("the other deployment's object: %v, %v", o, err)
	}
}

// streamMiB is the size of the object that TestFlatMemory streams.
var streamMiB = flag.Int64("stream-mib", 256, "MiB of the object that the memory test streams")

// zeros reads as many zero bytes as asked.
type zeros int64

func (z *zeros) Read(p []byte) (int, error) {
	if *z == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), int64(*z))
	*z -= zeros(n)
	return int(n), nil
}

// TestFlatMemory streams an object much larger than what may stay in memory, both ways.
func TestFlatMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("needs half a minute of streaming; run without -short")
	}
	b := start(t)
	bucket := b.ensure(t, localA, benchmarks).GetName()
	const limit = int64(96 << 20)
	size := *streamMiB << 20
	var peak int64
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, int64(m.HeapInuse))
			}
		}
	}()
	left := zeros(size)
	if _, err := b.upload(t.Context(), &storagev1.UploadTarget{Bucket: bucket, Key: "big"}, &left); err != nil {
		t.Fatal(err)
	}
	n := counter(0)
	if _, err := b.download(t.Context(), &storagev1.DownloadObjectRequest{Bucket: bucket, Key: "big"}, &n); err != nil {
		t.Fatal(err)
	}
	close(stop)
	<-watched
	if int64(n) != size {
		t.Errorf("read back %d bytes", n)
	}
	t.Logf("peak heap in use: %d MiB for an object of %d MiB (client, service and store in one process)", peak>>20, size>>20)
	if peak > limit {
		t.Errorf("peak heap in use was %d MiB, above %d MiB", peak>>20, limit>>20)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
