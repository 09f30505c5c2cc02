package lambdalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/aws/lambdalog"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC)

func reader(s *insights) *lambdalog.Reader {
	return lambdalog.NewReader(s.client(), lambdalog.Options{Poll: time.Millisecond, Backoff: time.Millisecond})
}

// all reads every page.
func all(t *testing.T, r *lambdalog.Reader, query driver.MetricsQuery) (records []driver.InvocationRecord, pages int) {
	t.Helper()
	for {
		page, err := r.Metrics(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		if query.PageSize > 0 && len(page.Records) > query.PageSize {
			t.Fatalf("a page of %d records", len(page.Records))
		}
		records = append(records, page.Records...)
		pages++
		if page.NextPageToken == "" {
			return records, pages
		}
		if pages > 100_000 {
			t.Fatal("the pages have no end")
		}
		query.PageToken = page.NextPageToken
	}
}

// check compares what was read with the requests that are there, each of which has to come once.
func check(t *testing.T, records []driver.InvocationRecord, want []string) {
	t.Helper()
	var got []string
	for _, r := range records {
		got = append(got, r.RequestID)
	}
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Error("a request comes twice")
	}
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("got %d requests instead of %d", len(got), len(want))
	}
}

func ids(from, to int) []string {
	var out []string
	for n := from; n < to; n++ {
		out = append(out, idOf(n))
	}
	return out
}

func TestMetricsBeyondTheLimit(t *testing.T) {
	t.Parallel()
	const count = 25_000
	steady, crowd, burst := make([]event, 0, count), make([]event, 0, count), make([]event, 0, count)
	for n := range count {
		steady = append(steady, reported(n, began.Add(time.Duration(n)*4*time.Millisecond)))
		crowd = append(crowd, reported(n, began.Add(20*time.Second+time.Duration(n%900)*time.Millisecond)))
		// All in the last ten seconds of a long range, so that the first part is nearly empty.
		burst = append(burst, reported(n, began.Add(time.Hour-10*time.Second+time.Duration(n%10_000)*time.Millisecond)))
	}
	for name, events := range map[string][]event{"steady": steady, "in one second": crowd, "at the end of an hour": burst} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newInsights(t, events...)
			records, pages := all(t, reader(s), driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Hour)})
			check(t, records, ids(0, count))
			if pages < 2 && name != "in one second" {
				t.Errorf("%d pages", pages)
			}
			if queries := len(s.started()); queries > 60 {
				t.Errorf("%d queries were needed", queries)
			}
			if !slices.IsSortedFunc(records, func(a, b driver.InvocationRecord) int {
				return a.Time.Add(*a.Duration).Truncate(time.Millisecond).Compare(b.Time.Add(*b.Duration).Truncate(time.Millisecond))
			}) {
				t.Error("the records are not in the order of their reports")
			}
		})
	}
}

func TestMetricsPages(t *testing.T) {
	t.Parallel()
	var events []event
	for n := range 100 {
		events = append(events, reported(n, began.Add(time.Duration(n/7)*300*time.Millisecond)))
	}
	for _, most := range []int{10, 25, 10_000} {
		for _, size := range []int{0, 1, 7, 1000} {
			t.Run(fmt.Sprintf("%d rows, pages of %d", most, size), func(t *testing.T) {
				t.Parallel()
				s := newInsights(t, events...)
				s.page = 8
				r := lambdalog.NewReader(s.client(), lambdalog.Options{Limit: most, Poll: time.Millisecond})
				query := driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute), PageSize: size}
				records, _ := all(t, r, query)
				check(t, records, ids(0, 100))
				query.RequestIDs = append(ids(20, 50), "not an id", idOf(20), idOf(5000))
				records, _ = all(t, r, query)
				check(t, records, ids(20, 50))
			})
		}
	}
}

