package metrics

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/local"
	"github.com/sebs-suite/sebs/services/metrics/results"
)

// Setup builds the metrics service with the platforms of this build: local.
func Setup(_ context.Context, p *app.Process) error {
	c, err := dial(p)
	if err != nil {
		return err
	}
	store := &objects{client: storagev1.NewStorageServiceClient(c.storage)}
	scratch := filepath.Join(p.StateDir, "metrics", "scratch")
	reader, err := results.NewReader(store, scratch)
	if err != nil {
		return err
	}
	writer := results.NewWriter(store, p.Cache)
	ingester, err := results.NewIngester(results.IngestOptions{
		Bus: p.Events, Leader: p.Cache, Locks: p.Cache, Writer: writer, Reader: reader, Limits: results.DefaultIngestLimits(),
		Registry: p.Registry, Log: p.Log,
	})
	if err != nil {
		return err
	}
	table := faas.Table{
		"local": func(context.Context, string) (driver.Driver, error) { return local.New(c.local), nil },
	}
	s := &server{operations: p.Operations, service: &service{
		reader: reader, writer: writer, ingester: ingester, store: store, locks: p.Cache, bus: p.Events,
		runs:        runs{experimentsv1.NewExperimentsServiceClient(c.experiments)},
		deployments: deployments{deployerv1.NewDeployerServiceClient(c.deployer)},
		platforms: func(ctx context.Context, platform, credential string) (providerMetrics, error) {
			opened, err := table.Open(ctx, platform, credential, faas.Options{})
			if err != nil {
				return nil, err
			}
			return opened, nil
		},
		scratch: scratch, log: p.Log,
	}}
	p.Operations.OnResume(kindDownload, s.resumeDownload)
	p.RegisterGRPC(s.register)
	p.Go("results", ingester.Run)
	return nil
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
