package experiments

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	invokerv1 "github.com/sebs-suite/sebs/gen/go/sebs/invoker/v1"
	metricsv1 "github.com/sebs-suite/sebs/gen/go/sebs/metrics/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Invocations are handed to invokers in parts, so that the loss of an invoker concerns one part only. The invocations of a
// lost part that nobody reported are never made again: whether the function ran is unknown.
const (
	partSize = 16
	// partTurns makes parts large enough for many calls at once.
	partTurns = 8
	// maxLosses ends a run whose invokers die again and again.
	maxLosses = 10
	// invokerWait bounds the wait for an invoker that is alive.
	invokerWait = 30 * time.Second
	// reasonDraining is how an invoker says that it made none of the invocations that it did not report.
	reasonDraining = "INVOKER_DRAINING"
	// recoveryInvoker stands as the invoker of records that the run publishes in the place of a lost one.
	recoveryInvoker = "invokers/experiments"
	recoveryBatch   = 200
)

// span is a range of sequence numbers.
type span struct{ from, count int64 }

// split cuts a span into parts.
func (s span) split(size int64) []span {
	var parts []span
	for done := int64(0); done < s.count; done += size {
		parts = append(parts, span{from: s.from + done, count: min(s.count-done, size)})
	}
	return parts
}

// missing returns the ranges of the span that are not in got.
func (s span) missing(got map[int64]*typev1.InvocationRecord) []span {
	var gaps []span
	for n := s.from; n < s.from+s.count; n++ {
		if got[n] != nil {
			continue
		}
		if last := len(gaps) - 1; last >= 0 && gaps[last].from+gaps[last].count == n {
			gaps[last].count++
		} else {
			gaps = append(gaps, span{from: n, count: 1})
		}
	}
	return gaps
}

// loss is a part whose invoker was lost, with the records that it had reported.
type loss struct {
	span
	phase, trigger string
	got            map[int64]*typev1.InvocationRecord
}

// invokeSpan makes the invocations of a span, part by part, and goes on with another invoker when one is lost.
func (w *work) invokeSpan(ctx context.Context, template *invokerv1.InvokeManyRequest, all span, take func(*typev1.InvocationRecord)) error {
	function := functionOf(template.GetTrigger())
	parts := all.split(max(partSize, partTurns*int64(template.GetConcurrency())))
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		// With a bound the parts are small, so that what they turn out to cost is known soon.
		want := part.count
		if w.ledger.bounded() {
			want = min(want, max(1, int64(template.GetConcurrency())))
		}
		each := w.ledger.each(function)
		allowed := w.ledger.allow(function, want)
		if allowed == 0 {
			return w.ledger.stopped(function)
		}
		if allowed < part.count {
			parts = append([]span{{from: part.from + allowed, count: part.count - allowed}}, parts...)
			part.count = allowed
		}
		if err := w.awaitInvoker(ctx); err != nil {
			return err
		}
		request := proto.CloneOf(template)
		request.FirstSequence, request.Count = part.from, int32(part.count) //nolint:gosec // A part is small.
		got := make(map[int64]*typev1.InvocationRecord, part.count)
		err := w.invokeMany(ctx, request, func(record *typev1.InvocationRecord) {
			got[record.GetSequence()] = record
			take(record)
		})
		w.ledger.settle(float64(allowed) * each)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil, !errs.Is(err, codes.Unavailable), len(w.losses) == maxLosses:
			return err
		}
		if errs.Reason(err) == reasonDraining {
			parts = append(part.missing(got), parts...)
			continue
		}
		w.log.Warn("an invoker was lost", "run", w.run.GetName(), "from", part.from, "count", part.count, "reported", len(got), "error", err)
		w.losses = append(w.losses, loss{span: part, phase: template.GetPhase(), trigger: template.GetTrigger(), got: got})
	}
	return nil
}

// functionOf returns the function of a trigger.
func functionOf(trigger string) string {
	function, _, _ := strings.Cut(trigger, "/triggers/")
	return function
}

