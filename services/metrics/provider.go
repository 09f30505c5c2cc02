package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

const (
	// defaultWait is how long requests without metrics are asked for again: a cloud's logs are late by seconds to minutes. The
	// local platform knows its metrics when it answers.
	defaultWait      = 5 * time.Minute
	defaultWaitLocal = 2 * time.Second
	// settled is how old a call must be for its metrics to be there if they ever come.
	settled = 15 * time.Minute
	// Pauses between two questions. Each question is paid for in a cloud, by the amount of logs that it reads.
	firstPause, longestPause           = 2 * time.Second, 15 * time.Second
	firstPauseLocal, longestPauseLocal = 250 * time.Millisecond, 5 * time.Second
	// clockSlack widens the time range, since the platform's clock is not ours.
	clockSlack = 2 * time.Second
	// namedRequests is up to how many requests are named in the question instead of asking for the whole range.
	namedRequests = 1000
	// listedMissing is how many requests without metrics are named in an answer.
	listedMissing = 100
)

// functionRequests are the requests of one function whose metrics are wanted.
type functionRequests struct {
	// id is the function's name on the platform.
	id         string
	begin, end time.Time
	// found has an entry for every request; nil until its metrics are known.
	found map[string]*results.Provider
	got   int64
	// errors counts failures that the platform reports, by kind.
	errors map[string]int64
}

func newFunctionRequests(function string) *functionRequests {
	return &functionRequests{id: path.Base(function), found: make(map[string]*results.Provider), errors: make(map[string]int64)}
}

func (f *functionRequests) add(requestID string, begin, end time.Time) {
	if requestID == "" || strings.HasPrefix(requestID, "failed-") {
		return
	}
	if f.begin.IsZero() || begin.Before(f.begin) {
		f.begin = begin
	}
	if end.After(f.end) {
		f.end = end
	}
	f.found[requestID] = nil
}

func (f *functionRequests) missing() int64 { return int64(len(f.found)) - f.got }

// fetchOptions says how patiently metrics are fetched.
type fetchOptions struct {
	extend time.Duration
	// wait is nil for the platform's default. It counts from began, for all functions together.
	wait  *time.Duration
	began time.Time
	// progress is told after every question.
	progress func(progress)
	// pauses overrides the first and the longest pause between two questions, for tests.
	pauses [2]time.Duration
	log    *slog.Logger
}

// progress is how far a download is.
type progress struct {
	function     string
	found, total int64
	// message says what is waited for; empty while nothing is.
	message string
}

func (p progress) proto() *metricsv1.DownloadMetricsMetadata {
	return &metricsv1.DownloadMetricsMetadata{Function: p.function, FoundCount: p.found, TotalCount: p.total, Message: p.message}
}

func newFetchOptions(extend, wait *durationpb.Duration, log *slog.Logger, tell func(progress)) (fetchOptions, error) {
	o := fetchOptions{extend: extend.AsDuration(), progress: tell, log: log}
	if wait != nil {
		given := wait.AsDuration()
		o.wait = &given
	}
	if o.extend < 0 || (o.wait != nil && *o.wait < 0) {
		return o, errs.Fields(errs.Field("extend", "and wait must not be negative"))
	}
	return o, nil
}

// patience is how long requests of a platform are asked for again.
func (o fetchOptions) patience(platform string) time.Duration {
	switch {
	case o.wait != nil:
		return *o.wait
	case platform == "local":
		return defaultWaitLocal
	default:
		return defaultWait
	}
}

// pausesOf returns the first and the longest pause between two questions to a platform.
func (o fetchOptions) pausesOf(platform string) (first, longest time.Duration) {
	switch {
	case o.pauses[0] > 0:
		return o.pauses[0], o.pauses[1]
	case platform == "local":
		return firstPauseLocal, longestPauseLocal
	default:
		return firstPause, longestPause
	}
}

