package awss3_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/embedded/objects"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/object/awss3"
	"github.com/sebs-suite/sebs/platform/object/driver"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
)

func TestMain(m *testing.M) {
	// The embedded store's HTTP library keeps one clock for the life of the process, and a cleaner that looks every
	// ten seconds whether its server has ended.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// opened is a configuration of the SDK for a store at an endpoint; "" is AWS.
func opened(endpoint, region, access, secret string, attempts int) awsconfig.Opened {
	o := awsconfig.Opened{Endpoint: endpoint, Config: aws.Config{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(s *retry.StandardOptions) { s.MaxAttempts = attempts })
		},
	}}
	if endpoint != "" {
		o.BaseEndpoint = &endpoint
	}
	return o
}

func embedded(t *testing.T) *objects.Store {
	t.Helper()
	store, err := objects.Start(t.Context(), objects.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func TestConformanceEmbedded(t *testing.T) {
	t.Parallel()
	store := embedded(t)
	root := store.Root()
	open := func(access, secret string) driver.Store {
		return awss3.Open(opened("http://"+store.Endpoint(), objects.Region, access, secret, 1))
	}
	drivertest.Run(t, drivertest.Harness{
		Open:         func(*testing.T) driver.Store { return open(root.AccessKey, root.SecretKey.Reveal()) },
		OpenStranger: func(*testing.T) driver.Store { return open("nobody", "nothing-at-all") },
	}, nil)
}
