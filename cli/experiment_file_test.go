package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

func TestResultConfigOfAWS(t *testing.T) {
	t.Parallel()
	const name = "platforms/aws/deployments/mine/functions/f"
	deployment := &typev1.Deployment{
		ResourcesId: "mine", Region: "eu-north-1", Account: "123456789012", Settings: map[string]string{"use-function-url": "false"},
		Buckets: []*typev1.BucketBinding{{Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, Bucket: "sebs-benchmarks-mine"}},
	}
	run := &experimentsv1.Run{Functions: []*experimentsv1.RunFunction{{Function: &typev1.Function{
		Name: name, PlatformAttributes: map[string]string{"handle": "arn:aws:lambda:eu-north-1:123456789012:function:f"},
		Triggers: []*typev1.Trigger{{
			Type: typev1.TriggerType_TRIGGER_TYPE_HTTP, Url: "https://x.example.org/", Attributes: map[string]string{"implementation": "api_gateway", "api-id": "a1"},
		}},
	}}}}
	got := resultConfig(run, deployment, &settings{platform: "aws", config: &sebsformat.UserConfig{}}).Deployment
	want := map[string]any{
		"name": "aws", "region": "eu-north-1", "credentials": map[string]any{"account_id": "123456789012"},
		"resources": map[string]any{
			"resources_id": "mine", "benchmarks": "sebs-benchmarks-mine", "lambda-role": "", "function-urls": map[string]any{},
			"http-apis": map[string]any{"f-http-api": map[string]any{
				"arn": "arn:aws:execute-api:eu-north-1:123456789012:a1", "endpoint": "https://x.example.org/",
			}},
			"use-function-url": false, "function-url-auth-type": "NONE",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}
