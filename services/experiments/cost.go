package experiments

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Reasons of runs that money stops.
const (
	reasonMaxCost     = "MAX_COST_REACHED"
	reasonCostUnknown = "COST_UNKNOWN"
)

// ledger adds up what the invocations of a run cost, and tells how many more its bound allows.
type ledger struct {
	// maxUSD is the bound; infinite where there is none.
	maxUSD float64

	mu       sync.Mutex
	accounts map[string]*account
	order    []string
	basis    []string
	// reserved is what invocations may cost that were allowed and have not been counted yet.
	reserved float64
}

// account is what one function's invocations cost.
type account struct {
	benchmark, function string
	memoryMB            int32
	// usdPerMS and usdPerRequest are the price of an invocation, usdPerSecond that of sandboxes that are kept initialised.
	usdPerMS, usdPerRequest, usdPerSecond float64
	// expectedMS is how long the next invocation is taken to be: the longest seen, else what was known beforehand.
	expectedMS float64
	opened     time.Time

	count, billed int64
	totalMS, usd  float64
}

func newLedger(request *experimentsv1.CreateRunRequest) *ledger {
	l := &ledger{maxUSD: math.Inf(1), accounts: make(map[string]*account)}
	if request.MaxCostUsd != nil {
		l.maxUSD = request.GetMaxCostUsd()
	}
	return l
}

func (l *ledger) bounded() bool { return !math.IsInf(l.maxUSD, 1) }

// cost is what one invocation of the given length costs.
func (a *account) cost(ms float64) float64 { return ms*a.usdPerMS + a.usdPerRequest }

// spent is the cost so far. The caller holds the lock.
func (l *ledger) spent() float64 {
	var usd float64
	for _, a := range l.accounts {
		usd += a.usd + a.usdPerSecond*time.Since(a.opened).Seconds()
	}
	return usd
}

// allow answers how many of the wanted invocations may be sent without passing the bound by estimate, and reserves them.
func (l *ledger) allow(function string, want int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[function]
	if a == nil || !l.bounded() {
		return want
	}
	each := a.cost(a.expectedMS)
	left := l.maxUSD - l.spent() - l.reserved
	allowed := want
	if each > 0 {
		allowed = min(want, int64(max(0, math.Floor(left/each))))
	}
	l.reserved += float64(allowed) * each
	return allowed
}

// settle ends the reservation of a number of invocations at the price at which they were allowed.
func (l *ledger) settle(usd float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = max(0, l.reserved-usd)
}

// each returns the expected cost of one invocation of a function.
func (l *ledger) each(function string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[function]; a != nil {
		return a.cost(a.expectedMS)
	}
	return 0
}

// count adds an invocation: by its billed time, where the platform told it, else by the time that the client saw, which is
// longer.
func (l *ledger) count(record *typev1.InvocationRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[record.GetFunction()]
	if a == nil {
		return
	}
	result := record.GetResult()
	ms := math.Ceil(float64(result.GetTimes().GetClientUs()) / 1000)
	if billing := result.GetBilling(); billing != nil && billing.BilledTimeMs != nil {
		ms = float64(billing.GetBilledTimeMs())
		a.billed++
	}
	if a.count == 0 {
		a.expectedMS = 0
	}
	a.count++
	a.totalMS += ms
	a.usd += a.cost(ms)
	a.expectedMS = max(a.expectedMS, ms)
}

// stopped is the error of a run that its bound ended.
func (l *ledger) stopped(function string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[function]
	return errs.FailedPrecondition(reasonMaxCost,
		"stopped for --max-cost: the invocations so far cost about $%.3g by estimate, and the next one, of up to %.0f ms, would pass $%.3g",
		l.spent(), a.expectedMS, l.maxUSD)
}

