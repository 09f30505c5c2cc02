package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// processing is the work on one result file. The file lies on disk and is read twice, so memory holds the request ids and figures only.
type processing struct {
	service   *service
	file      *os.File
	functions map[string]*functionRequests
	header    *sebsformat.Header
	sorted    bool
	outcome   outcome
}

// receive keeps a file on disk. close removes it.
func (s *service) receive(r io.Reader) (*processing, error) {
	file, err := os.CreateTemp(s.scratch, "process-*.json")
	if err != nil {
		return nil, fmt.Errorf("keep the result file: %w", err)
	}
	p := &processing{service: s, file: file}
	if _, err := io.Copy(file, r); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the result file: %w", err), p.close())
	}
	return p, nil
}

func (p *processing) close() error { return errors.Join(p.file.Close(), os.Remove(p.file.Name())) }

// walk reads the file from its start.
func (p *processing) walk(each func(function, key string, inv *sebsformat.Invocation) error) (*sebsformat.Header, error) {
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the result file: %w", err)
	}
	h, err := sebsformat.Walk(p.file, sebsformat.ReadOptions{}, each)
	var wrong *sebsformat.FormatError
	if errors.As(err, &wrong) {
		return nil, errs.InvalidArgument("RESULT_FILE_MALFORMED", "the result file is not of SeBS's form: %v", wrong).Wrap(err)
	}
	return h, err
}

// scan takes note of the requests and of the order of the file.
func (p *processing) scan() error {
	p.functions, p.sorted = make(map[string]*functionRequests), true
	lastFunction, lastKey := "", ""
	var err error
	p.header, err = p.walk(func(function, key string, inv *sebsformat.Invocation) error {
		f := p.functions[function]
		if f == nil {
			f = newFunctionRequests(function)
			p.functions[function] = f
		}
		f.add(inv.RequestID, inv.Times.ClientBegin, inv.Times.ClientEnd)
		if function < lastFunction || (function == lastFunction && key <= lastKey) {
			p.sorted = false
		}
		lastFunction, lastKey = function, key
		return nil
	})
	return err
}

// place returns the platform of the file's functions, and as whom and where it is asked. A deployment that the file names and that
// is not known here, since the file came from another suite or the deployment is gone, is asked for with the default credential.
func (p *processing) place(ctx context.Context, deployment string) (platform string, scope driver.Scope, err error) {
	if deployment != "" {
		d, err := p.service.deployments.GetDeployment(ctx, deployment)
		if err != nil {
			return "", driver.Scope{}, fmt.Errorf("process results: %w", err)
		}
		return platformOf(deployment), scopeOf(d), nil
	}
	config := &p.header.Config
	platform, scope = config.Platform(), driver.Scope{Region: config.Region()}
	if platform == "" {
		return "", driver.Scope{}, errs.Fields(errs.Field("deployment", "is needed: the file names no platform (config.deployment.name)"))
	}
	id := config.ResourcesID()
	if id == "" {
		return platform, scope, nil
	}
	d, err := p.service.deployments.GetDeployment(ctx, "platforms/"+platform+"/deployments/"+id)
	switch {
	case err == nil:
		return platform, scopeOf(d), nil
	case !errs.Is(err, codes.NotFound) && !errs.Is(err, codes.InvalidArgument):
		p.service.log.Warn("the deployment of a result file is not known; its platform is asked with the default credential",
			"platform", platform, "deployment", id, "error", err)
	}
	return platform, scope, nil
}

// fill fetches the metrics. The deployment, when given, wins over what the file says.
func (p *processing) fill(ctx context.Context, deployment string, options fetchOptions) error {
	platform, scope, err := p.place(ctx, deployment)
	if err != nil {
		return err
	}
	begin, end := epoch(p.header.BeginSeconds), epoch(p.header.EndSeconds)
	functions := make([]*functionRequests, 0, len(p.functions))
	for _, name := range sortedNames(p.functions) {
		f := p.functions[name]
		if len(f.found) == 0 {
			continue
		}
		// The file's own range bounds the search as in SeBS; calls outside of it widen it.
		if begin.Before(f.begin) {
			f.begin = begin
		}
		if end.After(f.end) {
			f.end = end
		}
		functions = append(functions, f)
	}
	options.began = time.Now()
	if err := p.service.fetchFrom(ctx, platform, scope, options, functions...); err != nil {
		return err
	}
	p.outcome = sumUp(p.functions)
	encoded, err := p.outcome.encoded()
	if err != nil {
		return err
	}
	if p.header.Metrics == nil {
		p.header.Metrics = encoded
		return nil
	}
	for name, values := range encoded {
		p.header.Metrics[name] = values
	}
	return nil
}

