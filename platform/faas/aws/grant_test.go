package aws_test

import (
	"net/http"
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

func TestRightsAreGivenLater(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	spec := coldSpec(t, "rights", nil)
	create(t, p, spec)
	mayReadTables := func() bool {
		t.Helper()
		grants, err := stand.Grants(t.Context(), "sebs-lambda-role-"+testDeployment)
		if err != nil {
			t.Fatal(err)
		}
		for _, grant := range grants {
			if slices.Contains(grant.Action, "dynamodb:GetItem") {
				return true
			}
		}
		return false
	}
	if mayReadTables() {
		t.Error("a function without tables may read some")
	}
	spec.TablePrefix = "sebs-benchmarks-" + testDeployment + "-"
	if err := p.Grant(t.Context(), spec); err != nil || !mayReadTables() {
		t.Errorf("tables that came later: %t, %v", mayReadTables(), err)
	}
	client := iam.NewFromConfig(opened(stand).Config)
	made, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName:                 sdk.String("ours"),
		AssumeRolePolicyDocument: sdk.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	spec.Settings = map[string]string{aws.SettingRole: sdk.ToString(made.Role.Arn)}
	for range 2 {
		if err := p.Grant(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lambda.NewFromConfig(opened(stand).Config).GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &spec.Name})
	if err != nil || sdk.ToString(got.Role) != sdk.ToString(made.Role.Arn) {
		t.Errorf("the function runs as %s, %v", sdk.ToString(got.Role), err)
	}
	ids, err := p.FindDeployments(t.Context())
	if err != nil || !slices.Equal(ids, []string{testDeployment}) {
		t.Errorf("found %v, %v", ids, err)
	}
	if _, err := p.DeleteFunction(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	// The role of the suite names the deployment when nothing else does.
	ids, err = p.FindDeployments(t.Context())
	if err != nil || !slices.Equal(ids, []string{testDeployment}) {
		t.Errorf("found %v after the function was removed, %v", ids, err)
	}
}

func TestAFunctionOfAnotherToolIsAdopted(t *testing.T) {
	t.Parallel()
	stand, d := onStand(t)
	p := platformOf(t, d)
	spec := coldSpec(t, "foreign", nil)
	fn := create(t, p, spec)
	url, err := p.CreateTrigger(t.Context(), spec.Name, driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil {
		t.Fatal(err)
	}
	// SeBS tags nothing, and opens the URL with one statement.
	client := lambda.NewFromConfig(opened(stand).Config)
	_, err = client.UntagResource(t.Context(), &lambda.UntagResourceInput{Resource: &fn.Handle, TagKeys: []string{aws.TagDeployment, aws.TagBenchmark}})
	if err == nil {
		_, err = client.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: &spec.Name, StatementId: sdk.String("FunctionURLInvokeAllowPublicAccess")})
	}
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := post(t, url.URL, `{"marker":"m"}`, nil); status != http.StatusForbidden {
		t.Fatalf("a URL with one statement answers %d: %s", status, answer)
	}
	if err := p.Grant(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	adopted, err := p.GetFunction(t.Context(), spec.Name)
	if err != nil || adopted.Deployment != testDeployment || adopted.Benchmark != spec.Benchmark {
		t.Errorf("the function belongs to deployment %q and benchmark %q, %v", adopted.Deployment, adopted.Benchmark, err)
	}
	if status, answer := post(t, url.URL, `{"marker":"m"}`, nil); status != http.StatusOK {
		t.Errorf("the URL of an adopted function answers %d: %s", status, answer)
	}
}
