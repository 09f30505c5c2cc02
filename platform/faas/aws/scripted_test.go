package aws_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// script answers the SDK's requests. The key of an answer is the method and the path; several answers to one key come one
// after the other, and the last one stays.
type script struct {
	t       *testing.T
	mu      sync.Mutex
	answers map[string][]scripted
	asked   map[string]int
	queries []string
}

// scripted is one answer; its code is that of an error.
type scripted struct {
	status     int
	code, body string
	header     http.Header
}

func ok(body string) scripted { return scripted{status: http.StatusOK, body: body} }

func failed(status int, code, message string) scripted {
	return scripted{status: status, code: code, body: fmt.Sprintf(`{"message":%q,"Message":%q}`, message, message)}
}

// Do implements the SDK's HTTP client.
func (s *script) Do(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	key := r.Method + " " + r.URL.Path
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[key]++
	s.queries = append(s.queries, key+"?"+r.URL.RawQuery)
	left := s.answers[key]
	if len(left) == 0 {
		s.t.Errorf("unexpected request %s", key)
		left = []scripted{failed(http.StatusTeapot, "Unexpected", key)}
	}
	if len(left) > 1 {
		s.answers[key] = left[1:]
	}
	header := left[0].header
	if header == nil {
		header = make(http.Header)
	}
	header.Set("Content-Type", "application/json")
	if left[0].code != "" {
		header.Set("X-Amzn-Errortype", left[0].code)
	}
	return &http.Response{StatusCode: left[0].status, Header: header, Body: io.NopCloser(strings.NewReader(left[0].body)), Request: r}, nil
}

func (s *script) count(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[key]
}

// onScript returns a driver whose requests a script answers.
func onScript(t *testing.T, answers map[string][]scripted, options aws.Options) (*script, *aws.Driver) {
	t.Helper()
	s := &script{t: t, answers: answers, asked: make(map[string]int)}
	if options.Poll == 0 {
		options.Poll = time.Millisecond
	}
	return s, aws.New(awsconfig.Opened{Config: sdk.Config{
		Region: "eu-central-1", HTTPClient: s, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer: func() sdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Millisecond })
		},
	}}, options)
}

const (
	functionPath = "/2015-03-31/functions/f"
	configPath   = functionPath + "/configuration"
	active       = `{"Configuration":{"FunctionName":"f","FunctionArn":"arn:aws-cn:lambda:eu-central-1:123456789012:function:f","Runtime":"python3.11","PackageType":"Zip","MemorySize":256,"Timeout":3,"State":"Active","LastUpdateStatus":"Successful"},"Tags":{"sebs:deployment":"d"}}`
)

func absent() scripted {
	return failed(http.StatusNotFound, "ResourceNotFoundException", "Function not found")
}

func TestACallIsSentOnce(t *testing.T) {
	t.Parallel()
	const invocations = functionPath + "/invocations"
	for name, test := range map[string]struct {
		answer scripted
		code   codes.Code
	}{
		"throttled": {scripted{status: http.StatusTooManyRequests, code: "TooManyRequestsException", body: `{"message":"Rate Exceeded."}`, header: http.Header{"Retry-After": {"2"}}}, codes.ResourceExhausted},
		"broken":    {failed(http.StatusInternalServerError, "ServiceException", "try again"), codes.Unavailable},
		"bad event": {failed(http.StatusBadRequest, "InvalidRequestContentException", "not JSON"), codes.InvalidArgument},
	} {
		s, d := onScript(t, map[string][]scripted{"GET " + functionPath: {ok(active)}, "POST " + invocations: {test.answer}}, aws.Options{})
		_, err := d.Invoke(t.Context(), driver.Call{Function: "f", Payload: []byte("{}")})
		fault := d.Classify(err)
		if fault.Code != test.code || s.count("POST "+invocations) != 1 {
			t.Errorf("%s: %d requests, classified as %+v (%v)", name, s.count("POST "+invocations), fault, err)
		}
		if name == "throttled" && (fault.RetryAfter != 2*time.Second || fault.Reason != aws.ReasonThrottled || !fault.Retry) {
			t.Errorf("the throttle is %+v", fault)
		}
	}
}

