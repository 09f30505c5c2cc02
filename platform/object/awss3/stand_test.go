package awss3_test

import (
	"net/http"
	"testing"

	"github.com/sebs-suite/sebs/platform/object/awss3"
	"github.com/sebs-suite/sebs/platform/object/driver"
	"github.com/sebs-suite/sebs/platform/object/drivertest"
	"github.com/sebs-suite/sebs/test/awsstand"
)

// TestConformanceStand runs the suite in a region where buckets have a location, on what stands in for AWS.
func TestConformanceStand(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"us-east-1", "eu-central-1"} {
		t.Run(region, func(t *testing.T) {
			t.Parallel()
			stand := awsstand.Start(t, awsstand.Options{Region: region})
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			open := func(access, secret string) driver.Store {
				o := opened(stand.Endpoint, region, access, secret, 1)
				o.HTTPClient = &http.Client{Transport: withoutChecksums{transport}}
				return awss3.Open(o)
			}
			drivertest.Run(t, drivertest.Harness{
				Open:         func(*testing.T) driver.Store { return open(stand.AccessKey, stand.SecretKey) },
				OpenStranger: func(*testing.T) driver.Store { return open("AKIANOBODY", "nothing-at-all") },
			}, drivertest.Except{drivertest.Checksum: "moto keeps no checksum of the whole object (the embedded store does)"})
		})
	}
}

// withoutChecksums drops the checksums of answers: for objects in parts moto gives one of the parts' checksums as that of
// the content.
type withoutChecksums struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w withoutChecksums) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.next.RoundTrip(r)
	if err == nil {
		response.Header.Del("X-Amz-Checksum-Crc32c")
	}
	return response, err
}
