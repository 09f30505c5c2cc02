package exitcode_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/internal/errs"
)

func TestOf(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err  error
		want int
	}{
		"nothing":           {nil, exitcode.OK},
		"plain":             {errors.New("x"), exitcode.Failed},
		"wrong field":       {errs.InvalidArgument("X", "x"), exitcode.Usage},
		"not there":         {errs.NotFound("X", "x"), exitcode.NotFound},
		"not possible":      {errs.FailedPrecondition("X", "x"), exitcode.Precondition},
		"platform missing":  {errs.Unimplemented("X", "x"), exitcode.Precondition},
		"service away":      {errs.Unavailable("X", "x"), exitcode.Unavailable},
		"interrupted":       {fmt.Errorf("wait: %w", context.Canceled), exitcode.Interrupted},
		"own code":          {fmt.Errorf("run: %w", exitcode.With(exitcode.Partial, nil)), exitcode.Partial},
		"own code wins":     {exitcode.With(exitcode.Usage, errs.NotFound("X", "x")), exitcode.Usage},
		"wrapped not there": {fmt.Errorf("get: %w", errs.NotFound("X", "x")), exitcode.NotFound},
	}
	for name, c := range cases {
		if got := exitcode.Of(c.err); got != c.want {
			t.Errorf("%s: Of = %d, want %d", name, got, c.want)
		}
	}
}