func TestAReportThatCannotBeReadIsNoFailureOfTheCall(t *testing.T) {
	t.Parallel()
	for text, known := range map[string]bool{"Duration: 2.5 ms\tBilled Duration: 3 ms": true, "Duration: 2.5 parsecs": false} {
		answer := ok(`"done"`)
		answer.header = http.Header{
			"X-Amzn-Requestid": {"r"}, "X-Amz-Log-Result": {base64.StdEncoding.EncodeToString([]byte("REPORT RequestId: r\t" + text + "\n"))},
		}
		_, d := onScript(t, map[string][]scripted{"GET " + functionPath: {ok(active)}, "POST " + functionPath + "/invocations": {answer}}, aws.Options{})
		got, err := d.Invoke(t.Context(), driver.Call{Function: "f"})
		if err != nil || string(got.Payload) != `"done"` || (got.Record != nil) != known {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestPayloadsAreCheckedBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	_, d := onScript(t, nil, aws.Options{})
	for _, call := range []driver.Call{
		{Function: "f", Payload: make([]byte, 6<<20+1)},
		{Function: "f", Payload: make([]byte, 1<<20+1), Async: true},
	} {
		if _, err := d.Invoke(t.Context(), call); !errs.Is(err, codes.InvalidArgument) || errs.Reason(err) != aws.ReasonPayloadTooLarge {
			t.Errorf("async %t: %v", call.Async, err)
		}
	}
}

func TestAnUpdateWaitsForTheOneBefore(t *testing.T) {
	t.Parallel()
	busy := failed(http.StatusConflict, "ResourceConflictException", "The operation cannot be performed at this time. An update is in progress for resource: f")
	const concurrencyPath = "/2017-10-31/functions/f/concurrency"
	s, d := onScript(t, map[string][]scripted{
		"GET " + functionPath:    {ok(active)},
		"PUT " + configPath:      {busy, busy, ok(`{}`)},
		"PUT " + concurrencyPath: {busy, ok(`{}`)},
		"POST /2017-03-31/tags/arn:aws-cn:lambda:eu-central-1:123456789012:function:f": {ok("")},
		"GET /2021-10-31/functions/f/url":                                              {absent()},
	}, aws.Options{})
	config := testConfig()
	config.MaxConcurrency = 5
	fn, err := d.UpdateConfiguration(t.Context(), "f", config)
	if err != nil || s.count("PUT "+configPath) != 3 || s.count("PUT "+concurrencyPath) != 2 || fn.Name != "f" || fn.Deployment != "d" {
		t.Errorf("updated %+v by %d requests, %v", fn, s.count("PUT "+configPath), err)
	}
	_, impatient := onScript(t, map[string][]scripted{"GET " + functionPath: {ok(active)}, "PUT " + configPath: {busy}}, aws.Options{Patience: 20 * time.Millisecond})
	if _, err := impatient.UpdateConfiguration(t.Context(), "f", config); impatient.Classify(err).Code != codes.Aborted || impatient.Classify(err).Reason != aws.ReasonUpdateInProgress {
		t.Errorf("an update that does not end is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, waiting := onScript(t, map[string][]scripted{"GET " + functionPath: {ok(active)}, "PUT " + configPath: {busy}}, aws.Options{})
	if _, err := waiting.UpdateConfiguration(ctx, "f", config); waiting.Classify(err).Code != codes.DeadlineExceeded {
		t.Errorf("a wait beyond the deadline is %v", err)
	}
}

func TestARoleThatLambdaMayNotTakeIsNoReasonToRepeat(t *testing.T) {
	t.Parallel()
	refused := failed(http.StatusBadRequest, "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
	answers := func() map[string][]scripted {
		return map[string][]scripted{"GET " + functionPath: {absent()}, "POST /": {ok(`{}`)}, "POST /2015-03-31/functions": {refused}}
	}
	spec := driver.FunctionSpec{
		Name: "f", Deployment: "d", Config: testConfig(), Settings: map[string]string{aws.SettingRole: "arn:aws:iam::123456789012:role/mine"},
		Code: driver.Code{ImageURI: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/r@sha256:0"},
	}
	_, impatient := onScript(t, answers(), aws.Options{Patience: 20 * time.Millisecond})
	_, err := impatient.CreateFunction(t.Context(), spec)
	if fault := impatient.Classify(err); fault.Code != codes.FailedPrecondition || fault.Retry {
		t.Errorf("after all waiting it is %+v, %v", fault, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, hurried := onScript(t, answers(), aws.Options{})
	_, err = hurried.CreateFunction(ctx, spec)
	if fault := hurried.Classify(err); fault.Code != codes.DeadlineExceeded || !strings.Contains(err.Error(), "cannot be assumed by Lambda") {
		t.Errorf("at the deadline it is %+v, %v", fault, err)
	}
}

func TestAFunctionThatNeverAppearsIsToldWithTheReason(t *testing.T) {
	t.Parallel()
	_, d := onScript(t, map[string][]scripted{
		"GET " + functionPath: {absent()}, "POST /": {ok(`{}`)}, "POST /2015-03-31/functions": {ok(`{}`)},
	}, aws.Options{Patience: 20 * time.Millisecond})
	_, err := d.CreateFunction(t.Context(), driver.FunctionSpec{
		Name: "f", Deployment: "d", Config: testConfig(), Settings: map[string]string{aws.SettingRole: "arn:aws:iam::123456789012:role/mine"},
		Code: driver.Code{ImageURI: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/r@sha256:0"},
	})
	if d.Classify(err).Code != codes.DeadlineExceeded || !strings.Contains(err.Error(), "Function not found") {
		t.Errorf("it is %v", err)
	}
}

func TestStatesAreReported(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fields string
		state  driver.State
		reason string
	}{
		"pending":     {`"State":"Pending","StateReasonCode":"Creating"`, driver.StatePending, ""},
		"in progress": {`"State":"Active","LastUpdateStatus":"InProgress"`, driver.StatePending, ""},
		"failed":      {`"State":"Failed","StateReason":"no such image","StateReasonCode":"ImageDeleted"`, driver.StateFailed, "no such image (ImageDeleted)"},
		"not updated": {`"State":"Active","LastUpdateStatus":"Failed","LastUpdateStatusReason":"too large"`, driver.StateFailed, "too large"},
		"inactive":    {`"State":"Inactive","LastUpdateStatus":"Successful"`, driver.StateActive, ""},
	} {
		_, d := onScript(t, map[string][]scripted{
			"GET " + functionPath:             {ok(`{"Configuration":{"FunctionName":"f","Runtime":"provided.al2023","Architectures":["arm64"],` + test.fields + `}}`)},
			"GET /2021-10-31/functions/f/url": {absent()},
		}, aws.Options{})
		fn, err := d.GetFunction(t.Context(), "f")
		if err != nil || fn.State != test.state || fn.StateReason != test.reason || fn.Config.Architecture != "arm64" || fn.Config.Runtime != (driver.Runtime{Language: "cpp", Version: "all"}) {
			t.Errorf("%s: %+v, %v", name, fn, err)
		}
	}
}

func TestAFunctionWithoutReadableTagsIsAnError(t *testing.T) {
	t.Parallel()
	for code, wanted := range map[string]codes.Code{"AccessDeniedException": codes.PermissionDenied, "ThrottlingException": codes.ResourceExhausted} {
		_, d := onScript(t, map[string][]scripted{"GET " + functionPath: {ok(
			`{"Configuration":{"FunctionName":"f","State":"Active"},"TagsError":{"ErrorCode":"` + code + `","Message":"no tags"}}`,
		)}}, aws.Options{})
		if fn, err := d.GetFunction(t.Context(), "f"); d.Classify(err).Code != wanted {
			t.Errorf("%s: got %+v, %v", code, fn, err)
		}
	}
}

func TestListingsReadAllPages(t *testing.T) {
	t.Parallel()
	one := func(name, deployment string) scripted {
		return ok(fmt.Sprintf(`{"Configuration":{"FunctionName":%q,"State":"Active"},"Tags":{"sebs:deployment":%q}}`, name, deployment))
	}
	s, d := onScript(t, map[string][]scripted{
		"GET /2015-03-31/functions": {
			ok(`{"Functions":[{"FunctionName":"c"},{"FunctionName":"a"}],"NextMarker":"m1"}`),
			failed(http.StatusTooManyRequests, "TooManyRequestsException", "Rate exceeded"),
			ok(`{"Functions":[{"FunctionName":"gone"},{"FunctionName":"b"}]}`),
		},
		"GET /2015-03-31/functions/a":    {one("a", "d")},
		"GET /2015-03-31/functions/b":    {one("b", "other")},
		"GET /2015-03-31/functions/c":    {one("c", "d")},
		"GET /2015-03-31/functions/gone": {absent()},
	}, aws.Options{})
	page, err := d.ListFunctions(t.Context(), driver.ListQuery{Deployment: "d"})
	if err != nil || len(page.Functions) != 2 || page.Functions[0].Name != "a" || page.Functions[1].Name != "c" || page.NextPageToken != "" {
		t.Errorf("listed %+v, %v", page, err)
	}
	if s.count("GET /2015-03-31/functions") != 3 || !strings.Contains(strings.Join(s.queries, " "), "Marker=m1") {
		t.Errorf("the requests were %v", s.queries)
	}
}

// A trigger that is there is not made again, so one that lets nobody in must not be there.
func TestTriggersThatCannotBeOpenedAreNotLeft(t *testing.T) {
	t.Parallel()
	s, d := onScript(t, map[string][]scripted{
		"GET " + functionPath:              {ok(active)},
		"GET /v2/apis":                     {ok(`{"items":[{"apiId":"y","name":"f-http-api"}]}`)},
		"POST /":                           {ok(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/u</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)},
		"POST " + functionPath + "/policy": {failed(http.StatusForbidden, "AccessDeniedException", "not authorized to perform: lambda:AddPermission")},
	}, aws.Options{})
	// A request to make the URL, or to tag the function with the API, would be one that the script does not expect.
	for _, use := range []string{"true", "false"} {
		_, err := d.CreateTrigger(t.Context(), "f", driver.TriggerSpec{Type: driver.TriggerHTTP, Settings: map[string]string{aws.SettingFunctionURL: use}})
		if d.Classify(err).Code != codes.PermissionDenied {
			t.Errorf("use-function-url %s: %v", use, err)
		}
	}
	if s.count("POST "+functionPath+"/policy") != 2 {
		t.Errorf("the policy was changed %d times", s.count("POST "+functionPath+"/policy"))
	}
}

func TestAnHTTPAPIIsFoundOnALaterPage(t *testing.T) {
	t.Parallel()
	const tags = "/2017-03-31/tags/arn:aws-cn:lambda:eu-central-1:123456789012:function:f"
	s, d := onScript(t, map[string][]scripted{
		"GET " + functionPath:                {ok(active)},
		"GET /v2/apis":                       {ok(`{"items":[{"apiId":"x","name":"g-http-api"}],"nextToken":"t"}`), ok(`{"items":[{"apiId":"y","name":"f-http-api"}]}`)},
		"GET /v2/apis/y":                     {ok(`{"apiId":"y","name":"f-http-api","apiEndpoint":"https://y.example.org"}`)},
		"POST " + tags:                       {ok("")},
		"POST /":                             {ok(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws-cn:iam::123456789012:user/u</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)},
		"DELETE /2021-10-31/functions/f/url": {absent()},
		"POST " + functionPath + "/policy":   {failed(http.StatusConflict, "ResourceConflictException", "The statement id (sebs-http-api-y) provided already exists. Please provide a new statement id, or remove the existing statement.")},
	}, aws.Options{})
	got, err := d.CreateTrigger(t.Context(), "f", driver.TriggerSpec{Type: driver.TriggerHTTP, Settings: map[string]string{aws.SettingFunctionURL: "false"}})
	if err != nil || got.URL != "https://y.example.org/" || got.Attributes["api-id"] != "y" {
		t.Errorf("adopted %+v, %v", got, err)
	}
	if s.count("POST /v2/apis") != 0 {
		t.Error("a second API was made")
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	_, d := onScript(t, nil, aws.Options{})
	answer := func(code, message string) error {
		return fmt.Errorf("operation: %w", &smithy.GenericAPIError{Code: code, Message: message})
	}
	for name, test := range map[string]struct {
		err    error
		code   codes.Code
		reason string
		retry  bool
	}{
		"throttled":          {answer("ThrottlingException", ""), codes.ResourceExhausted, aws.ReasonThrottled, true},
		"throttled by S3":    {answer("SlowDown", ""), codes.ResourceExhausted, aws.ReasonThrottled, true},
		"expired":            {answer("ExpiredTokenException", ""), codes.Unauthenticated, aws.ReasonCredentialsExpired, false},
		"expired at STS":     {answer("ExpiredToken", ""), codes.Unauthenticated, aws.ReasonCredentialsExpired, false},
		"unknown key":        {answer("InvalidClientTokenId", ""), codes.Unauthenticated, aws.ReasonCredentialsRefused, false},
		"wrong secret":       {answer("SignatureDoesNotMatch", ""), codes.Unauthenticated, aws.ReasonCredentialsRefused, false},
		"denied":             {answer("AccessDeniedException", ""), codes.PermissionDenied, "AccessDeniedException", false},
		"gone":               {answer("ResourceNotFoundException", ""), codes.NotFound, "ResourceNotFoundException", false},
		"no role":            {answer("NoSuchEntity", ""), codes.NotFound, "NoSuchEntity", false},
		"there":              {answer("ResourceConflictException", "Function already exist: f"), codes.AlreadyExists, "ResourceConflictException", false},
		"changing":           {answer("ResourceConflictException", "An update is in progress for resource: f"), codes.Aborted, aws.ReasonUpdateInProgress, true},
		"role not known yet": {answer("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."), codes.Unavailable, "InvalidParameterValueException", true},
		"queue not known yet": {
			answer("InvalidParameterValueException", "The destination ARN arn:aws:sqs:eu-central-1:123456789012:sebs-async-d is invalid."),
			codes.Unavailable, "InvalidParameterValueException", true,
		},
		"wrong value": {answer("InvalidParameterValueException", "MemorySize"), codes.InvalidArgument, "InvalidParameterValueException", false},
		"quota":       {answer("CodeStorageExceededException", ""), codes.FailedPrecondition, "CodeStorageExceededException", false},
		"broken":      {answer("ServiceException", ""), codes.Unavailable, "ServiceException", true},
		"own error":   {errs.NotFound("OWN", "gone"), codes.NotFound, "OWN", false},
		"cancelled":   {fmt.Errorf("x: %w", context.Canceled), codes.Canceled, "", false},
		"too late":    {fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "", false},
		"anything":    {errors.New("x"), codes.Internal, "", false},
		"nothing":     {nil, codes.OK, "", false},
	} {
		if got := d.Classify(test.err); got.Code != test.code || got.Reason != test.reason || got.Retry != test.retry {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	_, d := onScript(t, nil, aws.Options{})
	for _, name := range []string{"", "-f", "f:live", "arn:aws:lambda:eu-central-1:123456789012:function:f", "f/../g", strings.Repeat("x", 65)} {
		_, got := d.GetFunction(t.Context(), name)
		_, invoked := d.Invoke(t.Context(), driver.Call{Function: name})
		_, logged := d.Logs(t.Context(), driver.LogQuery{Function: name})
		for _, err := range []error{got, invoked, logged, d.DeleteFunction(t.Context(), name)} {
			if !errs.Is(err, codes.InvalidArgument) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}
