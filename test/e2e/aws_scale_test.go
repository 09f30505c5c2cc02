package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	"github.com/sebs-suite/sebs/test/awsstand"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

// together is how many functions are deployed at once, alone how many one by one, to compare.
const together, alone = 50, 10

// busyDay throttles Lambda's control plane as AWS does (15 requests a second), and is slow in everything that AWS is slow in.
func busyDay() awsstand.Faults {
	return awsstand.Faults{
		PendingPolls: 2, HiddenPolls: 1, RoleRefusals: 2,
		Throttles: []awsstand.Throttle{
			{Service: "lambda", Operations: []string{"CreateFunction", "TagResource", "UpdateFunctionConfiguration", "UpdateFunctionCode"}, Rate: 15, Burst: 15},
			{Service: "lambda", Operations: []string{"GetFunction", "GetFunctionConfiguration"}, Rate: 100, Burst: 100},
			{Service: "iam", Every: 5},
		},
	}
}

func TestFiftyDeploymentsAtOnceOnAWS(t *testing.T) {
	aws := awsstand.Start(t, awsstand.Options{})
	s := stand.Start(t, binaries, stand.Options{Deployers: 2, Env: awsEnvironment(aws)})
	ctx, cancel := context.WithTimeout(t.Context(), awsLimit)
	defer cancel()
	first := s.CLI("first", "benchmark", "invoke", "110.dynamic-html", "test", "--deployment", "aws", "--repetitions", "1",
		"--output-dir", filepath.Join(t.TempDir(), "first"))
	first.Run()
	if code := first.Wait(testLimit); code != 0 {
		t.Fatalf("the first run ended with %d:\n%s", code, first.Log())
	}
	list, err := experimentsv1.NewExperimentsServiceClient(s.Dial()).ListRuns(ctx, &experimentsv1.ListRunsRequest{})
	if err != nil || len(list.GetRuns()) != 1 {
		t.Fatalf("%d runs: %v", len(list.GetRuns()), err)
	}
	run := list.GetRuns()[0]
	model := run.GetFunctions()[0]
	deploy := func(name string) {
		if _, err := ensure(ctx, s, &deployerv1.EnsureFunctionRequest{
			Parent: run.GetDeployment(), FunctionId: name, Package: model.GetPackage().GetName(), Config: model.GetFunction().GetConfig(), RequestId: name,
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	aws.SetFaults(busyDay())
	began := time.Now()
	var group sync.WaitGroup
	for i := range together {
		group.Go(func() { deploy(fmt.Sprintf("together_%02d", i)) })
	}
	group.Wait()
	atOnce := time.Since(began)
	throttled := 0
	for _, call := range aws.Calls() {
		if call.Code == "TooManyRequestsException" || call.Code == "Throttling" {
			throttled++
		}
	}
	if throttled == 0 {
		t.Error("no request was throttled")
	}
	aws.SetFaults(busyDay())
	began = time.Now()
	for i := range alone {
		deploy(fmt.Sprintf("alone_%02d", i))
	}
	each := time.Since(began) / alone
	t.Logf("%d functions deployed at once in %s; one by one each takes %s, so all of them %s; %d requests were throttled",
		together, atOnce.Round(time.Millisecond), each.Round(time.Millisecond), (together * each).Round(time.Millisecond), throttled)
	left, err := aws.Inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range together {
		if name := fmt.Sprintf("function together_%02d", i); !slices.Contains(left, name) {
			t.Errorf("%s is not there", name)
		}
	}
}