func TestMetricsOfRequests(t *testing.T) {
	t.Parallel()
	var events []event
	for n := range 3000 {
		events = append(events, reported(n, began.Add(time.Duration(n)*time.Millisecond)))
	}
	for _, c := range []struct{ count, queries int }{{1, 1}, {200, 1}, {201, 2}, {1000, 5}, {2000, 1}} {
		s := newInsights(t, events...)
		records, _ := all(t, reader(s), driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute), RequestIDs: ids(0, c.count)})
		check(t, records, ids(0, c.count))
		if got := len(s.started()); got != c.queries {
			t.Errorf("%d requests took %d queries instead of %d", c.count, got, c.queries)
		}
	}
	s := newInsights(t, events...)
	records, _ := all(t, reader(s), driver.MetricsQuery{Function: "f", RequestIDs: []string{"a/ | delete", ""}})
	if len(records) != 0 || len(s.started()) != 0 {
		t.Errorf("ids that cannot be Lambda's gave %d records in %d queries", len(records), len(s.started()))
	}
}

func TestMetricsWindow(t *testing.T) {
	t.Parallel()
	s := newInsights(t, reported(0, began.Add(-time.Millisecond)), reported(1, began), reported(2, began.Add(400*time.Millisecond)),
		reported(3, began.Add(1900*time.Millisecond)), reported(4, began.Add(2001*time.Millisecond)))
	records, _ := all(t, reader(s), driver.MetricsQuery{Function: "f", Start: began.Add(300 * time.Millisecond), End: began.Add(1100 * time.Millisecond)})
	// Both ends are widened to the whole second.
	check(t, records, ids(1, 4))
	if want := began.Add(400*time.Millisecond - 2250*time.Microsecond); !records[1].Time.Equal(want) {
		t.Errorf("the invocation started at %s instead of %s", records[1].Time, want)
	}
	records, _ = all(t, reader(s), driver.MetricsQuery{Function: "f"})
	check(t, records, ids(0, 5))
	records, _ = all(t, reader(s), driver.MetricsQuery{Function: "f", Start: began, End: began.Add(-time.Hour)})
	check(t, records, nil)
	if _, err := reader(s).Metrics(t.Context(), driver.MetricsQuery{Function: "f", PageToken: "?"}); !errs.Is(err, codes.InvalidArgument) {
		t.Errorf("a foreign page token gives %v", err)
	}
}

func TestMetricsLate(t *testing.T) {
	t.Parallel()
	s := newInsights(t)
	for n := range 30 {
		e := reported(n, began.Add(time.Duration(n)*time.Millisecond))
		e.late = n % 3
		s.groups["/aws/lambda/f"] = append(s.groups["/aws/lambda/f"], e)
	}
	r, query := reader(s), driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute)}
	for _, found := range []int{10, 20, 30} {
		if records, _ := all(t, r, query); len(records) != found {
			t.Errorf("found %d records instead of %d", len(records), found)
		}
	}
	// A function that never ran has no log group, and one that just ran has one that is younger than the call.
	if records, _ := all(t, r, driver.MetricsQuery{Function: "g"}); len(records) != 0 {
		t.Errorf("found %d records of a function that never ran", len(records))
	}
	s.created = began.Add(2 * time.Minute).Unix()
	if records, _ := all(t, r, query); len(records) != 30 {
		t.Errorf("found %d records in a group that is younger than its records", len(records))
	}
	s.created = time.Now().Add(time.Hour).Unix()
	if records, _ := all(t, r, query); len(records) != 0 {
		t.Errorf("found %d records in a group that is yet to come", len(records))
	}
}

