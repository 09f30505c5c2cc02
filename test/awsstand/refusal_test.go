package awsstand_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewayv2"
	apitypes "github.com/aws/aws-sdk-go-v2/service/apigatewayv2/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/sebs-suite/sebs/test/awsstand"
)

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	who := func(access, secret, token string) string {
		c := clientConfig(s)
		c.Credentials = credentials.NewStaticCredentialsProvider(access, secret, token)
		out, err := sts.NewFromConfig(c).GetCallerIdentity(t.Context(), nil)
		if err == nil && *out.Account != s.Account {
			t.Errorf("the account is %s", *out.Account)
		}
		return code(err)
	}
	temporary, expired := s.TemporaryKeys(), s.TemporaryKeys()
	s.ExpireKey(expired.AccessKey)
	for _, test := range []struct {
		name, access, secret, token, want string
	}{
		{"owner", s.AccessKey, s.SecretKey, "", ""},
		{"unknown key", "AKIAUNKNOWN", s.SecretKey, "", "InvalidClientTokenId"},
		{"wrong secret", s.AccessKey, "wrong", "", "SignatureDoesNotMatch"},
		{"temporary", temporary.AccessKey, temporary.SecretKey, temporary.SessionToken, ""},
		{"temporary without token", temporary.AccessKey, temporary.SecretKey, "", "InvalidClientTokenId"},
		{"expired", expired.AccessKey, expired.SecretKey, expired.SessionToken, "ExpiredToken"},
	} {
		if got := who(test.access, test.secret, test.token); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{Faults: awsstand.Faults{
		RoleRefusals: 1, HiddenPolls: 1, PendingPolls: 1,
		Throttles: []awsstand.Throttle{{Service: "lambda", Operations: []string{"ListFunctions"}, Every: 2}},
	}})
	arn := role(t, s, "r", logging)
	client := lambda.NewFromConfig(clientConfig(s))
	creation := func() error {
		_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
			FunctionName: aws.String("f"), Role: &arn, Runtime: lambdatypes.RuntimePython311, Handler: aws.String("handler.handler"),
			Code: &lambdatypes.FunctionCode{ZipFile: archive(t, map[string]string{"handler.py": echo})},
		})
		return err
	}
	if err := creation(); code(err) != "InvalidParameterValueException" || !strings.Contains(err.Error(), "cannot be assumed") {
		t.Errorf("the role is accepted at once: %v", err)
	}
	if err := creation(); err != nil {
		t.Fatal(err)
	}
	get := func() (lambdatypes.State, string) {
		out, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
		if err != nil {
			return "", code(err)
		}
		return out.Configuration.State, ""
	}
	call := func() string {
		_, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
		return code(err)
	}
	if _, got := get(); got != "ResourceNotFoundException" {
		t.Errorf("the new function is found at once: %q", got)
	}
	if got := call(); got != "ResourceConflictException" {
		t.Errorf("a pending function runs: %q", got)
	}
	for _, want := range []lambdatypes.State{lambdatypes.StatePending, lambdatypes.StateActive} {
		if state, err := get(); state != want {
			t.Errorf("the state is %q, %q, want %s", state, err, want)
		}
	}
	update := func() string {
		_, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), MemorySize: aws.Int32(256)})
		return code(err)
	}
	if first, second := update(), update(); first != "" || second != "ResourceConflictException" {
		t.Errorf("two updates at once: %q, %q", first, second)
	}
	for _, want := range []string{"", "TooManyRequestsException", ""} {
		if _, err := client.ListFunctions(t.Context(), nil); code(err) != want {
			t.Errorf("a list is answered with %v, want %q", err, want)
		}
	}
	if _, err := client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{
		FunctionName: aws.String("f"), ReservedConcurrentExecutions: aws.Int32(0),
	}); err != nil {
		t.Fatal(err)
	}
	if got := call(); got != "TooManyRequestsException" {
		t.Errorf("a function without concurrency runs: %q", got)
	}
}

