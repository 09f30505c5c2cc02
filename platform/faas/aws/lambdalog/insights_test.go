package lambdalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
)

// event is a message in a log group.
type event struct {
	millis  int64
	message string
	// late is how many queries have to be started before the event can be found.
	late int
}

// insights is CloudWatch Logs Insights as far as the reader uses it: it filters by time and by
// the patterns of a query, sorts, limits, and refuses what AWS refuses.
type insights struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex
	groups map[string][]event
	// created is the second in which the groups were made.
	created int64
	// most is how many rows one query answers, and page how many one answer has.
	most, page int
	// running is how often a query answers that it runs before it is done; -1 is for ever.
	running int
	// status is how queries end instead of Complete.
	status string
	// refuse counts calls that are refused, by operation, with the code after the colon.
	refuse map[string]int
	// concurrent is how many queries may be open at once; 0 is unbounded.
	concurrent int

	queries []*insightsQuery
	stopped []string
}

type insightsQuery struct {
	from, to int64
	text     string
	rows     []event
	asked    int
	open     bool
}

func newInsights(t *testing.T, events ...event) *insights {
	t.Helper()
	s := &insights{t: t, groups: map[string][]event{"/aws/lambda/f": events}, most: 10_000, page: 10_000, refuse: make(map[string]int)}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *insights) client() *cloudwatchlogs.Client {
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		BaseEndpoint: aws.String(s.server.URL), Region: "eu-west-1", HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), RetryMaxAttempts: 1,
	})
}

func (s *insights) started() []*insightsQuery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// polled tells whether a client has asked for the results of a query, so that it knows of it.
func (s *insights) polled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.queries, func(q *insightsQuery) bool { return q.asked > 0 })
}

func (s *insights) stops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stopped)
}

func (s *insights) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in struct {
		LogGroupName, QueryString, QueryID, NextToken string
		StartTime, EndTime                            int64
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		if r.Context().Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.t.Errorf("%s: %v", operation, err)
		}
		return // the client is gone
	}
	for key, left := range s.refuse {
		if name, code, _ := strings.Cut(key, ":"); name == operation && left > 0 {
			s.refuse[key]--
			refuse(w, code, "as the script says")
			return
		}
	}
	switch operation {
	case "StartQuery":
		s.start(w, in.LogGroupName, in.QueryString, in.StartTime, in.EndTime)
	case "GetQueryResults":
		s.results(w, in.QueryID, in.NextToken)
	case "StopQuery":
		s.stopped = append(s.stopped, in.QueryID)
		s.query(in.QueryID).open = false
		answer(w, map[string]any{"success": true})
	default:
		s.t.Errorf("operation %s", operation)
	}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(body) // a client that is gone needs no answer
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

func (s *insights) query(id string) *insightsQuery {
	n, err := strconv.Atoi(id)
	if err != nil || n >= len(s.queries) {
		s.t.Errorf("query %q", id)
		return &insightsQuery{}
	}
	return s.queries[n]
}

var (
	pattern = regexp.MustCompile(`@message like /(.*?)/(?: or |$)`)
	limit   = regexp.MustCompile(`^limit (\d+)$`)
)

func (s *insights) start(w http.ResponseWriter, group, text string, from, to int64) {
	events, found := s.groups[group]
	open := 0
	for _, q := range s.queries {
		if q.open {
			open++
		}
	}
	switch {
	case !found:
		refuse(w, "ResourceNotFoundException", "Log group does not exist")
		return
	case len(text) > 10_000 || from > to:
		refuse(w, "InvalidParameterException", "1 validation error detected")
		return
	case to < s.created:
		refuse(w, "MalformedQueryException", "Query's end date and time is either before the log groups creation time or exceeds the log groups log retention settings")
		return
	case s.concurrent > 0 && open >= s.concurrent:
		refuse(w, "LimitExceededException", "Account maximum query concurrency limit of 100 reached")
		return
	}
	most, filters := s.most, [][]*regexp.Regexp{}
	parts := strings.Split(text, " | ")
	for _, part := range parts[1:] {
		switch {
		case strings.HasPrefix(part, "filter "):
			var either []*regexp.Regexp
			for _, m := range pattern.FindAllStringSubmatch(strings.TrimPrefix(part, "filter "), -1) {
				either = append(either, regexp.MustCompile(m[1]))
			}
			filters = append(filters, either)
		case limit.MatchString(part):
			n, err := strconv.Atoi(limit.FindStringSubmatch(part)[1])
			if err != nil {
				s.t.Error(err)
			}
			most = min(most, n)
		case part != "sort @timestamp asc":
			s.t.Errorf("the query has %q", part)
		}
	}
	query := &insightsQuery{from: from, to: to, text: text, open: true}
	for _, e := range events {
		if e.late > len(s.queries) || e.millis < from*1000 || e.millis > to*1000 {
			continue
		}
		if !slices.ContainsFunc(filters, func(either []*regexp.Regexp) bool {
			return !slices.ContainsFunc(either, func(r *regexp.Regexp) bool { return r.MatchString(e.message) })
		}) {
			query.rows = append(query.rows, e)
		}
	}
	slices.SortStableFunc(query.rows, func(a, b event) int { return int(a.millis - b.millis) })
	query.rows = query.rows[:min(most, len(query.rows))]
	s.queries = append(s.queries, query)
	answer(w, map[string]any{"queryId": strconv.Itoa(len(s.queries) - 1)})
}

func (s *insights) results(w http.ResponseWriter, id, token string) {
	q := s.query(id)
	q.asked++
	if s.running < 0 || q.asked <= s.running {
		answer(w, map[string]any{"status": "Running", "results": []any{}})
		return
	}
	q.open = false
	if s.status != "" {
		answer(w, map[string]any{"status": s.status, "results": []any{}})
		return
	}
	skip := 0
	if token != "" {
		var err error
		if skip, err = strconv.Atoi(token); err != nil {
			s.t.Error(err)
		}
	}
	rows := q.rows[skip:]
	body := map[string]any{"status": "Complete"}
	if len(rows) > s.page {
		rows = rows[:s.page]
		body["nextToken"] = strconv.Itoa(skip + s.page)
	}
	results := make([]any, 0, len(rows))
	for i, e := range rows {
		results = append(results, []map[string]string{
			{"field": "@timestamp", "value": time.UnixMilli(e.millis).UTC().Format("2006-01-02 15:04:05.000")},
			{"field": "@message", "value": e.message},
			{"field": "@ptr", "value": strconv.Itoa(i)},
		})
	}
	body["results"] = results
	answer(w, body)
}

// idOf returns a request id whose first digits are spread evenly.
func idOf(n int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(n)*2654435761, n)
}

// reported is the report of the n-th request.
func reported(n int, at time.Time) event {
	return event{millis: at.UnixMilli(), message: fmt.Sprintf(
		"REPORT RequestId: %s\tDuration: %d.25 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\t\n", idOf(n), n, n+1)}
}
