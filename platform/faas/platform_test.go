package faas_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
)

func config() driver.Config {
	return driver.Config{
		Runtime: driver.Runtime{Language: "python", Version: "3.12"}, Architecture: "x64",
		MemoryMB: 128, Timeout: 10 * time.Second, Environment: map[string]string{"A": "1"},
	}
}

func spec(name string) driver.FunctionSpec {
	return driver.FunctionSpec{Name: name, Deployment: "local-1", Benchmark: "010.sleep", Config: config(), Code: driver.Code{Digest: "d1"}}
}

func over(t *testing.T, memory *faastest.Memory) *faas.Platform {
	t.Helper()
	p, err := faas.New("local", memory, faas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCreateWaitsUntilActive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := faastest.NewMemory()
		memory.PendingPolls = 5
		fn, created, err := over(t, memory).CreateFunction(t.Context(), spec("f"))
		if err != nil || !created || fn.State != driver.StateActive {
			t.Fatalf("created %v, state %v, error %v", created, fn.State, err)
		}
	})
}

func TestCreateTakesExistingOfSameDeployment(t *testing.T) {
	t.Parallel()
	memory := faastest.NewMemory()
	p := over(t, memory)
	if _, _, err := p.CreateFunction(t.Context(), spec("f")); err != nil {
		t.Fatal(err)
	}
	if _, created, err := p.CreateFunction(t.Context(), spec("f")); err != nil || created {
		t.Errorf("again: created %v, error %v", created, err)
	}
	foreign := spec("f")
	foreign.Deployment = "local-2"
	if _, _, err := p.CreateFunction(t.Context(), foreign); !errs.Is(err, codes.AlreadyExists) || errs.Reason(err) != "FUNCTION_OF_OTHER_DEPLOYMENT" {
		t.Errorf("a function of another deployment: %v", err)
	}
}

func TestThrottlingIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := faastest.NewMemory()
		var tries atomic.Int64
		memory.Before = func(_ context.Context, call string) error {
			if call == "GetFunction" && tries.Add(1) < 4 {
				return &faastest.FaultError{Fault: driver.Fault{Code: codes.ResourceExhausted, RetryAfter: 3 * time.Second}, Message: "slow down"}
			}
			return nil
		}
		p := over(t, memory)
		if _, _, err := p.CreateFunction(t.Context(), spec("f")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := p.GetFunction(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begin); waited != 9*time.Second {
			t.Errorf("waited %s for three refusals of 3 s", waited)
		}
	})
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := faastest.NewMemory()
		var tries int
		memory.Before = func(context.Context, string) error {
			tries++
			return &faastest.FaultError{Fault: driver.Fault{Code: codes.Unavailable, Reason: "GONE"}, Message: "away"}
		}
		_, err := over(t, memory).GetFunction(t.Context(), "f")
		if !errs.Is(err, codes.Unavailable) || errs.Reason(err) != "GONE" || tries != 5 {
			t.Errorf("after %d tries: %v", tries, err)
		}
		tries = 0
		if _, err := over(t, memory).Invoke(t.Context(), driver.Call{Function: "f"}); err == nil || tries != 1 {
			t.Errorf("an invocation was tried %d times (%v)", tries, err)
		}
	})
}

func TestThrottlingIsEndured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory := faastest.NewMemory()
		tries := 0
		memory.Before = func(context.Context, string) error {
			tries++
			return &faastest.FaultError{Fault: driver.Fault{Code: codes.ResourceExhausted}, Message: "slow down"}
		}
		begin := time.Now()
		_, err := over(t, memory).GetFunction(t.Context(), "f")
		// Far more tries than of other failures, and an end all the same.
		if waited := time.Since(begin); !errs.Is(err, codes.ResourceExhausted) || tries <= 20 || waited < 5*time.Minute || waited > 6*time.Minute {
			t.Errorf("after %d tries in %s: %v", tries, waited, err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if _, err := over(t, memory).GetFunction(short, "f"); err == nil || time.Since(begin) != time.Second {
			t.Errorf("ended after %s with %v", time.Since(begin), err)
		}
	})
}

