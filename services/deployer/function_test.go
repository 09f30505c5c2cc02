package deployer_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Outcomes of a get-function call.
const (
	created       = deployerv1.EnsureFunctionResponse_OUTCOME_CREATED
	codeUpdated   = deployerv1.EnsureFunctionResponse_OUTCOME_CODE_UPDATED
	configUpdated = deployerv1.EnsureFunctionResponse_OUTCOME_CONFIG_UPDATED
	cached        = deployerv1.EnsureFunctionResponse_OUTCOME_CACHED
)

func TestGetFunctionFlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	first, second := w.builder.add("aaaa"), w.builder.add("bbbb")
	request := func(pkg string, memory int32) *deployerv1.EnsureFunctionRequest {
		return &deployerv1.EnsureFunctionRequest{
			Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{MemoryMb: memory},
			Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP, typev1.TriggerType_TRIGGER_TYPE_LIBRARY},
		}
	}
	for _, step := range []struct {
		name     string
		req      *deployerv1.EnsureFunctionRequest
		before   func(id string)
		outcome  deployerv1.EnsureFunctionResponse_Outcome
		old, new string
		repaired bool
	}{
		{"new", request(first, 0), nil, created, "", "aaaa", false},
		{"again", request(first, 0), nil, cached, "aaaa", "aaaa", false},
		{"memory", request(first, 256), nil, configUpdated, "aaaa", "aaaa", false},
		{"code", request(second, 256), nil, codeUpdated, "aaaa", "bbbb", false},
		{"code and memory", request(first, 512), nil, codeUpdated, "bbbb", "aaaa", false},
		{"gone from the platform", request(first, 512), w.memory.Forget, created, "", "aaaa", true},
		{"after the repair", request(first, 512), nil, cached, "aaaa", "aaaa", false},
		{"back to the benchmark's memory", request(first, 0), nil, configUpdated, "aaaa", "aaaa", false},
	} {
		if step.before != nil {
			step.before("sebs-" + rid(parent) + "-010.sleep-python-3.12-x64")
		}
		got := s.mustEnsure(t, step.req)
		if got.GetOutcome() != step.outcome || got.GetOldHash() != step.old || got.GetNewHash() != step.new || got.GetRepaired() != step.repaired {
			t.Errorf("%s: %s, hash %q to %q, repaired %v", step.name, got.GetOutcome(), got.GetOldHash(), got.GetNewHash(), got.GetRepaired())
		}
		if got.GetFunction().GetUpdatedCode() != (step.outcome == codeUpdated) {
			t.Errorf("%s: updated_code is %v", step.name, got.GetFunction().GetUpdatedCode())
		}
		triggers := got.GetFunction().GetTriggers()
		if len(triggers) != 2 || !strings.HasPrefix(triggers[0].GetUrl(), "http://") {
			t.Errorf("%s: triggers %v", step.name, triggers)
		}
	}
	if n := w.memory.Count("CreateFunction"); n != 2 {
		t.Errorf("%d creations, want 2", n)
	}
	if got := []int{w.heard.count("deployer.function_created"), w.heard.count("deployer.function_updated")}; !slices.Equal(got, []int{2, 4}) {
		t.Errorf("events created and updated: %v", got)
	}
	forced := request(first, 0)
	forced.ForceCodeUpdate = true
	if got := s.mustEnsure(t, forced); got.GetOutcome() != codeUpdated {
		t.Errorf("forced: %s", got.GetOutcome())
	}
}

func TestTwentyCallsOnTwoDeployersCreateOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	services := []*service{w.deployer(t), w.deployer(t)}
	w.memory.PendingPolls = 3
	req := &deployerv1.EnsureFunctionRequest{
		Parent: services[0].deployment(t).GetName(), Package: w.builder.add("aaaa"),
		Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
	}
	answers := make([]*deployerv1.EnsureFunctionResponse, 20)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answer, err := services[i%2].ensure(t.Context(), proto.CloneOf(req))
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			answers[i] = answer
		})
	}
	all.Wait()
	count := 0
	for _, answer := range answers {
		switch answer.GetOutcome() {
		case created:
			count++
		case cached:
		default:
			t.Errorf("a call answered %s", answer.GetOutcome())
		}
	}
	if n := w.memory.Count("CreateFunction"); n != 1 || count != 1 {
		t.Errorf("%d creations, %d calls answered CREATED, want one", n, count)
	}
}

