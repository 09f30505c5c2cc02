package deployer

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/local"
)

// Setup builds the deployer with the platforms of this build: local and AWS.
func Setup(_ context.Context, p *app.Process) error {
	storage, err := p.Dial("storage")
	if err != nil {
		return fmt.Errorf("dial storage: %w", err)
	}
	builder, err := p.Dial("builder")
	if err != nil {
		return fmt.Errorf("dial builder: %w", err)
	}
	host, err := p.Dial("local")
	if err != nil {
		return fmt.Errorf("dial local: %w", err)
	}
	opener, err := awsconfig.ForProcess(p)
	if err != nil {
		return err
	}
	d := New(Dependencies{
		Platforms: faas.Table{
			awsconfig.Platform: aws.Open(opener, aws.Options{}),
			"local":            func(context.Context, driver.Scope) (driver.Driver, error) { return local.New(host), nil },
		},
		Options: faas.Options{Registry: p.Registry},
		Records: p.Cache,
		Events:  p.Events,
		Storage: storagev1.NewStorageServiceClient(storage),
		Builder: builderv1.NewBuilderServiceClient(builder),
		Log:     p.Log,
	})
	p.OnClose("platforms", d.Close)
	server := NewServer(d, p.Operations)
	p.RegisterGRPC(func(r grpc.ServiceRegistrar) { server.Register(r) })
	return nil
}
