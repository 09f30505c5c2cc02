// Package drivertest is the conformance suite of object store drivers.
package drivertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/object"
	"github.com/sebs-suite/sebs/platform/object/driver"
)

// Case names one test of the suite, for Except.
type Case string

// The cases of the suite.
const (
	BucketLifecycle Case = "bucket lifecycle"
	RoundTrip       Case = "round trip"
	UnknownSize     Case = "unknown size"
	WrongSize       Case = "wrong size"
	Ranges          Case = "ranges"
	Checksum        Case = "checksum"
	ListPaging      Case = "list paging"
	OddKeys         Case = "odd keys"
	MissingThings   Case = "missing things"
	DeleteTwice     Case = "delete twice"
	CleanBucket     Case = "clean bucket"
	IfAbsent        Case = "if absent"
	Overwrite       Case = "overwrite"
	FailingBody     Case = "failing body"
	CancelledCall   Case = "cancelled call"
	Parallel        Case = "parallel"
	KeyBelowKey     Case = "key below a key"
	CorrectName     Case = "correct name"
	BadCredentials  Case = "bad credentials"
)

// Harness makes drivers for the store under test.
type Harness struct {
	// Open returns a driver with credentials that may do everything.
	Open func(t *testing.T) driver.Store
	// OpenStranger returns a driver whose credentials the store does not know. Nil skips BadCredentials.
	OpenStranger func(t *testing.T) driver.Store
}

// Except lists cases that a store is known not to pass, with the reason.
type Except map[Case]string

// Run runs the suite. Every case works in a bucket of its own.
func Run(t *testing.T, h Harness, except Except) {
	cases := []struct {
		name Case
		run  func(*testing.T, *object.Store, string)
	}{
		{BucketLifecycle, bucketLifecycle},
		{RoundTrip, roundTrip},
		{UnknownSize, unknownSize},
		{WrongSize, wrongSize},
		{Ranges, ranges},
		{Checksum, checksum},
		{ListPaging, listPaging},
		{OddKeys, oddKeys},
		{MissingThings, missingThings},
		{DeleteTwice, deleteTwice},
		{CleanBucket, cleanBucket},
		{IfAbsent, ifAbsent},
		{Overwrite, overwrite},
		{FailingBody, failingBody},
		{CancelledCall, cancelledCall},
		{Parallel, parallel},
		{KeyBelowKey, keyBelowKey},
		{CorrectName, correctName},
	}
	for i, c := range cases {
		t.Run(string(c.name), func(t *testing.T) {
			if reason, ok := except[c.name]; ok {
				t.Skip("known difference: " + reason)
			}
			store := object.New(h.Open(t))
			t.Cleanup(func() { _ = store.Close() })
			bucket := fmt.Sprintf("sebs-suite-%02d-%08x", i, rand.Uint32())
			if c.name != BucketLifecycle {
				mustCreate(t, store, bucket)
			}
			c.run(t, store, bucket)
		})
	}
	t.Run(string(BadCredentials), func(t *testing.T) {
		if h.OpenStranger == nil {
			t.Skip("needs a store that checks credentials")
		}
		store := object.New(h.OpenStranger(t))
		t.Cleanup(func() { _ = store.Close() })
		_, err := store.ListBuckets(t.Context(), "")
		if code := errs.Code(err); code != codes.Unauthenticated && code != codes.PermissionDenied {
			t.Errorf("listing buckets with unknown credentials: got %v (%v), want UNAUTHENTICATED or PERMISSION_DENIED", code, err)
		}
	})
}

func mustCreate(t *testing.T, s *object.Store, bucket string) {
	t.Helper()
	if _, err := s.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeBucket(t, s, bucket) })
}