func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	pkg := w.builder.add("aaaa", func(p *builderv1.Package) { p.Modules = []string{"storage"} })
	req := &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{Environment: map[string]string{"MODE": "fast"}}}
	got := s.mustEnsure(t, req)
	name := rid(got.GetFunction().GetName())
	actual, err := w.memory.GetFunction(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if actual.Config.Environment["MINIO_SECRET_KEY"] != "top-secret-value" || !slices.Equal(actual.Config.Secrets, []string{"MINIO_SECRET_KEY"}) {
		t.Errorf("the function has %v, secret %v", actual.Config.Environment, actual.Config.Secrets)
	}
	if _, ok := got.GetFunction().GetConfig().GetEnvironment()["MINIO_SECRET_KEY"]; ok || !slices.Equal(got.GetFunction().GetSecretEnvironment(), []string{"MINIO_SECRET_KEY"}) {
		t.Errorf("the record has %v and the names %v", got.GetFunction().GetConfig().GetEnvironment(), got.GetFunction().GetSecretEnvironment())
	}
	if got := s.mustEnsure(t, req); got.GetOutcome() != cached {
		t.Errorf("again: %s", got.GetOutcome())
	}
	// A new secret reaches the function.
	w.storage.mu.Lock()
	w.storage.secret = "another-secret-value"
	w.storage.mu.Unlock()
	if got := s.mustEnsure(t, req); got.GetOutcome() != configUpdated {
		t.Errorf("after the secret changed: %s", got.GetOutcome())
	}
	err = s.store.List(t.Context(), "", func(key string, _ int64, raw []byte) error {
		if strings.Contains(string(raw), "secret-value") {
			t.Errorf("%s holds a secret", key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range w.heard.events {
		if strings.Contains(event, "secret-value") {
			t.Errorf("event %s holds a secret", event)
		}
	}
}

func TestColdStartKeepsTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	pkg := w.builder.add("aaaa", func(p *builderv1.Package) { p.Modules = []string{"storage"} })
	req := &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{Environment: map[string]string{"MODE": "fast"}}}
	first := s.mustEnsure(t, req).GetFunction().GetName()
	other := proto.CloneOf(req)
	other.FunctionId = "second"
	second := s.mustEnsure(t, other).GetFunction().GetName()
	missing := parent + "/functions/missing"
	for want := int64(1); want <= 2; want++ {
		cold, err := s.EnforceColdStart(t.Context(), &deployerv1.EnforceColdStartRequest{Parent: parent, Functions: []string{first, second, missing}})
		if err != nil {
			t.Fatal(err)
		}
		if cold.GetCounter() != want || len(cold.GetFailures()) != 1 || !strings.Contains(cold.GetFailures()[missing], "does not exist") {
			t.Errorf("counter %d, failures %v", cold.GetCounter(), cold.GetFailures())
		}
	}
	for _, name := range []string{first, second} {
		actual, err := w.memory.GetFunction(t.Context(), rid(name))
		if err != nil {
			t.Fatal(err)
		}
		env := actual.Config.Environment
		if env["cold_start"] != "2" || env["ForceColdStart"] != "2" || env["MODE"] != "fast" || env["MINIO_SECRET_KEY"] != "top-secret-value" {
			t.Errorf("%s has %v", name, env)
		}
	}
	if got := s.mustEnsure(t, req); got.GetOutcome() != cached {
		t.Errorf("after cold starts: %s", got.GetOutcome())
	}
	if n := w.heard.count("deployer.cold_start_enforced"); n != 2 {
		t.Errorf("%d events", n)
	}
	// A counter that starts again does not repeat a value that a function has.
	if err := s.store.Delete(t.Context(), "counters/local/"+rid(parent)+"/cold_start"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 3} {
		cold, err := s.EnforceColdStart(t.Context(), &deployerv1.EnforceColdStartRequest{Parent: parent, Functions: []string{first}})
		if err != nil || cold.GetCounter() != want {
			t.Errorf("counter %d, want %d (%v)", cold.GetCounter(), want, err)
		}
		if want == 1 {
			// The counter went to 1; now the function is made to hold what comes next.
			if _, err := s.EnforceColdStart(t.Context(), &deployerv1.EnforceColdStartRequest{Parent: parent, Functions: []string{first}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestUpdateFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	fn := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
		Parent: parent, Package: w.builder.add("aaaa"), Config: &typev1.FunctionConfig{Environment: map[string]string{"MODE": "fast"}},
	}).GetFunction()
	update := func(fn *typev1.Function, paths ...string) (*typev1.Function, error) {
		out := &typev1.Function{}
		op, err := s.UpdateFunction(t.Context(), &deployerv1.UpdateFunctionRequest{Function: fn, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		return out, s.wait(t.Context(), op, err, out)
	}
	got, err := update(&typev1.Function{Name: fn.GetName(), Config: &typev1.FunctionConfig{MemoryMb: 1024, TimeoutSeconds: 5}}, "config.memory_mb")
	if err != nil || got.GetConfig().GetMemoryMb() != 1024 || got.GetConfig().GetTimeoutSeconds() != 120 || got.GetConfig().GetEnvironment()["MODE"] != "fast" {
		t.Errorf("memory: %v (%v)", got.GetConfig(), err)
	}
	got, err = update(&typev1.Function{Name: fn.GetName(), Package: w.builder.add("bbbb")}, "package")
	if err != nil || got.GetCodeHash() != "bbbb" || got.GetConfig().GetMemoryMb() != 1024 || !got.GetUpdatedCode() {
		t.Errorf("package: %v (%v)", got, err)
	}
	_, err = update(&typev1.Function{Name: fn.GetName(), Etag: fn.GetEtag(), Config: &typev1.FunctionConfig{MemoryMb: 64}}, "config.memory_mb")
	if fn.GetEtag() == "" || !errs.Is(errs.FromStatus(err), codes.Aborted) {
		t.Errorf("old etag %q: %v", fn.GetEtag(), err)
	}
	other := w.builder.add("cccc", func(p *builderv1.Package) { p.Benchmark = "110.dynamic-html" })
	if _, err = update(&typev1.Function{Name: fn.GetName(), Package: other}, "package"); !errs.Is(errs.FromStatus(err), codes.InvalidArgument) {
		t.Errorf("a package of another benchmark: %v", err)
	}
	if _, err = update(&typev1.Function{Name: fn.GetName()}, "benchmark"); !errs.Is(errs.FromStatus(err), codes.InvalidArgument) {
		t.Errorf("a field that cannot be changed: %v", err)
	}
	if _, err = update(&typev1.Function{Name: fn.GetName(), Config: &typev1.FunctionConfig{MemoryMb: 20000}}, "config.memory_mb"); !errs.Is(errs.FromStatus(err), codes.InvalidArgument) {
		t.Errorf("too much memory: %v", err)
	}
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: s.deployment(t).GetName(), Package: w.builder.add("aaaa")}).GetFunction().GetName()
	for _, name := range []string{"HTTP", "Library", "storage", "http"} {
		trigger, err := s.CreateTrigger(t.Context(), &deployerv1.CreateTriggerRequest{Parent: parent, TypeName: name})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if trigger.GetName() != parent+"/triggers/"+strings.ToLower(name) {
			t.Errorf("%s: name %s", name, trigger.GetName())
		}
		if name == "storage" {
			a := trigger.GetAttributes()
			if a["bucket"] != "sebs-benchmarks-"+strings.Split(parent, "/")[3] || !strings.HasPrefix(a["prefix"], "events/") || a["results_prefix"] != "results/" {
				t.Errorf("storage trigger %v", a)
			}
		}
	}
	if _, err := s.CreateTrigger(t.Context(), &deployerv1.CreateTriggerRequest{Parent: parent, TypeName: "queue"}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("unknown type: %v", err)
	}
	// A function that an object calls gets the store's account with the trigger.
	actual, err := w.memory.GetFunction(t.Context(), rid(parent))
	if err != nil || actual.Config.Environment["MINIO_SECRET_KEY"] != "top-secret-value" {
		t.Errorf("the environment is %v (%v)", actual.Config.Environment, err)
	}
	list := func(kind typev1.TriggerType) int {
		answer, err := s.ListTriggers(t.Context(), &deployerv1.ListTriggersRequest{Parent: parent, Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		return len(answer.GetTriggers())
	}
	if all, http := list(0), list(typev1.TriggerType_TRIGGER_TYPE_HTTP); all != 3 || http != 1 {
		t.Errorf("%d triggers, %d of them HTTP", all, http)
	}
	name := parent + "/triggers/HTTP"
	if _, err := s.DeleteTrigger(t.Context(), &deployerv1.DeleteTriggerRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteTrigger(t.Context(), &deployerv1.DeleteTriggerRequest{Name: name}); !errs.Is(err, codes.NotFound) {
		t.Errorf("delete again: %v", err)
	}
	if n := list(0); n != 2 {
		t.Errorf("%d triggers left", n)
	}
	// A repaired function gets its triggers back.
	w.memory.Forget(rid(parent))
	again := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: strings.Split(parent, "/functions/")[0], Package: "packages/aaaa"})
	if !again.GetRepaired() || len(again.GetFunction().GetTriggers()) != 2 {
		t.Errorf("repaired %v with triggers %v", again.GetRepaired(), again.GetFunction().GetTriggers())
	}
}

func TestAdoption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	legacy := "sebs-" + rid(parent) + "-010.sleep-python-3.12"
	_, err := w.memory.CreateFunction(t.Context(), driver.FunctionSpec{
		Name: legacy, Deployment: rid(parent), Benchmark: "010.sleep",
		Config: driver.Config{Runtime: driver.Runtime{Language: "python", Version: "3.12"}, Architecture: "x64", MemoryMB: 128},
		Code:   driver.Code{Digest: "md5-of-another-tool"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: parent, Package: w.builder.add("aaaa")})
	if rid(got.GetFunction().GetName()) != legacy || !got.GetFunction().GetAdopted() || got.GetOutcome() != codeUpdated || got.GetOldHash() != "md5-of-another-tool" {
		t.Errorf("%v", got)
	}
	// The same name with another architecture is another function.
	arm := w.builder.add("arm", func(p *builderv1.Package) { p.Architecture = typev1.Architecture_ARCHITECTURE_ARM64 })
	got = s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: parent, Package: arm})
	if rid(got.GetFunction().GetName()) != legacy+"-arm64" || got.GetOutcome() != created {
		t.Errorf("%v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent := s.deployment(t).GetName()
	pkg := w.builder.add("aaaa")
	gone := w.builder.add("gone")
	aws := w.builder.add("aws", func(p *builderv1.Package) { p.Platform = "aws" })
	for _, c := range []struct {
		name    string
		req     *deployerv1.EnsureFunctionRequest
		code    codes.Code
		reason  string
		message string
	}{
		{"unknown platform", &deployerv1.EnsureFunctionRequest{Parent: "platforms/ibm/deployments/a", Package: pkg}, codes.InvalidArgument, "PLATFORM_UNKNOWN", "aws, azure, gcp, local, openwhisk"},
		{"platform without driver", &deployerv1.EnsureFunctionRequest{Parent: "platforms/gcp/deployments/a", Package: pkg}, codes.Unimplemented, "PLATFORM_NOT_AVAILABLE", "gcp"},
		{"unknown deployment", &deployerv1.EnsureFunctionRequest{Parent: "platforms/local/deployments/nope", Package: pkg}, codes.NotFound, "DEPLOYMENT_NOT_FOUND", "nope"},
		{"bad parent", &deployerv1.EnsureFunctionRequest{Parent: "platforms/local/deployments/../x", Package: pkg}, codes.InvalidArgument, "INVALID_FIELDS", "must have the form"},
		{"unknown package", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: "packages/ffff"}, codes.NotFound, "PACKAGE_NOT_FOUND", "ffff"},
		{"package of another platform", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: aws}, codes.InvalidArgument, "INVALID_FIELDS", "built for platform aws"},
		{"archive gone", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: gone, FunctionId: "g"}, codes.FailedPrecondition, "PACKAGE_ARCHIVE_MISSING", "build the package again"},
		{"other runtime", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{
			Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.11"}}}, codes.InvalidArgument, "INVALID_FIELDS", "built for python 3.12"},
		{"reserved variable", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{
			Environment: map[string]string{"cold_start": "1"}}}, codes.InvalidArgument, "INVALID_FIELDS", "belongs to cold-start enforcement"},
		{"container", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{
			SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER}}, codes.Unimplemented, "NOT_SUPPORTED_BY_PLATFORM", "archives only"},
		{"name too long", &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg, FunctionId: strings.Repeat("x", 130)}, codes.InvalidArgument, "INVALID_FIELDS", "the platform allows 128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := s.ensure(t.Context(), c.req)
			err = errs.FromStatus(err)
			if !errs.Is(err, c.code) || errs.Reason(err) != c.reason || !strings.Contains(err.Error(), c.message) {
				t.Errorf("code %s, reason %s: %v", errs.Code(err), errs.Reason(err), err)
			}
		})
	}
	t.Cleanup(func() {
		if n := w.memory.Count("CreateFunction"); n != 0 {
			t.Errorf("%d functions were created by refused requests", n)
		}
	})
}

