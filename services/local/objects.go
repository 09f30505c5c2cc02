package local

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/local/host"
)

// objectsCreated is the subject on which the storage service tells of objects created in the benchmarks buckets, as S3
// event notifications.
const objectsCreated = "sebs.v1.objects.created"

// hearObjects passes created objects on to the functions whose storage trigger covers them. Every local platform hears
// of all objects: which functions they concern, only the platform that has the functions knows.
func hearObjects(p *app.Process, h *host.Host) error {
	heard, err := p.Events.Conn().Subscribe(objectsCreated, func(m *nats.Msg) {
		if _, err := h.ObjectEvents(m.Data); err != nil {
			p.Log.Warn("storage trigger failed", "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("listen for created objects: %w", err)
	}
	p.OnClose("object notifications", func(context.Context) error { return heard.Unsubscribe() })
	return nil
}
