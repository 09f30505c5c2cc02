package faastest_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/drivertest"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(t *testing.T) *drivertest.Harness {
		return &drivertest.Harness{
			Driver:     faastest.NewMemory(),
			Deployment: "memory-0a1b2c3d",
			Prefix:     "conformance",
			Config: driver.Config{
				Runtime: driver.Runtime{Language: "python", Version: "3.12"}, Architecture: "x64", MemoryMB: 128, Timeout: 10 * time.Second,
			},
			Code: func(revision int) driver.Code {
				return driver.Code{
					Digest: fmt.Sprintf("digest-%d", revision),
					Open: func(context.Context) (io.ReadCloser, error) {
						return io.NopCloser(strings.NewReader("code")), nil
					},
				}
			},
			Bucket:      "bucket",
			CaseTimeout: 10 * time.Second,
		}
	}, nil)
}
