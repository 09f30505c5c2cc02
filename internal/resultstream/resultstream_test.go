package resultstream_test

import (
	"testing"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/resultstream"
)

func TestABatchHasOneAddress(t *testing.T) {
	t.Parallel()
	subject, id := resultstream.Address(&typev1.InvocationBatch{Run: "runs/a", Invoker: "invokers/b", Batch: 7})
	if subject != "sebs.v1.results.a.b" || id != "a/b/7" {
		t.Errorf("the address is %s, %s", subject, id)
	}
	if cfg := resultstream.Config(); cfg.Subjects[0] != "sebs.v1.results.>" || cfg.MaxBytes <= 0 || cfg.MaxAge <= 0 {
		t.Errorf("the stream is %v", cfg)
	}
}