// removeBucket removes a bucket at the end of a case. A store may still be ending an upload that broke off, and refuse for
// as long as that takes.
func removeBucket(t *testing.T, s *object.Store, bucket string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	for {
		err := s.RemoveBucket(ctx, bucket, true)
		if err == nil || errs.Is(err, codes.NotFound) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("remove bucket: %v", err)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// content makes bytes that repeat only after 4 GiB, the same for the same size.
func content(size int) []byte {
	b := make([]byte, size+4)
	for i := 0; i < size; i += 4 {
		binary.LittleEndian.PutUint32(b[i:], uint32(i)*2654435761)
	}
	return b[:size]
}

func put(t *testing.T, s *object.Store, bucket, key string, data []byte) object.Object {
	t.Helper()
	o, err := s.Put(t.Context(), bucket, key, bytes.NewReader(data), object.PutOptions{SizeBytes: int64(len(data))})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return o
}

func get(t *testing.T, s *object.Store, bucket, key string, r object.Range) ([]byte, object.Object) {
	t.Helper()
	body, o, err := s.Get(t.Context(), bucket, key, r)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return data, o
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if err == nil || errs.Code(err) != want {
		t.Errorf("%s: got error %v (%v), want %v", what, errs.Code(err), err, want)
	}
}

func bucketLifecycle(t *testing.T, s *object.Store, bucket string) {
	ctx := t.Context()
	if ok, err := s.BucketExists(ctx, bucket); err != nil || ok {
		t.Fatalf("exists before creation: %v, %v", ok, err)
	}
	for i, want := range []bool{true, false} {
		created, err := s.CreateBucket(ctx, bucket)
		if err != nil || created != want {
			t.Fatalf("create call %d: created=%v, %v; want %v", i+1, created, err, want)
		}
	}
	if ok, err := s.BucketExists(ctx, bucket); err != nil || !ok {
		t.Errorf("exists after creation: %v, %v", ok, err)
	}
	list, err := s.ListBuckets(ctx, bucket)
	if err != nil || len(list) != 1 || list[0].Name != bucket || list[0].Created.IsZero() {
		t.Errorf("list: %v, %v; want the bucket with its time", list, err)
	}
	put(t, s, bucket, "k", []byte("v"))
	wantCode(t, "remove a bucket with objects", s.RemoveBucket(ctx, bucket, false), codes.FailedPrecondition)
	if err := s.RemoveBucket(ctx, bucket, true); err != nil {
		t.Errorf("remove with force: %v", err)
	}
	wantCode(t, "remove again", s.RemoveBucket(ctx, bucket, false), codes.NotFound)
}

func roundTrip(t *testing.T, s *object.Store, bucket string) {
	for _, size := range []int{0, 1, 16 << 10, 8<<20 - 1, 8 << 20, 8<<20 + 1, 20<<20 + 7} {
		data := content(size)
		o, err := s.Put(t.Context(), bucket, "a/b", bytes.NewReader(data), object.PutOptions{
			SizeBytes: int64(size), ContentType: "text/x-sebs", Metadata: map[string]string{"origin": "suite"},
		})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if o.Key != "a/b" || o.SizeBytes != int64(size) || o.ETag == "" {
			t.Errorf("%d bytes: put answered %+v", size, o)
		}
		back, info := get(t, s, bucket, "a/b", object.Range{})
		if !bytes.Equal(back, data) {
			t.Errorf("%d bytes: read back %d bytes that differ", size, len(back))
		}
		if info.SizeBytes != int64(size) || info.ContentType != "text/x-sebs" || info.Metadata["origin"] != "suite" {
			t.Errorf("%d bytes: described as %+v", size, info)
		}
	}
}

func unknownSize(t *testing.T, s *object.Store, bucket string) {
	for _, size := range []int{0, 5, 256 << 10, 256<<10 + 1, 17 << 20} {
		data := content(size)
		o, err := s.Put(t.Context(), bucket, "stream", iotest.HalfReader(bytes.NewReader(data)), object.PutOptions{SizeBytes: -1})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if o.SizeBytes != int64(size) {
			t.Errorf("%d bytes: put says %d", size, o.SizeBytes)
		}
		if back, _ := get(t, s, bucket, "stream", object.Range{}); !bytes.Equal(back, data) {
			t.Errorf("%d bytes: content differs", size)
		}
	}
}

func wrongSize(t *testing.T, s *object.Store, bucket string) {
	for _, c := range []struct{ have, say int }{{10, 11}, {11, 10}, {0, 1}, {9 << 20, 10 << 20}, {10 << 20, 9 << 20}} {
		_, err := s.Put(t.Context(), bucket, "wrong", bytes.NewReader(content(c.have)), object.PutOptions{SizeBytes: int64(c.say)})
		wantCode(t, fmt.Sprintf("body of %d announced as %d", c.have, c.say), err, codes.InvalidArgument)
		_, err = s.Stat(t.Context(), bucket, "wrong")
		wantCode(t, "stat after a refused write", err, codes.NotFound)
	}
}

func ranges(t *testing.T, s *object.Store, bucket string) {
	data := content(1000)
	put(t, s, bucket, "r", data)
	for _, c := range []struct {
		r        object.Range
		from, to int
	}{
		{object.Range{}, 0, 1000},
		{object.Range{LengthBytes: 1}, 0, 1},
		{object.Range{OffsetBytes: 10, LengthBytes: 20}, 10, 30},
		{object.Range{OffsetBytes: 999}, 999, 1000},
		{object.Range{OffsetBytes: 990, LengthBytes: 500}, 990, 1000},
	} {
		back, o := get(t, s, bucket, "r", c.r)
		if !bytes.Equal(back, data[c.from:c.to]) {
			t.Errorf("range %+v: got %d bytes, want %d", c.r, len(back), c.to-c.from)
		}
		if o.SizeBytes != 1000 {
			t.Errorf("range %+v: whole size is said to be %d", c.r, o.SizeBytes)
		}
	}
	_, _, err := s.Get(t.Context(), bucket, "r", object.Range{OffsetBytes: 1000})
	wantCode(t, "range behind the end", err, codes.OutOfRange)
	_, _, err = s.Get(t.Context(), bucket, "r", object.Range{OffsetBytes: -1})
	wantCode(t, "negative offset", err, codes.InvalidArgument)
}

func checksum(t *testing.T, s *object.Store, bucket string) {
	for _, size := range []int{100, 20 << 20} {
		data := content(size)
		put(t, s, bucket, "sum", data)
		var want [4]byte
		binary.BigEndian.PutUint32(want[:], crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
		o, err := s.Stat(t.Context(), bucket, "sum")
		if err != nil {
			t.Fatal(err)
		}
		if enc := base64.StdEncoding.EncodeToString(want[:]); o.CRC32C != enc {
			t.Errorf("%d bytes: checksum %q, want %q", size, o.CRC32C, enc)
		}
	}
}

func listPaging(t *testing.T, s *object.Store, bucket string) {
	var want []string
	for i := range 25 {
		key := fmt.Sprintf("p/%03d", i)
		put(t, s, bucket, key, []byte(key))
		want = append(want, key)
	}
	put(t, s, bucket, "other", nil)
	put(t, s, bucket, "p-before", nil)
	for _, limit := range []int{1, 7, 25, 1000} {
		var got []string
		after := ""
		for {
			page, next, err := s.List(t.Context(), bucket, "p/", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("limit %d: page of %d", limit, len(page))
			}
			for _, o := range page {
				got = append(got, o.Key)
				if o.SizeBytes != int64(len(o.Key)) || o.Modified.IsZero() {
					t.Errorf("listed as %+v", o)
				}
			}
			if next == "" {
				break
			}
			after = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v", limit, got)
		}
	}
	if page, next, err := s.List(t.Context(), bucket, "none", "", 10); err != nil || len(page) != 0 || next != "" {
		t.Errorf("prefix without objects: %v, %q, %v", page, next, err)
	}
}

func oddKeys(t *testing.T, s *object.Store, bucket string) {
	keys := []string{
		"plain", "with space", "plus+plus", "per%cent", "per%20cent", "äöü/日本語", "q?x=1&y", "hash#tag", "semi;colon",
		"quote'\"", "deep/" + strings.Repeat("d/", 30) + "leaf", strings.Repeat("k", 200), "-dash", ".dot", "tilde~", "at@sign", "[b](c){d}",
	}
	for _, k := range keys {
		put(t, s, bucket, k, []byte(k))
	}
	for _, k := range keys {
		if back, _ := get(t, s, bucket, k, object.Range{}); string(back) != k {
			t.Errorf("key %q holds %q", k, back)
		}
	}
	var listed []string
	if err := s.Walk(t.Context(), bucket, "", func(o object.Object) error { listed = append(listed, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	if !slices.Equal(listed, keys) {
		t.Errorf("listed %q\nwant %q", listed, keys)
	}
	for _, bad := range []string{"", "/x", "x/", "a//b", "../x", "a/../b", "a/./b", "nul\x00", "\xff", strings.Repeat("x", 1025)} {
		_, err := s.Put(t.Context(), bucket, bad, strings.NewReader(""), object.PutOptions{})
		wantCode(t, fmt.Sprintf("key %.20q", bad), err, codes.InvalidArgument)
	}
}

func missingThings(t *testing.T, s *object.Store, bucket string) {
	ctx := t.Context()
	none := bucket + "-none"
	_, err := s.Stat(ctx, bucket, "none")
	wantCode(t, "stat of a missing object", err, codes.NotFound)
	_, _, err = s.Get(ctx, bucket, "none", object.Range{})
	wantCode(t, "get of a missing object", err, codes.NotFound)
	if reason := errs.Reason(err); reason != "OBJECT_NOT_FOUND" {
		t.Errorf("reason %q, want OBJECT_NOT_FOUND", reason)
	}
	_, err = s.Put(ctx, none, "k", strings.NewReader("v"), object.PutOptions{SizeBytes: 1})
	wantCode(t, "put into a missing bucket", err, codes.NotFound)
	_, _, err = s.List(ctx, none, "", "", 10)
	wantCode(t, "list of a missing bucket", err, codes.NotFound)
	_, err = s.CleanBucket(ctx, none, "")
	wantCode(t, "clean of a missing bucket", err, codes.NotFound)
}

func deleteTwice(t *testing.T, s *object.Store, bucket string) {
	put(t, s, bucket, "x/y/1", []byte("1"))
	put(t, s, bucket, "x/y/2", []byte("2"))
	put(t, s, bucket, "keep", []byte("3"))
	for range 2 {
		if err := s.Delete(t.Context(), bucket, "x/y/1", "x/y/2"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Delete(t.Context(), bucket, "x/y/1"); err != nil {
			t.Fatal(err)
		}
	}
	page, _, err := s.List(t.Context(), bucket, "", "", 10)
	if err != nil || len(page) != 1 || page[0].Key != "keep" {
		t.Errorf("left: %v, %v", page, err)
	}
}

func cleanBucket(t *testing.T, s *object.Store, bucket string) {
	var wg sync.WaitGroup
	for worker := range 15 {
		wg.Go(func() {
			for i := worker; i < 1005; i += 15 {
				if _, err := s.Put(t.Context(), bucket, fmt.Sprintf("in/%d/%d", i%10, i), strings.NewReader(""), object.PutOptions{}); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	put(t, s, bucket, "out", nil)
	n, err := s.CleanBucket(t.Context(), bucket, "in/")
	if err != nil || n != 1005 {
		t.Errorf("clean by prefix: %d, %v; want 1005", n, err)
	}
	n, err = s.CleanBucket(t.Context(), bucket, "")
	if err != nil || n != 1 {
		t.Errorf("clean: %d, %v; want 1", n, err)
	}
}

func ifAbsent(t *testing.T, s *object.Store, bucket string) {
	opts := object.PutOptions{SizeBytes: 1, IfAbsent: true}
	if _, err := s.Put(t.Context(), bucket, "once", strings.NewReader("1"), opts); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), bucket, "once", strings.NewReader("2"), opts)
	wantCode(t, "second conditional write", err, codes.AlreadyExists)
	if back, _ := get(t, s, bucket, "once", object.Range{}); string(back) != "1" {
		t.Errorf("content is %q", back)
	}
}

func overwrite(t *testing.T, s *object.Store, bucket string) {
	a := put(t, s, bucket, "o", []byte("first"))
	b := put(t, s, bucket, "o", []byte("second, longer"))
	if a.ETag == b.ETag {
		t.Error("the tag did not change with the content")
	}
	if back, _ := get(t, s, bucket, "o", object.Range{}); string(back) != "second, longer" {
		t.Errorf("content is %q", back)
	}
}

func failingBody(t *testing.T, s *object.Store, bucket string) {
	broken := errors.New("the sender went away")
	for _, size := range []int{10, 20 << 20} {
		for _, announced := range []int64{-1, int64(size) + 1} {
			body := io.MultiReader(bytes.NewReader(content(size)), iotest.ErrReader(broken))
			_, err := s.Put(t.Context(), bucket, "half", body, object.PutOptions{SizeBytes: announced})
			if err == nil {
				t.Errorf("%d bytes, announced %d: a broken body was accepted", size, announced)
			}
			_, err = s.Stat(t.Context(), bucket, "half")
			wantCode(t, "stat after a broken write", err, codes.NotFound)
		}
	}
}

func cancelledCall(t *testing.T, s *object.Store, bucket string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, bucket, "k", strings.NewReader("v"), object.PutOptions{SizeBytes: 1})
	wantCode(t, "put", err, codes.Canceled)
	_, err = s.Stat(ctx, bucket, "k")
	wantCode(t, "stat", err, codes.Canceled)
	_, _, err = s.List(ctx, bucket, "", "", 1)
	wantCode(t, "list", err, codes.Canceled)
}

func parallel(t *testing.T, s *object.Store, bucket string) {
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			data := content(1 + i*100)
			key := fmt.Sprintf("dir%d/%d", i%3, i)
			if _, err := s.Put(t.Context(), bucket, key, bytes.NewReader(data), object.PutOptions{SizeBytes: int64(len(data))}); err != nil {
				t.Errorf("put %s: %v", key, err)
				return
			}
			body, _, err := s.Get(t.Context(), bucket, key, object.Range{})
			if err != nil {
				t.Errorf("get %s: %v", key, err)
				return
			}
			back, err := io.ReadAll(body)
			if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(back, data) {
				t.Errorf("read %s: %v, %d bytes", key, err, len(back))
			}
		})
	}
	wg.Wait()
}

// keyBelowKey accepts both what S3 does (both keys exist) and a refusal that names the conflict; what must not happen
// is that one key replaces the other.
func keyBelowKey(t *testing.T, s *object.Store, bucket string) {
	put(t, s, bucket, "a", []byte("upper"))
	put(t, s, bucket, "c/d", []byte("lower"))
	for key, other := range map[string]string{"a/b": "a", "c": "c/d"} {
		_, err := s.Put(t.Context(), bucket, key, strings.NewReader("new"), object.PutOptions{SizeBytes: 3})
		if err != nil {
			wantCode(t, "write "+key+" beside "+other, err, codes.FailedPrecondition)
			if errs.Reason(err) != "OBJECT_KEY_CONFLICT" {
				t.Errorf("reason %q, want OBJECT_KEY_CONFLICT", errs.Reason(err))
			}
		}
		if back, _ := get(t, s, bucket, other, object.Range{}); string(back) == "new" {
			t.Errorf("writing %s replaced %s", key, other)
		}
	}
}

func correctName(t *testing.T, s *object.Store, _ string) {
	for _, name := range []string{"sebs-benchmarks-local-1234abcd", "Sebs_Benchmarks_X", "x", strings.Repeat("long-", 30), "-edge-", "ünï"} {
		fixed := s.CorrectName(name)
		if again := s.CorrectName(fixed); again != fixed {
			t.Errorf("%q becomes %q, then %q", name, fixed, again)
		}
		created, err := s.CreateBucket(t.Context(), fixed)
		if err != nil {
			t.Errorf("%q: corrected name %q is refused: %v", name, fixed, err)
			continue
		}
		if created {
			if err := s.RemoveBucket(t.Context(), fixed, true); err != nil {
				t.Error(err)
			}
		}
	}
}
