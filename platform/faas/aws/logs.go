package aws

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// defaultLogPage is how many lines a page of a log has where nothing is asked.
const defaultLogPage = 1000

// Logs implements driver.Driver.
func (d *Driver) Logs(ctx context.Context, query driver.LogQuery) (driver.LogPage, error) {
	if err := checkName(query.Function); err != nil {
		return driver.LogPage{}, err
	}
	if query.PageSize <= 0 {
		query.PageSize = defaultLogPage
	}
	if len(query.RequestIDs) > 0 {
		return d.logsOfRequests(ctx, query)
	}
	input := filter(query)
	input.Limit, input.NextToken = sdk.Int32(int32(min(query.PageSize, 10_000))), optional(query.PageToken)
	answer, err := d.logs.FilterLogEvents(ctx, input)
	if err != nil {
		return d.withoutLog(ctx, query.Function, err)
	}
	page := driver.LogPage{NextPageToken: sdk.ToString(answer.NextToken)}
	running := make(map[string]string)
	for _, event := range answer.Events {
		line := lineOf(event.Timestamp, event.LogStreamName, event.Message)
		page.Lines = append(page.Lines, belonging(running, line))
	}
	return page, nil
}

// withoutLog tells a function that never wrote from one that does not exist.
func (d *Driver) withoutLog(ctx context.Context, function string, err error) (driver.LogPage, error) {
	if !missing(err) {
		return driver.LogPage{}, err
	}
	_, err = d.find(ctx, function)
	return driver.LogPage{}, err
}

func filter(query driver.LogQuery) *cloudwatchlogs.FilterLogEventsInput {
	return &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: sdk.String(logGroups + query.Function), StartTime: millis(query.Start), EndTime: millis(query.End),
	}
}

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return sdk.Int64(t.UnixMilli())
}

// logsOfRequests reads the lines of some invocations, one invocation after the other. What a function prints does not
// carry the request id, so the lines between the start and the report of an invocation in its stream are taken: a sandbox
// runs one invocation at a time. A page token is the number of the invocation and of the line in it.
func (d *Driver) logsOfRequests(ctx context.Context, query driver.LogQuery) (driver.LogPage, error) {
	at, skip, err := parseLogToken(query.PageToken)
	if err != nil {
		return driver.LogPage{}, err
	}
	var page driver.LogPage
	for ; at < len(query.RequestIDs); at, skip = at+1, 0 {
		lines, err := d.logOfRequest(ctx, query, query.RequestIDs[at])
		if err != nil {
			return d.withoutLog(ctx, query.Function, err)
		}
		lines = lines[min(skip, len(lines)):]
		if room := query.PageSize - len(page.Lines); len(lines) > room {
			page.Lines = append(page.Lines, lines[:room]...)
			page.NextPageToken = strconv.Itoa(at) + "." + strconv.Itoa(skip+room)
			return page, nil
		}
		page.Lines = append(page.Lines, lines...)
	}
	slices.SortStableFunc(page.Lines, func(a, b driver.LogLine) int { return a.Time.Compare(b.Time) })
	return page, nil
}

func parseLogToken(token string) (request, line int, err error) {
	if token == "" {
		return 0, 0, nil
	}
	first, second, _ := strings.Cut(token, ".")
	request, err = strconv.Atoi(first)
	if err == nil {
		line, err = strconv.Atoi(second)
	}
	if err != nil || request < 0 || line < 0 {
		return 0, 0, errs.Fields(errs.Field("page_token", "%q is not one that this listing gave", token))
	}
	return request, line, nil
}

// logOfRequest reads the lines of one invocation.
func (d *Driver) logOfRequest(ctx context.Context, query driver.LogQuery, id string) ([]driver.LogLine, error) {
	input := filter(query)
	input.FilterPattern = sdk.String(`"` + strings.ReplaceAll(id, `"`, ``) + `"`)
	var own []types.FilteredLogEvent
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(d.logs, input)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		own = append(own, page.Events...)
	}
	start := slices.IndexFunc(own, func(e types.FilteredLogEvent) bool { return started(sdk.ToString(e.Message)) == id })
	if start < 0 {
		// Logs in JSON have no such line, but the id in each.
		lines := make([]driver.LogLine, 0, len(own))
		for _, e := range own {
			line := lineOf(e.Timestamp, e.LogStreamName, e.Message)
			line.RequestID = id
			lines = append(lines, line)
		}
		return lines, nil
	}
	return d.linesFrom(ctx, *input.LogGroupName, own[start], id)
}

// linesFrom reads the stream from the start of an invocation to its report.
func (d *Driver) linesFrom(ctx context.Context, group string, start types.FilteredLogEvent, id string) ([]driver.LogLine, error) {
	input := &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: &group, LogStreamName: start.LogStreamName, StartTime: start.Timestamp, StartFromHead: sdk.Bool(true),
	}
	var lines []driver.LogLine
	inside := false
	for {
		page, err := d.logs.GetLogEvents(ctx, input)
		if err != nil {
			return nil, err
		}
		for _, event := range page.Events {
			line := lineOf(event.Timestamp, start.LogStreamName, event.Message)
			if other := started(line.Text); other != "" {
				if inside && other != id {
					return lines, nil
				}
				inside = other == id
			}
			if !inside {
				continue
			}
			line.RequestID = id
			lines = append(lines, line)
			if strings.HasPrefix(line.Text, "REPORT RequestId: "+id) {
				return lines, nil
			}
		}
		// At the end of a stream the token stays the same.
		if next := sdk.ToString(page.NextForwardToken); next == "" || next == sdk.ToString(input.NextToken) {
			return lines, nil
		}
		input.NextToken = page.NextForwardToken
	}
}

var (
	startLine = regexp.MustCompile(`^START RequestId: ([0-9A-Za-z-]+)`)
	ofRequest = regexp.MustCompile(`(?:RequestId: |^\S+\t)([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})`)
)

// started returns the request whose invocation a line begins, empty for other lines.
func started(text string) string {
	if found := startLine.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}

// belonging completes a line with its request: the one that it names, or the one that runs in its stream.
func belonging(running map[string]string, line driver.LogLine) driver.LogLine {
	if id := started(line.Text); id != "" {
		running[line.Sandbox] = id
	}
	line.RequestID = running[line.Sandbox]
	if found := ofRequest.FindStringSubmatch(line.Text); found != nil {
		line.RequestID = found[1]
	}
	if strings.HasPrefix(line.Text, "REPORT RequestId: ") {
		delete(running, line.Sandbox)
	}
	return line
}

func lineOf(timestamp *int64, stream, message *string) driver.LogLine {
	return driver.LogLine{
		Time: time.UnixMilli(sdk.ToInt64(timestamp)).UTC(), Sandbox: sdk.ToString(stream), Text: strings.TrimRight(sdk.ToString(message), "\r\n"),
	}
}