func TestMetricsRows(t *testing.T) {
	t.Parallel()
	at := func(n int) int64 { return began.UnixMilli() + int64(n) }
	json := func(n int) string {
		return `{"time":"2026-05-02T10:00:00.007Z","type":"platform.report","record":{"requestId":"` + idOf(n) + `","metrics":{"durationMs":5,"billedDurationMs":5},"status":"success"}}`
	}
	retried := reported(6, began.Add(6*time.Millisecond))
	retried.millis += 20_000
	s := newInsights(t,
		reported(0, began),
		event{millis: at(1), message: "REPORT RequestId: " + idOf(1) + "\tDuration: many ms"},
		event{millis: at(2), message: json(2)},
		event{millis: at(3), message: strings.Replace(json(3), `"durationMs":5`, `"durationMs":"5"`, 1)},
		event{millis: at(4), message: "the function says REPORT RequestId: " + idOf(4) + "\tDuration: 1 ms"},
		event{millis: at(5), message: `{"level":"INFO","message":"of a \"platform.report\""}`},
		reported(6, began.Add(6*time.Millisecond)), retried,
	)
	var text strings.Builder
	r := lambdalog.NewReader(s.client(), lambdalog.Options{Poll: time.Millisecond, Log: slog.New(slog.NewTextHandler(&text, nil))})
	records, _ := all(t, r, driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute)})
	check(t, records, []string{idOf(0), idOf(2), idOf(6)})
	if r.Malformed() != 2 || !strings.Contains(text.String(), "count=2") {
		t.Errorf("%d rows are malformed, and the log says %s", r.Malformed(), text.String())
	}
	// The first attempt of a repeated call stands.
	if last := records[2]; last.Time.After(began.Add(time.Second)) {
		t.Errorf("the second attempt at %s was taken", last.Time)
	}
}

func TestMetricsThrottled(t *testing.T) {
	t.Parallel()
	s := newInsights(t, reported(0, began))
	s.refuse["StartQuery:LimitExceededException"] = 3
	s.refuse["GetQueryResults:ThrottlingException"] = 2
	query := driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute)}
	records, _ := all(t, reader(s), query)
	check(t, records, ids(0, 1))

	s.refuse["StartQuery:LimitExceededException"] = 1_000_000
	_, err := reader(s).Metrics(t.Context(), query)
	if !errs.Is(err, codes.ResourceExhausted) || errs.Reason(err) != "LOG_QUERIES_LIMITED" {
		t.Errorf("an account that is always full gives %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	patient := lambdalog.NewReader(s.client(), lambdalog.Options{Backoff: time.Hour})
	if _, err := patient.Metrics(ctx, query); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait whose time is up gives %v", err)
	}
}

func TestMetricsFailures(t *testing.T) {
	t.Parallel()
	query := driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute)}
	for status, want := range map[string]struct {
		code   codes.Code
		reason string
	}{
		"Failed":    {codes.Unavailable, "LOG_QUERY_FAILED"},
		"Timeout":   {codes.DeadlineExceeded, "LOG_QUERY_TIMEOUT"},
		"Cancelled": {codes.Aborted, "LOG_QUERY_CANCELLED"},
	} {
		s := newInsights(t, reported(0, began))
		s.running, s.status = 2, status
		if _, err := reader(s).Metrics(t.Context(), query); !errs.Is(err, want.code) || errs.Reason(err) != want.reason || !strings.Contains(err.Error(), "/aws/lambda/f") {
			t.Errorf("%s gives %v", status, err)
		}
		if s.stops() != 0 {
			t.Errorf("%s: a query that has ended was stopped", status)
		}
	}
	s := newInsights(t, reported(0, began))
	s.refuse["StartQuery:AccessDeniedException"] = 1
	if _, err := reader(s).Metrics(t.Context(), query); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
		t.Errorf("a refusal gives %v", err)
	}
}

func TestMetricsStopsQueries(t *testing.T) {
	t.Parallel()
	query := driver.MetricsQuery{Function: "f", Start: began, End: began.Add(time.Minute)}
	s := newInsights(t, reported(0, began))
	s.running = -1
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	r := reader(s)
	go func() {
		_, err := r.Metrics(ctx, query)
		ended <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); !s.polled(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no query was polled")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was cancelled gives %v", err)
	}
	if s.stops() != 1 {
		t.Errorf("%d queries were stopped instead of the one", s.stops())
	}
	slow := lambdalog.NewReader(s.client(), lambdalog.Options{Poll: time.Millisecond, QueryTimeout: 2 * time.Second})
	if _, err := slow.Metrics(t.Context(), query); errs.Reason(err) != "LOG_QUERY_TIMEOUT" || !errs.Is(err, codes.DeadlineExceeded) {
		t.Errorf("a query that has no end gives %v", err)
	}
	if s.stops() != 2 {
		t.Errorf("%d queries were stopped instead of two", s.stops())
	}
}
