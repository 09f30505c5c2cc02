package dynamodb_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/internal/embedded/tables"
	"github.com/sebs-suite/sebs/platform/nosql/driver"
	"github.com/sebs-suite/sebs/platform/nosql/drivertest"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformanceDynalite(t *testing.T) {
	if err := tables.Available(); err != nil {
		t.Skipf("needs npm: %v", err)
	}
	store, err := tables.Start(t.Context(), tables.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	drivertest.Run(t, func(t *testing.T) driver.Store {
		d, err := dynamodb.Open(dynamodb.Config{Endpoint: store.Endpoint()})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, nil)
}
