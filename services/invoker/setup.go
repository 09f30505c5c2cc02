package invoker

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	eventv1 "github.com/sebs-suite/sebs/gen/go/sebs/event/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/events"
	"github.com/sebs-suite/sebs/internal/version"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/local"
	"github.com/sebs-suite/sebs/services/invoker/call"
	"github.com/sebs-suite/sebs/services/invoker/results"
)

// Config is the section `invoker` of the configuration.
type Config struct {
	// Capacity is how many calls are made at once.
	Capacity int `yaml:"capacity"`
	// MaxAnswerBytes bounds a function's answer.
	MaxAnswerBytes int64 `yaml:"max_answer_bytes"`
}

// Validate reports every problem with its key.
func (c *Config) Validate() error {
	var problems []error
	if c.Capacity < 1 || c.Capacity > 100_000 {
		problems = append(problems, errs.Field("capacity", "is %d and has to be between 1 and 100000", c.Capacity))
	}
	if c.MaxAnswerBytes < 1<<20 || c.MaxAnswerBytes > 1<<30 {
		problems = append(problems, errs.Field("max_answer_bytes", "is %d and has to be between 1048576 and 1073741824", c.MaxAnswerBytes))
	}
	return errs.Fields(problems...)
}

// Setup adds an invoker to a process.
func Setup(ctx context.Context, p *app.Process) error {
	config := Config{Capacity: 512, MaxAnswerBytes: call.DefaultMaxAnswerBytes}
	if err := p.Section("invoker", &config); err != nil {
		return err
	}
	storage, err := p.Dial("storage")
	if err != nil {
		return fmt.Errorf("set up the invoker: %w", err)
	}
	opener, err := awsconfig.ForProcess(p)
	if err != nil {
		return fmt.Errorf("set up the invoker: %w", err)
	}
	table, err := platforms(p, opener)
	if err != nil {
		return fmt.Errorf("set up the invoker: %w", err)
	}
	publisher, err := results.New(p.Events, p.ID, filepath.Join(p.StateDir, "spool", "results"), p.Log)
	if err != nil {
		return fmt.Errorf("set up the invoker: %w", err)
	}
	p.OnClose("results", publisher.Close)
	p.Go("results", publisher.Run)
	objects := storedObjects{client: storagev1.NewStorageServiceClient(storage)}
	library := call.NewLibrary(table)
	p.OnClose("platforms of the invoker", func(context.Context) error { return library.Close() })
	web := call.NewHTTP(call.HTTPOptions{
		MaxAnswerBytes: config.MaxAnswerBytes, MaxConnections: config.Capacity, Signers: map[string]call.Signer{"aws": aws.NewSigner(opener)},
	})
	p.OnClose("connections of the invoker", func(context.Context) error {
		web.Close()
		return nil
	})
	invoker := New(Dependencies{
		ID:       p.ID,
		Capacity: config.Capacity,
		Records:  p.Cache,
		Results:  publisher,
		Storage:  objects.client,
		HTTP:     web,
		Library:  library,
		Objects:  call.NewStorage(objects, config.MaxAnswerBytes),
		Registry: p.Registry,
		Log:      p.Log,
	})
	p.Go("functions that the invoker knows", invoker.Follow)
	p.Go("registration of the invoker", func(ctx context.Context) error { return register(ctx, p, invoker) })
	queue := workOn(ctx, p, invoker)
	p.RegisterGRPC(func(registrar grpc.ServiceRegistrar) { NewServer(invoker, queue).Register(registrar) })
	return nil
}

// platforms is the table of the platforms whose own API is called.
func platforms(p *app.Process, opener *awsconfig.Opener) (faas.Table, error) {
	conn, err := p.Dial("local")
	if err != nil {
		return nil, err
	}
	return faas.Table{
		"aws":   aws.Open(opener, aws.Options{}),
		"local": func(context.Context, driver.Scope) (driver.Driver, error) { return local.New(conn), nil },
	}, nil
}

// workOn adds the queue of asynchronous invocations. When the process ends it takes no more, then waits for the calls in
// flight, and gives them up when the time for that is over.
func workOn(ctx context.Context, p *app.Process, invoker *Invoker) *Queue {
	base := context.WithoutCancel(ctx)
	taking, stopTaking := context.WithCancel(base)
	hard, giveUp := context.WithCancel(base)
	queue := NewQueue(hard, invoker, p.Events, QueueOptions{})
	p.OnDrain("invoker", func(ctx context.Context) error {
		stopTaking()
		return invoker.Drain(ctx)
	})
	p.Go("queue of invocations", func(ctx context.Context) error {
		defer giveUp()
		defer stopTaking()
		defer context.AfterFunc(ctx, func() {
			stopTaking()
			giveUp()
		})()
		return queue.Work(taking)
	})
	return queue
}

// register keeps the invoker listed in etcd until ctx ends.
func register(ctx context.Context, p *app.Process, invoker *Invoker) error {
	self := invoker.Describe(p.GRPCAddr(), version.Get().String(), time.Now())
	lease, err := p.Cache.Register(ctx, self.GetName(), self, registrationTTL)
	if err != nil {
		return fmt.Errorf("register the invoker: %w", err)
	}
	tell(ctx, p, "invoker_joined", self.GetName())
	err = invoker.Tell(ctx, lease, self)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	tell(end, p, "invoker_left", self.GetName())
	if closing := lease.Close(end); err == nil {
		err = closing
	}
	return err
}

// tell publishes a fact about an invoker. Who misses it can read the registrations.
func tell(ctx context.Context, p *app.Process, event, name string) {
	if err := p.Events.Publish(ctx, "invoker."+event, &eventv1.InvokerChanged{Invoker: name}, "", events.About(name)); err != nil {
		p.Log.Warn("an event could not be published", "event", event, "error", err)
	}
}
