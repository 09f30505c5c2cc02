package metrics

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/resultstream"
	"github.com/sebs-suite/sebs/internal/sebsformat"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/metrics/prices"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// bus is what the service needs of the event bus.
type bus interface {
	EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
	PublishMsg(ctx context.Context, msg *nats.Msg, msgID string) error
}

// runSource answers what is known of a run. Runs belong to the experiments service.
type runSource interface {
	GetRun(ctx context.Context, name string) (*experimentsv1.Run, error)
}

// deploymentSource answers what is known of a deployment. Deployments belong to the deployer.
type deploymentSource interface {
	GetDeployment(ctx context.Context, name string) (*typev1.Deployment, error)
}

// providerMetrics reads what a platform measured.
type providerMetrics interface {
	Metrics(ctx context.Context, query driver.MetricsQuery) iter.Seq2[driver.InvocationRecord, error]
	Close() error
}

// openPlatform opens a platform with a named credential.
type openPlatform func(ctx context.Context, platform string, scope driver.Scope) (providerMetrics, error)

// hurrier has the ingester write what it holds.
type hurrier interface{ Hurry() }

// service does the work behind the API.
type service struct {
	reader      *results.Reader
	writer      *results.Writer
	ingester    hurrier
	prices      *prices.Book
	store       *objects
	locks       results.Locker
	bus         bus
	runs        runSource
	deployments deploymentSource
	platforms   openPlatform
	scratch     string
	log         *slog.Logger
}

// ingest publishes a batch on the result stream, which is the one way into the store.
func (s *service) ingest(ctx context.Context, batch *typev1.InvocationBatch) (int64, error) {
	run, invoker := strings.TrimPrefix(batch.GetRun(), "runs/"), strings.TrimPrefix(batch.GetInvoker(), "invokers/")
	if err := checkToken("batch.run", run, "runs/{id}"); err != nil {
		return 0, err
	}
	if err := checkToken("batch.invoker", invoker, "invokers/{id}"); err != nil {
		return 0, err
	}
	raw, err := proto.Marshal(batch)
	if err != nil {
		return 0, errs.Internal(fmt.Errorf("encode results of %s: %w", batch.GetRun(), err))
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, errs.Internal(fmt.Errorf("encode results of %s: %w", batch.GetRun(), err))
	}
	subject, id := resultstream.Address(batch)
	msg := nats.NewMsg(subject)
	msg.Data = encoder.EncodeAll(raw, nil)
	if err := encoder.Close(); err != nil {
		return 0, errs.Internal(fmt.Errorf("encode results of %s: %w", batch.GetRun(), err))
	}
	if _, err := s.bus.EnsureStream(ctx, resultstream.Config()); err != nil {
		return 0, err
	}
	if err := s.bus.PublishMsg(ctx, msg, id); err != nil {
		return 0, err
	}
	return int64(len(batch.GetRecords())), nil
}

// checkToken refuses what cannot stand in a subject.
func checkToken(field, token, form string) error {
	if token == "" || strings.ContainsAny(token, " \t\r\n.*>/\x00") {
		return errs.Fields(errs.Field(field, "%q is not of the form %s", token, form))
	}
	return nil
}

const (
	// pollPause is how often another process's commits are looked for.
	pollPause = 50 * time.Millisecond
	// quiet is how long to wait for the next record of a run before giving up on those that are missing.
	quiet = 15 * time.Second
)

// await waits until a run has at least so many records, none came for a while, or ctx ends, which is an error.
func (s *service) await(ctx context.Context, run string, count int64) error {
	last, since := int64(-1), time.Now()
	for {
		changed := s.writer.Changed()
		manifest, err := s.reader.Manifest(ctx, run)
		if err != nil {
			return err
		}
		have := manifest.Count()
		if have >= count {
			return nil
		}
		if have != last {
			last, since = have, time.Now()
		}
		if time.Since(since) > quiet {
			return nil
		}
		s.ingester.Hurry()
		select {
		case <-ctx.Done():
			return errs.DeadlineExceeded("RESULTS_NOT_COMPLETE",
				"%s has %d of %d results; the rest did not arrive in time", run, have, count).With("run", run)
		case <-changed:
		case <-time.After(pollPause):
		}
	}
}

// about is what the service needs to know of a run for prices and exports.
type about struct {
	run        *experimentsv1.Run
	deployment *typev1.Deployment
	platform   string
}

// about looks a run up. A run that nobody knows any more, or services that are away, leave the facts empty: results can be read without.
func (s *service) about(ctx context.Context, name string) about {
	run, err := s.runs.GetRun(ctx, name)
	if err != nil {
		if !errs.Is(err, codes.NotFound) {
			s.log.Warn("the run is not known; its results are read without", "run", name, "error", err)
		}
		return about{}
	}
	a := about{run: run, platform: run.GetRequest().GetTarget().GetPlatform()}
	if d := run.GetDeployment(); d != "" {
		if a.deployment, err = s.deployments.GetDeployment(ctx, d); err != nil {
			s.log.Warn("the deployment of a run is not known; its results are read without", "run", name, "deployment", d, "error", err)
		}
		if a.platform == "" {
			a.platform = platformOf(d)
		}
	}
	return a
}

// config returns the configuration of the run's functions.
func (a about) config() *typev1.FunctionConfig {
	if functions := a.run.GetFunctions(); len(functions) > 0 {
		if c := functions[0].GetFunction().GetConfig(); c != nil {
			return c
		}
	}
	target := a.run.GetRequest().GetTarget()
	return &typev1.FunctionConfig{Runtime: target.GetRuntime(), Architecture: target.GetArchitecture(), SystemVariant: target.GetSystemVariant()}
}

// price returns what the invocations of a run cost.
func (s *service) price(a about) prices.Price {
	return s.prices.Find(a.platform, a.region(), sebsformat.ArchitectureName(a.config().GetArchitecture()))
}

// region returns the region of the run's deployment, or the one that was asked for where that is not known.
func (a about) region() string {
	if region := a.deployment.GetRegion(); region != "" {
		return region
	}
	return a.run.GetRequest().GetTarget().GetRegion()
}

func (s *service) statistics(ctx context.Context, run, phase string, waitFor int64) (*metricsv1.Statistics, error) {
	if waitFor > 0 {
		if err := s.await(ctx, run, waitFor); err != nil {
			return nil, err
		}
	}
	a := s.about(ctx, run)
	return runStatistics(ctx, s.reader, run, phase, s.price(a))
}

// compact waits for a run's results and writes them as one object.
func (s *service) compact(ctx context.Context, run string, expected int64) (*metricsv1.CompactRunResponse, error) {
	if err := s.await(ctx, run, expected); err != nil {
		return nil, err
	}
	manifest, err := s.reader.Rewrite(ctx, s.locks, run, results.Changes{})
	if err != nil {
		return nil, err
	}
	response := &metricsv1.CompactRunResponse{StoredCount: manifest.Count()}
	if len(manifest.Segments) > 0 {
		response.ObjectRef = s.store.Ref(manifest.Segments[0].Key)
	}
	return response, nil
}
