package deployer_test

import (
	"regexp"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

func TestCreateDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	create := func(req *deployerv1.CreateDeploymentRequest) *typev1.Deployment {
		t.Helper()
		req.Parent = "platforms/local"
		made, err := s.CreateDeployment(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	first := create(&deployerv1.CreateDeploymentRequest{})
	id := first.GetResourcesId()
	if !regexp.MustCompile(`^local-[0-9a-f]{8}$`).MatchString(id) || first.GetAccount() != "memory" {
		t.Errorf("made %v", first)
	}
	if len(first.GetBuckets()) != 1 || first.GetBuckets()[0].GetBucket() != "sebs-benchmarks-"+id {
		t.Errorf("buckets %v", first.GetBuckets())
	}
	if again := create(&deployerv1.CreateDeploymentRequest{}); again.GetResourcesId() != id {
		t.Errorf("again: %s, want %s", again.GetResourcesId(), id)
	}
	team := create(&deployerv1.CreateDeploymentRequest{ResourcePrefix: "team"}).GetResourcesId()
	if !regexp.MustCompile(`^team-[0-9a-f]{8}$`).MatchString(team) {
		t.Errorf("with a prefix: %s", team)
	}
	if again := create(&deployerv1.CreateDeploymentRequest{ResourcePrefix: "team"}).GetResourcesId(); again != team {
		t.Errorf("with the prefix again: %s, want %s", again, team)
	}
	fresh := create(&deployerv1.CreateDeploymentRequest{AlwaysNew: true, RequestId: "r1"}).GetResourcesId()
	if fresh == id || fresh != create(&deployerv1.CreateDeploymentRequest{AlwaysNew: true, RequestId: "r1"}).GetResourcesId() {
		t.Errorf("always new with a request id: %s", fresh)
	}
	if given := create(&deployerv1.CreateDeploymentRequest{ResourcesId: "mine"}).GetResourcesId(); given != "mine" {
		t.Errorf("given id: %s", given)
	}
	// One that only its bucket shows is reused for its prefix.
	w.storage.mu.Lock()
	w.storage.buckets["sebs-benchmarks-old-00ff00ff"] = true
	w.storage.mu.Unlock()
	if found := create(&deployerv1.CreateDeploymentRequest{ResourcePrefix: "old"}).GetResourcesId(); found != "old-00ff00ff" {
		t.Errorf("found by bucket: %s", found)
	}
	list, err := s.ListDeployments(t.Context(), &deployerv1.ListDeploymentsRequest{Parent: "platforms/-", PageSize: 3})
	if err != nil || len(list.GetDeployments()) != 3 || list.GetNextPageToken() == "" {
		t.Fatalf("listed %v (%v)", list, err)
	}
	rest, err := s.ListDeployments(t.Context(), &deployerv1.ListDeploymentsRequest{Parent: "platforms/-", PageToken: list.GetNextPageToken()})
	if err != nil || len(rest.GetDeployments()) != 2 || rest.GetNextPageToken() != "" {
		t.Errorf("the rest is %v (%v)", rest, err)
	}
	if _, err := s.ListDeployments(t.Context(), &deployerv1.ListDeploymentsRequest{Parent: "platforms/local", PageToken: list.GetNextPageToken()}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("a token of another listing: %v", err)
	}
}

func TestCreateDeploymentAtOnceAndFailing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	services := []*service{w.deployer(t), w.deployer(t)}
	w.storage.ensureFails = errs.ToStatus(errs.Unavailable("STORE_DOWN", "the store is away")).Err()
	_, err := services[0].CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: "platforms/local"})
	if !errs.Is(err, codes.Unavailable) {
		t.Errorf("without a store: %v", err)
	}
	list, err := services[0].ListDeployments(t.Context(), &deployerv1.ListDeploymentsRequest{Parent: "platforms/local"})
	if err != nil || len(list.GetDeployments()) != 0 {
		t.Errorf("a failed creation left %v (%v)", list, err)
	}
	w.storage.ensureFails = nil
	ids := make([]string, 10)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			made, err := services[i%2].CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: "platforms/local"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = made.GetResourcesId()
		})
	}
	all.Wait()
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		t.Errorf("calls at once made %v", ids)
	}
}

func TestBucketRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	name := s.deployment(t).GetName()
	const role = typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS
	get, err := s.GetStorageBucket(t.Context(), &deployerv1.GetStorageBucketRequest{Deployment: name, Role: role})
	if err != nil || get.Bucket != nil || get.GetStandardName() != "sebs-experiments-"+rid(name) {
		t.Errorf("unset: %v (%v)", get, err)
	}
	if _, err := s.SetStorageBucket(t.Context(), &deployerv1.SetStorageBucketRequest{Deployment: name, Role: role, Bucket: "my-bucket"}); err != nil {
		t.Fatal(err)
	}
	get, err = s.GetStorageBucket(t.Context(), &deployerv1.GetStorageBucketRequest{Deployment: name, Role: role})
	if err != nil || get.Bucket == nil || get.GetBucket() != "my-bucket" {
		t.Errorf("set: %v (%v)", get, err)
	}
	list, err := s.ListStorageBuckets(t.Context(), &deployerv1.ListStorageBucketsRequest{Deployment: name})
	if err != nil || len(list.GetBuckets()) != 2 {
		t.Errorf("listed %v (%v)", list, err)
	}
	// my-bucket does not exist; the other one does and stays.
	dropped, err := s.ReconcileBuckets(t.Context(), &deployerv1.ReconcileBucketsRequest{Deployment: name})
	if err != nil || len(dropped.GetDropped()) != 1 || dropped.GetDropped()[0].GetBucket() != "my-bucket" {
		t.Errorf("dropped %v (%v)", dropped, err)
	}
	list, err = s.ListStorageBuckets(t.Context(), &deployerv1.ListStorageBucketsRequest{Deployment: name})
	if err != nil || len(list.GetBuckets()) != 1 || len(w.storage.buckets) != 1 {
		t.Errorf("left %v, in the store %v (%v)", list, w.storage.buckets, err)
	}
}

func TestDeleteDeploymentAsListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	name := s.deployment(t).GetName()
	w.storage.tables = []string{"sebs-benchmarks-x-130.crud-api-cart"}
	s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
		Parent: name, Package: w.builder.add("aaaa"), Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
	})
	remove := func(dryRun bool) (*deployerv1.DeleteDeploymentResponse, error) {
		answer := &deployerv1.DeleteDeploymentResponse{}
		op, err := s.DeleteDeployment(t.Context(), &deployerv1.DeleteDeploymentRequest{Name: name, DryRun: dryRun})
		return answer, s.wait(t.Context(), op, err, answer)
	}
	planned, err := remove(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"functions", "triggers", "buckets", "tables"} {
		if len(planned.GetDeleted()[kind].GetResources()) != 1 {
			t.Errorf("planned %s: %v", kind, planned.GetDeleted()[kind])
		}
	}
	if w.memory.Count("DeleteFunction") != 0 || len(w.storage.buckets) != 1 || len(w.storage.tables) != 1 {
		t.Error("a dry run deleted something")
	}
	done, err := remove(false)
	if err != nil || !proto.Equal(planned, done) {
		t.Errorf("planned %v, done %v (%v)", planned, done, err)
	}
	if w.memory.Count("DeleteFunction") != 1 || len(w.storage.buckets) != 0 || len(w.storage.tables) != 0 {
		t.Error("something is left")
	}
	if _, err := remove(false); !errs.Is(errs.FromStatus(err), codes.NotFound) {
		t.Errorf("delete again: %v", err)
	}
	functions, err := s.ListFunctions(t.Context(), &deployerv1.ListFunctionsRequest{Parent: "platforms/local/deployments/-"})
	if err != nil || len(functions.GetFunctions()) != 0 {
		t.Errorf("records left: %v (%v)", functions, err)
	}
}

func TestAfterTheStateWasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	name := s.deployment(t).GetName()
	pkg := w.builder.add("aaaa")
	req := &deployerv1.EnsureFunctionRequest{Parent: name, Package: pkg}
	fn := s.mustEnsure(t, req).GetFunction().GetName()
	lose := func() {
		t.Helper()
		for _, prefix := range []string{"deployments/", "functions/"} {
			if _, err := s.store.DeletePrefix(t.Context(), prefix); err != nil {
				t.Fatal(err)
			}
		}
	}
	lose()
	found, err := s.FindDeployments(t.Context(), &deployerv1.FindDeploymentsRequest{Parent: "platforms/local"})
	if err != nil || !slices.Equal(found.GetRecorded(), []string{rid(name)}) || found.GetRecordedFunctions() != 1 {
		t.Fatalf("found %v (%v)", found, err)
	}
	if _, err := s.GetFunction(t.Context(), &deployerv1.GetFunctionRequest{Name: fn}); err != nil {
		t.Error(err)
	}
	again, err := s.FindDeployments(t.Context(), &deployerv1.FindDeploymentsRequest{Parent: "platforms/local"})
	if err != nil || len(again.GetRecorded()) != 0 || again.GetRecordedFunctions() != 0 || len(again.GetDeployments()) != 1 {
		t.Errorf("again: %v (%v)", again, err)
	}
	lose()
	// A call that needs the deployment records it again by itself.
	if got := s.mustEnsure(t, req); got.GetOutcome() != cached || w.memory.Count("CreateFunction") != 1 {
		t.Errorf("%v", got)
	}
	lose()
	answer := &deployerv1.DeleteDeploymentResponse{}
	op, err := s.DeleteDeployment(t.Context(), &deployerv1.DeleteDeploymentRequest{Name: name})
	if err := s.wait(t.Context(), op, err, answer); err != nil || len(answer.GetDeleted()["functions"].GetResources()) != 1 {
		t.Errorf("deleted %v (%v)", answer, err)
	}
}

func TestCleanupFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	name := s.deployment(t).GetName()
	pkg := w.builder.add("aaaa")
	for _, id := range []string{"b", "a", "c"} {
		s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: name, Package: pkg, FunctionId: id})
	}
	w.memory.Forget("c")
	planned, err := s.CleanupFunctions(t.Context(), &deployerv1.CleanupFunctionsRequest{Parent: name, DryRun: true})
	if err != nil || !slices.Equal(planned.GetFunctions(), []string{"a", "b", "c"}) {
		t.Errorf("planned %v (%v)", planned, err)
	}
	done, err := s.CleanupFunctions(t.Context(), &deployerv1.CleanupFunctionsRequest{Parent: name})
	if err != nil || !proto.Equal(planned, done) || w.memory.Count("DeleteFunction") != 2 {
		t.Errorf("done %v (%v)", done, err)
	}
	if n := w.heard.count("deployer.function_deleted"); n != 3 {
		t.Errorf("%d events", n)
	}
	if _, err := s.GetDeployment(t.Context(), &deployerv1.GetDeploymentRequest{Name: name}); err != nil {
		t.Errorf("the deployment is gone: %v", err)
	}
	if _, err := s.DeleteFunction(t.Context(), &deployerv1.DeleteFunctionRequest{Name: name + "/functions/a"}); !errs.Is(err, codes.NotFound) {
		t.Errorf("delete of nothing: %v", err)
	}
	if _, err := s.DeleteFunction(t.Context(), &deployerv1.DeleteFunctionRequest{Name: name + "/functions/a", AllowMissing: true}); err != nil {
		t.Errorf("delete of nothing, allowed: %v", err)
	}
}

func TestImportCacheOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	req := &deployerv1.ImportCacheRequest{
		Parent: "platforms/local", ResourcesId: "a1b2c3d4",
		Buckets: []*typev1.BucketBinding{{Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, Bucket: "sebs-benchmarks-a1b2c3d4"}},
		Functions: []*deployerv1.CachedFunction{{
			FunctionId: "sebd-010.sleep-python-3.12", Benchmark: "010.sleep", CodeHash: "0123",
			Config:             &typev1.FunctionConfig{MemoryMb: 128, Runtime: &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.12"}},
			PlatformAttributes: map[string]string{"instance_id": "abc", "connection_string": "hidden"},
			Triggers:           []*typev1.Trigger{{Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: "http://172.17.0.2:9000"}},
		}},
	}
	first, err := s.ImportCache(t.Context(), req)
	if err != nil || len(first.GetImported()) != 1 || len(first.GetKnown()) != 0 {
		t.Fatalf("%v (%v)", first, err)
	}
	second, err := s.ImportCache(t.Context(), req)
	if err != nil || len(second.GetImported()) != 0 || len(second.GetKnown()) != 1 {
		t.Errorf("again: %v (%v)", second, err)
	}
	fn, err := s.GetFunction(t.Context(), &deployerv1.GetFunctionRequest{Name: first.GetImported()[0]})
	if err != nil || !fn.GetAdopted() || fn.GetPlatformAttributes()["connection_string"] != "" || fn.GetPlatformAttributes()["instance_id"] != "abc" || len(fn.GetTriggers()) != 1 {
		t.Errorf("%v (%v)", fn, err)
	}
	// The platform does not have it: it is made again under its old name, trigger included.
	got := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: first.GetDeployment().GetName(), Package: w.builder.add("aaaa")})
	triggers := got.GetFunction().GetTriggers()
	if got.GetFunction().GetName() != fn.GetName() || got.GetOutcome() != created || !got.GetRepaired() || !got.GetFunction().GetAdopted() ||
		len(triggers) != 1 || triggers[0].GetUrl() == fn.GetTriggers()[0].GetUrl() {
		t.Errorf("%v", got)
	}
}

func TestPlatformsAndCredentials(t *testing.T) {
	t.Parallel()
	s := newWorld(t).deployer(t)
	answer, err := s.ListPlatforms(t.Context(), &deployerv1.ListPlatformsRequest{})
	if err != nil || len(answer.GetPlatforms()) != 5 {
		t.Fatalf("%v (%v)", answer, err)
	}
	for _, p := range answer.GetPlatforms() {
		if p.GetAvailable() != (p.GetName() == "platforms/local" || p.GetName() == cloud) || len(p.GetLimits()) == 0 {
			t.Errorf("%v", p)
		}
	}
	who, err := s.CheckCredentials(t.Context(), &deployerv1.CheckCredentialsRequest{Parent: "platforms/local"})
	if err != nil || who.GetAccount() != "memory" || who.GetIdentity() != "tester" || who.GetSource() != "none needed" {
		t.Errorf("%v (%v)", who, err)
	}
	names, err := s.GetDefaultFunctionName(t.Context(), &deployerv1.GetDefaultFunctionNameRequest{
		Parent: "platforms/local/deployments/local-1", Benchmark: "110.dynamic-html",
		Runtime:      &typev1.Runtime{Language: typev1.Language_LANGUAGE_PYTHON, Version: "3.12", Variant: "pypy"},
		Architecture: typev1.Architecture_ARCHITECTURE_ARM64,
	})
	if err != nil || names.GetFunctionId() != "sebs-local-1-110.dynamic-html-python-3.12-arm64-pypy" || len(names.GetLegacyFunctionIds()) != 2 {
		t.Errorf("%v (%v)", names, err)
	}
}
