package invoker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/cache"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/internal/resourcename"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/services/invoker/call"
)

// Records is what the invoker needs of the shared state.
type Records interface {
	Get(ctx context.Context, key string, into proto.Message) (rev int64, err error)
	List(ctx context.Context, prefix string, each func(key string, rev int64, raw []byte) error) error
	Watch(ctx context.Context, prefix string) (<-chan cache.Event, error)
}

// Keys in etcd.
const (
	functionsPrefix   = "functions/"
	deploymentsPrefix = "deployments/"
)

// parseTrigger reads a trigger's resource name.
func parseTrigger(name string) (resourcename.Name, error) {
	return resourcename.ParseTrigger("trigger", name)
}

func functionKey(name resourcename.Name) string {
	return functionsPrefix + name.Platform + "/" + name.Deployment + "/" + name.Function
}

func deploymentKey(name resourcename.Name) string {
	return deploymentsPrefix + name.Platform + "/" + name.Deployment
}

// targets finds recorded triggers. It keeps the functions that it has seen in memory and follows their changes, so that a
// call costs no look into etcd and goes on while etcd is away.
type targets struct {
	records Records

	mu sync.RWMutex
	// following tells that changes arrive; only then a record in memory may be used.
	following bool
	functions map[string]*typev1.Function
	scopes    map[string]driver.Scope
	// generation rises with each change, so that a read that began before is not kept.
	generation uint64
}

func newTargets(records Records) *targets {
	return &targets{records: records, functions: make(map[string]*typev1.Function), scopes: make(map[string]driver.Scope)}
}

// followPause is the pause before the changes are followed anew.
const followPause = time.Second

// follow keeps the memory true until ctx ends.
func (t *targets) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := t.followOnce(ctx); err != nil && ctx.Err() == nil {
			timer := time.NewTimer(followPause)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
	return nil
}

func (t *targets) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	functions, err := t.records.Watch(ctx, functionsPrefix)
	if err != nil {
		return err
	}
	deployments, err := t.records.Watch(ctx, deploymentsPrefix)
	if err != nil {
		return err
	}
	t.forget(true)
	defer t.forget(false)
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-functions:
			if !ok {
				return nil
			}
			t.apply(event)
		case event, ok := <-deployments:
			if !ok {
				return nil
			}
			t.apply(event)
		}
	}
}

// forget empties the memory.
func (t *targets) forget(following bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.following = following
	t.generation++
	clear(t.functions)
	clear(t.scopes)
}

// apply drops what changed; the next call reads it.
func (t *targets) apply(event cache.Event) {
	if event.Type == cache.EventResync {
		t.forget(true)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generation++
	delete(t.functions, event.Key)
	delete(t.scopes, event.Key)
}

// find returns the target that a trigger's resource name stands for.
func (t *targets) find(ctx context.Context, name string) (call.Target, error) {
	parsed, err := parseTrigger(name)
	if err != nil {
		return call.Target{}, err
	}
	function, err := t.function(ctx, parsed)
	if err != nil {
		return call.Target{}, err
	}
	target := call.Target{
		Function:   parsed.Parent().String(),
		FunctionID: parsed.Function,
		Platform:   parsed.Platform,
		Deployment: parsed.Deployment,
		Timeout:    time.Duration(function.GetConfig().GetTimeoutSeconds()) * time.Second,
	}
	for _, trigger := range function.GetTriggers() {
		if strings.EqualFold(lastPart(trigger.GetName()), parsed.Trigger) {
			target.Trigger = trigger
		}
	}
	if target.Trigger == nil {
		return call.Target{}, errs.NotFound("TRIGGER_NOT_FOUND",
			"function %s of deployment %s on platform %s has no trigger %s; create it first", parsed.Function, parsed.Deployment, parsed.Platform, parsed.Trigger).
			Resource("sebs.Trigger", name)
	}
	switch target.Trigger.GetType() {
	case typev1.TriggerType_TRIGGER_TYPE_HTTP:
		if err := call.CheckURL(target.Trigger.GetUrl()); err != nil {
			return call.Target{}, errs.FailedPrecondition("TRIGGER_URL_REFUSED", "trigger %s: %v; create the trigger again", name, err)
		}
		if call.Signed(target.Trigger) {
			if target.Scope, err = t.scope(ctx, parsed); err != nil {
				return call.Target{}, err
			}
		}
	case typev1.TriggerType_TRIGGER_TYPE_LIBRARY:
		if target.Scope, err = t.scope(ctx, parsed); err != nil {
			return call.Target{}, err
		}
	default:
		// Storage triggers carry all that is needed.
	}
	return target, nil
}

// function reads a function's record, from memory where that is true.
func (t *targets) function(ctx context.Context, name resourcename.Name) (*typev1.Function, error) {
	key := functionKey(name)
	t.mu.RLock()
	function, generation := t.functions[key], t.generation
	t.mu.RUnlock()
	if function != nil {
		return function, nil
	}
	function = &typev1.Function{}
	if _, err := t.records.Get(ctx, key, function); err != nil {
		if errs.Is(err, codes.NotFound) {
			return nil, errs.NotFound("FUNCTION_NOT_FOUND",
				"function %s does not exist in deployment %s on platform %s; deploy it first or list functions", name.Function, name.Deployment, name.Platform).
				Resource("sebs.Function", name.Parent().String())
		}
		return nil, fmt.Errorf("find function %s: %w", name.Function, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.following && t.generation == generation {
		t.functions[key] = function
	}
	return function, nil
}

// scope reads as whom and where the deployment is worked on.
func (t *targets) scope(ctx context.Context, name resourcename.Name) (driver.Scope, error) {
	key := deploymentKey(name)
	t.mu.RLock()
	scope, known := t.scopes[key]
	generation := t.generation
	t.mu.RUnlock()
	if known {
		return scope, nil
	}
	deployment := &typev1.Deployment{}
	if _, err := t.records.Get(ctx, key, deployment); err != nil && !errs.Is(err, codes.NotFound) {
		return driver.Scope{}, fmt.Errorf("find deployment %s: %w", name.Deployment, err)
	}
	scope = driver.Scope{Credential: deployment.GetCredential(), Region: deployment.GetRegion()}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.following && t.generation == generation {
		t.scopes[key] = scope
	}
	return scope, nil
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