// estimate tells what the run cost; nil where no function has a price.
func (l *ledger) estimate() *experimentsv1.CostEstimate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.accounts) == 0 {
		return nil
	}
	usd := l.spent()
	estimate := &experimentsv1.CostEstimate{Usd: &usd, Basis: slices.Clone(l.basis)}
	var billed int64
	for _, name := range l.order {
		a := l.accounts[name]
		item := &experimentsv1.CostItem{
			Benchmark: a.benchmark, Function: a.function, InvocationCount: a.count, MemoryMb: a.memoryMB, Usd: a.usd, Measured: true,
		}
		if a.count > 0 {
			item.DurationMs = a.totalMS / float64(a.count)
		}
		billed += a.billed
		estimate.InvocationCount += a.count
		estimate.Items = append(estimate.Items, item)
	}
	estimate.Basis = append(estimate.Basis, fmt.Sprintf(
		"%d of %d invocations count with the time that the platform billed, the others with the time that the client saw", billed, estimate.InvocationCount))
	return estimate
}

// openAccount gives a function an account, by the platform's prices. Without a bound a platform whose prices are not known is
// none of the run's concern.
func (w *work) openAccount(ctx context.Context, ready *prepared) error {
	target := w.request.GetTarget()
	if target.GetPlatform() == platformLocal && !w.ledger.bounded() {
		return nil
	}
	config := ready.function.GetConfig()
	price, err := w.priceOf(ctx, target.GetPlatform(), w.region, config)
	if err != nil {
		if w.ledger.bounded() {
			return errs.FailedPrecondition(reasonCostUnknown,
				"--max-cost cannot be kept: what invocations cost on platform %s is not known; leave it out, or name prices in metrics.prices_file", target.GetPlatform()).Wrap(err)
		}
		w.log.Warn("what the run costs is not known", "run", w.run.GetName(), "error", err)
		return nil
	}
	duration, _, err := w.expectedDuration(ctx, target.GetPlatform(), ready.pkg.GetBenchmark(), config)
	if err != nil {
		return err
	}
	name := ready.function.GetName()
	memoryGB := float64(config.GetMemoryMb()) / 1024
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.ledger.accounts[name] = &account{
		benchmark: ready.pkg.GetBenchmark(), function: lastPart(name), memoryMB: config.GetMemoryMb(), opened: time.Now(),
		usdPerMS: memoryGB * price.GetUsdPerGbSecond() / 1000, usdPerRequest: price.GetUsdPerRequest(),
		usdPerSecond: memoryGB * price.GetUsdPerProvisionedGbSecond() * float64(config.GetProvisionedConcurrency()),
		expectedMS:   float64(duration) / float64(time.Millisecond),
	}
	w.ledger.order = append(w.ledger.order, name)
	if sentence := priceSentence(price); !slices.Contains(w.ledger.basis, sentence) {
		w.ledger.basis = append(w.ledger.basis, sentence)
	}
	return nil
}

// priceSentence says which price was taken.
func priceSentence(price *metricsv1.Price) string {
	text := fmt.Sprintf("price of %s", price.GetPlatform())
	if price.GetRegion() != "" {
		text += " in " + price.GetRegion()
	}
	if price.GetArchitecture() != "" {
		text += " on " + price.GetArchitecture()
	}
	text += fmt.Sprintf(" of %s: $%.6g for a GB-second and $%.3g for a million requests", price.GetAsOf(), price.GetUsdPerGbSecond(), 1e6*price.GetUsdPerRequest())
	if price.GetEstimated() {
		text += ", taken for want of the platform's or region's own"
	}
	return text + "; storage, transfer, logs and gateways come on top"
}

// priceOf asks for the price of a function.
func (r *Runner) priceOf(ctx context.Context, platform, region string, config *typev1.FunctionConfig) (*metricsv1.Price, error) {
	answer, err := r.estimateCost(ctx, platform, region, config, 1, time.Millisecond)
	if err == nil && answer.GetPrice() == nil {
		err = errs.NotFound(reasonCostUnknown, "platform %s has no price", platform)
	}
	return answer.GetPrice(), err
}

