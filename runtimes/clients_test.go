package runtimes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/runtimes/runtimetest"
	"github.com/sebs-suite/sebs/runtimes/runtimetest/stores"
)

// useStorage calls every method of the storage module and returns what came of
// it in one form for all languages.
var useStorage = map[string]string{
	"python": `
import io, os, tempfile
from . import storage
client = storage.storage.get_instance()
assert client is storage.storage.get_instance()
def handler(event):
    bucket, prefix = event["bucket"], event["prefix"]
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "file.bin")
        with open(path, "wb") as file:
            file.write(b"abc" * event["size"])
        uploaded = client.upload(bucket, prefix + "/up load+ü.bin", path)
        streamed = client.upload_stream(bucket, prefix + "/stream.txt", io.BytesIO(b"xyz" * event["size"]))
        client.download(bucket, uploaded, path + ".2")
        client.download_directory(bucket, event["directory"], work)
        tree = sorted(os.path.relpath(os.path.join(r, n), work) for r, _, ns in os.walk(work) for n in ns)
        back = bytes(client.download_stream(bucket, streamed))
        missing = ""
        try:
            client.download_stream(bucket, prefix + "/none")
        except Exception as error:
            missing = str(error)
        return {"result": {
            "uploaded": uploaded, "streamed": streamed, "downloaded": os.path.getsize(path + ".2"),
            "back": len(back), "tree": tree, "missing": missing,
            "unique": client.unique_name("a/b.c.txt"),
        }}
`,
	"nodejs": `
const assert = require('assert');
const fs = require('fs');
const os = require('os');
const path = require('path');
const storage = require('./storage');
const client = new storage.storage();
assert.strictEqual(storage.storage.get_instance(), storage.storage.get_instance());
function files(dir, base = dir) {
  return fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
    const full = path.join(dir, e.name);
    return e.isDirectory() ? files(full, base) : [path.relative(base, full)];
  });
}
exports.handler = async (event) => {
  const { bucket, prefix } = event;
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'x-'));
  const file = path.join(work, 'file.bin');
  fs.writeFileSync(file, 'abc'.repeat(event.size));
  const [uploaded, done] = client.upload(bucket, prefix + '/up load+ü.bin', file);
  await done;
  const [stream, stored, streamed] = client.uploadStream(bucket, prefix + '/stream.txt');
  for (let i = 0; i < 3; i += 1) stream.write('xyz'[i].repeat(event.size));
  stream.end();
  await stored;
  await client.download(bucket, uploaded, file + '.2');
  await client.downloadDirectory(bucket, event.directory, work);
  const parts = [];
  for await (const part of await client.downloadStream(bucket, streamed)) parts.push(part);
  let missing = '';
  try { await client.downloadStream(bucket, prefix + '/none'); } catch (error) { missing = error.message; }
  return { result: {
    uploaded, streamed, downloaded: fs.statSync(file + '.2').size, back: Buffer.concat(parts).length,
    tree: files(work).sort(), missing, unique: client.unique_name('a/b.c.txt'),
  } };
};
`,
}

func TestStorageModule(t *testing.T) {
	t.Parallel()
	store := stores.StartObjects(t, "sebs-benchmarks-test")
	// More than one page of a listing, and names that need escaping.
	var want []string
	for i := range 1005 {
		want = append(want, fmt.Sprintf("in/data set/%04d.txt", i))
	}
	want = append(want, "in/data set/sub & more/ü+=%.txt")
	for _, key := range want {
		store.Put(t, key, []byte(key))
	}
	slices.Sort(want)

	t.Run("languages", func(t *testing.T) {
		eachPlatform(t, useStorage, func(t *testing.T, p *runtimetest.Process) {
			p.Start(t, store.Env(p.Platform)...)
			// 12 MB: more than one part of a multipart upload.
			for n, size := range []int{1, 4 << 20} {
				prefix := fmt.Sprintf("out/%s/%s/%d", p.Platform, strings.ReplaceAll(p.String(), " ", "-"), n)
				checkStorage(t, p, store, prefix, size, want)
			}
		})
	})
}