func TestOtherAccountIsRefusedBeforeAnyChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	parent := w.deployer(t).deployment(t).GetName()
	pkg := w.builder.add("aaaa")
	w.memory.Account = "somebody-else"
	s := w.deployer(t)
	calls := map[string]func(ctx context.Context) error{
		"ensure": func(ctx context.Context) error {
			_, err := s.ensure(ctx, &deployerv1.EnsureFunctionRequest{Parent: parent, Package: pkg})
			return err
		},
		"delete deployment": func(ctx context.Context) error {
			op, err := s.DeleteDeployment(ctx, &deployerv1.DeleteDeploymentRequest{Name: parent})
			return s.wait(ctx, op, err, &deployerv1.DeleteDeploymentResponse{})
		},
		"create deployment": func(ctx context.Context) error {
			_, err := s.CreateDeployment(ctx, &deployerv1.CreateDeploymentRequest{Parent: "platforms/local", ResourcesId: rid(parent)})
			return err
		},
		"cold start": func(ctx context.Context) error {
			_, err := s.EnforceColdStart(ctx, &deployerv1.EnforceColdStartRequest{Parent: parent, Functions: []string{parent + "/functions/f"}})
			return err
		},
		"cleanup": func(ctx context.Context) error {
			_, err := s.CleanupFunctions(ctx, &deployerv1.CleanupFunctionsRequest{Parent: parent})
			return err
		},
	}
	for name, call := range calls {
		err := errs.FromStatus(call(t.Context()))
		if !errs.Is(err, codes.FailedPrecondition) || errs.Reason(err) != "ACCOUNT_MISMATCH" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, call := range []string{"CreateFunction", "UpdateConfiguration", "DeleteFunction"} {
		if n := w.memory.Count(call); n != 0 {
			t.Errorf("%d calls of %s", n, call)
		}
	}
}

