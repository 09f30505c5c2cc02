package dynamodb_test

import (
	"os"
	"testing"

	"github.com/sebs-suite/sebs/platform/nosql/driver"
	"github.com/sebs-suite/sebs/platform/nosql/drivertest"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
)

// TestConformanceEndpoint runs the suite on a store that is already there, such as DynamoDB Local or ScyllaDB.
func TestConformanceEndpoint(t *testing.T) {
	endpoint := os.Getenv("SEBS_TEST_DYNAMODB_ENDPOINT")
	if endpoint == "" {
		t.Skip("needs SEBS_TEST_DYNAMODB_ENDPOINT: host:port of a DynamoDB API that takes any credentials")
	}
	drivertest.Run(t, func(t *testing.T) driver.Store {
		d, err := dynamodb.Open(dynamodb.Config{Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, nil)
}