func epoch(seconds float64) time.Time { return time.UnixMicro(int64(math.Round(seconds * 1e6))) }

// write writes the filled file and gathers its statistics.
func (p *processing) write(w io.Writer, c *collector) error {
	if !p.sorted {
		return p.writeSorted(w, c)
	}
	out := sebsformat.NewWriter(w)
	current, started := "", false
	_, err := p.walk(func(function, key string, inv *sebsformat.Invocation) error {
		if !started || function != current {
			if err := out.Function(function); err != nil {
				return err
			}
			current, started = function, true
		}
		p.apply(function, inv)
		c.add(sampleOf(function, inv))
		return out.Invocation(key, inv)
	})
	if err != nil {
		return err
	}
	return out.Finish(p.header)
}

// writeSorted is for files that were not written in order: they have to be in memory to be put in order.
func (p *processing) writeSorted(w io.Writer, c *collector) error {
	e := &sebsformat.Experiment{Header: *p.header, Invocations: make(map[string]map[string]*sebsformat.Invocation)}
	_, err := p.walk(func(function, key string, inv *sebsformat.Invocation) error {
		p.apply(function, inv)
		c.add(sampleOf(function, inv))
		if e.Invocations[function] == nil {
			e.Invocations[function] = make(map[string]*sebsformat.Invocation)
		}
		e.Invocations[function][key] = inv
		return nil
	})
	if err != nil {
		return err
	}
	return sebsformat.Write(w, e)
}

func (p *processing) apply(function string, inv *sebsformat.Invocation) {
	f := p.functions[function]
	if f == nil {
		return
	}
	if found := f.found[inv.RequestID]; found != nil {
		applyProvider(inv, found)
	}
}

func applyProvider(inv *sebsformat.Invocation, p *results.Provider) {
	if p.ExecutionUS != nil {
		inv.ProviderTimes.ExecutionMicros = p.ExecutionUS
	}
	if p.InitializationUS != nil {
		inv.ProviderTimes.InitializationMicros = p.InitializationUS
	}
	if p.MemoryUsedMB != nil {
		inv.Stats.MemoryUsedMB = p.MemoryUsedMB
	}
	if p.BilledTimeMS != nil {
		inv.Billing.BilledTimeMS = p.BilledTimeMS
	}
	if p.BilledMemoryMB != nil {
		inv.Billing.MemoryMB = p.BilledMemoryMB
	}
	if gbSeconds, ok := p.GBSeconds(); ok {
		inv.Billing.GBSeconds = &gbSeconds
	}
}

// sampleOf takes out of a file's invocation what statistics need. A figure that SeBS writes as 0 for unknown counts as unknown.
func sampleOf(function string, inv *sebsformat.Invocation) *sample {
	s := &sample{function: function, cold: inv.Stats.ColdStart, failed: inv.Stats.Failure, gbSeconds: math.NaN(), costUSD: math.NaN()}
	if v := inv.Billing.GBSeconds; v != nil {
		s.gbSeconds = *v
	}
	for i := range s.values {
		s.values[i] = math.NaN()
	}
	s.values[seriesClient] = float64(inv.Times.ClientMicros)
	s.values[seriesFunction] = float64(inv.Times.BenchmarkMicros)
	if v := inv.ProviderTimes.ExecutionMicros; v != nil {
		s.values[seriesProvider] = float64(*v)
	}
	if v := inv.ProviderTimes.InitializationMicros; v != nil {
		s.values[seriesInit] = float64(*v)
	}
	if v := inv.Stats.MemoryUsedMB; v != nil {
		s.values[seriesMemory] = *v
	}
	compute, upload, download := results.Measurements(string(inv.Output))
	for i, v := range map[int]*float64{seriesCompute: compute, seriesUpload: upload, seriesDownload: download} {
		if v != nil {
			s.values[i] = *v
		}
	}
	return s
}

// collector prices a file's invocations by its own configuration.
func (p *processing) collector(h *sebsformat.Header) *collector {
	return newCollector("", p.service.prices.Find(h.Config.Platform(), h.Config.Region(), h.Config.Experiments.Architecture))
}

// fileStatistics computes the statistics of a result file.
func (p *processing) fileStatistics() (*metricsv1.Statistics, error) {
	c := p.collector(&sebsformat.Header{})
	h, err := p.walk(func(function, _ string, inv *sebsformat.Invocation) error {
		c.add(sampleOf(function, inv))
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The configuration stands behind the invocations in a file: the price is known only now.
	c.price = p.collector(h).price
	return c.message(), nil
}
