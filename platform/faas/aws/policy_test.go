package aws

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

var update = flag.Bool("update", false, "write the golden files anew")

// granted is everything that the role of a deployment can hold.
func granted(who account, functions ...driver.FunctionSpec) []inline {
	d := &Driver{region: "eu-central-1"}
	var all []inline
	for _, spec := range functions {
		all = append(all, d.policies(who, spec)...)
	}
	return append(all, asyncPolicy(d.arn(who, "sqs", nameQueue+functions[0].Deployment)))
}

func testFunctions() []driver.FunctionSpec {
	buckets := []string{"sebs-experiments-1a2b3c4d", "sebs-benchmarks-1a2b3c4d"}
	return []driver.FunctionSpec{
		{Name: "sebs_1a2b3c4d_210_python_3_11_x64", Deployment: "1a2b3c4d", Buckets: buckets},
		{Name: "sebs_1a2b3c4d_130_python_3_11_x64", Deployment: "1a2b3c4d", Buckets: buckets, TablePrefix: "sebs-benchmarks-1a2b3c4d-130.crud-api-"},
		{Name: "of_my_own", Deployment: "1a2b3c4d"},
	}
}

func TestPoliciesAreThoseOfTheGoldenFile(t *testing.T) {
	t.Parallel()
	shown := map[string]document{"trust": trustPolicy()}
	for _, p := range granted(account{id: "123456789012", partition: "aws"}, testFunctions()...) {
		shown[p.name] = p.policy
	}
	raw, err := json.MarshalIndent(shown, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	golden := filepath.Join("testdata", "policies.json")
	if *update {
		if err := os.WriteFile(golden, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != string(want) {
		t.Errorf("the policies are now\n%s\nwhich is not %s; run the test with -update if that is right", raw, golden)
	}
}

// TestNothingIsGrantedBeyondTheDeployment reads the documents as IAM gets them, and allows a wildcard only behind text that
// belongs to the deployment alone.
func TestNothingIsGrantedBeyondTheDeployment(t *testing.T) {
	t.Parallel()
	allowed := []*regexp.Regexp{
		regexp.MustCompile(`^arn:PARTITION:s3:::sebs-(benchmarks|experiments)-1a2b3c4d(/\*)?$`),
		regexp.MustCompile(`^arn:PARTITION:dynamodb:eu-central-1:123456789012:table/sebs-benchmarks-1a2b3c4d-[a-z0-9.-]+-\*$`),
		regexp.MustCompile(`^arn:PARTITION:logs:eu-central-1:123456789012:log-group:/aws/lambda/(sebs_1a2b3c4d_\*|of_my_own):\*$`),
		regexp.MustCompile(`^arn:PARTITION:sqs:eu-central-1:123456789012:sebs-async-1a2b3c4d$`),
	}
	for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
		who := account{id: "123456789012", partition: partition}
		size := 0
		for _, p := range granted(who, testFunctions()...) {
			text := p.policy.text()
			size += len(text)
			var parsed map[string]any
			if err := json.Unmarshal([]byte(text), &parsed); err != nil {
				t.Fatalf("policy %s is no JSON: %v", p.name, err)
			}
			if len(parsed) != 2 || parsed["Version"] != "2012-10-17" {
				t.Errorf("policy %s has more than a version and statements: %s", p.name, text)
			}
			statements, ok := parsed["Statement"].([]any)
			if !ok || len(statements) == 0 {
				t.Fatalf("policy %s grants nothing: %s", p.name, text)
			}
			for _, raw := range statements {
				checkStatement(t, p.name, raw, func(resource string) bool {
					own, ok := strings.CutPrefix(resource, "arn:"+partition+":")
					return ok && slices.ContainsFunc(allowed, func(r *regexp.Regexp) bool { return r.MatchString("arn:PARTITION:" + own) })
				})
			}
		}
		// Inline policies of a role have 10,240 characters together.
		if size > 10_240/2 {
			t.Errorf("the policies have %d characters", size)
		}
	}
}

func checkStatement(t *testing.T, policy string, raw any, own func(string) bool) {
	t.Helper()
	s, ok := raw.(map[string]any)
	if !ok {
		t.Fatalf("policy %s has the statement %v", policy, raw)
	}
	for key := range s {
		if !slices.Contains([]string{"Sid", "Effect", "Action", "Resource"}, key) {
			t.Errorf("policy %s has a statement with %s", policy, key)
		}
	}
	actions, _ := s["Action"].([]any)
	resources, _ := s["Resource"].([]any)
	if s["Effect"] != "Allow" || len(actions) == 0 || len(resources) == 0 {
		t.Errorf("policy %s has a statement without action or resource: %v", policy, s)
	}
	for _, action := range actions {
		if text, ok := action.(string); !ok || strings.Contains(text, "*") || !strings.Contains(text, ":") {
			t.Errorf("policy %s allows the action %v", policy, action)
		}
	}
	for _, resource := range resources {
		if text, ok := resource.(string); !ok || !own(text) {
			t.Errorf("policy %s allows the resource %v, which is not the deployment's", policy, resource)
		}
	}
}

func TestStorageIsGrantedOnlyWhereUsed(t *testing.T) {
	t.Parallel()
	for _, p := range granted(account{id: "123456789012", partition: "aws"}, driver.FunctionSpec{Name: "f", Deployment: "1a2b3c4d"}) {
		if strings.Contains(p.policy.text(), "s3:") || strings.Contains(p.policy.text(), "dynamodb:") {
			t.Errorf("policy %s grants storage to a function without: %s", p.name, p.policy.text())
		}
	}
}

func TestTagsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "plain", "a=b", "äöü {x}, \"y\"", "=3d", "a%b\n", "100%"} {
		escaped := escape(text)
		if unescape(escaped) != text || strings.ContainsAny(escaped, "{}%,\"\nä") {
			t.Errorf("%q became %q and %q", text, escaped, unescape(escaped))
		}
	}
	if got := unescape("not =zz escaped ="); got != "not =zz escaped =" {
		t.Errorf("foreign text became %q", got)
	}
}

