package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

func httpTrigger(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	first, err := h.Driver.CreateTrigger(ctx, prefix+"a", driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	again, err := h.Driver.CreateTrigger(ctx, prefix+"a", driver.TriggerSpec{Type: driver.TriggerHTTP})
	if err != nil {
		return fmt.Errorf("create again: %w", err)
	}
	switch {
	case first.Type != driver.TriggerHTTP || !strings.HasPrefix(first.URL, "http"):
		return fmt.Errorf("trigger %+v has no URL", first)
	case first.URL != again.URL:
		return fmt.Errorf("a second creation changed the URL from %s to %s", first.URL, again.URL)
	}
	return h.Driver.DeleteTrigger(ctx, prefix+"a", driver.TriggerHTTP)
}

func triggerGone(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	if _, err := h.Driver.CreateTrigger(ctx, prefix+"a", driver.TriggerSpec{Type: driver.TriggerHTTP}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return h.removeTrigger(ctx, prefix+"a", driver.TriggerHTTP)
}

func libraryTrigger(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	trigger, err := h.Driver.CreateTrigger(ctx, prefix+"a", driver.TriggerSpec{Type: driver.TriggerLibrary})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if trigger.Type != driver.TriggerLibrary {
		return fmt.Errorf("type %q, want library", trigger.Type)
	}
	return h.Driver.DeleteTrigger(ctx, prefix+"a", driver.TriggerLibrary)
}

func storageTrigger(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	spec := driver.TriggerSpec{Type: driver.TriggerStorage, Bucket: h.Bucket, Prefix: "in/", ResultsPrefix: "results/"}
	trigger, err := h.Driver.CreateTrigger(ctx, prefix+"a", spec)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if trigger.Type != driver.TriggerStorage || trigger.Bucket != h.Bucket || trigger.Prefix != "in/" {
		return fmt.Errorf("trigger %+v does not watch bucket %s, prefix in/", trigger, h.Bucket)
	}
	return h.removeTrigger(ctx, prefix+"a", driver.TriggerStorage)
}

// removeTrigger deletes twice; the second time there must be nothing.
func (h *Harness) removeTrigger(ctx context.Context, function string, kind driver.TriggerType) error {
	if err := h.Driver.DeleteTrigger(ctx, function, kind); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return h.wantCode("delete again", h.Driver.DeleteTrigger(ctx, function, kind), codes.NotFound)
}

// call invokes the function with a marker and checks that it comes back.
func (h *Harness) call(ctx context.Context, function, marker string) (driver.CallResult, error) {
	result, err := h.Driver.Invoke(ctx, driver.Call{
		Function: function,
		Payload:  []byte(fmt.Sprintf(`{"marker":%q}`, marker)),
		LogTail:  true,
	})
	switch {
	case err != nil:
		return result, fmt.Errorf("invoke: %w", err)
	case result.FunctionError != "":
		return result, fmt.Errorf("function failed: %s: %s", result.FunctionError, result.Payload)
	case result.RequestID == "":
		return result, errors.New("the answer has no request id")
	case !json.Valid(result.Payload) || !strings.Contains(string(result.Payload), marker):
		return result, fmt.Errorf("answer %q lacks the marker %s", result.Payload, marker)
	}
	return result, nil
}

func invoke(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	first, err := h.call(ctx, prefix+"a", "one")
	if err != nil {
		return err
	}
	second, err := h.call(ctx, prefix+"a", "two")
	if err != nil {
		return err
	}
	if first.RequestID == second.RequestID {
		return fmt.Errorf("two invocations have the request id %s", first.RequestID)
	}
	return nil
}

func invokeAsync(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	result, err := h.Driver.Invoke(ctx, driver.Call{Function: prefix + "a", Payload: []byte(`{"marker":"later"}`), Async: true})
	if err != nil {
		return fmt.Errorf("invoke: %w", err)
	}
	if result.RequestID == "" || len(result.Payload) > 0 {
		return fmt.Errorf("an asynchronous call answered request id %q and %d bytes", result.RequestID, len(result.Payload))
	}
	return h.eventually(ctx, func() error {
		page, err := h.Driver.Metrics(ctx, driver.MetricsQuery{Function: prefix + "a", RequestIDs: []string{result.RequestID}})
		if err != nil {
			return err
		}
		if len(page.Records) != 1 {
			return fmt.Errorf("%d records of request %s, want 1", len(page.Records), result.RequestID)
		}
		return nil
	})
}

func logs(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	result, err := h.call(ctx, prefix+"a", "in-the-log")
	if err != nil {
		return err
	}
	return h.eventually(ctx, func() error {
		page, err := h.Driver.Logs(ctx, driver.LogQuery{Function: prefix + "a", RequestIDs: []string{result.RequestID}})
		if err != nil {
			return err
		}
		for _, line := range page.Lines {
			if strings.Contains(line.Text, "marker in-the-log") {
				return nil
			}
		}
		return fmt.Errorf("the log of request %s has %d lines without the marker", result.RequestID, len(page.Lines))
	})
}

func metrics(ctx context.Context, h *Harness, prefix string) error {
	_, remove, err := h.create(ctx, prefix+"a")
	defer remove()
	if err != nil {
		return err
	}
	var ids []string
	for _, marker := range []string{"one", "two", "three"} {
		result, err := h.call(ctx, prefix+"a", marker)
		if err != nil {
			return err
		}
		ids = append(ids, result.RequestID)
	}
	return h.eventually(ctx, func() error {
		page, err := h.Driver.Metrics(ctx, driver.MetricsQuery{Function: prefix + "a", RequestIDs: ids[:2]})
		if err != nil {
			return err
		}
		if len(page.Records) != 2 {
			return fmt.Errorf("%d records of two requests", len(page.Records))
		}
		for i, record := range page.Records {
			if record.RequestID != ids[i] {
				return fmt.Errorf("record %d is of request %s, want %s (oldest first)", i, record.RequestID, ids[i])
			}
			if record.Duration == nil {
				return fmt.Errorf("the record of request %s has no duration", record.RequestID)
			}
		}
		return nil
	})
}

// eventually polls until check passes or the case's time is over.
func (h *Harness) eventually(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("in time: %w", err)
		case <-timer.C:
		}
	}
}