// fetch asks the platform until the metrics of every request are known or the time is up. Requests that it does not know stay
// missing. A platform that refuses for a moment, as one does that is asked too often, is asked again; it is an error only if no
// question was answered.
func fetch(ctx context.Context, source providerMetrics, f *functionRequests, platform string, o fetchOptions) error {
	deadline := o.began.Add(o.patience(platform))
	if latest := f.end.Add(settled); latest.Before(deadline) {
		deadline = latest
	}
	now := progress{function: f.id, total: int64(len(f.found))}
	answered := false
	pause, longest := o.pausesOf(platform)
	for ; ; pause = min(2*pause, longest) {
		err := f.ask(ctx, source, o.extend)
		over := time.Now().Add(pause).After(deadline)
		switch {
		case err == nil:
			answered = true
		case errs.Is(err, codes.NotFound):
			// The function is gone, and its logs with it.
			return nil
		case ctx.Err() != nil, !passing(err), over && !answered:
			return fmt.Errorf("download metrics of function %s: %w", f.id, err)
		default:
			o.log.Warn("a platform does not answer for its metrics", "platform", platform, "function", f.id, "again", !over, "error", err)
		}
		if now.found, now.message = f.got, ""; f.missing() > 0 && !over {
			now.message = fmt.Sprintf("%d of %d calls are not in the platform's logs yet; asking again for %s at most",
				f.missing(), now.total, time.Until(deadline).Round(time.Second))
		}
		o.progress(now)
		if f.missing() == 0 || over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// passing tells whether a question that failed may be answered later.
func passing(err error) bool {
	return slices.Contains([]codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Aborted}, errs.Code(err))
}

func (f *functionRequests) ask(ctx context.Context, source providerMetrics, extend time.Duration) error {
	query := driver.MetricsQuery{
		Function: f.id, Start: f.begin.Add(-extend - clockSlack), End: f.end.Add(extend + clockSlack),
	}
	if f.missing() <= namedRequests {
		for id, p := range f.found {
			if p == nil {
				query.RequestIDs = append(query.RequestIDs, id)
			}
		}
		slices.Sort(query.RequestIDs)
	}
	for record, err := range source.Metrics(ctx, query) {
		if err != nil {
			return err
		}
		known, wanted := f.found[record.RequestID]
		if !wanted || known != nil {
			continue
		}
		f.found[record.RequestID] = fromPlatform(&record)
		f.got++
		if record.Error != "" {
			f.errors[record.Error]++
		}
	}
	return nil
}

func fromPlatform(r *driver.InvocationRecord) *results.Provider {
	p := &results.Provider{
		ExecutionUS: micros(r.Duration), InitializationUS: micros(r.Init), MemoryUsedMB: r.MemoryUsedMB, Cold: r.Cold,
	}
	if r.Billed != nil {
		ms := (*r.Billed + time.Millisecond - 1).Milliseconds()
		p.BilledTimeMS = &ms
	}
	if r.MemoryMB != nil {
		mb := int64(*r.MemoryMB)
		p.BilledMemoryMB = &mb
	}
	return p
}

func micros(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	us := d.Microseconds()
	return &us
}

// summary is what stands under _metrics for a function: sums over the requests that the platform knows.
func (f *functionRequests) summary() map[string]any {
	var billedMS, executionUS, initializationUS, cold int64
	var gbSeconds, peakMB float64
	// In the order of their ids, so that the sums of the same requests are the same.
	for _, id := range sortedNames(f.found) {
		p := f.found[id]
		if p == nil {
			continue
		}
		billedMS += deref(p.BilledTimeMS)
		executionUS += deref(p.ExecutionUS)
		initializationUS += deref(p.InitializationUS)
		if p.Cold != nil && *p.Cold {
			cold++
		}
		if g, ok := p.GBSeconds(); ok {
			gbSeconds += g
		}
		if p.MemoryUsedMB != nil {
			peakMB = max(peakMB, *p.MemoryUsedMB)
		}
	}
	out := map[string]any{
		"requests": float64(len(f.found)), "found": float64(f.got), "missing": float64(f.missing()),
		"cold_starts": float64(cold), "billed_time_ms": float64(billedMS), "gb_seconds": gbSeconds,
		"execution_us": float64(executionUS), "initialization_us": float64(initializationUS), "max_memory_used_mb": peakMB,
	}
	if len(f.errors) > 0 {
		kinds := make(map[string]any, len(f.errors))
		for kind, n := range f.errors {
			kinds[kind] = float64(n)
		}
		out["errors"] = kinds
	}
	return out
}

func deref(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// outcome sums the requests of several functions up.
type outcome struct {
	found, missing int64
	missingIDs     []string
	metrics        map[string]map[string]any
}

func sumUp(functions map[string]*functionRequests) outcome {
	o := outcome{metrics: make(map[string]map[string]any, len(functions))}
	for _, name := range sortedNames(functions) {
		f := functions[name]
		o.found += f.got
		o.missing += f.missing()
		o.metrics[f.id] = f.summary()
		var ids []string
		for id, p := range f.found {
			if p == nil {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		o.missingIDs = append(o.missingIDs, ids[:min(len(ids), listedMissing-len(o.missingIDs))]...)
	}
	return o
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// encoded returns the metrics as they stand in files. Whole numbers are written as such.
func (o *outcome) encoded() (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage, len(o.metrics))
	for name, values := range o.metrics {
		raw, err := json.Marshal(values)
		if err != nil {
			return nil, fmt.Errorf("encode metrics of function %s: %w", name, err)
		}
		out[name] = raw
	}
	return out, nil
}
