package deployer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	builderv1 "github.com/sebs-suite/sebs/gen/go/sebs/builder/v1"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/test/awsstand"
)

// onStand lets the world's platform be AWS, as far as the stand-in is.
func (w *world) onStand(t *testing.T, stand *awsstand.Stand) {
	t.Helper()
	keys := credentials.Config{"aws": {"default": {"access_key": secret.New(stand.AccessKey), "secret_key": secret.New(stand.SecretKey)}}}
	opener := awsconfig.NewOpener(awsconfig.Settings{Endpoint: stand.Endpoint, Region: stand.Region},
		credentials.NewResolver(keys, func(string) string { return "" }), nil)
	w.driver = aws.Open(opener, aws.Options{Poll: 20 * time.Millisecond})
	w.storage.archive = echo(t)
}

// TestFiftyFunctionsOnAWS deploys fifty functions at once while the stand-in throttles Lambda's control interface, and
// removes all of them after the records were lost.
func TestFiftyFunctionsOnAWS(t *testing.T) {
	if testing.Short() {
		t.Skip("deploys fifty functions")
	}
	t.Parallel()
	const many, few = 50, 5
	stand := awsstand.Start(t, awsstand.Options{Faults: awsstand.Faults{Throttles: []awsstand.Throttle{
		{Service: "lambda", Operations: []string{"CreateFunction", "AddPermission", "CreateFunctionUrlConfig"}, Rate: 30, Burst: 15},
		{Service: "iam", Every: 5},
	}}})
	w := newWorld(t)
	w.onStand(t, stand)
	s := w.deployer(t)
	pkg := w.builder.add(strings.Repeat("a1", 32), onCloud, func(p *builderv1.Package) {
		p.SizeBytes, p.Runtime.Version = int64(len(w.storage.archive)), "3.11"
	})
	deployment, err := s.CreateDeployment(t.Context(), &deployerv1.CreateDeploymentRequest{Parent: cloud, ResourcesId: "fifty"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	deploy := func(i int) {
		answer, err := s.ensure(ctx, &deployerv1.EnsureFunctionRequest{
			Parent: deployment.GetName(), Package: pkg, FunctionId: fmt.Sprintf("f%d", i), UsesObjects: true, UsesTables: i%2 == 0,
			Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
		})
		if err != nil || answer.GetOutcome() != created || answer.GetFunction().GetTriggers()[0].GetUrl() == "" {
			t.Errorf("function %d: %s %v (%v)", i, answer.GetOutcome(), answer.GetFunction().GetTriggers(), err)
		}
	}
	begin := time.Now()
	for i := range few {
		deploy(i)
	}
	alone := time.Since(begin) / few
	begin = time.Now()
	var all sync.WaitGroup
	for i := few; i < few+many; i++ {
		all.Go(func() { deploy(i) })
	}
	all.Wait()
	t.Logf("%d functions at once took %s; one by one each took %s", many, time.Since(begin), alone)
	again, err := s.ensure(ctx, &deployerv1.EnsureFunctionRequest{
		Parent: deployment.GetName(), Package: pkg, FunctionId: "f7", UsesObjects: true,
		Triggers: []typev1.TriggerType{typev1.TriggerType_TRIGGER_TYPE_HTTP},
	})
	if err != nil || again.GetOutcome() != cached {
		t.Errorf("again: %s (%v)", again.GetOutcome(), err)
	}
	begin = time.Now()
	s.lose(t)
	found, err := s.FindDeployments(ctx, &deployerv1.FindDeploymentsRequest{Parent: cloud})
	if err != nil || len(found.GetDeployments()) != 1 || found.GetRecordedFunctions() != many+few {
		t.Fatalf("found %v (%v)", found, err)
	}
	t.Logf("found after %s", time.Since(begin))
	begin = time.Now()
	s.lose(t)
	deleted, err := s.delete(t, &deployerv1.DeleteDeploymentRequest{Name: deployment.GetName()})
	if err != nil || len(deleted["functions"]) != many+few || len(deleted["role"]) != 1 {
		t.Errorf("deleted %v (%v)", deleted, err)
	}
	t.Logf("removed after %s", time.Since(begin))
	left, err := stand.Inventory(ctx)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v (%v)", left, err)
	}
}
