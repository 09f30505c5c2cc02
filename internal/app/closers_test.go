package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStepsAreBoundedAndRunInReverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := closers{log: slog.New(slog.DiscardHandler)}
		var order []string
		broken := errors.New("broken")
		release := make(chan struct{})
		c.add("first", func(context.Context) error { order = append(order, "first"); return nil })
		c.add("hangs", func(context.Context) error { <-release; return nil })
		c.add("fails", func(context.Context) error { order = append(order, "fails"); return broken })
		begin := time.Now()
		err := c.close(t.Context(), time.Second)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "hangs: not done after 1s") || strings.Join(order, " ") != "fails first" {
			t.Errorf("steps %v ended with %v", order, err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if err := c.close(t.Context(), time.Second); err != nil {
			t.Errorf("closing twice: %v", err)
		}
		close(release)
	})
}

func TestTasksStartLateAndEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group tasks
		ran := make(chan string, 3)
		wait := func(name string) func(context.Context) error {
			return func(ctx context.Context) error { ran <- name; <-ctx.Done(); return ctx.Err() }
		}
		group.add("early", wait("early"))
		synctest.Wait()
		if len(ran) != 0 {
			t.Error("a task ran before the start")
		}
		failed := group.start(t.Context())
		group.add("late", wait("late"))
		group.add("broken", func(context.Context) error { return errors.New("broken") })
		if err := <-failed; err == nil || err.Error() != "broken: broken" {
			t.Errorf("failed with %v", err)
		}
		if err := group.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if len(ran) != 2 {
			t.Errorf("%d tasks ran", len(ran))
		}
	})
}
