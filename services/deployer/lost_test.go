package deployer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/faastest"
)

// lose empties the shared state of deployments and functions.
func (s *service) lose(t *testing.T) {
	t.Helper()
	for _, prefix := range []string{"deployments/", "functions/"} {
		if _, err := s.store.DeletePrefix(t.Context(), prefix); err != nil {
			t.Fatal(err)
		}
	}
}

// delete deletes a deployment and returns what of each type, in words.
func (s *service) delete(t *testing.T, req *deployerv1.DeleteDeploymentRequest) (map[string][]string, error) {
	t.Helper()
	answer := &deployerv1.DeleteDeploymentResponse{}
	op, err := s.DeleteDeployment(t.Context(), req)
	err = s.wait(t.Context(), op, err, answer)
	deleted := make(map[string][]string)
	for kind, list := range answer.GetDeleted() {
		if len(list.GetResources()) > 0 {
			deleted[kind] = list.GetResources()
		}
	}
	return deleted, err
}

func TestCleanUpAfterTheStateWasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	deployment, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: "mine", Region: "eu-north-1"})
	if err != nil {
		t.Fatal(err)
	}
	fn := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: deployment.GetName(), Package: w.builder.add("aaaa", onCloud)}).GetFunction()
	w.storage.tables = []string{"sebs-benchmarks-mine-130.crud-api-cart"}
	for _, other := range []driver.Resource{{Type: "log-group", ID: "/aws/lambda/f"}, {Type: "role", ID: "sebs-lambda-role-mine"}} {
		w.memory.Add("mine", other)
	}
	var order []string
	w.memory.Before = func(_ context.Context, call string) error {
		if strings.HasPrefix(call, "Delete") {
			order = append(order, call)
		}
		return nil
	}
	s.lose(t)
	want := map[string][]string{
		"functions": {rid(fn.GetName())}, "buckets": {"sebs-benchmarks-mine"}, "tables": {"sebs-benchmarks-mine-130.crud-api-cart"},
		"log-group": {"/aws/lambda/f"}, "role": {"sebs-lambda-role-mine"},
	}
	request := &deployerv1.DeleteDeploymentRequest{Name: deployment.GetName(), Region: "eu-north-1", Credential: "team"}
	for _, dry := range []bool{true, false} {
		request.DryRun = dry
		if !dry {
			s.lose(t)
		}
		deleted, err := s.delete(t, request)
		if err != nil || fmt.Sprint(deleted) != fmt.Sprint(want) {
			t.Errorf("dry run %v: %v, want %v (%v)", dry, deleted, want, err)
		}
	}
	if !slices.Equal(order, []string{"DeleteFunction", "DeleteResource", "DeleteResource"}) {
		t.Errorf("deleted in the order %v", order)
	}
	if scope := (driver.Scope{Credential: "team", Region: "eu-north-1"}); !slices.Contains(w.scopes, scope) {
		t.Errorf("looked in %v, want %v among them", w.scopes, scope)
	}
	if _, err := s.delete(t, request); !errs.Is(err, codes.NotFound) {
		t.Errorf("again: %v", err)
	}
	// The look in another region leaves no record of what is not there.
	if _, err := s.GetDeployment(t.Context(), &deployerv1.GetDeploymentRequest{Name: deployment.GetName()}); !errs.Is(errs.FromStatus(err), codes.NotFound) {
		t.Errorf("a record is left: %v", err)
	}
}

func TestDeploymentWithNothingButARoleIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	w.memory.Add("old", driver.Resource{Type: "role", ID: "sebs-lambda-role-old"})
	found, err := s.FindDeployments(t.Context(), &deployerv1.FindDeploymentsRequest{Parent: cloud, Region: "eu-north-1"})
	if err != nil || !slices.Equal(found.GetRecorded(), []string{"old"}) || found.GetDeployments()[0].GetRegion() != "eu-north-1" {
		t.Fatalf("found %v (%v)", found, err)
	}
	deleted, err := s.delete(t, &deployerv1.DeleteDeploymentRequest{Name: cloud + "/deployments/old"})
	if err != nil || fmt.Sprint(deleted) != "map[role:[sebs-lambda-role-old]]" {
		t.Errorf("deleted %v (%v)", deleted, err)
	}
	if _, err := s.delete(t, &deployerv1.DeleteDeploymentRequest{Name: cloud + "/deployments/old", Region: "us-east-1"}); !errs.Is(err, codes.NotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestRegionOfTheRecordStands(t *testing.T) {
	t.Parallel()
	s := newWorld(t).deployer(t)
	if _, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: "mine", Region: "eu-north-1"}); err != nil {
		t.Fatal(err)
	}
	_, err := s.delete(t, &deployerv1.DeleteDeploymentRequest{Name: cloud + "/deployments/mine", Region: "us-east-1"})
	if errs.Reason(err) != "REGION_MISMATCH" {
		t.Errorf("%v", err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	pkg := w.builder.add("aaaa", onCloud)
	for id, ttl := range map[string]time.Duration{"old": time.Hour, "young": time.Hour, "lasting": 0} {
		req := &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: id}
		if ttl > 0 {
			req.Ttl = durationpb.New(ttl)
		}
		made, err := s.CreateDeployment(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if id == "old" {
			made.ExpireTime = timestamppb.New(time.Now().Add(-time.Minute))
			mask := &fieldmaskpb.FieldMask{Paths: []string{"expire_time"}}
			if _, err := s.UpdateDeployment(t.Context(), &deployerv1.UpdateDeploymentRequest{Deployment: made, UpdateMask: mask}); err != nil {
				t.Fatal(err)
			}
		}
		s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: made.GetName(), Package: pkg})
	}
	// The times are known by the functions' labels when the records are gone.
	s.lose(t)
	expire := func(dry bool) *deployerv1.ExpireDeploymentsResponse {
		t.Helper()
		answer := &deployerv1.ExpireDeploymentsResponse{}
		op, err := s.ExpireDeployments(t.Context(), &deployerv1.ExpireDeploymentsRequest{Parent: cloud, DryRun: dry})
		if err := s.wait(t.Context(), op, err, answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	planned := expire(true)
	if len(planned.GetDeployments()) != 1 || rid(planned.GetDeployments()[0].GetDeployment()) != "old" || len(planned.GetDeployments()[0].GetDeleted()["functions"].GetResources()) != 1 {
		t.Fatalf("planned %v", planned)
	}
	w.memory.Before = func(_ context.Context, call string) error {
		if call == "DeleteFunction" {
			return &faastest.FaultError{Fault: driver.Fault{Code: codes.PermissionDenied}, Message: "not allowed"}
		}
		return nil
	}
	if refused := expire(false); !strings.Contains(refused.GetDeployments()[0].GetProblem(), "not allowed") {
		t.Errorf("refused %v", refused)
	}
	w.memory.Before = nil
	// What could be deleted the first time is gone.
	w.storage.mu.Lock()
	w.storage.buckets["sebs-benchmarks-old"] = true
	w.storage.mu.Unlock()
	if done := expire(false); !proto.Equal(done, planned) {
		t.Errorf("done %v, planned %v", done, planned)
	}
	if again := expire(false); len(again.GetDeployments()) != 0 {
		t.Errorf("again %v", again)
	}
	left, err := s.ListDeployments(t.Context(), &deployerv1.ListDeploymentsRequest{Parent: cloud})
	if err != nil || len(left.GetDeployments()) != 2 {
		t.Errorf("left %v (%v)", left, err)
	}
}

func TestPlanChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	request := &deployerv1.PlanDeploymentRequest{
		Deployment: &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: "mine", Settings: map[string]string{"use-function-url": "false"}},
		Functions: []*deployerv1.PlannedFunction{{
			Benchmark: "010.sleep", UsesTables: true,
			Config: &typev1.FunctionConfig{
				MemoryMb: 256, TimeoutSeconds: 60, Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.12"},
				Architecture: typev1.Architecture_ARCHITECTURE_X64,
			},
			Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP, typev1.TriggerType_TRIGGER_TYPE_LIBRARY},
		}},
	}
	const function = "sebs_mine_010_python_3_12_x64"
	plan := func() string {
		t.Helper()
		answer, err := s.PlanDeployment(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, r := range answer.GetResources() {
			lines = append(lines, strings.ToLower(strings.TrimPrefix(r.GetAction().String(), "ACTION_"))+" "+r.GetType()+" "+r.GetName())
		}
		return strings.Join(lines, "\n")
	}
	want := strings.Join([]string{
		"create bucket sebs-benchmarks-mine", "create role sebs-lambda-role-mine", "create log-group /aws/lambda/" + function,
		"create tables sebs-benchmarks-mine-010.sleep-*", "create function " + function, "create trigger " + function + "/http",
	}, "\n")
	for range 2 {
		if got := plan(); got != want {
			t.Fatalf("the plan is\n%s\nwant\n%s", got, want)
		}
	}
	for _, call := range []string{"CreateFunction", "CreateTrigger", "UpdateConfiguration", "UpdateCode"} {
		if n := w.memory.Count(call); n != 0 {
			t.Errorf("%d times %s", n, call)
		}
	}
	if len(w.storage.buckets) != 0 {
		t.Errorf("buckets %v", w.storage.buckets)
	}
	if err := s.store.List(t.Context(), "deployments/", func(key string, _ int64, _ []byte) error {
		t.Errorf("%s was recorded", key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateDeployment(t.Context(), request.GetDeployment())
	if err != nil {
		t.Fatal(err)
	}
	s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
		Parent: made.GetName(), Package: w.builder.add("aaaa", onCloud), Config: &typev1.FunctionConfig{MemoryMb: 256, TimeoutSeconds: 60},
		Triggers: request.GetFunctions()[0].GetTriggers(),
	})
	w.memory.Add("mine", driver.Resource{Type: "role", ID: "arn:aws:iam::123456789012:role/sebs-lambda-role-mine"})
	request.Functions[0].Config.MemoryMb, request.Functions[0].UsesTables = 512, false
	want = strings.Join([]string{
		"keep bucket sebs-benchmarks-mine", "keep role sebs-lambda-role-mine", "create log-group /aws/lambda/" + function,
		"update function " + function, "keep trigger " + function + "/http",
	}, "\n")
	if got := plan(); got != want {
		t.Errorf("the plan is\n%s\nwant\n%s", got, want)
	}
}

// TestFiftyFunctionsAtOnce deploys fifty functions on a platform that takes them all at the same time, which shows that
// no lock is held while the platform works, and then throttles.
func TestFiftyFunctionsAtOnce(t *testing.T) {
	t.Parallel()
	const many = 50
	w := newWorld(t)
	w.retry = faas.RetryPolicy{Base: time.Millisecond, Max: 20 * time.Millisecond}
	services := []*service{w.deployer(t), w.deployer(t)}
	parent, pkg := services[0].deployment(t).GetName(), w.builder.add("aaaa")
	var (
		arrived   atomic.Int64
		throttled atomic.Int64
		together  = make(chan struct{})
	)
	w.memory.Before = func(ctx context.Context, call string) error {
		switch n := arrived.Load(); {
		case call == "CreateFunction" && n < many:
			if arrived.Add(1) == many {
				close(together)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-together:
			}
			throttled.Add(1)
			return &faastest.FaultError{Fault: driver.Fault{Code: codes.ResourceExhausted, Retry: true}, Message: "slow down"}
		case n == many && (call == "CreateFunction" || call == "CreateTrigger") && throttled.Add(1)%10 != 0:
			// Of ten calls one is taken.
			return &faastest.FaultError{Fault: driver.Fault{Code: codes.ResourceExhausted, Retry: true}, Message: "slow down"}
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			answer, err := services[i%2].ensure(ctx, &deployerv1.EnsureFunctionRequest{
				Parent: parent, Package: pkg, FunctionId: fmt.Sprintf("f%d", i), Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
			})
			if err != nil || answer.GetOutcome() != created || len(answer.GetFunction().GetTriggers()) != 1 {
				t.Errorf("function %d: %v (%v)", i, answer, err)
			}
		})
	}
	all.Wait()
	if n := w.memory.Count("CreateFunction"); n != many {
		t.Errorf("%d functions", n)
	}
	if n := throttled.Load(); n < 5*many {
		t.Errorf("only %d calls were throttled", n)
	}
}
