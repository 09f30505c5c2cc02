package awsstand

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRows is the most that one query answers.
const maxRows = 10_000

// insights are the queries of CloudWatch Logs Insights, which moto takes without filtering anything. Those over the logs of
// functions are answered here.
type insights struct {
	mu      sync.Mutex
	queries map[string]*query
}

// query is one that was started.
type query struct {
	group    string
	from, to int64 // seconds, both included
	plan     plan
	polls    int
	stopped  bool
}

// plan is what a query string asks for.
type plan struct {
	fields     []string
	filters    []func(logEvent) bool
	sort       string
	descending bool
	limit      int
}

// serveLogs answers CloudWatch Logs: moto does, but for the queries.
func (s *Stand) serveLogs(w http.ResponseWriter, q *request) *refusal {
	switch q.operation {
	case "StartQuery":
		return s.startQuery(w, q)
	case "GetQueryResults", "StopQuery":
		return s.getQuery(w, q)
	}
	out := &recorder{ResponseWriter: w}
	s.pass.ServeHTTP(out, q.Request)
	var in struct {
		Name string `json:"logGroupName"`
	}
	if q.operation == "DeleteLogGroup" && out.status == http.StatusOK && json.Unmarshal(q.body, &in) == nil {
		s.logs.mu.Lock()
		delete(s.logs.groups, in.Name)
		s.logs.mu.Unlock()
	}
	return nil
}

func (s *Stand) startQuery(w http.ResponseWriter, q *request) *refusal {
	var in struct {
		Group  string   `json:"logGroupName"`
		Groups []string `json:"logGroupNames"`
		From   int64    `json:"startTime"`
		To     int64    `json:"endTime"`
		Text   string   `json:"queryString"`
		Limit  int      `json:"limit"`
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	if in.Group == "" && len(in.Groups) == 1 {
		in.Group = in.Groups[0]
	}
	if len(in.Text) > 10_000 || in.From > in.To {
		return refuse(http.StatusBadRequest, "InvalidParameterException", "the query is longer than 10000 characters, or ends before it begins")
	}
	p, err := parseQuery(in.Text)
	if err != nil {
		return refuse(http.StatusBadRequest, "MalformedQueryException", "%v", err)
	}
	if in.Limit > 0 {
		p.limit = min(p.limit, in.Limit)
	}
	there, err := s.groupExists(q, in.Group)
	if err != nil {
		return refuse(http.StatusInternalServerError, "InternalFailure", "%v", err)
	}
	if !there {
		return refuse(http.StatusBadRequest, "ResourceNotFoundException", "Log group '%s' does not exist for account ID '%s'", in.Group, s.Account)
	}
	id := requestID()
	s.insights.mu.Lock()
	defer s.insights.mu.Unlock()
	if s.insights.queries == nil {
		s.insights.queries = make(map[string]*query)
	}
	s.insights.queries[id] = &query{group: in.Group, from: in.From, to: in.To, plan: p, polls: s.script.get().InsightsPolls}
	give(w, http.StatusOK, map[string]string{"queryId": id})
	return nil
}

func (s *Stand) groupExists(q *request, group string) (bool, error) {
	body, err := json.Marshal(map[string]string{"logGroupNamePrefix": group})
	if err != nil {
		return false, err
	}
	a, err := s.moto.target(q.Context(), "logs", "Logs_20140328.DescribeLogGroups", body)
	if err != nil {
		return false, err
	}
	var out struct {
		Groups []struct {
			Name string `json:"logGroupName"`
		} `json:"logGroups"`
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		return false, err
	}
	for _, g := range out.Groups {
		if g.Name == group {
			return true, nil
		}
	}
	return false, nil
}

func (s *Stand) getQuery(w http.ResponseWriter, q *request) *refusal {
	var in struct {
		ID string `json:"queryId"`
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	s.insights.mu.Lock()
	defer s.insights.mu.Unlock()
	asked := s.insights.queries[in.ID]
	switch {
	case asked == nil:
		return refuse(http.StatusBadRequest, "ResourceNotFoundException", "Query %s does not exist.", in.ID)
	case q.operation == "StopQuery":
		if asked.polls == 0 || asked.stopped {
			return refuse(http.StatusBadRequest, "InvalidParameterException", "Query %s has ended.", in.ID)
		}
		asked.stopped = true
		give(w, http.StatusOK, map[string]bool{"success": true})
	case asked.stopped:
		give(w, http.StatusOK, map[string]any{"status": "Cancelled", "results": []any{}})
	case asked.polls > 0:
		asked.polls--
		give(w, http.StatusOK, map[string]any{"status": "Running", "results": []any{}})
	default:
		give(w, http.StatusOK, map[string]any{"status": "Complete", "results": asked.plan.rows(s.logs.between(asked.group, asked.from, asked.to))})
	}
	return nil
}

// between lists the events of a group that can be seen by now.
func (l *logs) between(group string, from, to int64) []logEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var out []logEvent
	for _, e := range l.groups[group] {
		if at := e.time.Unix(); at >= from && at <= to && !e.visible.After(now) {
			out = append(out, e)
		}
	}
	return out
}

// value is a field of an event.
func (e logEvent) value(field string) string {
	switch field {
	case "@message":
		return strings.TrimSuffix(e.message, "\n")
	case "@timestamp":
		return e.time.UTC().Format("2006-01-02 15:04:05.000")
	case "@logStream":
		return e.stream
	case "@requestId":
		if m := requestInLine.FindStringSubmatch(e.message); m != nil {
			return m[1]
		}
	}
	return ""
}

var requestInLine = regexp.MustCompile(`RequestId: ([0-9a-f-]{36})`)

// rows filters, sorts and cuts events.
func (p plan) rows(events []logEvent) [][]map[string]string {
	kept := slices.DeleteFunc(events, func(e logEvent) bool {
		return slices.ContainsFunc(p.filters, func(keep func(logEvent) bool) bool { return !keep(e) })
	})
	slices.SortStableFunc(kept, func(a, b logEvent) int {
		if p.descending {
			a, b = b, a
		}
		return cmp.Compare(a.value(p.sort), b.value(p.sort))
	})
	out := [][]map[string]string{}
	for i, e := range kept[:min(len(kept), p.limit)] {
		var row []map[string]string
		for _, f := range p.fields {
			row = append(row, map[string]string{"field": f, "value": e.value(f)})
		}
		pointer := base64.StdEncoding.EncodeToString(fmt.Append(nil, e.stream, i))
		out = append(out, append(row, map[string]string{"field": "@ptr", "value": pointer}))
	}
	return out
}

// parseQuery understands the commands fields, filter, sort and limit.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
func parseQuery(text string) (plan, error) {
	p := plan{fields: []string{"@timestamp", "@message"}, sort: "@timestamp", descending: true, limit: maxRows}
	for _, command := range split(text, "|") {
		name, rest, _ := strings.Cut(strings.TrimSpace(command), " ")
		rest = strings.TrimSpace(rest)
		switch name {
		case "fields":
			p.fields = nil
			for f := range strings.SplitSeq(rest, ",") {
				p.fields = append(p.fields, strings.TrimSpace(f))
			}
		case "filter":
			keep, err := parseFilter(rest)
			if err != nil {
				return plan{}, err
			}
			p.filters = append(p.filters, keep)
		case "sort":
			field, order, _ := strings.Cut(rest, " ")
			p.sort, p.descending = field, strings.TrimSpace(order) == "desc"
		case "limit":
			n, err := strconv.Atoi(rest)
			if err != nil || n < 1 || n > maxRows {
				return plan{}, fmt.Errorf("limit %q is not between 1 and %d", rest, maxRows)
			}
			p.limit = n
		default:
			return plan{}, fmt.Errorf("unexpected symbol found %q", name)
		}
	}
	return p, nil
}

// split parts a text at a separator that stands neither in a pattern nor in quotes.
func split(text, separator string) []string {
	var (
		out   []string
		quote byte
		start int
	)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '/' || c == '"' || c == '\'':
			quote = c
		case strings.HasPrefix(text[i:], separator):
			out = append(out, text[start:i])
			i += len(separator) - 1
			start = i + 1
		}
	}
	return append(out, text[start:])
}

