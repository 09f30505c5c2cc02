package deployer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// identityLife is how long the answer to whose credential it is stays true.
const identityLife = time.Minute

// platforms keeps one open platform per name, credential and region.
type platforms struct {
	table   faas.Table
	options faas.Options

	mu   sync.Mutex
	open map[platformKey]*opened
}

type platformKey struct {
	name  string
	scope driver.Scope
}

// opened is a platform with what is known of its credential.
type opened struct {
	*faas.Platform

	// asking is held by the one that asks; who waits for it can leave.
	asking   chan struct{}
	identity driver.Identity
	asked    time.Time
}

func newPlatforms(table faas.Table, options faas.Options) *platforms {
	return &platforms{table: table, options: options, open: make(map[platformKey]*opened)}
}

// get returns the platform, opened at the first call.
func (p *platforms) get(ctx context.Context, name string, scope driver.Scope) (*opened, error) {
	if scope.Credential == "default" {
		scope.Credential = ""
	}
	key := platformKey{name, scope}
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := p.open[key]; found != nil {
		return found, nil
	}
	platform, err := p.table.Open(ctx, name, scope, p.options)
	if err != nil {
		return nil, err
	}
	p.open[key] = &opened{Platform: platform, asking: make(chan struct{}, 1)}
	return p.open[key], nil
}

// scopeOf says as whom and where a deployment is worked on.
func scopeOf(deployment *typev1.Deployment) driver.Scope {
	return driver.Scope{Credential: deployment.GetCredential(), Region: deployment.GetRegion()}
}

// close releases all platforms.
func (p *platforms) close(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var problems []error
	for key, platform := range p.open {
		if err := platform.Close(); err != nil {
			problems = append(problems, fmt.Errorf("close platform %s: %w", key.name, err))
		}
	}
	clear(p.open)
	return errors.Join(problems...)
}

// whose returns the owner of the credential, asked again when the answer is old.
func (o *opened) whose(ctx context.Context) (driver.Identity, error) {
	select {
	case <-ctx.Done():
		return driver.Identity{}, fmt.Errorf("wait for the owner of the credential: %w", context.Cause(ctx))
	case o.asking <- struct{}{}:
	}
	defer func() { <-o.asking }()
	if !o.asked.IsZero() && time.Since(o.asked) < identityLife {
		return o.identity, nil
	}
	identity, err := o.CheckCredentials(ctx)
	if err != nil {
		return driver.Identity{}, err
	}
	o.identity, o.asked = identity, time.Now()
	return identity, nil
}

// checkAccount refuses a credential of another account than the deployment's. It
// stands ahead of every change.
func (o *opened) checkAccount(ctx context.Context, deployment, account string) error {
	identity, err := o.whose(ctx)
	if err != nil {
		return err
	}
	if account != "" && identity.Account != account {
		return errs.FailedPrecondition("ACCOUNT_MISMATCH",
			"the credential belongs to account %s, deployment %s to account %s; use a credential of that account, or make a new deployment",
			identity.Account, deployment, account).With("deployment", deployment)
	}
	return nil
}
