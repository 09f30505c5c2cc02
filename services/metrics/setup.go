package metrics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/local"
	"github.com/sebs-suite/sebs/services/metrics/prices"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// Config is the section `metrics` of the configuration.
type Config struct {
	// Retention is how long results stay after their run's record is gone.
	Retention time.Duration `yaml:"retention"`
	// BatchRecords and BatchBytes bound what is gathered before it is written, and with it the service's memory.
	BatchRecords int `yaml:"batch_records"`
	BatchBytes   int `yaml:"batch_bytes"`
	// MaxLinger bounds how long a record waits under steady load before it is written.
	MaxLinger time.Duration `yaml:"max_linger"`
	// PricesFile names a file of prices (JSON) that win over the built-in ones.
	PricesFile string `yaml:"prices_file"`
}

// Validate reports every problem with its key.
func (c *Config) Validate() error {
	const mostRecords, leastBytes, mostBytes = 1 << 20, 1 << 20, 1 << 30
	var problems []error
	if c.Retention < time.Hour {
		problems = append(problems, errs.Field("retention", "is %s and has to be at least 1h", c.Retention))
	}
	if c.BatchRecords < 1 || c.BatchRecords > mostRecords {
		problems = append(problems, errs.Field("batch_records", "is %d and has to be between 1 and %d", c.BatchRecords, mostRecords))
	}
	if c.BatchBytes < leastBytes || c.BatchBytes > mostBytes {
		problems = append(problems, errs.Field("batch_bytes", "is %d and has to be between %d and %d", c.BatchBytes, leastBytes, mostBytes))
	}
	if c.MaxLinger < 10*time.Millisecond || c.MaxLinger > time.Minute {
		problems = append(problems, errs.Field("max_linger", "is %s and has to be between 10ms and 1m", c.MaxLinger))
	}
	return errs.Fields(problems...)
}

func defaultConfig() Config {
	limits := results.DefaultIngestLimits()
	return Config{
		Retention: 30 * 24 * time.Hour, BatchRecords: limits.Records, BatchBytes: limits.Bytes, MaxLinger: limits.MaxLinger,
	}
}

func (c *Config) limits() results.IngestLimits {
	limits := results.DefaultIngestLimits()
	limits.Records, limits.Bytes, limits.MaxLinger = c.BatchRecords, c.BatchBytes, c.MaxLinger
	limits.Linger = min(limits.Linger, limits.MaxLinger)
	return limits
}

// Setup builds the metrics service with the platforms of this build: aws and local.
func Setup(_ context.Context, p *app.Process) error {
	config := defaultConfig()
	if err := p.Section("metrics", &config); err != nil {
		return err
	}
	book, err := prices.Open(config.PricesFile)
	if err != nil {
		return errs.Fields(errs.Field("metrics.prices_file", "%v", err))
	}
	c, err := dial(p)
	if err != nil {
		return err
	}
	store := &objects{client: storagev1.NewStorageServiceClient(c.storage)}
	scratch := filepath.Join(p.StateDir, "metrics", "scratch")
	// Copies that an earlier process left behind when it was killed.
	if err := os.RemoveAll(scratch); err != nil {
		return fmt.Errorf("clear the scratch folder: %w", err)
	}
	reader, err := results.NewReader(store, scratch)
	if err != nil {
		return err
	}
	writer := results.NewWriter(store, p.Cache)
	ingester, err := results.NewIngester(results.IngestOptions{
		Bus: p.Events, Leader: p.Cache, Locks: p.Cache, Writer: writer, Reader: reader, Limits: config.limits(),
		Registry: p.Registry, Log: p.Log,
	})
	if err != nil {
		return err
	}
	opener, err := awsconfig.ForProcess(p)
	if err != nil {
		return err
	}
	table := faas.Table{
		"aws":   aws.Open(opener, aws.Options{Log: p.Log}),
		"local": func(context.Context, driver.Scope) (driver.Driver, error) { return local.New(c.local), nil },
	}
	s := &server{operations: p.Operations, service: &service{
		reader: reader, writer: writer, ingester: ingester, prices: book, store: store, locks: p.Cache, bus: p.Events,
		runs:        runs{experimentsv1.NewExperimentsServiceClient(c.experiments)},
		deployments: deployments{deployerv1.NewDeployerServiceClient(c.deployer)},
		platforms: func(ctx context.Context, platform string, scope driver.Scope) (providerMetrics, error) {
			opened, err := table.Open(ctx, platform, scope, faas.Options{})
			if err != nil {
				return nil, err
			}
			return opened, nil
		},
		scratch: scratch, log: p.Log,
	}}
	p.Operations.OnResume(kindDownload, s.resumeDownload)
	p.RegisterGRPC(s.register)
	ingest(p, ingester)
	sweep := &sweeper{store: store, runs: s.service.runs, retention: config.Retention, log: p.Log}
	p.Go("retention of results", func(ctx context.Context) error { return sweep.run(ctx, p.Cache) })
	return nil
}

// ingest runs the ingester. It is stopped first, while the storage service, which may be part of this process, still takes
// what the ingester holds.
func ingest(p *app.Process, ingester *results.Ingester) {
	var mu sync.Mutex // guards ended, which is nil before the start
	var ended chan struct{}
	ingesting, stop := context.WithCancel(context.Background())
	p.Go("results", func(ctx context.Context) error {
		done := make(chan struct{})
		defer close(done)
		mu.Lock()
		ended = done
		mu.Unlock()
		defer context.AfterFunc(ctx, stop)()
		return ingester.Run(ingesting)
	})
	p.OnDrain("results", func(ctx context.Context) error {
		stop()
		mu.Lock()
		done := ended
		mu.Unlock()
		if done == nil {
			return nil
		}
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// connections are the services that this one calls.
type connections struct {
	storage, experiments, deployer, local grpc.ClientConnInterface
}

func dial(p *app.Process) (c connections, err error) {
	for name, into := range map[string]*grpc.ClientConnInterface{
		"storage": &c.storage, "experiments": &c.experiments, "deployer": &c.deployer, "local": &c.local,
	} {
		conn, dialError := p.Dial(name)
		if dialError != nil {
			err = errors.Join(err, fmt.Errorf("dial %s: %w", name, dialError))
		}
		*into = conn
	}
	return c, err
}

// runs asks the experiments service.
type runs struct {
	client experimentsv1.ExperimentsServiceClient
}

// GetRun returns a run.
func (r runs) GetRun(ctx context.Context, name string) (*experimentsv1.Run, error) {
	return r.client.GetRun(ctx, &experimentsv1.GetRunRequest{Name: name})
}

// deployments asks the deployer.
type deployments struct {
	client deployerv1.DeployerServiceClient
}

// GetDeployment returns a deployment.
func (d deployments) GetDeployment(ctx context.Context, name string) (*typev1.Deployment, error) {
	return d.client.GetDeployment(ctx, &deployerv1.GetDeploymentRequest{Name: name})
}
