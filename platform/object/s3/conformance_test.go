package s3_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/object/driver"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
	"github.com/sebs-suite/sebs/platform/object/s3"
)

func secretOf(text string) secret.String { return secret.New(text) }

func TestMain(m *testing.M) {
	// The embedded store's HTTP library keeps one clock for the life of the process, and a cleaner that looks every
	// ten seconds whether its server has ended.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

func TestConformanceEmbedded(t *testing.T) {
	t.Parallel()
	conformance(t, objects.Options{Dir: t.TempDir()})
}

// TestConformanceAttributesInFiles runs the suite as on file systems without extended attributes.
func TestConformanceAttributesInFiles(t *testing.T) {
	t.Parallel()
	conformance(t, objects.Options{Dir: t.TempDir(), AttributesInFiles: true})
}

func conformance(t *testing.T, opts objects.Options) {
	t.Helper()
	store, err := objects.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	open := func(t *testing.T, access string, key secret.String) driver.Store {
		d, err := s3.Open(s3.Config{Endpoint: store.Endpoint(), AccessKey: access, SecretKey: key, MaxAttempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	drivertest.Run(t, drivertest.Harness{
		Open: func(t *testing.T) driver.Store {
			root := store.Root()
			return open(t, root.AccessKey, root.SecretKey)
		},
		OpenStranger: func(t *testing.T) driver.Store { return open(t, "nobody", secret.New("nothing-at-all")) },
	}, nil)
}
