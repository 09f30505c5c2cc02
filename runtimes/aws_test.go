package runtimes_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sebs-suite/sebs/runtimes"
	"github.com/sebs-suite/sebs/runtimes/runtimetest"
)

const (
	roleKey    = "ASIAROLE"
	roleSecret = "the role's secret key"
	roleToken  = "the-role/s+session=token"
)

// cloud answers requests for S3 and DynamoDB from a script and checks their signatures with AWS's own library.
type cloud struct {
	*httptest.Server

	mu     sync.Mutex
	script []func(http.ResponseWriter, *http.Request)
	seen   []string // method and target
	faults []string
}

func startCloud(t *testing.T, tls bool, script ...func(http.ResponseWriter, *http.Request)) *cloud {
	t.Helper()
	c := &cloud{script: script}
	if tls {
		c.Server = httptest.NewTLSServer(c)
	} else {
		c.Server = httptest.NewServer(c)
	}
	t.Cleanup(c.Close)
	return c
}

// ServeHTTP implements http.Handler.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fault := signatureFault(r)
	c.mu.Lock()
	n := len(c.seen)
	c.seen = append(c.seen, r.Method+" "+r.URL.Path+" "+string(body))
	if fault != "" {
		c.faults = append(c.faults, fault)
	}
	var answer func(http.ResponseWriter, *http.Request)
	if n < len(c.script) {
		answer = c.script[n]
	}
	c.mu.Unlock()
	if answer == nil {
		http.Error(w, "more requests than expected", http.StatusBadRequest)
		return
	}
	answer(w, r)
}

// signatureFault signs the request again; "" is a signature that agrees.
func signatureFault(r *http.Request) string {
	got := r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(got, "Credential=")
	credential, _, _ := strings.Cut(rest, ",")
	scope := strings.Split(credential, "/")
	_, rest, _ = strings.Cut(got, "SignedHeaders=")
	names, _, _ := strings.Cut(rest, ",")
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if len(scope) != 5 || err != nil {
		return fmt.Sprintf("authorization %q at %q", got, r.Header.Get("X-Amz-Date"))
	}
	if !strings.Contains(";"+names+";", ";x-amz-security-token;") || r.Header.Get("X-Amz-Security-Token") != roleToken {
		return "the session token is not signed, or not sent: " + names
	}
	again := &http.Request{Method: r.Method, URL: r.URL, Host: r.Host, Header: http.Header{}}
	for name := range strings.SplitSeq(names, ";") {
		if name != "host" && name != "x-amz-date" && name != "x-amz-security-token" {
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	again.URL.Host = r.Host
	role := aws.Credentials{AccessKeyID: roleKey, SecretAccessKey: roleSecret, SessionToken: roleToken}
	err = v4.NewSigner().SignHTTP(r.Context(), role, again, r.Header.Get("X-Amz-Content-Sha256"), scope[3], scope[2], when,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = scope[3] == "s3" })
	if err != nil {
		return err.Error()
	}
	if want := again.Header.Get("Authorization"); got != want {
		return fmt.Sprintf("authorization\n%s, want\n%s", got, want)
	}
	return ""
}

// env is what Lambda sets, with the cloud in place of AWS.
func (c *cloud) env() []string {
	return []string{
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=" + roleKey, "AWS_SECRET_ACCESS_KEY=" + roleSecret,
		"AWS_SESSION_TOKEN=" + roleToken, "AWS_ENDPOINT_URL=" + c.URL, "NOSQL_STORAGE_TABLE_items=sebs-items",
	}
}

// finish checks what was asked and answers it.
func (c *cloud) finish(t *testing.T) []string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fault := range c.faults {
		t.Errorf("a request is signed otherwise than AWS's library does: %s", fault)
	}
	if len(c.seen) != len(c.script) {
		t.Errorf("%d requests, want %d: %q", len(c.seen), len(c.script), c.seen)
	}
	return c.seen
}

func gives(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the test sees what the client got
	}
}

func refuses(status int, code, more string) func(http.ResponseWriter, *http.Request) {
	return gives(status, "<Error><Code>"+code+"</Code><Message>no</Message>"+more+"</Error>")
}