func (r *Runner) estimateCost(ctx context.Context, platform, region string, config *typev1.FunctionConfig, invocations int64, each time.Duration) (*metricsv1.EstimateCostResponse, error) {
	request := &metricsv1.EstimateCostRequest{
		Parent: "platforms/" + platform, Region: region, Architecture: architectureName(config.GetArchitecture()),
		MemoryMb: int64(max(config.GetMemoryMb(), 1)), Invocations: invocations, Duration: durationpb.New(each),
		ProvisionedConcurrency: int64(config.GetProvisionedConcurrency()),
	}
	if request.GetProvisionedConcurrency() > 0 {
		request.ProvisionedTime = durationpb.New(min(time.Duration(invocations)*each, maxProvisionedTime))
	}
	answer, err := r.services.Metrics.EstimateCost(ctx, request)
	return answer, wrapStatus(err, "estimate what invocations cost on platform %s", platform)
}

// maxProvisionedTime bounds the time for which an estimate counts sandboxes that are kept initialised.
const maxProvisionedTime = 24 * time.Hour

func architectureName(architecture typev1.Architecture) string {
	if architecture == typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(architecture.String(), "ARCHITECTURE_"))
}

// maxRunsSearched bounds the search for an earlier measurement.
const maxRunsSearched = 200

// expectedDuration is how long an invocation is taken to be: as long as those of the last run of the benchmark with the
// same memory on the same platform were on average, else the time limit, which none can pass.
func (r *Runner) expectedDuration(ctx context.Context, platform, benchmark string, config *typev1.FunctionConfig) (each time.Duration, measured bool, err error) {
	limit := time.Duration(config.GetTimeoutSeconds()) * time.Second
	token := ""
	for searched := 0; searched < maxRunsSearched; {
		page, err := r.store.list(ctx, 50, token)
		if err != nil {
			return 0, false, fmt.Errorf("look for an earlier run: %w", err)
		}
		for _, run := range page.GetRuns() {
			if run.GetRequest().GetTarget().GetPlatform() != platform {
				continue
			}
			if each := measuredIn(run, benchmark, config); each > 0 {
				return each, true, nil
			}
		}
		searched += len(page.GetRuns())
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	return limit, false, nil
}

// measuredIn returns the mean duration of a benchmark's invocations in a run; 0 where it has none.
func measuredIn(run *experimentsv1.Run, benchmark string, config *typev1.FunctionConfig) time.Duration {
	for _, function := range run.GetFunctions() {
		have := function.GetFunction().GetConfig()
		if function.GetPackage().GetBenchmark() != benchmark || have.GetMemoryMb() != config.GetMemoryMb() ||
			have.GetRuntime().GetLanguage() != config.GetRuntime().GetLanguage() {
			continue
		}
		for _, statistics := range run.GetStatistics().GetFunctions() {
			if lastPart(statistics.GetFunction()) == lastPart(function.GetFunction().GetName()) {
				return meanDuration(statistics, have.GetMemoryMb())
			}
		}
	}
	return 0
}

// meanDuration is what was billed on average, else what the client saw.
func meanDuration(statistics *metricsv1.FunctionStatistics, memoryMB int32) time.Duration {
	if statistics.GbSeconds != nil && statistics.GetBilledCount() > 0 && memoryMB > 0 {
		seconds := statistics.GetGbSeconds() / float64(statistics.GetBilledCount()) / (float64(memoryMB) / 1024)
		return time.Duration(seconds * float64(time.Second))
	}
	var total, count float64
	for _, group := range statistics.GetGroups() {
		for _, series := range group.GetSeries() {
			if series.GetName() == "client_exec" {
				total += series.GetMean() * float64(series.GetCount())
				count += float64(series.GetCount())
			}
		}
	}
	if count == 0 {
		return 0
	}
	return time.Duration(total / count * float64(time.Microsecond))
}

// reached tells that a run ended because of its bound.
func reached(err error) bool {
	return errs.Is(err, codes.FailedPrecondition) && errs.Reason(err) == reasonMaxCost
}
