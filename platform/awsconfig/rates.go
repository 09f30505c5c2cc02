package awsconfig

import (
	"math"
	"strings"

	"github.com/sebs-suite/sebs/internal/ratelimit"
)

// getFunction is the API of Lambda's GetFunction, for which AWS has a quota of its own: it is what one waits with.
const getFunction = "lambda-getfunction"

// quotas are requests a second of AWS's own quotas of an account in a region, as far as they are documented.
var quotas = map[string]float64{
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#api-requests
	"lambda":    15,
	getFunction: 100,
	// https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html#api-gateway-control-service-limits-table
	"apigatewayv2": 10,
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html, DescribeLogGroups and StartQuery
	"cloudwatch-logs": 10,
}

// apiOf returns the name under which an operation's rate is bounded.
func apiOf(service, operation string) string {
	api := strings.ReplaceAll(strings.ToLower(service), " ", "-")
	if api == "lambda" && operation == "GetFunction" {
		return getFunction
	}
	return api
}

// rates returns what each API allows: what the settings say, else AWS's quota. A stand-in and a private installation have
// quotas of their own.
func (s *Settings) rates(endpoint string) func(api string) ratelimit.Limit {
	return func(api string) ratelimit.Limit {
		rate, given := s.RequestsPerSecond[api]
		if !given && endpoint == "" {
			rate = quotas[api]
		}
		return ratelimit.Limit{PerSecond: rate, Burst: max(2, int(math.Round(rate)))}
	}
}
