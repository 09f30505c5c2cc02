package metrics

import (
	"slices"
	"strings"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// price is what an invocation costs: GB-seconds and a fee per request, in US dollars.
type price struct {
	architecture string
	perGBSecond  float64
	perRequest   float64
}

const (
	// pricesAsOf is the day the table was made; since August 2025 the billed time includes initialization.
	pricesAsOf = "2025-08-01"
	// priceRegion is the region of the table.
	priceRegion = "us-east-1"
)

// lambdaPrices is AWS Lambda's first pricing tier in us-east-1.
func lambdaPrices() []price {
	return []price{
		{architecture: "x64", perGBSecond: 0.0000166667, perRequest: 0.0000002},
		{architecture: "arm64", perGBSecond: 0.0000133334, perRequest: 0.0000002},
	}
}

// priceFor returns the price of an architecture; an unknown architecture costs as x64.
func priceFor(architecture string) price {
	prices := lambdaPrices()
	if i := slices.IndexFunc(prices, func(p price) bool { return p.architecture == architecture }); i >= 0 {
		return prices[i]
	}
	return prices[0]
}

// cost returns what invocations cost together.
func (p price) cost(gbSeconds float64, requests int64) float64 {
	return gbSeconds*p.perGBSecond + float64(requests)*p.perRequest
}

// estimatedOn tells whether a platform has no price of its own here, so that the cost is an estimate at AWS Lambda's.
func estimatedOn(platform string) bool { return platform != "aws" }

// platformOf takes the platform out of a resource name platforms/<platform>/…; empty when it has none.
func platformOf(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) >= 2 && parts[0] == "platforms" {
		return parts[1]
	}
	return ""
}

func listPrices(parent string) (*metricsv1.ListPricesResponse, error) {
	platform := platformOf(parent)
	switch platform {
	case "aws", "local":
	case "azure", "gcp", "openwhisk":
		return nil, errs.Unimplemented("PRICES_NOT_AVAILABLE", "there is no price table for platform %s", platform).With("platform", platform)
	default:
		return nil, errs.InvalidArgument("PLATFORM_UNKNOWN", "%q names no platform; use platforms/{platform} with aws, azure, gcp, local or openwhisk", parent)
	}
	response := &metricsv1.ListPricesResponse{}
	for _, p := range lambdaPrices() {
		entry := &metricsv1.Price{
			Region: priceRegion, Architecture: p.architecture, UsdPerGbSecond: p.perGBSecond, UsdPerRequest: p.perRequest,
			AsOf: pricesAsOf, Estimated: estimatedOn(platform),
		}
		if entry.GetEstimated() {
			entry.Region = ""
		}
		response.Prices = append(response.Prices, entry)
	}
	return response, nil
}