func checkStorage(t *testing.T, p *runtimetest.Process, store *stores.Objects, prefix string, size int, tree []string) {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"bucket": store.Bucket, "prefix": prefix, "directory": "in/data set/", "size": size})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Result struct {
			Uploaded, Streamed, Missing, Unique string
			Downloaded, Back                    int
			Tree                                []string
		}
	}
	if err := json.Unmarshal(p.Succeed(t, string(payload)).Result, &got); err != nil {
		t.Fatal(err)
	}
	r := got.Result
	if r.Downloaded != 3*size || r.Back != 3*size {
		t.Errorf("%d and %d bytes came back, want %d", r.Downloaded, r.Back, 3*size)
	}
	if body := store.Get(t, r.Uploaded); !bytes.Equal(body, bytes.Repeat([]byte("abc"), size)) {
		t.Errorf("%s holds %d other bytes", r.Uploaded, len(body))
	}
	if body := store.Get(t, r.Streamed); len(body) != 3*size || body[0] != 'x' || body[len(body)-1] != 'z' {
		t.Errorf("%s holds %d other bytes", r.Streamed, len(body))
	}
	if !strings.HasPrefix(r.Uploaded, prefix+"/up load+ü.") || !strings.HasSuffix(r.Uploaded, ".bin") || len(r.Uploaded) != len(prefix+"/up load+ü.bin")+9 {
		t.Errorf("uploaded as %q, not under a unique form of the name", r.Uploaded)
	}
	if !strings.HasPrefix(r.Unique, "a/b.c.") || !strings.HasSuffix(r.Unique, ".txt") || len(r.Unique) != len("a/b.c.txt")+9 {
		t.Errorf("unique name of a/b.c.txt: %q", r.Unique)
	}
	if !strings.Contains(r.Missing, "404") {
		t.Errorf("reading a missing object: %q, want an error with 404", r.Missing)
	}
	r.Tree = slices.DeleteFunc(r.Tree, func(name string) bool { return strings.HasPrefix(name, "file.bin") })
	if !slices.Equal(r.Tree, tree) {
		t.Errorf("%d files of the directory came, want %d; the last: %v", len(r.Tree), len(tree), r.Tree[max(0, len(r.Tree)-2):])
	}
}

// useTables calls every method of the nosql module.
var useTables = map[string]string{
	"python": `
from . import nosql
client = nosql.nosql.get_instance()
def handler(event):
    part, key = ("part", event["part"]), ("key", "k1")
    client.insert("items", part, key, {"n": 1, "f": 1.5, "s": "ü", "b": True, "z": None, "l": [1, {"m": "x"}]})
    first = client.get("items", part, key)
    client.update("items", part, key, {"n": 2, "name": "new"})
    second = client.get("items", part, key)
    for i in range(3):
        client.insert("items", part, ("key", "q%d" % i), {"pad": "p" * 380000, "i": i})
    page = client.query("items", part, "key")
    client.delete("items", part, key)
    left = [item["key"] for item in client.query("items", part, "key")]
    try:
        gone = client.get("items", part, key)
    except KeyError:
        gone = None
    try:
        client.get("other", part, key)
        unknown = ""
    except KeyError as error:
        unknown = str(error)
    return {"result": {"first": first, "second": second, "queried": len(page), "left": left, "gone": gone, "unknown": unknown}}
`,
	"nodejs": `
const nosql = require('./nosql');
const client = nosql.nosql.get_instance();
exports.handler = async (event) => {
  const part = ['part', event.part];
  const key = ['key', 'k1'];
  await client.insert('items', part, key, { n: 1, f: 1.5, s: 'ü', b: true, z: null, l: [1, { m: 'x' }] });
  const first = await client.get('items', part, key);
  await client.update('items', part, key, { n: 2, name: 'new' });
  const second = await client.get('items', part, key);
  for (let i = 0; i < 3; i += 1) {
    await client.insert('items', part, ['key', 'q' + i], { pad: 'p'.repeat(380000), i });
  }
  const page = await client.query('items', part, 'key');
  await client.delete('items', part, key);
  const left = (await client.query('items', part, 'key')).map((item) => item.key);
  const gone = await client.get('items', part, key);
  let unknown = '';
  try { await client.get('other', part, key); } catch (error) { unknown = error.message; }
  return { result: { first, second, queried: page.length, left, gone, unknown } };
};
`,
}