// awaitInvoker returns when an invoker answers.
func (w *work) awaitInvoker(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, invokerWait)
	defer cancel()
	_, err := w.services.Invoker.ListInvokers(limited, &invokerv1.ListInvokersRequest{})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return wrapStatus(err, "find an invoker")
}

// recover completes the results of lost parts: what the invoker had reported but not published is published now, and what
// it did not report counts as unknown.
func (w *work) recover(ctx context.Context) error {
	if len(w.losses) == 0 {
		return nil
	}
	// What a lost invoker had reported may be published and not stored yet; publishing it again would double it. The wait
	// ends when all of it is stored, or nothing has come for a while: then the rest was never published.
	reported := w.run.GetInvocationCount()
	if _, err := w.services.Metrics.GetStatistics(ctx, &metricsv1.GetStatisticsRequest{Run: w.run.GetName(), WaitForCount: reported}); err != nil {
		return wrapStatus(err, "wait for the results of %s", w.run.GetName())
	}
	stored, err := w.storedSequences(ctx)
	if err != nil {
		return err
	}
	var records []*typev1.InvocationRecord
	for _, lost := range w.losses {
		unknown := int64(0)
		for n := lost.from; n < lost.from+lost.count; n++ {
			switch record := lost.got[n]; {
			case stored[n]:
				if record == nil {
					// Published, but not told to this run.
					w.run.InvocationCount++
				}
			case record != nil:
				records = append(records, record)
			default:
				unknown++
				records = append(records, w.unknownRecord(lost, n))
			}
		}
		w.run.InvocationCount += unknown
		w.run.FailureCount += unknown
		w.problem("an invoker was lost during the invocations %d to %d: of %d it is not known whether they were made",
			lost.from, lost.from+lost.count-1, unknown)
	}
	for number, records := range slices.Collect(slices.Chunk(records, recoveryBatch)) {
		batch := &typev1.InvocationBatch{Run: w.run.GetName(), Invoker: recoveryInvoker, Batch: int64(number), Records: records}
		if _, err := w.services.Metrics.IngestInvocations(ctx, &metricsv1.IngestInvocationsRequest{Batch: batch}); err != nil {
			return wrapStatus(err, "publish the results of a lost invoker")
		}
	}
	return nil
}

// storedSequences returns the numbers of the invocations whose results are stored.
func (w *work) storedSequences(ctx context.Context) (map[int64]bool, error) {
	stored := make(map[int64]bool)
	token := ""
	for {
		page, err := w.services.Metrics.ListInvocations(ctx, &metricsv1.ListInvocationsRequest{
			Parent: w.run.GetName(), PageSize: 10_000, PageToken: token,
		})
		if err != nil {
			return nil, wrapStatus(err, "list the results of %s", w.run.GetName())
		}
		for _, record := range page.GetRecords() {
			stored[record.GetSequence()] = true
		}
		if token = page.GetNextPageToken(); token == "" {
			return stored, nil
		}
	}
}

// unknownRecord stands for an invocation of which nobody knows whether it was made.
func (w *work) unknownRecord(lost loss, sequence int64) *typev1.InvocationRecord {
	function := lost.trigger
	kind := typev1.TriggerType_TRIGGER_TYPE_UNSPECIFIED
	for _, known := range w.run.GetFunctions() {
		if known.GetTrigger() != lost.trigger {
			continue
		}
		function = known.GetFunction().GetName()
		for _, trigger := range known.GetFunction().GetTriggers() {
			if trigger.GetName() == lost.trigger {
				kind = trigger.GetType()
			}
		}
	}
	return &typev1.InvocationRecord{
		Run: w.run.GetName(), Function: function, Trigger: kind, Invoker: recoveryInvoker, Sequence: sequence, Attempt: 1, Phase: lost.phase,
		ErrorClass:   typev1.ErrorClass_ERROR_CLASS_UNKNOWN,
		ErrorMessage: "the invoker was lost before it reported; it is not known whether the function ran",
		Result: &typev1.ExecutionResult{
			RequestId: fmt.Sprintf("failed-%d", sequence),
			Stats:     &typev1.ExecutionStats{Failure: true},
		},
	}
}
