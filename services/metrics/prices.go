package metrics

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/metrics/prices"
)

// platformOf takes the platform out of a resource name platforms/<platform>/…; empty when it has none.
func platformOf(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) >= 2 && parts[0] == "platforms" {
		return parts[1]
	}
	return ""
}

// pricedPlatform returns the platform of a parent, which has to be one that is known.
func pricedPlatform(parent string) (string, error) {
	platform := platformOf(parent)
	if !slices.Contains(prices.Platforms(), platform) {
		return "", errs.InvalidArgument("PLATFORM_UNKNOWN", "%q names no platform; use platforms/{platform} with %s",
			parent, strings.Join(prices.Platforms(), ", "))
	}
	return platform, nil
}

// listPrices answers with the prices of a platform. The local platform has none of its own and shows those its costs are estimated at.
func listPrices(book *prices.Book, in *metricsv1.ListPricesRequest) (*metricsv1.ListPricesResponse, error) {
	platform, err := pricedPlatform(in.GetParent())
	if err != nil {
		return nil, err
	}
	listed := book.List(platform)
	if len(listed) == 0 && platform != "local" {
		return nil, errs.Unimplemented("PRICES_NOT_AVAILABLE", "there is no price table for platform %s; metrics.prices_file can name one", platform).
			With("platform", platform)
	}
	if in.GetRegion() != "" || len(listed) == 0 {
		listed = nil
		for _, architecture := range prices.Architectures() {
			listed = append(listed, book.Find(platform, in.GetRegion(), architecture))
		}
	}
	response := &metricsv1.ListPricesResponse{}
	for _, p := range listed {
		response.Prices = append(response.Prices, priceMessage(&p))
	}
	return response, nil
}

func priceMessage(p *prices.Price) *metricsv1.Price {
	out := &metricsv1.Price{
		Platform: p.Platform, Region: p.Region, Architecture: p.Architecture, UsdPerGbSecond: p.Tiers[0].USDPerGBSecond, UsdPerRequest: p.USDPerRequest,
		AsOf: p.AsOf, Source: p.Source, Custom: p.Custom, Estimated: p.Estimated,
		UsdPerStorageGbSecond: known(p, p.Storage), UsdPerProvisionedGbSecond: known(p, p.Provisioned),
		UsdPerProvisionedDurationGbSecond: known(p, p.ProvisionedDuration),
	}
	for _, tier := range p.Tiers {
		out.Tiers = append(out.Tiers, &metricsv1.PriceTier{UpToGbSeconds: tier.UpToGBSeconds, UsdPerGbSecond: tier.USDPerGBSecond})
	}
	return out
}

// known returns a part of a price unless it is another place's than the rest.
func known(p *prices.Price, part prices.Part) *float64 {
	if part.Estimated && !p.Estimated {
		return nil
	}
	return proto.Float64(part.USD)
}

// estimateCost answers what invocations will cost.
func estimateCost(book *prices.Book, in *metricsv1.EstimateCostRequest) (*metricsv1.EstimateCostResponse, error) {
	platform, err := pricedPlatform(in.GetParent())
	if err != nil {
		return nil, err
	}
	architecture := in.GetArchitecture()
	if architecture == "" {
		architecture = prices.Architectures()[0]
	}
	price := book.Find(platform, in.GetRegion(), architecture)
	e := price.Estimate(prices.Usage{
		Invocations: in.GetInvocations(), Duration: in.GetDuration().AsDuration(), MemoryMB: in.GetMemoryMb(), StorageMB: in.GetStorageMb(),
		ProvisionedConcurrency: in.GetProvisionedConcurrency(), ProvisionedTime: in.GetProvisionedTime().AsDuration(),
	})
	return &metricsv1.EstimateCostResponse{
		Usd: e.Total(), RequestsUsd: e.Requests, ComputeUsd: e.Compute, StorageUsd: e.Storage, ProvisionedUsd: e.Provisioned,
		GbSeconds: e.GBSeconds, BilledDuration: durationpb.New(e.Billed), Tier: int32(price.Tier(e.GBSeconds)),
		Estimated: e.Estimated, Price: priceMessage(&price),
	}, nil
}
