package awsconfig

import (
	"testing"

	"github.com/sebs-suite/sebs/internal/ratelimit"
)

func TestRates(t *testing.T) {
	t.Parallel()
	settings := &Settings{RequestsPerSecond: map[string]float64{"iam": 3, "apigatewayv2": 0, "sqs": 0.5}}
	for _, c := range []struct {
		service, operation, endpoint string
		want                         ratelimit.Limit
	}{
		{"Lambda", "CreateFunction", "", ratelimit.Limit{PerSecond: 15, Burst: 15}},
		{"Lambda", "GetFunction", "", ratelimit.Limit{PerSecond: 100, Burst: 100}},
		{"CloudWatch Logs", "StartQuery", "", ratelimit.Limit{PerSecond: 10, Burst: 10}},
		{"ApiGatewayV2", "CreateApi", "", ratelimit.Limit{PerSecond: 0, Burst: 2}},
		{"IAM", "GetRole", "", ratelimit.Limit{PerSecond: 3, Burst: 3}},
		{"SQS", "CreateQueue", "", ratelimit.Limit{PerSecond: 0.5, Burst: 2}},
		{"S3", "PutObject", "", ratelimit.Limit{PerSecond: 0, Burst: 2}},
		{"Lambda", "CreateFunction", "http://127.0.0.1:5000", ratelimit.Limit{PerSecond: 0, Burst: 2}},
		{"IAM", "GetRole", "http://127.0.0.1:5000", ratelimit.Limit{PerSecond: 3, Burst: 3}},
	} {
		if got := settings.rates(c.endpoint)(apiOf(c.service, c.operation)); got != c.want {
			t.Errorf("%s of %s at %q: %+v, want %+v", c.operation, c.service, c.endpoint, got, c.want)
		}
	}
}