// breaks closes the connection in place of an answer.
func breaks(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// useCloud writes and reads an object, or an item, as the event says, and tells the error if there is one.
var useCloud = map[string]string{
	"python": `
from . import nosql, storage
def handler(event):
    try:
        if event["table"]:
            client = nosql.nosql.get_instance()
            client.insert("items", ("part", "p"), ("key", "k"), {"n": 1})
            return {"result": client.get("items", ("part", "p"), ("key", "k"))["n"]}
        return {"result": bytes(storage.storage.get_instance().download_stream(event["bucket"], event["key"])).decode()}
    except Exception as error:
        return {"result": "%s: %s" % (type(error).__name__, error)}
`,
	"nodejs": `
const storage = require('./storage');
const nosql = require('./nosql');
exports.handler = async (event) => {
  try {
    if (event.table) {
      const client = nosql.nosql.get_instance();
      await client.insert('items', ['part', 'p'], ['key', 'k'], { n: 1 });
      return { result: (await client.get('items', ['part', 'p'], ['key', 'k'])).n };
    }
    const parts = [];
    for await (const part of await storage.storage.get_instance().downloadStream(event.bucket, event.key)) parts.push(part);
    return { result: Buffer.concat(parts).toString() };
  } catch (error) {
    return { result: error.name + ': ' + error.message };
  }
};
`,
}

// TestClientsOnAWS runs the clients against scripted answers of AWS.
func TestClientsOnAWS(t *testing.T) {
	t.Parallel()
	const readObject = `{"table": false, "bucket": "sebs-benchmarks-x", "key": "in/a b+ü%.txt"}`
	const useItem = `{"table": true}`
	const gone = "Error><Token-0>" + roleToken + "</Token-0><Error"
	throttled := gives(http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slower"}`)
	done := gives(http.StatusOK, `{}`)
	item := gives(http.StatusOK, `{"Item":{"n":{"N":"1"}}}`)
	for _, tt := range []struct {
		name, payload string
		script        []func(http.ResponseWriter, *http.Request)
		want          []string // parts of the result
		hidden        string
	}{
		{"an object", readObject, []func(http.ResponseWriter, *http.Request){gives(200, "content")}, []string{"content"}, ""},
		{"a store that is busy", readObject, []func(http.ResponseWriter, *http.Request){
			refuses(503, "SlowDown", ""), breaks, refuses(500, "InternalError", ""), gives(200, "content"),
		}, []string{"content"}, ""},
		{"an item, throttled", useItem, []func(http.ResponseWriter, *http.Request){throttled, done, throttled, throttled, item}, []string{"1"}, ""},
		{
			"always throttled", useItem,
			[]func(http.ResponseWriter, *http.Request){throttled, throttled, throttled, throttled, throttled},
			[]string{"ServiceError", "400", "ProvisionedThroughputExceededException: slower"}, "",
		},
		{
			"a bucket elsewhere", readObject,
			[]func(http.ResponseWriter, *http.Request){gives(301, "<Error><Code>PermanentRedirect</Code></Error>", "x-amz-bucket-region", "us-west-2")},
			[]string{"bucket sebs-benchmarks-x is in region us-west-2", "the function in eu-central-1"}, "",
		},
		{
			"a region that S3 names in the answer alone", readObject,
			[]func(http.ResponseWriter, *http.Request){refuses(400, "AuthorizationHeaderMalformed", "<Region>us-west-2</Region>")},
			[]string{"us-west-2"}, "",
		},
		{
			"denied", readObject, []func(http.ResponseWriter, *http.Request){refuses(403, "AccessDenied", "")},
			[]string{"answered 403: AccessDenied: no"}, "",
		},
		{
			"an expired token", readObject, []func(http.ResponseWriter, *http.Request){refuses(400, "ExpiredToken", gone)},
			[]string{"ExpiredToken"}, roleToken,
		},
		{
			"a wrong signature", useItem,
			[]func(http.ResponseWriter, *http.Request){gives(403, `{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"should have been x-amz-security-token:`+roleToken+`"}`)},
			[]string{"InvalidSignatureException", "signature is wrong"}, roleToken,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachInterpreterOn(t, "aws", useCloud, func(t *testing.T, p *runtimetest.Process) {
				c := startCloud(t, false, tt.script...)
				p.Start(t, c.env()...)
				result := answered(t, p, tt.payload)
				for _, part := range tt.want {
					if !strings.Contains(result, part) {
						t.Errorf("result %q lacks %q", result, part)
					}
				}
				if tt.hidden != "" && strings.Contains(result, tt.hidden) {
					t.Errorf("the result shows the session token: %q", result)
				}
				c.finish(t)
			})
		})
	}
}

// answered invokes and returns the function's own result as text.
func answered(t *testing.T, p *runtimetest.Process, payload string) string {
	t.Helper()
	var got struct {
		Result any `json:"result"`
	}
	if err := json.Unmarshal(p.Succeed(t, payload).Result, &got); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(got.Result)
}

// TestKeptConnectionsOnAWS closes the connections of a function between two invocations, as happens to a sandbox that was
// frozen: the next request goes out on a new one, without counting as a failure.
func TestKeptConnectionsOnAWS(t *testing.T) {
	t.Parallel()
	eachInterpreterOn(t, "aws", useCloud, func(t *testing.T, p *runtimetest.Process) {
		content := gives(200, "content")
		c := startCloud(t, false, content, content, content)
		p.Start(t, c.env()...)
		for range 3 {
			if got := answered(t, p, `{"table": false, "bucket": "b", "key": "k"}`); got != "content" {
				t.Errorf("read %q", got)
			}
			c.CloseClientConnections()
		}
		c.finish(t)
	})
}

// TestTLSOnAWS reaches a store over TLS, whose certificate has to be one that the machine trusts.
func TestTLSOnAWS(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{true, false} {
		t.Run(fmt.Sprintf("trusted %v", trusted), func(t *testing.T) {
			t.Parallel()
			eachInterpreterOn(t, "aws", useCloud, func(t *testing.T, p *runtimetest.Process) {
				var script []func(http.ResponseWriter, *http.Request)
				if trusted {
					script = append(script, gives(200, "content"))
				}
				c := startCloud(t, true, script...)
				c.Config.ErrorLog = nil
				env := c.env()
				if trusted {
					authority := filepath.Join(t.TempDir(), "ca.pem")
					block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
					if err := os.WriteFile(authority, block, 0o600); err != nil {
						t.Fatal(err)
					}
					env = append(env, "SSL_CERT_FILE="+authority, "NODE_EXTRA_CA_CERTS="+authority)
				}
				p.Start(t, env...)
				got := answered(t, p, `{"table": false, "bucket": "b", "key": "k"}`)
				if trusted != (got == "content") || !trusted && !strings.Contains(strings.ToLower(got), "certificate") {
					t.Errorf("read %q", got)
				}
				c.finish(t)
			})
		})
	}
}

// TestAddressesOnAWS shows which host and path a bucket and the tables of a region have.
func TestAddressesOnAWS(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": `
from . import sebs_account
def handler(event):
    endpoint, path = sebs_account.objects()._locate(event["bucket"])
    tables, _ = sebs_account.tables()
    return {"result": "%s %s %s %s" % (endpoint.secure and tables.secure, endpoint.host, path, tables.host)}
`,
		"nodejs": `
const account = require('./sebs_account');
exports.handler = async (event) => {
  const { endpoint, path } = account.objects().locate(event.bucket);
  const tables = account.tables().endpoint;
  return { result: [endpoint.secure && tables.secure ? 'True' : 'False', endpoint.host, path, tables.host].join(' ') };
};
`,
	}
	for _, tt := range []struct{ region, bucket, want string }{
		{"eu-west-1", "sebs-benchmarks-1a2b", "True sebs-benchmarks-1a2b.s3.eu-west-1.amazonaws.com  dynamodb.eu-west-1.amazonaws.com"},
		{"us-east-1", "with.dots", "True s3.us-east-1.amazonaws.com /with.dots dynamodb.us-east-1.amazonaws.com"},
		{"cn-north-1", "b", "True b.s3.cn-north-1.amazonaws.com.cn  dynamodb.cn-north-1.amazonaws.com.cn"},
	} {
		t.Run(tt.region, func(t *testing.T) {
			t.Parallel()
			eachInterpreterOn(t, "aws", sources, func(t *testing.T, p *runtimetest.Process) {
				p.Start(t, "AWS_REGION="+tt.region, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
				if got := answered(t, p, fmt.Sprintf(`{"bucket": %q}`, tt.bucket)); got != tt.want {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			})
		})
	}
}

// TestEventsOnAWS takes the payload out of the events of function URLs, API Gateway and direct calls.
func TestEventsOnAWS(t *testing.T) {
	t.Parallel()
	eachInterpreterOn(t, "aws", echo, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		for _, event := range []string{
			`{"n": 5}`,
			`{"version": "2.0", "requestContext": {"http": {"method": "POST"}}, "body": "{\"n\": 5}", "isBase64Encoded": false}`,
			`{"version": "2.0", "body": "eyJuIjogNX0=", "isBase64Encoded": true}`,
		} {
			var got struct {
				Result struct{ N int } `json:"result"`
			}
			if err := json.Unmarshal(p.Succeed(t, event).Result, &got); err != nil || got.Result.N != 5 {
				t.Errorf("event %s: the function saw %+v, %v", event, got, err)
			}
		}
	})
}

// TestPackagesInTheManagedRuntime starts Python as Lambda's own runtime does, which knows nothing of the directory of the
// package's dependencies: they are found, and before what the runtime brings.
func TestPackagesInTheManagedRuntime(t *testing.T) {
	t.Parallel()
	c, err := runtimes.Load()
	if err != nil {
		t.Fatal(err)
	}
	layout, err := c.Layout("aws", "python")
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import json, sys
root, own = sys.argv[1:]
sys.path[0] = root
sys.path.append(own)
import handler
class Context:
    aws_request_id = "r1"
print(json.loads(handler.handler({}, Context())["body"])["result"]["result"])
`
	sources := map[string]string{
		"function/function.py":                       "import dep, json\ndef handler(event):\n    return {'result': dep.NAME + json.__name__}\n",
		layout.DependencyDir + "/dep/__init__.py":    "NAME = 'package '\n",
		layout.DependencyDir + "/json/__init__.py":   "raise ImportError('the standard library goes first')\n",
		"../runtime/lib/python/site-packages/dep.py": "NAME = 'runtime '\n",
	}
	for _, i := range runtimetest.Interpreters(t) {
		if i.Language != "python" {
			continue
		}
		t.Run(i.String(), func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "task")
			if err := c.Write(layout.Files, root); err != nil {
				t.Fatal(err)
			}
			for name, content := range sources {
				target := filepath.Join(root, filepath.FromSlash(name))
				if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, []byte(content), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), i.Path, "-c", program, root, filepath.Join(root, "../runtime/lib/python/site-packages")) //nolint:gosec // found on PATH
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "package json" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestResultThatIsNotJSONOnAWS(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": "def handler(event):\n    return {'result': {1, 2}}\n",
		"nodejs": "exports.handler = async () => ({ result: 1n });\n",
	}
	eachInterpreterOn(t, "aws", sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		if f := p.Fail(t, `{}`); f.ErrorType != "TypeError" || !strings.Contains(f.ErrorMessage, "return value is not JSON") {
			t.Errorf("error %q: %q", f.ErrorType, f.ErrorMessage)
		}
	})
}

func TestClientsOnAWSWithoutARole(t *testing.T) {
	t.Parallel()
	eachInterpreterOn(t, "aws", useCloud, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t, "AWS_REGION=eu-west-1")
		if got := answered(t, p, `{"table": false, "bucket": "b", "key": "k"}`); !strings.Contains(got, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY not set") {
			t.Errorf("without credentials: %q", got)
		}
	})
}
