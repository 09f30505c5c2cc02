package awsstand_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/test/awsstand"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// clientConfig is what the SDK's clients are made with.
func clientConfig(s *awsstand.Stand) aws.Config {
	return aws.Config{
		Region: s.Region, BaseEndpoint: aws.String(s.Endpoint), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}
}

func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, text := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// logging lets a function write its log.
const logging = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"arn:aws:logs:*:*:log-group:/aws/lambda/*"}]}`

func role(t *testing.T, s *awsstand.Stand, name string, policies ...string) string {
	t.Helper()
	client := iam.NewFromConfig(clientConfig(s))
	made, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(trust)})
	if err != nil {
		t.Fatal(err)
	}
	for i, policy := range policies {
		_, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String(fmt.Sprint("p", i)), PolicyDocument: &policy})
		if err != nil {
			t.Fatal(err)
		}
	}
	return *made.Role.Arn
}

const echo = `
import os
def handler(event, context):
    print("marker", event.get("marker"), flush=True)
    return {"event": event, "id": context.aws_request_id, "variable": os.environ.get("VARIABLE"), "region": os.environ["AWS_REGION"]}
`

func create(t *testing.T, s *awsstand.Stand, name, roleARN, source string) {
	t.Helper()
	client := lambda.NewFromConfig(clientConfig(s))
	_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: &name, Role: &roleARN, Runtime: lambdatypes.RuntimePython311, Handler: aws.String("handler.handler"),
		MemorySize: aws.Int32(256), Timeout: aws.Int32(10), Code: &lambdatypes.FunctionCode{ZipFile: archive(t, map[string]string{"handler.py": source})},
		Environment: &lambdatypes.Environment{Variables: map[string]string{"VARIABLE": "one"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s, name)
}

func settle(t *testing.T, s *awsstand.Stand, name string) {
	t.Helper()
	waiter := lambda.NewFunctionUpdatedV2Waiter(lambda.NewFromConfig(clientConfig(s)), func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay = time.Millisecond })
	active := lambda.NewFunctionActiveV2Waiter(lambda.NewFromConfig(clientConfig(s)), func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay = time.Millisecond })
	if err := active.Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := waiter.Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// result is what came of an invocation.
type result struct {
	body   map[string]any
	log    string
	failed string
}

func invoke(t *testing.T, s *awsstand.Stand, name string) result {
	t.Helper()
	out, err := lambda.NewFromConfig(clientConfig(s)).Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: &name, Payload: []byte(`{"marker":"m-1"}`), LogType: lambdatypes.LogTypeTail,
	})
	if err != nil {
		t.Fatal(err)
	}
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	r := result{log: string(tail), failed: aws.ToString(out.FunctionError)}
	if err := json.Unmarshal(out.Payload, &r.body); err != nil {
		t.Fatalf("%v: %s", err, out.Payload)
	}
	return r
}

func TestInvocationRunsWhatWasUploaded(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{})
	create(t, s, "echo", role(t, s, "r", logging), echo)
	cold := invoke(t, s, "echo")
	if cold.body["variable"] != "one" || cold.body["region"] != s.Region || cold.failed != "" {
		t.Errorf("the function answers %v, %q", cold.body, cold.failed)
	}
	id, _ := cold.body["id"].(string)
	for _, part := range []string{
		"START RequestId: " + id + " Version: $LATEST\n", "marker m-1\n", "END RequestId: " + id + "\n", "REPORT RequestId: " + id + "\tDuration: ", "\tInit Duration: ",
	} {
		if !strings.Contains(cold.log, part) {
			t.Errorf("the log has no %q:\n%s", part, cold.log)
		}
	}
	warm := invoke(t, s, "echo")
	if strings.Contains(warm.log, "Init Duration") {
		t.Errorf("the second call is cold:\n%s", warm.log)
	}
	client := lambda.NewFromConfig(clientConfig(s))
	_, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("echo"), Environment: &lambdatypes.Environment{Variables: map[string]string{"VARIABLE": "two"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s, "echo")
	if again := invoke(t, s, "echo"); again.body["variable"] != "two" || !strings.Contains(again.log, "Init Duration") {
		t.Errorf("after an update the function answers %v:\n%s", again.body, again.log)
	}
	logs := cloudwatchlogs.NewFromConfig(clientConfig(s))
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		page, err := logs.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/echo")})
		reports := 0
		if err == nil {
			for _, e := range page.Events {
				if strings.HasPrefix(*e.Message, "REPORT ") {
					reports++
				}
			}
		}
		if reports == 3 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("CloudWatch Logs shows %d REPORT lines: %v", reports, err)
		}
	}
}

func TestInsightsFiltersAndIsLate(t *testing.T) {
	t.Parallel()
	s := awsstand.Start(t, awsstand.Options{Faults: awsstand.Faults{InsightsPolls: 1, LogDelay: 300 * time.Millisecond}})
	create(t, s, "echo", role(t, s, "r", logging), echo)
	first, _ := invoke(t, s, "echo").body["id"].(string)
	second, _ := invoke(t, s, "echo").body["id"].(string)
	client := cloudwatchlogs.NewFromConfig(clientConfig(s))
	ask := func(filter string) (rows []string, running int) {
		t.Helper()
		started, err := client.StartQuery(t.Context(), &cloudwatchlogs.StartQueryInput{
			LogGroupName: aws.String("/aws/lambda/echo"), StartTime: aws.Int64(time.Now().Add(-time.Minute).Unix()), EndTime: aws.Int64(time.Now().Add(time.Minute).Unix()),
			QueryString: aws.String("fields @timestamp, @message | filter @message like /^REPORT RequestId:/" + filter + " | sort @timestamp asc | limit 10"),
		})
		if code(err) == "ResourceNotFoundException" {
			return nil, 0 // the log has not come yet
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			out, err := client.GetQueryResults(t.Context(), &cloudwatchlogs.GetQueryResultsInput{QueryId: started.QueryId})
			if err != nil {
				t.Fatal(err)
			}
			if out.Status != "Complete" {
				running++
				continue
			}
			for _, row := range out.Results {
				rows = append(rows, *row[1].Value)
			}
			return rows, running
		}
	}
	if rows, _ := ask(""); len(rows) != 0 {
		t.Errorf("the log is there at once: %q", rows)
	}
	var rows []string
	for until := time.Now().Add(10 * time.Second); len(rows) < 2 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		var running int
		if rows, running = ask(""); len(rows) > 0 && running != 1 {
			t.Errorf("the query was running for %d polls", running)
		}
	}
	if len(rows) != 2 || !strings.Contains(rows[0], first) || !strings.Contains(rows[1], second) {
		t.Errorf("the reports are %q", rows)
	}
	if rows, _ := ask(" | filter @message like /" + second + "|none/"); len(rows) != 1 || !strings.Contains(rows[0], second) {
		t.Errorf("the reports of %s are %q", second, rows)
	}
}