// The pattern is the one of IAM's tags, which AWS names as allowed for all services.
func TestTagsHaveNoOtherCharacters(t *testing.T) {
	t.Parallel()
	allowed := regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
	spec := testFunctions()[0]
	spec.Labels = map[string]string{"a{b}": "c*d"}
	spec.Config.ProvisionedConcurrency = 2
	for i := range 40 {
		spec.Config.Secrets = append(spec.Config.Secrets, "A_SECRET_"+strings.Repeat("X", i))
	}
	tags := functionTags(spec)
	for name, value := range tags {
		if !allowed.MatchString(name) || !allowed.MatchString(value) || len(name) > 128 || len(value) > maxTagValue {
			t.Errorf("tag %q has the value %q", name, value)
		}
	}
	config := driver.Config{Environment: make(map[string]string)}
	environment(&config, &types.FunctionConfiguration{Environment: &types.EnvironmentResponse{Variables: map[string]string{"A_SECRET_": "x"}}}, tags)
	if config.Environment["A_SECRET_"] != "" || !slices.Contains(config.Secrets, "A_SECRET_") {
		t.Errorf("with the tag %q the variables are %v, the secrets %v", tags[tagSecrets], config.Environment, config.Secrets)
	}
}

func TestFewArchivesAreHeldAtOnce(t *testing.T) {
	t.Parallel()
	d := New(awsconfig.Opened{}, Options{})
	archive := driver.Code{
		SizeBytes: maxDirectBytes - 1,
		Open:      func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("zip")), nil },
	}
	var releases []func()
	for range maxHeldBytes / maxDirectBytes {
		got, release, err := d.codeOf(t.Context(), "f", archive)
		if err != nil || string(got.archive) != "zip" {
			t.Fatalf("read %q, %v", got.archive, err)
		}
		releases = append(releases, release)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := d.codeOf(ended, "f", archive); !errors.Is(err, context.Canceled) {
		t.Errorf("one archive too many is %v", err)
	}
	releases[0]()
	releases[0]()
	if _, _, err := d.codeOf(t.Context(), "f", archive); err != nil {
		t.Errorf("after one was sent: %v", err)
	}
}

func FuzzTags(f *testing.F) {
	f.Add("a=b")
	f.Add("=3d=")
	f.Fuzz(func(t *testing.T, text string) {
		if got := unescape(escape(text)); got != text {
			t.Errorf("%q became %q", text, got)
		}
		_ = unescape(text)
	})
}

func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`{"requestContext":{"requestId":"a","condition":"Success"},"responsePayload":{"x":1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		id, result, err := readOutcome(body)
		if err == nil && (id == "" || result.RequestID != id) {
			t.Errorf("read request %q with result %+v", id, result)
		}
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ body, failure, payload string }{
		"success":   {`{"version":"1.0","requestContext":{"requestId":"r","condition":"Success","approximateInvokeCount":1},"responseContext":{"statusCode":200},"responsePayload":{"a":1}}`, "", `{"a":1}`},
		"failure":   {`{"requestContext":{"requestId":"r","condition":"RetriesExhausted"},"responseContext":{"statusCode":200,"functionError":"Unhandled"},"responsePayload":{"errorType":"E"}}`, "Unhandled", `{"errorType":"E"}`},
		"too old":   {`{"requestContext":{"requestId":"r","condition":"EventAgeExceeded"}}`, "EventAgeExceeded", ``},
		"too often": {`{"requestContext":{"requestId":"r","condition":"RetriesExhausted"},"responseContext":null,"responsePayload":null}`, "RetriesExhausted", `null`},
	}
	for name, test := range tests {
		id, result, err := readOutcome([]byte(test.body))
		if err != nil || id != "r" || result.FunctionError != test.failure || string(result.Payload) != test.payload {
			t.Errorf("%s: read %q, %+v %s, %v", name, id, result, result.Payload, err)
		}
	}
	for _, body := range []string{"", "[]", "{}", `{"requestContext":{}}`, "hello"} {
		if _, _, err := readOutcome([]byte(body)); err == nil {
			t.Errorf("%q was read", body)
		}
	}
}

func TestTheMemoryOfOutcomesIsBounded(t *testing.T) {
	t.Parallel()
	var o outcomes
	o.await("mine")
	big := make([]byte, 20<<20)
	for _, id := range []string{"mine", "a", "b"} {
		if awaited := o.keep(id, driver.CallResult{RequestID: id, Payload: big}); awaited != (id == "mine") {
			t.Errorf("%s: awaited %t", id, awaited)
		}
	}
	if o.keep("c", driver.CallResult{RequestID: "c", Payload: big}); o.bytes > maxOutcomeBytes {
		t.Errorf("%d bytes are kept", o.bytes)
	}
	if _, ok := o.take("mine"); ok {
		t.Error("the oldest outcome is still there")
	}
	for _, id := range []string{"a", "b", "c"} {
		if _, ok := o.take(id); !ok {
			t.Errorf("outcome %s is gone", id)
		}
	}
	if o.bytes != 0 || len(o.ended) != 0 || len(o.endedOrder) != 0 {
		t.Errorf("after all were taken %d bytes are left", o.bytes)
	}
}
