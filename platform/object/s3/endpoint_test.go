package s3_test

import (
	"os"
	"testing"

	"github.com/sebs-suite/sebs/platform/object/driver"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
	"github.com/sebs-suite/sebs/platform/object/s3"
)

// TestConformanceEndpoint runs the suite on a store that is already there, such as MinIO.
func TestConformanceEndpoint(t *testing.T) {
	endpoint := os.Getenv("SEBS_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Skip("needs SEBS_TEST_S3_ENDPOINT, SEBS_TEST_S3_ACCESS_KEY and SEBS_TEST_S3_SECRET_KEY of an S3 store")
	}
	drivertest.Run(t, drivertest.Harness{Open: func(t *testing.T) driver.Store {
		d, err := s3.Open(s3.Config{
			Endpoint: endpoint, AccessKey: os.Getenv("SEBS_TEST_S3_ACCESS_KEY"), SecretKey: secretOf(os.Getenv("SEBS_TEST_S3_SECRET_KEY")),
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}}, nil)
}
