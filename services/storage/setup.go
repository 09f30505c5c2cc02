package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/platform/awsconfig"
)

// Setup builds the storage service with the stores of the local platform and of AWS.
func Setup(ctx context.Context, p *app.Process) error {
	var cfg Config
	if err := p.Section("storage", &cfg); err != nil {
		return err
	}
	dir := filepath.Join(p.StateDir, "storage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the storage directory: %w", err)
	}
	local := &localStores{cfg: cfg.Platforms.Local, dir: dir, log: p.Log, notify: func(raw []byte) {
		if err := p.Events.Conn().Publish(CreatedSubject, raw); err != nil {
			p.Log.Warn("object notification not sent", "error", err)
		}
	}}
	p.OnClose("stores", local.close)
	// The object store starts now: nearly everything needs it, and it opens in milliseconds.
	if _, err := local.open(ctx, Scope{}); err != nil {
		return err
	}
	if local.objectStore != nil {
		claim, err := claimEmbedded(ctx, p.Cache, local.objectStore.Root().AccessKey)
		if err != nil {
			return err
		}
		p.OnClose("claim of the object store", claim.Close)
	}
	p.OnReady("object store", local.reachable)
	opener, err := awsconfig.ForProcess(p)
	if err != nil {
		return err
	}
	aws := newAWSStores(opener)
	p.OnClose("stores of AWS", aws.close)
	platforms := local.platforms()
	platforms[awsconfig.Platform] = aws.platform()
	service := New(platforms, p.Cache, p.Log)
	p.OnClose("storage", service.Close)
	if err := service.Restore(filepath.Join(dir, "relays.json")); err != nil {
		return err
	}
	p.RegisterGRPC(NewServer(service).Register)
	content := &httpContent{service: service, log: p.Log, authorize: p.Policies.Authorize}
	for pattern, h := range content.handlers() {
		p.HandleHTTP(pattern, h)
	}
	return nil
}
