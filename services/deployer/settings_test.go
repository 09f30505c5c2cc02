package deployer_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

const cloud = "platforms/aws"

// onCloud makes a package one for AWS.
func onCloud(p *builderv1.Package) { p.Platform = "aws" }

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	s := newWorld(t).deployer(t)
	for _, c := range []struct {
		name, parent string
		settings     map[string]string
		says         string
	}{
		{"unknown", cloud, map[string]string{"use-function-urls": "true"}, "it has cold-start-method, container_repository, docker-registry, docker-username, function-url-auth-type, lambda-role, use-function-url"},
		{"value", cloud, map[string]string{"function-url-auth-type": "IAM"}, "use NONE or AWS_IAM"},
		{"role", cloud, map[string]string{"lambda-role": "benchmarks"}, "give the ARN of a role"},
		{"secret", cloud, map[string]string{"docker-password": "x"}, "services' credentials"},
		{"other platform", "platforms/local", map[string]string{"use-function-url": "true"}, "which has none"},
	} {
		_, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: c.parent, Settings: c.settings})
		if err = errs.FromStatus(err); !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", c.name, err, c.says)
		}
	}
	_, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{
		Parent: cloud, Buckets: []*typev1.BucketBinding{{Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, Bucket: "no bucket"}},
	})
	if err = errs.FromStatus(err); !errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), "is no bucket's name") {
		t.Errorf("bucket: %v", err)
	}
}

func TestIDsFitIntoNamesOfAWS(t *testing.T) {
	t.Parallel()
	s := newWorld(t).deployer(t)
	for _, c := range []struct {
		id, prefix, says string
	}{
		{"Mine", "", "resources_id"},
		{"my.id", "", "resources_id"},
		{strings.Repeat("x", 47), "", "resources_id"},
		{"", "Team", "resource_prefix"},
		{"", strings.Repeat("x", 38), "resource_prefix"},
		{strings.Repeat("x", 46), "", ""},
		{"", strings.Repeat("y", 37), ""},
	} {
		_, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: c.id, ResourcePrefix: c.prefix})
		switch err = errs.FromStatus(err); {
		case c.says == "" && err != nil, c.says != "" && (!errs.Is(err, codes.InvalidArgument) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("id %q, prefix %q: %v, want an error that says %q", c.id, c.prefix, err, c.says)
		}
	}
	if _, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: "platforms/local", ResourcesId: "Mine"}); err != nil {
		t.Errorf("the local platform: %v", err)
	}
}

func TestSettingsAreMergedOnReuse(t *testing.T) {
	t.Parallel()
	s := newWorld(t).deployer(t)
	request := &deployerv1.CreateDeploymentRequest{
		Parent: cloud, ResourcesId: "mine", Region: "eu-north-1", Settings: map[string]string{"use-function-url": "false", "function-url-auth-type": "AWS_IAM"},
	}
	first, err := s.CreateDeployment(t.Context(), request)
	if err != nil || !maps.Equal(first.GetSettings(), request.GetSettings()) || first.GetExpireTime() != nil {
		t.Fatalf("new: %v (%v)", first, err)
	}
	again := proto.CloneOf(request)
	again.Settings = map[string]string{"function-url-auth-type": "", "cold-start-method": "version"}
	again.Ttl = durationpb.New(time.Hour)
	reused, err := s.CreateDeployment(t.Context(), again)
	want := map[string]string{"use-function-url": "false", "cold-start-method": "version"}
	if err != nil || !maps.Equal(reused.GetSettings(), want) {
		t.Errorf("reused: %v, want %v (%v)", reused.GetSettings(), want, err)
	}
	if left := time.Until(reused.GetExpireTime().AsTime()); left <= 0 || left > time.Hour {
		t.Errorf("expires in %s", left)
	}
	request.Settings = nil
	kept, err := s.CreateDeployment(t.Context(), request)
	if err != nil || !maps.Equal(kept.GetSettings(), want) || kept.GetExpireTime() == nil {
		t.Errorf("without settings: %v (%v)", kept, err)
	}
}

func TestDriverIsToldTheDeploymentsSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	settings := map[string]string{"lambda-role": "arn:aws:iam::123456789012:role/benchmarks"}
	deployment, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{
		Parent: cloud, ResourcesId: "mine", Region: "eu-north-1", Credential: "team", Settings: settings, Ttl: durationpb.New(time.Hour),
		Buckets: []*typev1.BucketBinding{
			{Role: typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS, Bucket: "our-results"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
		Parent: deployment.GetName(), Package: w.builder.add("aaaa", onCloud), UsesTables: true,
		Config: &typev1.FunctionConfig{MaxConcurrency: 7, ProvisionedConcurrency: 2},
	})
	spec := w.memory.Spec(rid(answer.GetFunction().GetName()))
	if !maps.Equal(spec.Settings, settings) || spec.TablePrefix != "sebs-benchmarks-mine-" {
		t.Errorf("settings %v, table prefix %q", spec.Settings, spec.TablePrefix)
	}
	if strings.Join(spec.Buckets, " ") != "sebs-benchmarks-mine our-results" {
		t.Errorf("buckets %v", spec.Buckets)
	}
	if spec.Config.MaxConcurrency != 7 || spec.Config.ProvisionedConcurrency != 2 {
		t.Errorf("concurrency %d, provisioned %d", spec.Config.MaxConcurrency, spec.Config.ProvisionedConcurrency)
	}
	if expires := spec.Labels["expires"]; expires != deployment.GetExpireTime().AsTime().UTC().Format(time.RFC3339) {
		t.Errorf("expires %q, the deployment %s", expires, deployment.GetExpireTime().AsTime())
	}
	want := driver.Scope{Credential: "team", Region: "eu-north-1"}
	for _, scope := range w.scopes {
		if scope != want {
			t.Errorf("opened for %v, want %v", scope, want)
		}
	}
	bucket, key, err := spec.Code.Stage(t.Context())
	if err != nil || bucket != "sebs-deployment-mine" || key != "010.sleep/x64/aaaa.zip" {
		t.Fatalf("staged as %s in %s (%v)", key, bucket, err)
	}
	if got := string(w.storage.uploads[bucket+"/"+key]); got != "codecodecode" {
		t.Errorf("staged %q", got)
	}
}

func TestImageTakesTheArchivesPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	w.memory.Images = true
	deployment, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud})
	if err != nil {
		t.Fatal(err)
	}
	const image = "registry.example.org/sebs@sha256:00"
	pkg := w.builder.add("aaaa", onCloud, func(p *builderv1.Package) {
		p.SystemVariant, p.ImageUri = typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER, image
	})
	answer := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: deployment.GetName(), Package: pkg})
	name := rid(answer.GetFunction().GetName())
	if code := w.memory.Spec(name).Code; code.ImageURI != image || code.Open != nil || code.Stage != nil || code.Digest != "aaaa" {
		t.Errorf("code %+v", code)
	}
	if !strings.HasSuffix(name, "_docker") {
		t.Errorf("function %s", name)
	}
	_, err = s.ensure(t.Context(), &deployerv1.EnsureFunctionRequest{
		Parent: deployment.GetName(), Package: pkg, Config: &typev1.FunctionConfig{SystemVariant: typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE},
	})
	if err = errs.FromStatus(err); err == nil || !strings.Contains(err.Error(), "config.system_variant") {
		t.Errorf("an image as an archive: %v", err)
	}
}

func TestTriggerFollowsTheSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	w.memory.Attributes = func(spec driver.TriggerSpec) map[string]string {
		attributes := map[string]string{"implementation": "function_url", "auth_type": "NONE"}
		if spec.Settings["use-function-url"] == "false" {
			attributes["implementation"] = "api_gateway"
		}
		if auth := spec.Settings["function-url-auth-type"]; auth != "" {
			attributes["auth_type"] = auth
		}
		return attributes
	}
	pkg := w.builder.add("aaaa", onCloud)
	made := 0
	for _, step := range []struct {
		name     string
		settings map[string]string
		want     string
		anew     bool
	}{
		{"default", nil, "function_url NONE", true},
		{"again", nil, "function_url NONE", false},
		{"signed", map[string]string{"function-url-auth-type": "AWS_IAM"}, "function_url AWS_IAM", true},
		{"kept", nil, "function_url AWS_IAM", false},
		{"gateway", map[string]string{"use-function-url": "false", "function-url-auth-type": ""}, "api_gateway NONE", true},
		{"back", map[string]string{"use-function-url": ""}, "function_url NONE", true},
	} {
		deployment, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: "mine", Settings: step.settings})
		if err != nil {
			t.Fatal(err)
		}
		answer := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
			Parent: deployment.GetName(), Package: pkg, Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
		})
		attributes := answer.GetFunction().GetTriggers()[0].GetAttributes()
		if got := attributes["implementation"] + " " + attributes["auth_type"]; got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
		if step.anew {
			made++
		}
		if n := w.memory.Count("CreateTrigger"); n != made {
			t.Errorf("%s: %d triggers made, want %d", step.name, n, made)
		}
	}
}

func TestConcurrencyIsSetAndTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	parent, pkg := s.deployment(t).GetName(), w.builder.add("aaaa")
	for _, step := range []struct {
		most, ready int32
		outcome     deployerv1.EnsureFunctionResponse_Outcome
	}{{0, 0, created}, {5, 0, configUpdated}, {5, 0, cached}, {5, 3, configUpdated}, {0, 0, configUpdated}, {0, 0, cached}} {
		answer := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{
			Parent: parent, Package: pkg, Config: &typev1.FunctionConfig{MaxConcurrency: step.most, ProvisionedConcurrency: step.ready},
		})
		config := answer.GetFunction().GetConfig()
		if answer.GetOutcome() != step.outcome || config.GetMaxConcurrency() != step.most || config.GetProvisionedConcurrency() != step.ready {
			t.Errorf("%+v: %s with %v", step, answer.GetOutcome(), config)
		}
	}
}

func TestRightsFollowTheDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.deployer(t)
	pkg := w.builder.add("aaaa", onCloud)
	const role = "arn:aws:iam::123456789012:role/benchmarks"
	granted := 0
	for _, step := range []struct {
		name    string
		req     *deployerv1.CreateDeploymentRequest
		tables  bool
		outcome deployerv1.EnsureFunctionResponse_Outcome
		role    string
		buckets string
		prefix  string
	}{
		{"new", &deployerv1.CreateDeploymentRequest{}, false, created, "", "sebs-benchmarks-mine", ""},
		{"again", &deployerv1.CreateDeploymentRequest{}, false, cached, "", "sebs-benchmarks-mine", ""},
		{"tables", &deployerv1.CreateDeploymentRequest{}, true, configUpdated, "", "sebs-benchmarks-mine", "sebs-benchmarks-mine-"},
		{"role", &deployerv1.CreateDeploymentRequest{Settings: map[string]string{"lambda-role": role}}, true, configUpdated, role, "sebs-benchmarks-mine", "sebs-benchmarks-mine-"},
		{"bucket", &deployerv1.CreateDeploymentRequest{Buckets: []*typev1.BucketBinding{
			{Role: typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS, Bucket: "our-results"},
		}}, true, configUpdated, role, "sebs-benchmarks-mine our-results", "sebs-benchmarks-mine-"},
		{"settled", &deployerv1.CreateDeploymentRequest{}, true, cached, role, "sebs-benchmarks-mine our-results", "sebs-benchmarks-mine-"},
	} {
		step.req.Parent, step.req.ResourcesId = cloud, "mine"
		deployment, err := s.CreateDeployment(t.Context(), step.req)
		if err != nil {
			t.Fatal(err)
		}
		answer := s.mustEnsure(t, &deployerv1.EnsureFunctionRequest{Parent: deployment.GetName(), Package: pkg, UsesTables: step.tables})
		spec := w.memory.Spec(rid(answer.GetFunction().GetName()))
		if answer.GetOutcome() != step.outcome || spec.Settings["lambda-role"] != step.role || strings.Join(spec.Buckets, " ") != step.buckets || spec.TablePrefix != step.prefix {
			t.Errorf("%s: %s, role %q, buckets %v, tables %q", step.name, answer.GetOutcome(), spec.Settings["lambda-role"], spec.Buckets, spec.TablePrefix)
		}
		if step.outcome == configUpdated {
			granted++
		}
		if n := w.memory.Count("Grant"); n != granted {
			t.Errorf("%s: rights were given %d times, want %d", step.name, n, granted)
		}
	}
}
