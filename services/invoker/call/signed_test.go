package call_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

// stamping signs with the scope's name and the length of the body.
type stamping struct{ err error }

func (s stamping) Sign(_ context.Context, scope driver.Scope, request *http.Request, body []byte) error {
	request.Header.Set("Authorization", fmt.Sprintf("%s %s %d", scope.Credential, scope.Region, len(body)))
	return s.err
}

func TestRequestsAreSignedWhereTheTriggerAsks(t *testing.T) {
	t.Parallel()
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"statusCode":200,"body":"{\"is_cold\":false,\"request_id\":\"r\",\"result\":{\"result\":1}}"}`)
	}))
	t.Cleanup(server.Close)
	target := httpTarget(server.URL)
	target.Platform, target.Scope = "aws", driver.Scope{Credential: "team", Region: "eu-west-1"}
	signed := target
	signed.Trigger = &typev1.Trigger{Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: server.URL, Attributes: map[string]string{"auth_type": "AWS_IAM"}}
	caller := newHTTP(t, call.HTTPOptions{Signers: map[string]call.Signer{"aws": stamping{}}})
	input := call.Input{Payload: []byte(`{"a":1}`)}
	if got := record(t, caller, signed, input); got.GetErrorClass() != 0 || seen != "team eu-west-1 7" {
		t.Errorf("signed with %q, recorded %v", seen, got)
	}
	if got := record(t, caller, target, input); got.GetErrorClass() != 0 || seen != "" {
		t.Errorf("an open trigger was called with %q, recorded %v", seen, got)
	}
	seen = "not called"
	for name, options := range map[string]call.HTTPOptions{
		"no signer":     {},
		"no credential": {Signers: map[string]call.Signer{"aws": stamping{errors.New("no key")}}},
	} {
		got := record(t, newHTTP(t, options), signed, input)
		if got.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_PLATFORM || !strings.Contains(got.GetErrorMessage(), "sign the request") || seen != "not called" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAFailureBehindAFunctionURLIsTheFunctions(t *testing.T) {
	t.Parallel()
	got := invoke(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-Requestid", "r-7")
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "Internal Server Error")
	}, call.Input{}, "aws")
	if got.GetErrorClass() != typev1.ErrorClass_ERROR_CLASS_FUNCTION || got.GetResult().GetRequestId() != "r-7" || !strings.Contains(got.GetErrorMessage(), "sebs function logs") {
		t.Errorf("recorded %v", got)
	}
}
