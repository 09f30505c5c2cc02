package metrics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// downloadRun fetches the platforms' metrics for a run's invocations and puts them into the stored records.
func (s *service) downloadRun(ctx context.Context, in *metricsv1.DownloadMetricsRequest, tell func(progress)) (*metricsv1.DownloadMetricsResponse, error) {
	options, err := newFetchOptions(in.GetExtend(), in.GetWait(), s.log, tell)
	if err != nil {
		return nil, err
	}
	functions := make(map[string]*functionRequests)
	err = s.reader.Scan(ctx, in.GetRun(), 0, func(_ int64, row *results.Row) (bool, error) {
		f := functions[row.Function]
		if f == nil {
			f = newFunctionRequests(row.Function)
			functions[row.Function] = f
		}
		f.add(row.RequestID, time.Unix(0, row.StartedUnixNS), time.Unix(0, row.FinishedUnixNS))
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if len(functions) == 0 {
		return nil, errs.NotFound("RUN_NOT_FOUND", "%s has no results; `sebs run list` shows the runs", in.GetRun()).With("run", in.GetRun())
	}
	a := s.about(ctx, in.GetRun())
	options.began = time.Now()
	for _, name := range sortedNames(functions) {
		platform := platformOf(name)
		if platform == "" {
			platform = a.platform
		}
		if err := s.fetchFrom(ctx, platform, scopeOf(a.deployment), options, functions[name]); err != nil {
			return nil, err
		}
	}
	return s.storeMetrics(ctx, in.GetRun(), a, functions)
}

// fetchFrom fetches the metrics of functions of one platform.
func (s *service) fetchFrom(ctx context.Context, platform string, scope driver.Scope, o fetchOptions, functions ...*functionRequests) (err error) {
	if platform == "" {
		return errs.InvalidArgument("PLATFORM_UNKNOWN", "it is not known which platform the functions belong to; name the deployment")
	}
	source, err := s.platforms(ctx, platform, scope)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	for _, f := range functions {
		if err := fetch(ctx, source, f, platform, o); err != nil {
			return err
		}
	}
	return nil
}

// scopeOf says as whom and where a deployment's platform is asked.
func scopeOf(deployment *typev1.Deployment) driver.Scope {
	return driver.Scope{Credential: deployment.GetCredential(), Region: deployment.GetRegion()}
}

func (s *service) storeMetrics(ctx context.Context, run string, a about, functions map[string]*functionRequests) (*metricsv1.DownloadMetricsResponse, error) {
	o := sumUp(functions)
	encoded, err := o.encoded()
	if err != nil {
		return nil, err
	}
	price := s.price(a)
	changes := results.Changes{Metrics: encoded, Missing: &o.missing, Row: func(row *results.Row) {
		f := functions[row.Function]
		if f == nil {
			return
		}
		if p := f.found[row.RequestID]; p != nil {
			row.Apply(p)
			if gbSeconds, ok := p.GBSeconds(); ok {
				cost := price.Cost(gbSeconds, 1)
				row.CostUSD, row.CostEstimated = &cost, price.Estimated
			}
		}
	}}
	if _, err := s.reader.Rewrite(ctx, s.locks, run, changes); err != nil {
		return nil, err
	}
	return o.response()
}

func (o *outcome) response() (*metricsv1.DownloadMetricsResponse, error) {
	out := &metricsv1.DownloadMetricsResponse{
		FoundCount: o.found, MissingCount: o.missing, MissingRequestIds: o.missingIDs, Metrics: make(map[string]*structpb.Struct, len(o.metrics)),
	}
	for name, values := range o.metrics {
		m, err := structpb.NewStruct(values)
		if err != nil {
			return nil, fmt.Errorf("encode metrics of function %s: %w", name, err)
		}
		out.Metrics[name] = m
	}
	return out, nil
}
