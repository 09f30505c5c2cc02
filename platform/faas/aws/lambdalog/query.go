package lambdalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"

	"github.com/sebs-suite/sebs/internal/errs"
)

// reports selects reports in both log formats.
const reports = `filter @message like /^REPORT RequestId:/ or @message like /"platform\.report"/`

// stopTimeout bounds the call that stops a query which nobody waits for any more.
const stopTimeout = 5 * time.Second

// query asks for the oldest reports of a log group from one second to another, both included.
// A log group that does not exist has none.
func (r *Reader) query(ctx context.Context, group string, from, to int64, filter string) (answer, error) {
	within, cancel := context.WithTimeoutCause(ctx, r.options.QueryTimeout, errSlow)
	defer cancel()
	text := "fields @timestamp, @message | " + reports
	if filter != "" {
		text += " | " + filter
	}
	text += fmt.Sprintf(" | sort @timestamp asc | limit %d", r.options.Limit)
	rows, err := r.run(within, &cloudwatchlogs.StartQueryInput{
		LogGroupName: aws.String(group), StartTime: aws.Int64(from), EndTime: aws.Int64(to), QueryString: aws.String(text),
	})
	switch {
	case err == nil:
		out := r.read(group, rows)
		if out.full && out.last < from*1000 {
			return answer{}, errs.DataLoss("LOG_ANSWER_MALFORMED", "CloudWatch Logs Insights answered rows of log group %s without a time in the range that was asked for", group)
		}
		return out, nil
	case errs.Reason(err) == reasonLimited:
		return answer{}, err
	case hasCode(err, "ResourceNotFoundException"):
		return answer{}, nil
	case ctx.Err() == nil && errors.Is(context.Cause(within), errSlow):
		return answer{}, errs.DeadlineExceeded("LOG_QUERY_TIMEOUT", "the query of log group %s was not done within %s; ask again, or for a shorter time",
			group, r.options.QueryTimeout).Wrap(err)
	default:
		return answer{}, fmt.Errorf("query log group %s: %w", group, err)
	}
}

// errSlow is why the time of a query ended.
var errSlow = errors.New("the query takes too long")

// run starts a query and waits for its rows. A query that is not waited for to its end is stopped.
func (r *Reader) run(ctx context.Context, in *cloudwatchlogs.StartQueryInput) (_ []map[string]string, err error) {
	started, err := again(ctx, r.options.Backoff, func() (*cloudwatchlogs.StartQueryOutput, error) { return r.client.StartQuery(ctx, in) })
	if hasCode(err, "MalformedQueryException") && beforeGroup(err) {
		// The group was made after the end of the range, by the very call that is looked for.
		late := *in
		late.EndTime = aws.Int64(max(aws.ToInt64(in.EndTime), time.Now().Add(futureSlack).Unix()))
		started, err = again(ctx, r.options.Backoff, func() (*cloudwatchlogs.StartQueryOutput, error) { return r.client.StartQuery(ctx, &late) })
		if hasCode(err, "MalformedQueryException") && beforeGroup(err) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if done {
			return
		}
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		// A query that has ended by itself meanwhile cannot be stopped, which is as well.
		_, _ = r.client.StopQuery(stopping, &cloudwatchlogs.StopQueryInput{QueryId: started.QueryId})
	}()
	for pause := r.options.Poll; ; pause = min(pause*3/2, 5*r.options.Poll) {
		answer, err := r.results(ctx, started.QueryId, nil)
		if err != nil {
			return nil, err
		}
		switch answer.Status {
		case types.QueryStatusComplete:
			done = true
			return r.rows(ctx, started.QueryId, answer)
		case types.QueryStatusFailed:
			done = true
			return nil, errs.Unavailable("LOG_QUERY_FAILED", "CloudWatch Logs Insights reports that the query failed; ask again")
		case types.QueryStatusTimeout:
			done = true
			return nil, errs.DeadlineExceeded("LOG_QUERY_TIMEOUT", "CloudWatch Logs Insights gave the query up for its time; ask for a shorter time")
		case types.QueryStatusCancelled:
			done = true
			return nil, errs.Aborted("LOG_QUERY_CANCELLED", "somebody stopped the query in CloudWatch Logs Insights; ask again")
		case types.QueryStatusScheduled, types.QueryStatusRunning, types.QueryStatusUnknown:
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (r *Reader) results(ctx context.Context, query, token *string) (*cloudwatchlogs.GetQueryResultsOutput, error) {
	return again(ctx, r.options.Backoff, func() (*cloudwatchlogs.GetQueryResultsOutput, error) {
		return r.client.GetQueryResults(ctx, &cloudwatchlogs.GetQueryResultsInput{QueryId: query, NextToken: token})
	})
}

// rows gathers the rows of a query that is done, which can come in several answers.
func (r *Reader) rows(ctx context.Context, query *string, first *cloudwatchlogs.GetQueryResultsOutput) ([]map[string]string, error) {
	var out []map[string]string
	for answer := first; ; {
		for _, result := range answer.Results {
			fields := make(map[string]string, len(result))
			for _, field := range result {
				fields[aws.ToString(field.Field)] = aws.ToString(field.Value)
			}
			out = append(out, fields)
		}
		if aws.ToString(answer.NextToken) == "" {
			return out, nil
		}
		var err error
		if answer, err = r.results(ctx, query, answer.NextToken); err != nil {
			return nil, err
		}
	}
}

// reasonLimited is the reason of an error after too many refusals.
const reasonLimited = "LOG_QUERIES_LIMITED"

// limited tells whether err says that there are too many queries or calls: an account has
// 100 queries at once, and five starts in a second.
func limited(err error) bool {
	return hasCode(err, "LimitExceededException", "ThrottlingException", "Throttling", "TooManyRequestsException", "ServiceUnavailableException")
}

// again repeats a call while it is answered that there are too many, for about 60 times the
// first pause.
func again[T any](ctx context.Context, backoff time.Duration, call func() (T, error)) (T, error) {
	waited := time.Duration(0)
	for pause := backoff; ; pause = min(2*pause, 10*backoff) {
		result, err := call()
		if err == nil || !limited(err) {
			return result, err
		}
		if waited >= 60*backoff {
			return result, errs.ResourceExhausted(10*backoff, reasonLimited,
				"CloudWatch Logs refused the query again and again: the account has too many queries at once; ask again later").Wrap(err)
		}
		// Drawn, so that those who were refused together do not come back together.
		drawn := pause/2 + rand.N(pause/2+1)
		if err := sleep(ctx, drawn); err != nil {
			return result, err
		}
		waited += drawn
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// hasCode tells whether err is an answer of AWS with one of the codes.
func hasCode(err error, codes ...string) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && slices.Contains(codes, answer.ErrorCode())
}

// beforeGroup tells whether a query was refused because its range ends before the log group
// was made.
func beforeGroup(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && strings.Contains(answer.ErrorMessage(), "creation time")
}