func TestNoSQLModule(t *testing.T) {
	t.Parallel()
	store := stores.StartTables(t)
	store.Create(t, "sebs-test-items", "part", "key")
	t.Run("languages", func(t *testing.T) {
		eachPlatform(t, useTables, func(t *testing.T, p *runtimetest.Process) {
			p.Start(t, store.Env(p.Platform, map[string]string{"items": "sebs-test-items"})...)
			var got struct {
				Result struct {
					First, Second map[string]any
					Queried       int
					Left          []string
					Gone          any
					Unknown       string
				}
			}
			part := p.Platform + " " + p.String()
			a := p.Succeed(t, fmt.Sprintf(`{"part": %q}`, part))
			if err := json.Unmarshal(a.Result, &got); err != nil {
				t.Fatal(err)
			}
			r := got.Result
			want := map[string]any{
				"part": part, "key": "k1", "n": 1.0, "f": 1.5, "s": "ü", "b": true, "z": nil,
				"l": []any{1.0, map[string]any{"m": "x"}},
			}
			if fmt.Sprint(r.First) != fmt.Sprint(want) {
				t.Errorf("read %v, want %v", r.First, want)
			}
			want["n"], want["name"] = 2.0, "new"
			if fmt.Sprint(r.Second) != fmt.Sprint(want) {
				t.Errorf("read %v after the update, want %v", r.Second, want)
			}
			// Three large items are more than one page of an answer.
			if r.Queried != 4 || !slices.Equal(r.Left, []string{"q0", "q1", "q2"}) {
				t.Errorf("the partition holds %d items, then %v", r.Queried, r.Left)
			}
			if r.Gone != nil || !strings.Contains(r.Unknown, "NOSQL_STORAGE_TABLE_other") {
				t.Errorf("deleted item: %v; unknown table: %q", r.Gone, r.Unknown)
			}
		})
	})
}

// TestStorageTrigger serves upload notifications instead of calls.
func TestStorageTrigger(t *testing.T) {
	t.Parallel()
	store := stores.StartObjects(t, "sebs-benchmarks-test")
	sources := map[string]string{
		"python": "def handler(event):\n    return {'result': 10 / event['n']}\n",
		"nodejs": "exports.handler = async (event) => { if (!event.n) throw new Error('zero'); return { result: 10 / event.n }; };\n",
	}
	t.Run("languages", func(t *testing.T) {
		eachPlatform(t, sources, func(t *testing.T, p *runtimetest.Process) {
			p.Start(t, store.Env(p.Platform)...)
			name := p.Platform + "-" + strings.ReplaceAll(p.String(), " ", "-")
			notify := func(id, payload string) string {
				store.Put(t, "inbox/"+id+".json", []byte(payload))
				return fmt.Sprintf(`{"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": %q}, "object": {"key": "inbox/%s.json"}}}]}`,
					store.Bucket, id)
			}

			a := p.Succeed(t, notify(name+"-1", `{"n": 4}`))
			var stored runtimetest.Answer
			if err := json.Unmarshal(store.Get(t, "results/"+name+"-1.json"), &stored); err != nil {
				t.Fatal(err)
			}
			if stored.RequestID != a.RequestID || !strings.Contains(string(stored.Result), "2.5") || !*stored.IsCold {
				t.Errorf("stored %+v, answered %+v", stored, a)
			}

			f := p.Fail(t, notify(name+"-2", `{"n": 0}`))
			var failure runtimetest.Failure
			if err := json.Unmarshal(store.Get(t, "results/"+name+"-2.json"), &failure); err != nil {
				t.Fatal(err)
			}
			if failure.ErrorType != f.ErrorType || failure.ErrorMessage != f.ErrorMessage {
				t.Errorf("stored error %+v, answered %+v", failure, f)
			}
		})
	})
}

func TestModulesWithoutAStoreSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": "from . import storage\nclient = storage.storage.get_instance()\n",
		"nodejs": "const storage = require('./storage');\nnew storage.storage();\n",
	}
	eachInterpreter(t, sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t, "MINIO_ADDRESS=127.0.0.1:1")
		d := p.Await(t)
		if f := runtimetest.DecodeFailure(t, d); d.Path != "init/error" || !strings.Contains(f.ErrorMessage, "MINIO_ACCESS_KEY, MINIO_SECRET_KEY not set") {
			t.Errorf("%s: %+v", d.Path, f)
		}
	})
}
