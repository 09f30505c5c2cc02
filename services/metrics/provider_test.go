package metrics

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// lateLogs is a platform whose records become known one question after the other.
type lateLogs struct {
	// after is in which question, counted from 1, the record of a request is there for the first time.
	after map[string]int
	// fails says which questions are answered with an error.
	fails map[int]error
	asked []driver.MetricsQuery
}

func (l *lateLogs) Close() error { return nil }

func (l *lateLogs) Metrics(_ context.Context, query driver.MetricsQuery) iter.Seq2[driver.InvocationRecord, error] {
	l.asked = append(l.asked, query)
	n := len(l.asked)
	return func(yield func(driver.InvocationRecord, error) bool) {
		if err := l.fails[n]; err != nil {
			yield(driver.InvocationRecord{}, err)
			return
		}
		for _, id := range sortedNames(l.after) {
			if l.after[id] > n || (len(query.RequestIDs) > 0 && !slices.Contains(query.RequestIDs, id)) {
				continue
			}
			duration, billed, memory := 1500*time.Microsecond, 2*time.Millisecond, 512
			if !yield(driver.InvocationRecord{RequestID: id, Duration: &duration, Billed: &billed, MemoryMB: &memory}, nil) {
				return
			}
		}
	}
}

func TestFetchAsksAgain(t *testing.T) {
	t.Parallel()
	throttled := errs.ResourceExhausted(time.Second, "LOG_QUERIES_LIMITED", "too many queries")
	for name, c := range map[string]struct {
		source lateLogs
		wait   time.Duration
		age    time.Duration
		// asked is how often the platform has to be asked, 0 for any number of times.
		found, missing, asked int
		fails                 string
		says                  string
	}{
		"at once":                  {source: lateLogs{after: map[string]int{"a": 1, "b": 1}}, wait: time.Minute, found: 2, asked: 1},
		"late":                     {source: lateLogs{after: map[string]int{"a": 2, "b": 4}}, wait: time.Minute, found: 2, asked: 4, says: "1 of 2 calls are not in the platform's logs yet"},
		"never":                    {source: lateLogs{after: map[string]int{"a": 1}}, wait: 30 * time.Millisecond, found: 1, missing: 1, says: "1 of 2 calls"},
		"old calls are asked once": {source: lateLogs{after: map[string]int{"a": 1, "b": 2}}, wait: time.Minute, age: time.Hour, found: 1, missing: 1, asked: 1},
		"throttled in between":     {source: lateLogs{after: map[string]int{"a": 1, "b": 1}, fails: map[int]error{1: throttled, 2: throttled}}, wait: time.Minute, found: 2, asked: 3},
		"throttled to the end":     {source: lateLogs{fails: always(throttled)}, wait: 20 * time.Millisecond, fails: "too many queries"},
		"throttled after some":     {source: lateLogs{after: map[string]int{"a": 1}, fails: after(1, throttled)}, wait: 30 * time.Millisecond, found: 1, missing: 1},
		"refused":                  {source: lateLogs{fails: always(errs.PermissionDenied("DENIED", "no"))}, wait: time.Minute, asked: 1, fails: "download metrics of function f: no"},
		"a function that is gone":  {source: lateLogs{fails: always(errs.NotFound("FUNCTION_NOT_FOUND", "none"))}, wait: time.Minute, asked: 1, missing: 2},
		"throttled with old calls": {source: lateLogs{fails: always(throttled)}, wait: time.Minute, age: time.Hour, asked: 1, fails: "too many queries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFunctionRequests("platforms/aws/deployments/r/functions/f")
			at := time.Now().Add(-c.age)
			f.add("a", at, at)
			f.add("b", at.Add(time.Second), at.Add(time.Second))
			var messages []string
			o := fetchOptions{
				wait: &c.wait, began: time.Now(), pauses: [2]time.Duration{time.Millisecond, 2 * time.Millisecond}, log: slog.New(slog.DiscardHandler),
				progress: func(p progress) { messages = append(messages, p.message) },
			}
			err := fetch(t.Context(), &c.source, f, "aws", o)
			if (err == nil) != (c.fails == "") || (err != nil && !strings.Contains(err.Error(), c.fails)) {
				t.Fatalf("the error is %v and has to be %q", err, c.fails)
			}
			if err == nil && (f.got != int64(c.found) || f.missing() != int64(c.missing)) {
				t.Errorf("found %d, missing %d", f.got, f.missing())
			}
			if c.asked > 0 && len(c.source.asked) != c.asked {
				t.Errorf("asked %d times instead of %d", len(c.source.asked), c.asked)
			}
			if all := strings.Join(messages, "\n"); !strings.Contains(all, c.says) {
				t.Errorf("the progress %q does not say %q", all, c.says)
			}
			if err == nil && len(messages) > 0 && messages[len(messages)-1] != "" {
				t.Errorf("at the end something is waited for: %q", messages[len(messages)-1])
			}
			for i, q := range c.source.asked {
				if q.Function != "f" || !q.Start.Before(f.begin) || !q.End.After(f.end) {
					t.Errorf("question %d was for %+v", i, q)
				}
			}
		})
	}
}