func TestErrorsAreClassifiedOnce(t *testing.T) {
	t.Parallel()
	p := over(t, faastest.NewMemory())
	_, err := p.GetFunction(t.Context(), "missing")
	if !errs.Is(err, codes.NotFound) || errs.Metadata(err, "platform") != "local" ||
		err.Error() != `get function missing on platform local: no function "missing"` {
		t.Errorf("%v", err)
	}
	var fault *faastest.FaultError
	if !errors.As(err, &fault) {
		t.Error("the driver's error is lost")
	}
	deleted, err := p.DeleteFunction(t.Context(), "missing")
	if deleted || err != nil {
		t.Errorf("delete of nothing: %v, %v", deleted, err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	p := over(t, faastest.NewMemory())
	bad := config()
	bad.Runtime.Version, bad.Architecture, bad.MemoryMB, bad.Timeout = "2.7", "mips", 20480, time.Hour
	err := p.CheckConfig(t.Context(), bad)
	var fields []string
	for _, v := range errs.Violations(err) {
		fields = append(fields, v.Field)
	}
	if got := strings.Join(fields, " "); got != "config.runtime config.architecture config.memory_mb config.timeout" {
		t.Errorf("violations of %q (%v)", got, err)
	}
	if err := p.CheckConfig(t.Context(), config()); err != nil {
		t.Error(err)
	}
	image := spec("f")
	image.Code.ImageURI = "example/image:1"
	_, _, err = p.CreateFunction(t.Context(), image)
	if !errs.Is(err, codes.Unimplemented) || errs.Reason(err) != faas.ReasonNotSupported || errs.Metadata(err, "platform") != "local" {
		t.Errorf("an image: %v", err)
	}
	big := spec("f")
	big.Code.SizeBytes = 1 << 30
	if _, _, err = p.CreateFunction(t.Context(), big); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("too much code: %v", err)
	}
}

func TestColdStartSetsBothVariables(t *testing.T) {
	t.Parallel()
	p := over(t, faastest.NewMemory())
	if _, _, err := p.CreateFunction(t.Context(), spec("f")); err != nil {
		t.Fatal(err)
	}
	given := config()
	fn, err := p.EnforceColdStart(t.Context(), "f", given, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "1", "cold_start": "7", "ForceColdStart": "7"}
	if !maps.Equal(fn.Config.Environment, want) || len(given.Environment) != 1 {
		t.Errorf("environment %v, given %v", fn.Config.Environment, given.Environment)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := faas.Table{"local": func(context.Context, driver.Scope) (driver.Driver, error) { return faastest.NewMemory(), nil }}
	if _, err := table.Open(t.Context(), "local", driver.Scope{}, faas.Options{}); err != nil {
		t.Error(err)
	}
	err := table.Check("lambada")
	if !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), "aws, azure, gcp, local, openwhisk") {
		t.Errorf("unknown platform: %v", err)
	}
	err = table.Check("aws")
	if !errs.Is(err, codes.Unimplemented) || errs.Reason(err) != "PLATFORM_NOT_AVAILABLE" || errs.Metadata(err, "platform") != "aws" {
		t.Errorf("platform without a driver: %v", err)
	}
}

func TestListingGoesThroughAllPages(t *testing.T) {
	t.Parallel()
	p := over(t, faastest.NewMemory())
	for _, name := range []string{"e", "c", "a", "d", "b"} {
		if _, _, err := p.CreateFunction(t.Context(), spec(name)); err != nil {
			t.Fatal(err)
		}
	}
	var names string
	for fn, err := range p.Functions(t.Context(), "local-1") {
		if err != nil {
			t.Fatal(err)
		}
		names += fn.Name
	}
	if names != "abcde" {
		t.Errorf("listed %q", names)
	}
}

func TestCallsAreMeasured(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	for range 2 {
		p, err := faas.New("local", faastest.NewMemory(), faas.Options{Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.GetFunction(t.Context(), "missing"); err == nil {
			t.Error("a missing function is found")
		}
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v (%v)", families, err)
	}
	metric := families[0].GetMetric()
	if len(metric) != 1 || metric[0].GetHistogram().GetSampleCount() != 2 || !strings.Contains(metric[0].String(), `"NotFound"`) {
		t.Errorf("%v", metric)
	}
}
