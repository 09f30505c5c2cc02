package deployer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Dependencies is what a Deployer stands on.
type Dependencies struct {
	// Platforms opens the platforms of this process.
	Platforms faas.Table
	// Options adjust the platforms.
	Options faas.Options
	// Records is the shared state.
	Records Records
	// Events tells what happened.
	Events Publisher
	// Storage owns buckets and tables.
	Storage storagev1.StorageServiceClient
	// Builder knows packages.
	Builder builderv1.BuilderServiceClient
	// Log takes what callers do not see.
	Log *slog.Logger
}

// Deployer makes and changes deployments, functions and triggers. Its methods may be
// called from several goroutines, and several deployers may share one state.
type Deployer struct {
	platforms *platforms
	records   Records
	events    Publisher
	storage   storagev1.StorageServiceClient
	builder   builderv1.BuilderServiceClient
	log       *slog.Logger
}

// New returns a deployer.
func New(d Dependencies) *Deployer {
	return &Deployer{
		platforms: newPlatforms(d.Platforms, d.Options),
		records:   d.Records,
		events:    d.Events,
		storage:   d.Storage,
		builder:   d.Builder,
		log:       d.Log,
	}
}

// Close releases the platforms.
func (d *Deployer) Close(ctx context.Context) error { return d.platforms.close(ctx) }

// tell publishes a fact. A listener that misses one can read the records, so a
// failure is logged and the change stands.
func (d *Deployer) tell(ctx context.Context, event, about string, m proto.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.events.Publish(ctx, "deployer."+event, m, "", events.About(about)); err != nil {
		d.log.WarnContext(ctx, "publish event", "event", event, "subject", about, "error", err)
	}
}

func (d *Deployer) tellFunction(ctx context.Context, event string, fn *typev1.Function) {
	d.tell(ctx, event, fn.GetName(), &eventv1.FunctionChanged{Function: fn.GetName(), CodeHash: fn.GetCodeHash()})
}

// getDeployment reads a record.
func (d *Deployer) getDeployment(ctx context.Context, name deploymentName) (*typev1.Deployment, error) {
	if err := d.platforms.table.Check(name.Platform); err != nil {
		return nil, err
	}
	record := &typev1.Deployment{}
	_, err := d.records.Get(ctx, name.key(), record)
	if errs.Is(err, codes.NotFound) {
		return nil, errs.NotFound("DEPLOYMENT_NOT_FOUND",
			"deployment %s does not exist on platform %s; list deployments, or find those that are not recorded", name.ID, name.Platform).
			Resource("sebs.Deployment", name.String())
	}
	return record, err
}

// workOn returns the deployment, recorded again where only its record was lost, and
// its platform, after the check that the credential may change it.
func (d *Deployer) workOn(ctx context.Context, name deploymentName) (*typev1.Deployment, *opened, error) {
	return d.workIn(ctx, name, driver.Scope{})
}

// workIn is workOn for a deployment that is looked for in a scope where its record was
// lost.
func (d *Deployer) workIn(ctx context.Context, name deploymentName, scope driver.Scope) (*typev1.Deployment, *opened, error) {
	record, err := d.getDeployment(ctx, name)
	if errs.Is(err, codes.NotFound) {
		record, err = d.recoverDeployment(ctx, name, scope, err)
	}
	if err != nil {
		return nil, nil, err
	}
	platform, err := d.platforms.get(ctx, name.Platform, scopeOf(record))
	if err != nil {
		return nil, nil, err
	}
	return record, platform, checkReuse(ctx, platform, record, scope.Region)
}

// recoverDeployment records a deployment that exists on the platform only. It
// answers notFound where there is none.
func (d *Deployer) recoverDeployment(ctx context.Context, name deploymentName, scope driver.Scope, notFound error) (*typev1.Deployment, error) {
	platform, err := d.platforms.get(ctx, name.Platform, scope)
	if err != nil {
		return nil, err
	}
	there, err := d.isThere(ctx, platform, name, scope)
	if err != nil {
		return nil, err
	}
	// The stores of another region than the usual one are asked for recorded deployments only.
	if !there && scope == (driver.Scope{}) {
		return nil, notFound
	}
	record, fresh, err := d.recordFound(ctx, platform, name, scope)
	if err != nil || there || !fresh || len(record.GetBuckets())+len(record.GetTables()) > 0 {
		return record, err
	}
	if err := d.records.Delete(ctx, name.key()); err != nil {
		return nil, fmt.Errorf("delete the record of deployment %s: %w", name.ID, err)
	}
	return nil, notFound
}

// isThere tells whether the platform knows anything of a deployment.
func (d *Deployer) isThere(ctx context.Context, platform *opened, name deploymentName, scope driver.Scope) (bool, error) {
	found, err := platform.Discover(ctx, name.ID)
	if err != nil || len(found) > 0 {
		return len(found) > 0, err
	}
	ids, err := d.foundIDs(ctx, name.Platform, scope.Credential)
	return slices.Contains(ids, name.ID), err
}

// eachDeployment goes through the records of a platform, or of all of them.
func (d *Deployer) eachDeployment(ctx context.Context, platform string, each func(*typev1.Deployment) error) error {
	prefix := "deployments/"
	if platform != wildcard {
		prefix += platform + "/"
	}
	return d.records.List(ctx, prefix, func(_ string, _ int64, raw []byte) error {
		record := &typev1.Deployment{}
		if err := cache.Unmarshal(raw, record); err != nil {
			return err
		}
		return each(record)
	})
}

// eachFunction goes through the records of a deployment's functions. Platform and id
// may be the wildcard, the platform only together with the id.
func (d *Deployer) eachFunction(ctx context.Context, name deploymentName, each func(*typev1.Function) error) error {
	prefix := name.functionsPrefix()
	switch {
	case name.Platform == wildcard:
		prefix = "functions/"
	case name.ID == wildcard:
		prefix = "functions/" + name.Platform + "/"
	}
	return d.records.List(ctx, prefix, func(_ string, _ int64, raw []byte) error {
		record := &typev1.Function{}
		if err := cache.Unmarshal(raw, record); err != nil {
			return err
		}
		return each(record)
	})
}