// parseFilter understands terms joined by or, of which each is terms joined by and.
func parseFilter(text string) (func(logEvent) bool, error) {
	var either [][]func(logEvent) bool
	for _, part := range split(text, " or ") {
		var all []func(logEvent) bool
		for _, term := range split(part, " and ") {
			keep, err := parseTerm(strings.TrimSpace(term))
			if err != nil {
				return nil, err
			}
			all = append(all, keep)
		}
		either = append(either, all)
	}
	return func(e logEvent) bool {
		return slices.ContainsFunc(either, func(all []func(logEvent) bool) bool {
			return !slices.ContainsFunc(all, func(keep func(logEvent) bool) bool { return !keep(e) })
		})
	}, nil
}

// term is a comparison: a field, an operator and a pattern, a text, or a list of texts.
var term = regexp.MustCompile(`(?s)^(@\w+) (like|=|in) (.+)$`)

func parseTerm(text string) (func(logEvent) bool, error) {
	m := term.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("the stand does not understand the filter %q", text)
	}
	field, operator, value := m[1], m[2], strings.TrimSpace(m[3])
	if len(value) > 1 && operator == "like" && value[0] == '/' && value[len(value)-1] == '/' {
		pattern, err := regexp.Compile(value[1 : len(value)-1])
		if err != nil {
			return nil, err
		}
		return func(e logEvent) bool { return pattern.MatchString(e.value(field)) }, nil
	}
	if operator == "in" {
		var list []string
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return nil, fmt.Errorf("the list %q cannot be read: %w", value, err)
		}
		return func(e logEvent) bool { return slices.Contains(list, e.value(field)) }, nil
	}
	plain := strings.Trim(value, `"'`)
	if operator == "like" {
		return func(e logEvent) bool { return strings.Contains(e.value(field), plain) }, nil
	}
	return func(e logEvent) bool { return e.value(field) == plain }, nil
}
