package aws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"google.golang.org/grpc/codes"

	suitecredentials "github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/test/awsstand"
)

// coldHandler tells whether its sandbox is new, fails when asked, and answers its event.
const coldHandler = `import json
cold = True
def handler(event, context=None):
    global cold
    was, cold = cold, False
    if "body" in event:
        event = json.loads(event["body"])
    if event.get("fail"):
        raise ValueError("asked to fail")
    return {"is_cold": was, "event": event}
`

func coldSpec(t *testing.T, name string, change func(*driver.FunctionSpec)) driver.FunctionSpec {
	t.Helper()
	spec := driver.FunctionSpec{
		Name: name, Deployment: testDeployment, Benchmark: "010.sleep", Config: testConfig(),
		Code: codeOf(zipOf(t, map[string]string{"handler.py": coldHandler}), "d1"), Buckets: []string{testBucket},
	}
	if change != nil {
		change(&spec)
	}
	return spec
}

// platformOf puts the part that all platforms share on top of a driver.
func platformOf(t *testing.T, d driver.Driver) *faas.Platform {
	t.Helper()
	p, err := faas.New("aws", d, faas.Options{PollInterval: 10 * time.Millisecond, Retry: faas.RetryPolicy{Base: 10 * time.Millisecond, Attempts: 8}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func create(t *testing.T, p *faas.Platform, spec driver.FunctionSpec) driver.Function {
	t.Helper()
	fn, fresh, err := p.CreateFunction(t.Context(), spec)
	if err != nil || !fresh {
		t.Fatalf("create %s: fresh %t, %v", spec.Name, fresh, err)
	}
	return fn
}

// post calls a URL, after sign has seen the request.
func post(t *testing.T, url, body string, sign func(*http.Request)) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if sign != nil {
		sign(request)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

// statements reads the names of the statements in a function's resource policy.
func statements(t *testing.T, stand *awsstand.Stand, name string) []string {
	t.Helper()
	answer, err := lambda.NewFromConfig(opened(stand).Config).GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: &name})
	if err != nil {
		return nil
	}
	var policy struct{ Statement []struct{ Sid string } }
	if err := json.Unmarshal([]byte(sdk.ToString(answer.Policy)), &policy); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range policy.Statement {
		names = append(names, s.Sid)
	}
	slices.Sort(names)
	return names
}

func TestFunctionURLs(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	name := create(t, p, coldSpec(t, "urls", nil)).Name
	trigger := func(settings map[string]string) driver.Trigger {
		made, err := p.CreateTrigger(t.Context(), name, driver.TriggerSpec{Type: driver.TriggerHTTP, Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	public := trigger(nil)
	if public.Attributes["implementation"] != "function_url" || public.Attributes["auth_type"] != "NONE" {
		t.Errorf("the trigger's attributes are %v", public.Attributes)
	}
	if got, want := statements(t, stand, name), []string{"FunctionURLAllowPublicAccess", "FunctionURLInvokeAllowPublicAccess"}; !slices.Equal(got, want) {
		t.Errorf("the function's policy has %v, want %v", got, want)
	}
	if status, body := post(t, public.URL, `{"a":1}`, nil); status != http.StatusOK || !strings.Contains(body, `"a"`) {
		t.Errorf("the public URL answered %d %s", status, body)
	}
	private := trigger(map[string]string{aws.SettingURLAuth: aws.AuthIAM})
	if private.URL != public.URL || private.Attributes["auth_type"] != "AWS_IAM" {
		t.Errorf("the adopted trigger is %+v", private)
	}
	if got := statements(t, stand, name); len(got) > 0 {
		t.Errorf("the function is still open by %v", got)
	}
	if status, body := post(t, private.URL, `{}`, nil); status != http.StatusForbidden {
		t.Errorf("an unsigned call was answered with %d %s", status, body)
	}
	signer := aws.NewSigner(awsconfig.NewOpener(awsconfig.Settings{Region: stand.Region}, suitecredentials.NewResolver(suitecredentials.Config{
		"aws": {"default": {"access_key": secret.New(stand.AccessKey), "secret_key": secret.New(stand.SecretKey)}},
	}, func(string) string { return "" }), nil))
	const payload = `{"signed":true}`
	if status, body := post(t, private.URL, payload, func(r *http.Request) {
		if err := signer.Sign(t.Context(), driver.Scope{}, r, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}); status != http.StatusOK || !strings.Contains(body, "signed") {
		t.Errorf("a signed call was answered with %d %s", status, body)
	}
	fn, err := p.GetFunction(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if len(fn.Triggers) != 2 || fn.Triggers[1].URL != private.URL || fn.Triggers[1].Attributes["auth_type"] != "AWS_IAM" {
		t.Errorf("the function reports the triggers %+v", fn.Triggers)
	}
	if _, err := p.CreateTrigger(t.Context(), name, driver.TriggerSpec{
		Type: driver.TriggerHTTP, Settings: map[string]string{aws.SettingURLAuth: "OPEN"},
	}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("an unknown kind of access is %v", err)
	}
}

func TestHTTPAPI(t *testing.T) {
	t.Parallel()
	_, d := onStand(t)
	p := platformOf(t, d)
	name := create(t, p, coldSpec(t, "behind_api", nil)).Name
	spec := driver.TriggerSpec{Type: driver.TriggerHTTP, Settings: map[string]string{aws.SettingFunctionURL: "false"}}
	made, err := p.CreateTrigger(t.Context(), name, spec)
	if err != nil {
		t.Fatal(err)
	}
	if made.Attributes["implementation"] != "api_gateway" || made.Attributes["api-id"] == "" {
		t.Errorf("the trigger's attributes are %v", made.Attributes)
	}
	again, err := p.CreateTrigger(t.Context(), name, spec)
	if err != nil || again.URL != made.URL {
		t.Errorf("a second creation answered %+v, %v", again, err)
	}
	if status, body := post(t, made.URL, `{"b":2}`, nil); status != http.StatusOK || !strings.Contains(body, `"b"`) {
		t.Errorf("the API answered %d %s", status, body)
	}
	fn, err := p.GetFunction(t.Context(), name)
	if err != nil || len(fn.Triggers) != 2 || fn.Triggers[1].URL != made.URL {
		t.Errorf("the function reports the triggers %+v, %v", fn.Triggers, err)
	}
	// Another setting leaves nothing of the one before.
	url, err := p.CreateTrigger(t.Context(), name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil || url.URL == made.URL {
		t.Errorf("the URL is %+v, %v", url, err)
	}
	if found, err := p.Discover(t.Context(), testDeployment); err != nil || slices.ContainsFunc(found, func(r driver.Resource) bool { return r.Type == aws.ResourceAPI }) {
		t.Errorf("behind the URL is still an API: %v, %v", found, err)
	}
	if made, err = p.CreateTrigger(t.Context(), name, spec); err != nil {
		t.Fatal(err)
	}
	if fn, err = p.GetFunction(t.Context(), name); err != nil || len(fn.Triggers) != 2 || fn.Triggers[1].URL != made.URL {
		t.Errorf("the function reports the triggers %+v, %v", fn.Triggers, err)
	}
	for _, want := range []bool{true, false} {
		if deleted, err := p.DeleteTrigger(t.Context(), name, driver.TriggerHTTP); deleted != want || err != nil {
			t.Errorf("deleted %t, %v; want %t", deleted, err, want)
		}
	}
}

func TestStorageTriggerKeepsOtherNotifications(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	objects := s3.NewFromConfig(opened(stand).Config, func(o *s3.Options) { o.UsePathStyle = true })
	for _, name := range []string{"first", "second"} {
		create(t, p, coldSpec(t, name, nil))
		made, err := p.CreateTrigger(t.Context(), name, driver.TriggerSpec{
			Type: driver.TriggerStorage, Bucket: testBucket, Prefix: "events/" + name + "/", ResultsPrefix: "results/",
		})
		if err != nil || made.ResultsPrefix != "results/" {
			t.Fatalf("%s: made %+v, %v", name, made, err)
		}
	}
	put := func(name string) {
		if _, err := objects.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: sdk.String(testBucket), Key: sdk.String("events/" + name + "/x.json"), Body: strings.NewReader("{}"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	put("first")
	eventually(t, "the first function to run", func() bool { return stand.Invocations("first") == 1 })
	fn, err := p.GetFunction(t.Context(), "second")
	if err != nil || len(fn.Triggers) != 2 || fn.Triggers[1].Bucket != testBucket || fn.Triggers[1].Prefix != "events/second/" || fn.Triggers[1].ResultsPrefix != "results/" {
		t.Errorf("the second function reports %+v, %v", fn.Triggers, err)
	}
	if _, err := p.DeleteFunction(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	put("second")
	eventually(t, "the second function to run", func() bool { return stand.Invocations("second") == 1 })
	left, err := objects.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: sdk.String(testBucket)})
	if err != nil || !slices.EqualFunc(left.LambdaFunctionConfigurations, []string{"sebs-second"}, func(c s3types.LambdaFunctionConfiguration, id string) bool {
		return sdk.ToString(c.Id) == id
	}) {
		t.Errorf("the bucket is left with %+v, %v", left.LambdaFunctionConfigurations, err)
	}
	// A function that goes by another way leaves a notification that S3 finds wrong.
	create(t, p, coldSpec(t, "third", nil))
	if _, err := p.CreateTrigger(t.Context(), "third", driver.TriggerSpec{Type: driver.TriggerStorage, Bucket: testBucket, Prefix: "events/third/"}); err != nil {
		t.Fatal(err)
	}
	if _, err := lambda.NewFromConfig(opened(stand).Config).DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: sdk.String("third")}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DeleteTrigger(t.Context(), "second", driver.TriggerStorage); err != nil {
		t.Errorf("beside the notification of a function that is gone, removing another is %v", err)
	}
	if _, err := p.CreateTrigger(t.Context(), "second", driver.TriggerSpec{
		Type: driver.TriggerStorage, Bucket: testBucket, Prefix: "a/", ResultsPrefix: "a/results/",
	}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("results under the watched prefix are %v", err)
	}
}

// eventually polls until look says yes.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func TestAsyncResultsFindTheirCallers(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	other := aws.New(opened(stand), aws.Options{Poll: 10 * time.Millisecond})
	t.Cleanup(func() { _ = other.Close() })
	q := platformOf(t, other)
	name := create(t, p, coldSpec(t, "queued", nil)).Name
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	// Two processes share the queue: each gets the outcomes of its own calls, in whichever order they come.
	var all sync.WaitGroup
	for i, caller := range []*faas.Platform{p, q, p, q, p, q} {
		all.Go(func() {
			marker := fmt.Sprintf("call-%d", i)
			call := driver.Call{Function: name, Payload: fmt.Appendf(nil, `{"marker":%q,"fail":%t}`, marker, i == 5), Async: true}
			sent, err := caller.Invoke(ctx, call)
			if err != nil || sent.RequestID == "" || len(sent.Payload) > 0 {
				t.Errorf("%s: sent %+v, %v", marker, sent, err)
				return
			}
			result, err := caller.AsyncResult(ctx, name, sent.RequestID)
			switch {
			case err != nil:
				t.Errorf("%s: %v", marker, err)
			case i == 5:
				if result.FunctionError == "" || !bytes.Contains(result.Payload, []byte("asked to fail")) {
					t.Errorf("%s: the failure is %q %s", marker, result.FunctionError, result.Payload)
				}
			case result.FunctionError != "" || !bytes.Contains(result.Payload, []byte(marker)) || result.RequestID != sent.RequestID:
				t.Errorf("%s: fetched %+v %s", marker, result, result.Payload)
			}
		})
	}
	all.Wait()
	if n := stand.Invocations(name); n != 6 {
		t.Errorf("%d invocations ran, want 6: each call is attempted once", n)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := p.AsyncResult(short, name, "00000000-0000-4000-8000-000000000000"); !errs.Is(err, codes.DeadlineExceeded) {
		t.Errorf("a request that nobody made is %v", err)
	}
}

func TestColdStartsAreEnforced(t *testing.T) {
	t.Parallel()
	_, d := onStand(t)
	p := platformOf(t, d)
	for _, method := range []string{aws.ColdStartEnvironment, aws.ColdStartVersion} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			spec := coldSpec(t, "cold_"+method, func(spec *driver.FunctionSpec) {
				spec.Settings = map[string]string{aws.SettingColdStart: method}
			})
			fn := create(t, p, spec)
			trigger, err := p.CreateTrigger(t.Context(), fn.Name, driver.TriggerSpec{Type: driver.TriggerHTTP})
			if err != nil {
				t.Fatal(err)
			}
			library := func() string {
				result, err := p.Invoke(t.Context(), driver.Call{Function: fn.Name, Payload: []byte("{}")})
				if err != nil || result.FunctionError != "" || result.Record == nil || result.Record.Cold == nil {
					t.Fatalf("invoke: %+v %s, %v", result, result.Payload, err)
				}
				if !strings.Contains(string(result.Payload), fmt.Sprintf(`"is_cold":%t`, *result.Record.Cold)) &&
					!strings.Contains(string(result.Payload), fmt.Sprintf(`"is_cold": %t`, *result.Record.Cold)) {
					t.Errorf("the report says cold %t, the function %s", *result.Record.Cold, result.Payload)
				}
				return string(result.Payload)
			}
			overHTTP := func() string {
				status, body := post(t, trigger.URL, "{}", nil)
				if status != http.StatusOK {
					t.Fatalf("the URL answered %d %s", status, body)
				}
				return body
			}
			wantCold := func(what, body string, want bool) {
				var answer struct {
					IsCold bool `json:"is_cold"`
				}
				if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.IsCold != want {
					t.Errorf("%s: answered %s (%v), want is_cold %t", what, body, err, want)
				}
			}
			wantCold("first", library(), true)
			wantCold("second", overHTTP(), false)
			for counter := int64(1); counter <= 4; counter++ {
				if _, err := p.EnforceColdStart(t.Context(), fn.Name, spec.Config, counter); err != nil {
					t.Fatal(err)
				}
				wantCold(fmt.Sprintf("over HTTP after enforcement %d", counter), overHTTP(), true)
				wantCold("then by library", library(), false)
			}
			// The other method is taken from the next change on; a function with an alias keeps it.
			switched := spec.Config
			switched.ColdStartMethod = aws.ColdStartVersion
			got, err := p.EnforceColdStart(t.Context(), fn.Name, switched, 5)
			if err != nil || got.Version == 0 || got.Config.ColdStartMethod != aws.ColdStartVersion {
				t.Errorf("with the other method it is %+v, %v", got, err)
			}
			wantCold("by version", library(), true)
			if got, err = p.GetFunction(t.Context(), fn.Name); err != nil || got.Config.Environment[faas.ForceColdStartVariable] != "5" {
				t.Errorf("the function is %+v, %v", got, err)
			}
		})
	}
}

func TestSandboxesAreKeptInitialised(t *testing.T) {
	t.Parallel()
	_, d := onStand(t)
	p := platformOf(t, d)
	spec := coldSpec(t, "provisioned", nil)
	fn := create(t, p, spec)
	if fn.Config.ProvisionedConcurrency != 0 || fn.Version != 0 {
		t.Errorf("made %+v", fn)
	}
	before, err := p.CreateTrigger(t.Context(), fn.Name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil {
		t.Fatal(err)
	}
	// The function gets its alias with the first sandboxes, and calls go there from then on.
	config := spec.Config
	config.ProvisionedConcurrency = 2
	fn, err = p.UpdateConfiguration(t.Context(), fn.Name, config)
	if err != nil || fn.Config.ProvisionedConcurrency != 2 || fn.Version != 1 || len(fn.Triggers) != 1 {
		t.Fatalf("the function is %+v, %v", fn, err)
	}
	if status, body := post(t, before.URL, "{}", nil); status == http.StatusOK {
		t.Errorf("the URL that leads past the alias still answers %s", body)
	}
	trigger, err := p.CreateTrigger(t.Context(), fn.Name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil || !strings.HasSuffix(trigger.Handle, ":live") {
		t.Fatalf("the trigger is %+v, %v", trigger, err)
	}
	if status, body := post(t, trigger.URL, "{}", nil); status != http.StatusOK {
		t.Errorf("the URL answered %d %s", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sent, err := p.Invoke(ctx, driver.Call{Function: fn.Name, Payload: []byte(`{"marker":"x"}`), Async: true})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := p.AsyncResult(ctx, fn.Name, sent.RequestID); err != nil || !bytes.Contains(result.Payload, []byte("marker")) {
		t.Errorf("the alias answered %+v, %v", result, err)
	}
	fn, err = p.UpdateConfiguration(t.Context(), fn.Name, spec.Config)
	if err != nil || fn.Config.ProvisionedConcurrency != 0 || fn.Version == 0 {
		t.Errorf("without sandboxes it is %+v, %v", fn, err)
	}
}

func TestEverythingIsDiscoveredAndRemoved(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	ctx := t.Context()
	names := []string{"sebs_aws_0a1b2c3d_010_python_3_11_x64", "of_another_name", "with_version"}
	for _, name := range names {
		create(t, p, coldSpec(t, name, func(spec *driver.FunctionSpec) {
			spec.TablePrefix = "sebs-benchmarks-" + testDeployment + "-"
			if name == "with_version" {
				spec.Settings = map[string]string{aws.SettingColdStart: aws.ColdStartVersion}
			}
		}))
	}
	create(t, p, coldSpec(t, "of_others", func(spec *driver.FunctionSpec) { spec.Deployment = "aws-0a1b2c3e" }))
	for i, use := range []string{"true", "false", "true"} {
		if _, err := p.CreateTrigger(ctx, names[i], driver.TriggerSpec{Type: driver.TriggerHTTP, Settings: map[string]string{aws.SettingFunctionURL: use}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.CreateTrigger(ctx, names[0], driver.TriggerSpec{Type: driver.TriggerStorage, Bucket: testBucket, Prefix: "events/", ResultsPrefix: "results/"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Invoke(ctx, driver.Call{Function: names[0], Payload: []byte("{}"), Async: true}); err != nil {
		t.Fatal(err)
	}
	repository := "sebs-benchmarks-" + testDeployment
	if _, err := ecr.NewFromConfig(opened(stand).Config).CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: &repository}); err != nil {
		t.Fatal(err)
	}
	// A driver without any memory, as after the loss of all state.
	fresh := aws.New(opened(stand), aws.Options{Poll: 10 * time.Millisecond})
	t.Cleanup(func() { _ = fresh.Close() })
	clean := platformOf(t, fresh)
	found, err := clean.Discover(ctx, testDeployment)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, r := range found {
		count[r.Type]++
	}
	want := map[string]int{"function": 3, "http-api": 1, "log-group": 3, "role": 1, "queue": 1, "repository": 1}
	for kind, n := range want {
		if count[kind] != n {
			t.Errorf("discovered %d of type %s, want %d: %v", count[kind], kind, n, found)
		}
	}
	for _, r := range found {
		if _, err := clean.DeleteResource(ctx, r); err != nil {
			t.Errorf("delete %v: %v", r, err)
		}
	}
	if left, err := clean.Discover(ctx, testDeployment); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if left, err := clean.Discover(ctx, "aws-0a1b2c3e"); err != nil || len(left) != 3 {
		t.Errorf("of the other deployment are left %v, %v; want function, log group and role", left, err)
	}
	objects := s3.NewFromConfig(opened(stand).Config, func(o *s3.Options) { o.UsePathStyle = true })
	if left, err := objects.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: sdk.String(testBucket)}); err != nil || len(left.LambdaFunctionConfigurations) > 0 {
		t.Errorf("the bucket still calls %v, %v", left.LambdaFunctionConfigurations, err)
	}
}

func TestABadDayAtAWS(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	stand.SetFaults(awsstand.Faults{
		PendingPolls: 3, HiddenPolls: 2, RoleRefusals: 2,
		Throttles: []awsstand.Throttle{{Every: 7}},
	})
	spec := coldSpec(t, "bad_day", func(spec *driver.FunctionSpec) {
		spec.Config.MaxConcurrency = 3
		spec.Config.Environment = map[string]string{"SECRET": "hidden", "OPEN": "shown"}
		spec.Config.Secrets = []string{"SECRET"}
		spec.Labels = map[string]string{"owner": "a=b, {c}"}
	})
	fn := create(t, p, spec)
	if fn.Config.MaxConcurrency != 3 || fn.Labels["owner"] != "a=b, {c}" || fn.Config.Environment["OPEN"] != "shown" {
		t.Errorf("made %+v", fn)
	}
	if value, there := fn.Config.Environment["SECRET"]; !there || value != "" || !slices.Equal(fn.Config.Secrets, []string{"SECRET"}) {
		t.Errorf("the secret is reported as %q, %v", value, fn.Config.Secrets)
	}
	config := spec.Config
	config.MaxConcurrency, config.MemoryMB, config.Environment, config.Secrets = 0, 512, map[string]string{"NEW": "1"}, nil
	code := codeOf(zipOf(t, map[string]string{"handler.py": coldHandler + "# changed\n"}), "d2")
	fn, err := p.UpdateCode(t.Context(), "bad_day", code, config)
	if err != nil {
		t.Fatal(err)
	}
	if fn.Config.MaxConcurrency != 0 || fn.Config.MemoryMB != 512 || len(fn.Config.Environment) != 1 || len(fn.Config.Secrets) != 0 || fn.Digest != "d2" || fn.Labels["owner"] != "a=b, {c}" {
		t.Errorf("after the update it is %+v", fn)
	}
	if stand.Count("lambda", "CreateFunction") < 3 {
		t.Error("the role was not refused")
	}
}

func TestCodeFromABucket(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	content := zipOf(t, map[string]string{"handler.py": coldHandler})
	spec := coldSpec(t, "large", func(spec *driver.FunctionSpec) {
		spec.Code = codeOf(content, "d1")
		// Only what the size says counts; so much need not be sent here.
		spec.Code.SizeBytes = 60 << 20
	})
	if _, _, err := p.CreateFunction(t.Context(), spec); errs.Reason(err) != "CODE_TOO_LARGE" || !strings.Contains(err.Error(), "container image") {
		t.Errorf("without a bucket: %v", err)
	}
	staged := 0
	spec.Code.Stage = func(ctx context.Context) (string, string, error) {
		staged++
		objects := s3.NewFromConfig(opened(stand).Config, func(o *s3.Options) { o.UsePathStyle = true })
		_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: sdk.String(testBucket), Key: sdk.String("code/x.zip"), Body: bytes.NewReader(content)})
		return testBucket, "code/x.zip", err
	}
	create(t, p, spec)
	if result, err := p.Invoke(t.Context(), driver.Call{Function: "large", Payload: []byte("{}")}); err != nil || result.FunctionError != "" || staged != 1 {
		t.Errorf("staged %d times, answered %+v, %v", staged, result, err)
	}
}

func TestTemporaryCredentials(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	create(t, platformOf(t, d), coldSpec(t, "temporary", nil))
	keys := stand.TemporaryKeys()
	config := opened(stand)
	config.Credentials = credentials.NewStaticCredentialsProvider(keys.AccessKey, keys.SecretKey, keys.SessionToken)
	temporary := aws.New(config, aws.Options{})
	t.Cleanup(func() { _ = temporary.Close() })
	p := platformOf(t, temporary)
	if who, err := p.CheckCredentials(t.Context()); err != nil || who.Account != stand.Account || who.Region != stand.Region || who.Source != "config" {
		t.Errorf("the credential belongs to %+v, %v", who, err)
	}
	call := driver.Call{Function: "temporary", Payload: []byte("{}")}
	if _, err := p.Invoke(t.Context(), call); err != nil {
		t.Error(err)
	}
	stand.ExpireKey(keys.AccessKey)
	_, invoked := p.Invoke(t.Context(), call)
	_, checked := p.CheckCredentials(t.Context())
	for _, err := range []error{invoked, checked} {
		if !errs.Is(err, codes.Unauthenticated) || errs.Reason(err) != aws.ReasonCredentialsExpired || strings.Contains(err.Error(), keys.SessionToken) {
			t.Errorf("after its end: %v", err)
		}
	}
}

func TestAGivenRoleIsLeftAlone(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	roles := iam.NewFromConfig(opened(stand).Config)
	made, err := roles.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName:                 sdk.String("mine"),
		AssumeRolePolicyDocument: sdk.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	fn := create(t, p, coldSpec(t, "given_role", func(spec *driver.FunctionSpec) {
		spec.Settings = map[string]string{aws.SettingRole: sdk.ToString(made.Role.Arn)}
	}))
	if fn.Attributes["role"] != sdk.ToString(made.Role.Arn) {
		t.Errorf("the function runs as %s", fn.Attributes["role"])
	}
	policies, err := roles.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: sdk.String("mine")})
	if err != nil || len(policies.PolicyNames) > 0 || stand.Count("iam", "CreateRole") != 1 {
		t.Errorf("the role has the policies %v, %v, and %d roles were made", policies, err, stand.Count("iam", "CreateRole"))
	}
	found, err := p.Discover(t.Context(), testDeployment)
	if err != nil || slices.ContainsFunc(found, func(r driver.Resource) bool { return r.Type == aws.ResourceRole }) {
		t.Errorf("discovered %v, %v", found, err)
	}
	create(t, p, coldSpec(t, "given_too", func(spec *driver.FunctionSpec) {
		spec.Settings = map[string]string{aws.SettingRole: sdk.ToString(made.Role.Arn)}
	}))
	if deleted, err := p.DeleteFunction(t.Context(), "given_too"); !deleted || err != nil || stand.Count("iam", "DeleteRolePolicy") != 0 {
		t.Errorf("deleted %t, %v, with %d changes of roles", deleted, err, stand.Count("iam", "DeleteRolePolicy"))
	}
	// Without the setting the function gets the deployment's own role, also while an update is going on.
	if err := p.Grant(t.Context(), coldSpec(t, "given_role", nil)); err != nil {
		t.Fatal(err)
	}
	if fn, err = p.GetFunction(t.Context(), "given_role"); err != nil || !strings.HasSuffix(fn.Attributes["role"], ":role/sebs-lambda-role-"+testDeployment) {
		t.Errorf("the function runs as %s, %v", fn.Attributes["role"], err)
	}
	policies, err = roles.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: sdk.String("sebs-lambda-role-" + testDeployment)})
	if err != nil || len(policies.PolicyNames) != 2 || !slices.Contains(policies.PolicyNames, "logs-given_role") {
		t.Errorf("its role has the policies %v, %v", policies, err)
	}
	if deleted, err := p.DeleteFunction(t.Context(), "given_role"); !deleted || err != nil {
		t.Errorf("deleted %t, %v", deleted, err)
	}
	policies, err = roles.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: sdk.String("sebs-lambda-role-" + testDeployment)})
	if err != nil || slices.Contains(policies.PolicyNames, "logs-given_role") {
		t.Errorf("the policy of the deleted function's log stays: %v, %v", policies, err)
	}
}

func TestFiftyFunctionsAtOnceUnderThrottling(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	stand.SetFaults(awsstand.Faults{Throttles: []awsstand.Throttle{{Service: "lambda", Operations: []string{"CreateFunction", "GetFunction"}, Every: 4}}})
	const functions = 50
	var all sync.WaitGroup
	for i := range functions {
		all.Go(func() {
			spec := coldSpec(t, fmt.Sprintf("sebs_aws_0a1b2c3d_%02d", i), nil)
			if _, fresh, err := p.CreateFunction(t.Context(), spec); err != nil || !fresh {
				t.Errorf("%s: fresh %t, %v", spec.Name, fresh, err)
			}
		})
	}
	all.Wait()
	roles := iam.NewFromConfig(opened(stand).Config)
	policies, err := roles.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: sdk.String("sebs-lambda-role-" + testDeployment)})
	if err != nil || len(policies.PolicyNames) != 2 || stand.Count("iam", "PutRolePolicy") != 2 {
		t.Errorf("the role has the policies %v (%v) by %d requests; want one for buckets and one for logs", policies, err, stand.Count("iam", "PutRolePolicy"))
	}
}