func TestLimitsOfFunctions(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	arn := role(t, s, "r", logging)
	client := lambda.NewFromConfig(clientConfig(s))
	for _, test := range []struct {
		name   string
		change func(*lambda.CreateFunctionInput)
		want   string
	}{
		{"memory", func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(64) }, "ValidationException"},
		{"time", func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(901) }, "ValidationException"},
		{"name", func(in *lambda.CreateFunctionInput) { in.FunctionName = aws.String(strings.Repeat("f", 65)) }, "ValidationException"},
		{"reserved variable", func(in *lambda.CreateFunctionInput) {
			in.Environment = &lambdatypes.Environment{Variables: map[string]string{"AWS_REGION": "x"}}
		}, "InvalidParameterValueException"},
		{"large variables", func(in *lambda.CreateFunctionInput) {
			in.Environment = &lambdatypes.Environment{Variables: map[string]string{"LARGE": strings.Repeat("x", 5000)}}
		}, "InvalidParameterValueException"},
		{"no archive", func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = []byte("PK, or so it seems") }, "InvalidParameterValueException"},
		{"no role", func(in *lambda.CreateFunctionInput) { in.Role = aws.String(arn + "-other") }, "InvalidParameterValueException"},
		{"no image", func(in *lambda.CreateFunctionInput) {
			in.PackageType, in.Runtime, in.Handler = lambdatypes.PackageTypeImage, "", nil
			in.Code = &lambdatypes.FunctionCode{ImageUri: aws.String("127.0.0.1:1/none:latest")}
		}, "InvalidParameterValueException"},
		{"good", func(*lambda.CreateFunctionInput) {}, ""},
	} {
		in := &lambda.CreateFunctionInput{
			FunctionName: aws.String("f"), Role: &arn, Runtime: lambdatypes.RuntimePython311, Handler: aws.String("handler.handler"),
			Code: &lambdatypes.FunctionCode{ZipFile: archive(t, map[string]string{"handler.py": echo})},
		}
		test.change(in)
		if _, err := client.CreateFunction(t.Context(), in); code(err) != test.want {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// page is what is under a URL.
func page(ctx context.Context, t *testing.T, s *awsstand.Stand, url string, sign bool) (int, string) {
	t.Helper()
	const body = `{"marker":"web"}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true
	if sign {
		sum := sha256.Sum256([]byte(body))
		keys := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
		if err := v4.NewSigner().SignHTTP(ctx, keys, request, hex.EncodeToString(sum[:]), "lambda", s.Region, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

const web = `
import json
def handler(event, context):
    return {"statusCode": 201, "headers": {"x-test": "1"}, "body": json.dumps({
        "path": event["rawPath"], "method": event["requestContext"]["http"]["method"], "body": event.get("body"), "version": event["version"]})}
`

func TestURLs(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	create(t, s, "web", role(t, s, "r", logging), web)
	client := lambda.NewFromConfig(clientConfig(s))
	made, err := client.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("web"), AuthType: lambdatypes.FunctionUrlAuthTypeNone})
	if err != nil {
		t.Fatal(err)
	}
	url := *made.FunctionUrl
	permit := func(in *lambda.AddPermissionInput) {
		t.Helper()
		in.FunctionName = aws.String("web")
		if _, err := client.AddPermission(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(url string, sign bool, status int) {
		t.Helper()
		got, body := page(t.Context(), t, s, url, sign)
		if got != status {
			t.Errorf("%s answers %d, want %d: %s", url, got, status, body)
		}
		if want := `{"path": "/", "method": "POST", "body": "{\"marker\":\"web\"}", "version": "2.0"}`; got == http.StatusCreated && body != want {
			t.Errorf("the function answers %s, want %s", body, want)
		}
	}
	expect(url, false, http.StatusForbidden)
	permit(&lambda.AddPermissionInput{
		StatementId: aws.String("url"), Principal: aws.String("*"), Action: aws.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: lambdatypes.FunctionUrlAuthTypeNone,
	})
	expect(url, false, http.StatusForbidden)
	permit(&lambda.AddPermissionInput{
		StatementId: aws.String("invoke"), Principal: aws.String("*"), Action: aws.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true),
	})
	expect(url, false, http.StatusCreated)
	if _, err := client.UpdateFunctionUrlConfig(t.Context(), &lambda.UpdateFunctionUrlConfigInput{FunctionName: aws.String("web"), AuthType: lambdatypes.FunctionUrlAuthTypeAwsIam}); err != nil {
		t.Fatal(err)
	}
	expect(url, false, http.StatusForbidden)
	expect(url, true, http.StatusCreated)

	api, err := apigatewayv2.NewFromConfig(clientConfig(s)).CreateApi(t.Context(), &apigatewayv2.CreateApiInput{
		Name: aws.String("web"), ProtocolType: apitypes.ProtocolTypeHttp, Target: aws.String("arn:aws:lambda:us-east-1:" + s.Account + ":function:web"),
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(*api.ApiEndpoint+"/", false, http.StatusInternalServerError)
	permit(&lambda.AddPermissionInput{
		StatementId: aws.String("api"), Principal: aws.String("apigateway.amazonaws.com"), Action: aws.String("lambda:InvokeFunction"),
		SourceArn: aws.String("arn:aws:execute-api:us-east-1:" + s.Account + ":" + *api.ApiId + "/*/*"),
	})
	expect(*api.ApiEndpoint+"/", false, http.StatusCreated)
}

// reader shows the keys of the role, with which the test does as the function might.
const reader = `
import os
def handler(event, context):
    return {key: os.environ[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL")}
`

func TestRolesBoundFunctions(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	owner := s3.NewFromConfig(clientConfig(s), func(o *s3.Options) { o.UsePathStyle = true })
	for _, bucket := range []string{"mine", "other"} {
		if _, err := owner.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, "reader", role(t, s, "r", logging, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::mine/*"}}`), reader)
	keys := invoke(t, s, "reader").body
	c := clientConfig(s)
	c.Credentials = credentials.NewStaticCredentialsProvider(keys["AWS_ACCESS_KEY_ID"].(string), keys["AWS_SECRET_ACCESS_KEY"].(string), keys["AWS_SESSION_TOKEN"].(string))
	client := s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
	for bucket, want := range map[string]string{"mine": "", "other": "AccessDenied"} {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("a b/c"), Body: strings.NewReader("x")})
		if code(err) != want {
			t.Errorf("putting into %s: %v, want %q", bucket, err, want)
		}
	}
	if _, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("a b/c")}); code(err) != "AccessDenied" {
		t.Errorf("getting without the permission: %v", err)
	}
}

