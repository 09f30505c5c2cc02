package lambdalog

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Client is what the reader needs of CloudWatch Logs. *cloudwatchlogs.Client has it.
type Client interface {
	StartQuery(ctx context.Context, in *cloudwatchlogs.StartQueryInput, options ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.StartQueryOutput, error)
	GetQueryResults(ctx context.Context, in *cloudwatchlogs.GetQueryResultsInput, options ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetQueryResultsOutput, error)
	StopQuery(ctx context.Context, in *cloudwatchlogs.StopQueryInput, options ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.StopQueryOutput, error)
}

// Options says how a reader works. The zero value is fine.
type Options struct {
	// Limit is the most rows that one query answers, 10,000 if 0, which is what Logs
	// Insights gives at most in one answer.
	Limit int
	// QueryTimeout bounds one query from its start to its result, 5 minutes if 0. A query
	// that is not done by then is stopped.
	QueryTimeout time.Duration
	// Poll is the first pause between two questions for a result, 200 ms if 0. It grows
	// to five times of that.
	Poll time.Duration
	// Backoff is the first pause after an answer that there are too many queries, 1 s if
	// 0. It grows to ten times of that.
	Backoff time.Duration
	// Log takes note of rows that cannot be read; nil keeps silent.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Limit <= 0 {
		o.Limit = 10_000
	}
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = 5 * time.Minute
	}
	if o.Poll <= 0 {
		o.Poll = 200 * time.Millisecond
	}
	if o.Backoff <= 0 {
		o.Backoff = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Reader reads reports of invocations with CloudWatch Logs Insights.
//
// Its method Metrics has the shape and the contract of driver.Driver.Metrics, so a driver
// hands its calls through. One query answers at most 10,000 rows; what is more is read
// second by second, and within a second by the request ids' first digits, so that a page
// is complete for its range of time. Lambda's logs are late by seconds to minutes: a page
// holds what is in the log when it is asked for, and the caller asks again for requests
// that it misses.
//
// A reader may be used by several goroutines at once.
type Reader struct {
	client    Client
	options   Options
	malformed atomic.Int64
}

// NewReader returns a reader.
func NewReader(client Client, options Options) *Reader {
	return &Reader{client: client, options: options.withDefaults()}
}

// Group returns the name of a function's log group.
func Group(function string) string { return "/aws/lambda/" + function }

// Malformed returns how many rows were passed over so far because they could not be read.
// A row that is read again counts again.
func (r *Reader) Malformed() int64 { return r.malformed.Load() }

const (
	// namedIDs is up to how many requests are named in queries instead of reading all of
	// the time range, and idsPerQuery how many of them fit into one query's 10,000 characters.
	namedIDs, idsPerQuery = 1000, 200
	// longestPrefix is how many digits of request ids a second is split by at most.
	longestPrefix = 4
	// futureSlack is how far beyond now an unbounded range ends, since the clocks differ.
	futureSlack = 5 * time.Minute
)

// Metrics returns the records of a function's invocations whose reports the log has, oldest
// first by the time of the report. Start and End are widened to whole seconds, since Logs
// Insights knows no finer ones. A request that ran more than once, as Lambda repeats
// asynchronous calls that failed, has one record in a page: that of its first attempt. A
// function whose log group is not there yet has no records, which is no error. A page can be
// shorter than PageSize and still not be the last.
//
// Errors are those of the client, or of package errs with the reasons LOG_QUERY_FAILED,
// LOG_QUERY_TIMEOUT, LOG_QUERY_CANCELLED, LOG_QUERIES_LIMITED, LOG_ANSWER_MALFORMED and
// LOG_TOO_DENSE.
func (r *Reader) Metrics(ctx context.Context, query driver.MetricsQuery) (driver.MetricsPage, error) {
	at, err := startOf(query)
	if err != nil {
		return driver.MetricsPage{}, err
	}
	ids := requestIDs(query.RequestIDs)
	if len(query.RequestIDs) > 0 && len(ids) == 0 {
		return driver.MetricsPage{}, nil
	}
	s := search{reader: r, group: Group(query.Function), until: endOf(query)}
	if len(ids) > 0 && len(ids) <= namedIDs {
		rows, err := s.named(ctx, at, ids)
		if err != nil {
			return driver.MetricsPage{}, err
		}
		return s.page(rows, at, query.PageSize), nil
	}
	if len(ids) > 0 {
		s.wanted = make(map[string]bool, len(ids))
		for _, id := range ids {
			s.wanted[id] = true
		}
	}
	for at.From < s.until {
		rows, next, err := s.window(ctx, at, "")
		if err != nil {
			return driver.MetricsPage{}, err
		}
		page := s.page(rows, at, query.PageSize)
		if page.NextPageToken == "" && next.From < s.until {
			page.NextPageToken = next.after(rows).token()
		}
		if len(page.Records) > 0 {
			return page, nil
		}
		at = next
	}
	return driver.MetricsPage{}, nil
}

// requestIDs returns the ids that can be those of Lambda, each once. Others, which could
// not stand in a query, have no reports.
func requestIDs(ids []string) []string {
	var out []string
	for _, id := range ids {
		if lambdaID.MatchString(id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var lambdaID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// position is how far a range has been read.
type position struct {
	// From is the second from which on rows are read, and Width how many seconds are
	// asked for at once.
	From  int64 `json:"f"`
	Width int64 `json:"w"`
	// Millis and ID are those of the last row of the page before, in the order of rows.
	Millis int64  `json:"m,omitempty"`
	ID     string `json:"i,omitempty"`
}

func (p position) token() string {
	raw, err := json.Marshal(p)
	if err != nil { // numbers and a text are always encodable
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// after moves the position behind rows.
func (p position) after(rows []row) position {
	if len(rows) > 0 {
		p.Millis, p.ID = rows[len(rows)-1].millis, rows[len(rows)-1].report.RequestID
	}
	return p
}

// passed tells whether a row was answered in an earlier page.
func (p position) passed(r row) bool {
	if p.Millis == 0 && p.ID == "" {
		return false
	}
	return compareRows(r, row{millis: p.Millis, report: Report{RequestID: p.ID}}) <= 0
}

func startOf(query driver.MetricsQuery) (position, error) {
	from := int64(0)
	if !query.Start.IsZero() {
		from = max(0, query.Start.Unix())
	}
	if query.PageToken == "" {
		return position{From: from, Width: math.MaxInt32}, nil
	}
	var p position
	raw, err := base64.RawURLEncoding.DecodeString(query.PageToken)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil || p.From < from || p.Width < 1 || p.Width > math.MaxInt32 {
		return position{}, errs.Fields(errs.Field("page_token", "is none of this query; leave it out for the first page"))
	}
	return p, nil
}

// endOf returns the second that ends the range.
func endOf(query driver.MetricsQuery) int64 {
	end := query.End
	if end.IsZero() {
		end = time.Now().Add(futureSlack)
	}
	// The second that the end lies in belongs to the range as a whole.
	return end.Unix() + 1
}

// search is one question for records.
type search struct {
	reader *Reader
	group  string
	// until is the second that ends the range.
	until int64
	// wanted holds the requests that are asked for; nil means all.
	wanted map[string]bool
}

// page makes records of rows that are in order. Its token is empty unless some of the rows
// are left over.
func (s *search) page(rows []row, at position, size int) driver.MetricsPage {
	var page driver.MetricsPage
	seen := make(map[string]bool)
	for i, row := range rows {
		id := row.report.RequestID
		if at.passed(row) || seen[id] || (s.wanted != nil && !s.wanted[id]) {
			continue
		}
		if size > 0 && len(page.Records) == size {
			next := at.after(rows[:i])
			next.From = max(at.From, next.Millis/1000)
			page.NextPageToken = next.token()
			return page
		}
		seen[id] = true
		page.Records = append(page.Records, row.report.Record(time.UnixMilli(row.millis).UTC()))
	}
	return page
}

// named reads the reports of a few requests.
func (s *search) named(ctx context.Context, at position, ids []string) ([]row, error) {
	var all []row
	for chunk := range slices.Chunk(ids, idsPerQuery) {
		filter := "filter @message like /" + strings.Join(chunk, "|") + "/"
		for from := (position{From: at.From, Width: math.MaxInt32}); from.From < s.until; {
			rows, next, err := s.window(ctx, from, filter)
			if err != nil {
				return nil, err
			}
			all = append(all, rows...)
			from = next
		}
	}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	s.wanted = wanted
	slices.SortStableFunc(all, compareRows)
	return all, nil
}

// window reads one part of the range and returns its rows in order, and where the next part
// begins. The parts get shorter where one is full, and longer where it is not.
func (s *search) window(ctx context.Context, at position, filter string) ([]row, position, error) {
	to := min(s.until, at.From+at.Width)
	answer, err := s.reader.query(ctx, s.group, at.From, to, filter)
	if err != nil {
		return nil, at, err
	}
	next := position{From: to, Width: min(2*at.Width, math.MaxInt32), Millis: at.Millis, ID: at.ID}
	rows := answer.rows
	if answer.full {
		if answer.last/1000 > at.From {
			// The oldest rows were answered: all of the seconds before the last one.
			next.From = min(answer.last/1000, to)
			next.Width = max(1, next.From-at.From)
			rows = slices.DeleteFunc(rows, func(r row) bool { return r.millis >= next.From*1000 })
		} else {
			next.From, next.Width = at.From+1, 1
			if rows, err = s.second(ctx, at.From, filter, ""); err != nil {
				return nil, at, err
			}
		}
	}
	slices.SortStableFunc(rows, compareRows)
	return rows, next, nil
}

// second reads one second whose rows are too many for a query, by the first digits of the
// request ids. Ids that do not go on with a digit are a part of their own.
func (s *search) second(ctx context.Context, from int64, filter, prefix string) ([]row, error) {
	var all []row
	parts := make([]string, 0, 17)
	for _, digit := range "0123456789abcdef" {
		parts = append(parts, prefix+string(digit))
	}
	parts = append(parts, prefix+"[^0-9a-f]")
	for _, part := range parts {
		filters := `filter @message like /(RequestId: |"requestId": ?")` + part + "/"
		if filter != "" {
			filters = filter + " | " + filters
		}
		answer, err := s.reader.query(ctx, s.group, from, from+1, filters)
		if err != nil {
			return nil, err
		}
		rows := answer.rows
		if answer.full && answer.last < (from+1)*1000 {
			if len(part) > longestPrefix {
				return nil, errs.OutOfRange("LOG_TOO_DENSE", "log group %s has more reports in the second from %s than can be read; ask for fewer requests",
					s.group, time.Unix(from, 0).UTC().Format(time.RFC3339))
			}
			if rows, err = s.second(ctx, from, filter, part); err != nil {
				return nil, err
			}
		}
		all = append(all, rows...)
	}
	// A query's end is inclusive; the next second has what is beyond.
	return slices.DeleteFunc(all, func(r row) bool { return r.millis >= (from+1)*1000 }), nil
}

// row is a report in the log.
type row struct {
	// millis is when the log took it, in ms since 1970.
	millis int64
	report Report
}

func compareRows(a, b row) int {
	return cmp.Or(cmp.Compare(a.millis, b.millis), strings.Compare(a.report.RequestID, b.report.RequestID))
}

// timestampLayout is how Logs Insights writes @timestamp, in UTC.
const timestampLayout = "2006-01-02 15:04:05.000"

// parseRow reads the fields of a row. It returns ErrNoReport where the message is none.
func parseRow(fields map[string]string) (row, error) {
	millis, err := parseTimestamp(fields["@timestamp"])
	if err != nil {
		return row{}, err
	}
	message := strings.TrimSpace(fields["@message"])
	// What a function wrote itself can hold a report in its middle.
	if !strings.HasPrefix(message, reportPrefix) && !strings.HasPrefix(message, "{") {
		return row{millis: millis}, ErrNoReport
	}
	report, err := ParseReport(message)
	return row{millis: millis, report: report}, err
}

func parseTimestamp(text string) (int64, error) {
	if t, err := time.Parse(timestampLayout, text); err == nil {
		return t.UnixMilli(), nil
	}
	// Stand-ins of the service answer the number.
	millis, err := strconv.ParseInt(text, 10, 64)
	if err != nil || millis < 0 {
		return 0, fmt.Errorf("@timestamp is %q", text)
	}
	return millis, nil
}

// read takes the reports out of an answer, and passes over rows that it cannot read.
func (r *Reader) read(group string, rows []map[string]string) answer {
	out := answer{full: len(rows) >= r.options.Limit, last: -1}
	var (
		wrong int64
		first error
	)
	for _, fields := range rows {
		row, err := parseRow(fields)
		out.last = max(out.last, row.millis)
		switch {
		case err == nil:
			out.rows = append(out.rows, row)
		case !errors.Is(err, ErrNoReport):
			wrong++
			first = cmp.Or(first, err)
		}
	}
	if wrong > 0 {
		r.malformed.Add(wrong)
		r.options.Log.Warn("reports in the log cannot be read", "group", group, "count", wrong, "first", first)
	}
	return out
}

// answer is what a query gave.
type answer struct {
	rows []row
	// full tells that there may be more rows, and last is the time of the last one in ms.
	full bool
	last int64
}