// always fails every question, and after those behind the n-th.
func always(err error) map[int]error { return after(0, err) }

func after(n int, err error) map[int]error {
	out := make(map[int]error)
	for i := n + 1; i < 10_000; i++ {
		out[i] = err
	}
	return out
}

func TestFetchNamesTheMissing(t *testing.T) {
	t.Parallel()
	source := &lateLogs{after: make(map[string]int)}
	f := newFunctionRequests("f")
	for n := range namedRequests + 500 {
		id := fmt.Sprintf("request-%04d", n)
		f.add(id, time.Now(), time.Now())
		// All but some are there in the first question, the rest in the second.
		source.after[id] = 1 + n%30/29
	}
	o := fetchOptions{began: time.Now(), pauses: [2]time.Duration{time.Millisecond, time.Millisecond}, log: slog.New(slog.DiscardHandler), progress: func(progress) {}}
	if err := fetch(t.Context(), source, f, "aws", o); err != nil {
		t.Fatal(err)
	}
	if len(source.asked) != 2 || len(source.asked[0].RequestIDs) != 0 || len(source.asked[1].RequestIDs) != 50 || f.missing() != 0 {
		t.Errorf("%d questions, the last names %d requests; missing %d", len(source.asked), len(source.asked[1].RequestIDs), f.missing())
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newFunctionRequests("f")
	f.add("a", time.Now(), time.Now())
	o := fetchOptions{began: time.Now(), log: slog.New(slog.DiscardHandler), progress: func(progress) { cancel() }}
	if err := fetch(ctx, &lateLogs{}, f, "aws", o); !errors.Is(err, context.Canceled) && !errs.Is(err, codes.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitIsForAllFunctions(t *testing.T) {
	t.Parallel()
	// The time was up before the second function's turn: it is asked once.
	source, wait := &lateLogs{}, time.Minute
	f := newFunctionRequests("f")
	f.add("a", time.Now(), time.Now())
	o := fetchOptions{wait: &wait, began: time.Now().Add(-2 * time.Minute), log: slog.New(slog.DiscardHandler), progress: func(progress) {}}
	if err := fetch(t.Context(), source, f, "aws", o); err != nil || len(source.asked) != 1 {
		t.Errorf("asked %d times, %v", len(source.asked), err)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	none, some := time.Duration(0), time.Minute
	for _, c := range []struct {
		platform string
		wait     *time.Duration
		want     time.Duration
	}{{"aws", nil, defaultWait}, {"local", nil, defaultWaitLocal}, {"aws", &none, 0}, {"local", &some, time.Minute}} {
		if got := (fetchOptions{wait: c.wait}).patience(c.platform); got != c.want {
			t.Errorf("%s: %s instead of %s", c.platform, got, c.want)
		}
	}
}
