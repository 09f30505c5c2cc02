package local_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/app/apptest"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/drivertest"
	"github.com/sebs-suite/sebs/platform/faas/local"
	localservice "github.com/sebs-suite/sebs/services/local"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// exceptions of the local platform.
func exceptions() drivertest.Except {
	return drivertest.Except{
		drivertest.TriggerGone: "the HTTP front and the library call serve every function, so deleting them twice finds them twice",
	}
}

// archive is a function that answers its input and logs its marker.
func archive(t *testing.T, revision int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	file, err := w.Create("handler.py")
	if err == nil {
		_, err = fmt.Fprintf(file, "# revision %d\ndef handler(event, context=None):\n    print('marker', event['marker'], flush=True)\n    return event\n", revision)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestConformance(t *testing.T) {
	t.Parallel()
	process := apptest.StartWith(t, apptest.Options{Sets: []string{"local.sandbox=process"}}, localservice.Setup)
	conn, err := process.Dial("local")
	if err != nil {
		t.Fatal(err)
	}
	d := local.New(conn)
	caps, err := d.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(caps.Runtimes, func(r driver.Runtime) bool { return r.Language == "python" })
	if at < 0 {
		t.Skip("needs a Python interpreter")
	}
	drivertest.Run(t, func(t *testing.T) *drivertest.Harness {
		return &drivertest.Harness{
			Driver:     d,
			Deployment: "local-0a1b2c3d",
			Prefix:     "conformance",
			Config: driver.Config{
				Runtime: caps.Runtimes[at], Architecture: caps.Architectures[0], MemoryMB: 256, Timeout: 10 * time.Second, Handler: "handler.handler",
			},
			Code: func(revision int) driver.Code {
				content := archive(t, revision)
				sum := sha256.Sum256(content)
				return driver.Code{
					Digest: fmt.Sprintf("%064d", revision), ContentSHA256: hex.EncodeToString(sum[:]), SizeBytes: int64(len(content)),
					Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
				}
			},
			Bucket:      "sebs-benchmarks-local-0a1b2c3d",
			CaseTimeout: 20 * time.Second,
		}
	}, exceptions())
}