const sending = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}`

func TestEventsAndObjects(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	create(t, s, "echo", role(t, s, "r", logging), echo)
	functions, queues := lambda.NewFromConfig(clientConfig(s)), sqs.NewFromConfig(clientConfig(s))
	queue, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("outcomes")})
	if err != nil {
		t.Fatal(err)
	}
	about, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatal(err)
	}
	arn := about.Attributes["QueueArn"]
	to := &lambdatypes.DestinationConfig{OnSuccess: &lambdatypes.OnSuccess{Destination: &arn}, OnFailure: &lambdatypes.OnFailure{Destination: &arn}}
	if _, err := functions.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("echo"), DestinationConfig: to}); err == nil {
		t.Error("a destination is taken that the role cannot send to")
	}
	if _, err := functions.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("echo"), Role: aws.String(role(t, s, "r2", logging, sending))}); err != nil {
		t.Fatal(err)
	}
	settle(t, s, "echo")
	if _, err := functions.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("echo"), DestinationConfig: to}); err != nil {
		t.Fatal(err)
	}
	receive := func() map[string]any {
		t.Helper()
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, WaitTimeSeconds: 10, MaxNumberOfMessages: 1})
		if err != nil || len(out.Messages) != 1 {
			t.Fatalf("no outcome: %v", err)
		}
		doc := map[string]any{}
		if err := json.Unmarshal([]byte(*out.Messages[0].Body), &doc); err != nil {
			t.Fatal(err)
		}
		if _, err := queues.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: queue.QueueUrl, ReceiptHandle: out.Messages[0].ReceiptHandle}); err != nil {
			t.Fatal(err)
		}
		return doc
	}
	sent, err := functions.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo"), InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(`{"marker":"event"}`)})
	if err != nil || sent.StatusCode != http.StatusAccepted {
		t.Fatalf("%v: %v", sent, err)
	}
	got := receive()
	answer, _ := got["responsePayload"].(map[string]any)
	if about, _ := got["requestContext"].(map[string]any); about["condition"] != "Success" || about["requestId"] != answer["id"] {
		t.Errorf("the outcome is %v", got)
	}

	bucket := "objects"
	objects := s3.NewFromConfig(clientConfig(s), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := objects.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	notify := func() error {
		_, err := objects.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
			Bucket: &bucket, NotificationConfiguration: &s3types.NotificationConfiguration{LambdaFunctionConfigurations: []s3types.LambdaFunctionConfiguration{{
				LambdaFunctionArn: aws.String("arn:aws:lambda:us-east-1:" + s.Account + ":function:echo"), Events: []s3types.Event{"s3:ObjectCreated:*"},
				Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{{Name: "prefix", Value: aws.String("in/")}}}},
			}}},
		})
		return err
	}
	if err := notify(); code(err) != "InvalidArgument" {
		t.Errorf("a bucket may call a function that does not let it: %v", err)
	}
	if _, err := functions.AddPermission(t.Context(), &lambda.AddPermissionInput{
		FunctionName: aws.String("echo"), StatementId: aws.String("s3"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("s3.amazonaws.com"),
		SourceArn: aws.String("arn:aws:s3:::" + bucket), SourceAccount: &s.Account,
	}); err != nil {
		t.Fatal(err)
	}
	if err := notify(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"out/1", "in/a b"} {
		if _, err := objects.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("content")}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(receive()["requestPayload"])
	if err != nil || !strings.Contains(string(raw), `"key":"in%2Fa+b","sequencer"`) || !strings.Contains(string(raw), `"size":7`) {
		t.Errorf("the event is %s", raw)
	}
	if n := s.Invocations("echo"); n != 2 {
		t.Errorf("the function ran %d times", n)
	}
}
