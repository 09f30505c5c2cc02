package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
	"github.com/sebs-suite/sebs/test/e2e/stand"
)

func TestTwentyAskTwoDeployersForOneFunction(t *testing.T) {
	s := stand.Start(t, binaries, stand.Options{Deployers: 2})
	ctx := limited(t)
	conn := s.Dial()
	op := begin(ctx, t, conn, 1, 1)
	run := finish(ctx, t, longrunningpb.NewOperationsClient(conn), op)
	model := run.GetFunctions()[0]
	// The gateway opens its connections with the first calls; from then on it spreads them.
	stand.Await(ctx, t, "answers of both deployers", func() bool {
		if _, err := deployerv1.NewDeployerServiceClient(conn).ListPlatforms(ctx, &deployerv1.ListPlatformsRequest{}); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(s.Deployers[0].Log(), "ListPlatforms") && strings.Contains(s.Deployers[1].Log(), "ListPlatforms")
	})
	const callers = 20
	outcomes := make([]deployerv1.EnsureFunctionResponse_Outcome, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			answer, err := ensure(ctx, s, &deployerv1.EnsureFunctionRequest{
				Parent: run.GetDeployment(), FunctionId: "shared", Package: model.GetPackage().GetName(),
				Config: model.GetFunction().GetConfig(), RequestId: fmt.Sprintf("caller-%d", i),
			})
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
				return
			}
			outcomes[i] = answer.GetOutcome()
		})
	}
	group.Wait()
	count := make(map[deployerv1.EnsureFunctionResponse_Outcome]int)
	for _, o := range outcomes {
		count[o]++
	}
	if count[deployerv1.EnsureFunctionResponse_OUTCOME_CREATED] != 1 || count[deployerv1.EnsureFunctionResponse_OUTCOME_CACHED] != callers-1 {
		t.Errorf("outcomes of %d callers: %v", callers, count)
	}
	list, err := localv1.NewLocalServiceClient(conn).ListLocalFunctions(ctx, &localv1.ListLocalFunctionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	shared := 0
	for _, f := range list.GetFunctions() {
		if f.GetFunctionId() == "shared" {
			shared++
			if f.GetVersion() != 1 {
				t.Errorf("the function was deployed %d times", f.GetVersion())
			}
		}
	}
	if shared != 1 {
		t.Errorf("the platform has %d functions of that name", shared)
	}
	for _, d := range s.Deployers {
		if !strings.Contains(d.Log(), "EnsureFunction") {
			t.Errorf("%s was not asked: the calls are not spread", d.Name)
		}
	}
}

func ensure(ctx context.Context, s *stand.Suite, request *deployerv1.EnsureFunctionRequest) (*deployerv1.EnsureFunctionResponse, error) {
	conn := s.Dial()
	op, err := deployerv1.NewDeployerServiceClient(conn).EnsureFunction(ctx, request)
	if err != nil {
		return nil, err
	}
	operations := longrunningpb.NewOperationsClient(conn)
	for !op.GetDone() {
		if op, err = operations.WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: op.GetName()}); err != nil {
			return nil, err
		}
	}
	if op.GetError() != nil {
		return nil, fmt.Errorf("%s: %s", op.GetName(), op.GetError())
	}
	answer := &deployerv1.EnsureFunctionResponse{}
	return answer, op.GetResponse().UnmarshalTo(answer)
}