func TestAnotherDeployerTakesUpWhatOneLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.deployer(t), w.deployer(t)
	parent := first.deployment(t).GetName()
	reached := make(chan struct{})
	var once sync.Once
	w.memory.Before = func(ctx context.Context, call string) error {
		if call != "CreateFunction" {
			return nil
		}
		hold := false
		once.Do(func() { hold = true })
		if !hold {
			return nil
		}
		close(reached)
		<-ctx.Done()
		return ctx.Err()
	}
	op, err := first.EnsureFunction(t.Context(), &deployerv1.EnsureFunctionRequest{Parent: parent, Package: w.builder.add("aaaa")})
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	first.stop()
	answer := &deployerv1.EnsureFunctionResponse{}
	if err := second.wait(t.Context(), op, nil, answer); err != nil || answer.GetOutcome() != created {
		t.Errorf("%v (%v)", answer, err)
	}
	if n := w.memory.Count("CreateFunction"); n != 1 {
		t.Errorf("%d creations", n)
	}
}

func TestTheSameRequestIsTheSameOperation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	req := &deployerv1.EnsureFunctionRequest{Parent: s.deployment(t).GetName(), Package: w.builder.add("aaaa"), RequestId: "0b6f3f5e-6a3c-4d69-9d57-0d2f3a1f6a11"}
	first, err := s.EnsureFunction(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.EnsureFunction(t.Context(), req)
	if err != nil || first.GetName() != second.GetName() {
		t.Errorf("operations %s and %s (%v)", first.GetName(), second.GetName(), err)
	}
	if err := s.wait(t.Context(), second, nil, &deployerv1.EnsureFunctionResponse{}); err != nil {
		t.Error(err)
	}
}
