package aws

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Times of the queue of outcomes.
const (
	// outcomeRetention is how long an outcome can be fetched.
	outcomeRetention = 6 * time.Hour
	// outcomeVisibility is how long a message that one process reads is hidden from others.
	outcomeVisibility = 30 * time.Second
	// outcomeWait is how long one look waits for messages.
	outcomeWait = time.Second
	// eventMemory is how long a destination counts as there after it was set.
	eventMemory = 10 * time.Minute
)

// ReasonNoOutcome is the reason while the outcome of a call is not there.
const ReasonNoOutcome = "ASYNC_RESULT_NOT_READY"

// eventState is what this driver knows of the destination of a function's events.
type eventState struct {
	// work lets one call at a time set the destination.
	work sync.Mutex
	// alias is what the destination was set for, and seen when.
	alias string
	seen  time.Time
}

// ensureEvents has Lambda send the outcome of every event to the deployment's queue, and try each event once: a
// measurement counts each attempt.
func (d *Driver) ensureEvents(ctx context.Context, function string, q qualifier) error {
	d.mu.Lock()
	state := d.events[function]
	if state == nil {
		state = &eventState{}
		d.events[function] = state
	}
	d.mu.Unlock()
	state.work.Lock()
	defer state.work.Unlock()
	if state.alias == q.alias && time.Since(state.seen) < eventMemory {
		return nil
	}
	if q.deployment == "" {
		return errs.FailedPrecondition("FUNCTION_WITHOUT_DEPLOYMENT",
			"function %s does not carry the tag %s, so that there is no queue for the outcomes of its events; deploy it with the suite", function, TagDeployment)
	}
	got, err := d.get(ctx, function)
	if err != nil {
		return err
	}
	who, err := d.identify(ctx)
	if err != nil {
		return err
	}
	name := nameQueue + q.deployment
	if err := d.until(ctx, "queue "+name, func(ctx context.Context) (bool, error) {
		_, err := d.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{
			QueueName: &name,
			Attributes: map[string]string{
				string(sqstypes.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(outcomeRetention.Seconds())),
				string(sqstypes.QueueAttributeNameVisibilityTimeout):      strconv.Itoa(int(outcomeVisibility.Seconds())),
			},
			Tags: map[string]string{TagDeployment: escape(q.deployment)},
		})
		return err == nil, err
	}); err != nil {
		return err
	}
	queue := d.arn(who, "sqs", name)
	// A role that was given is left as it is: Lambda then says whether it lacks the permission.
	if role := sdk.ToString(got.Configuration.Role); role == d.roleARN(who, q.deployment) {
		if _, err := d.grant(ctx, q.deployment, asyncPolicy(queue)); err != nil {
			return err
		}
	}
	if err := d.change(ctx, function, func(ctx context.Context) error {
		_, err := d.lambda.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
			FunctionName: &function, Qualifier: optional(q.alias), MaximumRetryAttempts: sdk.Int32(0),
			DestinationConfig: &types.DestinationConfig{
				OnSuccess: &types.OnSuccess{Destination: &queue}, OnFailure: &types.OnFailure{Destination: &queue},
			},
		})
		return err
	}); err != nil {
		return err
	}
	state.alias, state.seen = q.alias, time.Now()
	return nil
}

// roleARN is the ARN of the role that the suite makes for a deployment.
func (d *Driver) roleARN(who account, deployment string) string {
	return "arn:" + who.partition + ":iam::" + who.id + ":role/" + nameRole + deployment
}

// AsyncResult implements driver.AsyncResulter. The queue is the deployment's, so one look may bring outcomes of other
// calls: those of calls that this process made are kept for whoever asks, the others given back at once.
func (d *Driver) AsyncResult(ctx context.Context, function, requestID string) (driver.CallResult, error) {
	absent := errs.NotFound(ReasonNoOutcome, "the outcome of request %s of function %s is not there yet", requestID, function)
	if result, ok := d.outcomes.take(requestID); ok {
		return result, nil
	}
	q, err := d.qualifierOf(ctx, function)
	if err != nil {
		return driver.CallResult{}, err
	}
	queue, err := d.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: sdk.String(nameQueue + q.deployment)})
	if missing(err) {
		return driver.CallResult{}, absent
	}
	if err != nil {
		return driver.CallResult{}, err
	}
	d.outcomes.await(requestID)
	answer, err := d.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: queue.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: int32(outcomeWait.Seconds()),
	})
	if err != nil {
		return driver.CallResult{}, err
	}
	if err := d.sort(ctx, queue.QueueUrl, answer.Messages); err != nil {
		return driver.CallResult{}, err
	}
	if result, ok := d.outcomes.take(requestID); ok {
		return result, nil
	}
	return driver.CallResult{}, absent
}

// sort keeps the outcomes in messages, deletes those that this process awaits, and gives the others back.
func (d *Driver) sort(ctx context.Context, queue *string, messages []sqstypes.Message) error {
	var mine []sqstypes.DeleteMessageBatchRequestEntry
	var others []sqstypes.ChangeMessageVisibilityBatchRequestEntry
	for i, message := range messages {
		id, result, err := readOutcome([]byte(sdk.ToString(message.Body)))
		entry := sdk.String(strconv.Itoa(i))
		switch {
		case err != nil:
			// Nobody can use it; it stays hidden for a while, and the queue drops it in the end.
		case d.outcomes.keep(id, result):
			mine = append(mine, sqstypes.DeleteMessageBatchRequestEntry{Id: entry, ReceiptHandle: message.ReceiptHandle})
		default:
			others = append(others, sqstypes.ChangeMessageVisibilityBatchRequestEntry{Id: entry, ReceiptHandle: message.ReceiptHandle})
		}
	}
	if len(others) > 0 {
		if _, err := d.sqs.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: queue, Entries: others}); err != nil {
			return err
		}
	}
	if len(mine) > 0 {
		if _, err := d.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: queue, Entries: mine}); err != nil {
			return err
		}
	}
	return nil
}

// outcomeMessage is what Lambda sends to a destination
// (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html).
type outcomeMessage struct {
	RequestContext struct {
		RequestID string `json:"requestId"`
		Condition string `json:"condition"`
	} `json:"requestContext"`
	ResponseContext *struct {
		FunctionError string `json:"functionError"`
	} `json:"responseContext"`
	ResponsePayload json.RawMessage `json:"responsePayload"`
}

// readOutcome reads a message of the queue.
func readOutcome(body []byte) (requestID string, result driver.CallResult, err error) {
	var message outcomeMessage
	if err := json.Unmarshal(body, &message); err != nil || message.RequestContext.RequestID == "" {
		return "", driver.CallResult{}, errs.InvalidArgument("OUTCOME_MALFORMED", "a message is no outcome of an event: %v", err)
	}
	result = driver.CallResult{RequestID: message.RequestContext.RequestID, Payload: message.ResponsePayload}
	if message.ResponseContext != nil {
		result.FunctionError = message.ResponseContext.FunctionError
	}
	if result.FunctionError == "" && message.RequestContext.Condition != "Success" {
		// The event grew too old, or its attempts were used up, without an answer of the function.
		result.FunctionError = message.RequestContext.Condition
	}
	return message.RequestContext.RequestID, result, nil
}

// Bounds of the memory of outcomes.
const (
	maxAwaited      = 100_000
	maxOutcomes     = 10_000
	maxOutcomeBytes = 64 << 20
)

// outcomes keeps how events ended until somebody asks. The oldest go first when there are too many.
type outcomes struct {
	mu sync.Mutex
	// awaited are the calls that this process made or asks for, and has no outcome of.
	awaited      map[string]bool
	awaitedOrder []string
	ended        map[string]driver.CallResult
	endedOrder   []string
	bytes        int
}

// await notes that this process will ask for an outcome.
func (o *outcomes) await(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.awaited == nil {
		o.awaited, o.ended = make(map[string]bool), make(map[string]driver.CallResult)
	}
	if o.awaited[id] {
		return
	}
	o.awaited[id] = true
	o.awaitedOrder = append(o.awaitedOrder, id)
	for len(o.awaitedOrder) > maxAwaited {
		delete(o.awaited, o.awaitedOrder[0])
		o.awaitedOrder = o.awaitedOrder[1:]
	}
}

// keep stores an outcome and tells whether this process awaits it.
func (o *outcomes) keep(id string, result driver.CallResult) (awaited bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended == nil {
		o.awaited, o.ended = make(map[string]bool), make(map[string]driver.CallResult)
	}
	if _, known := o.ended[id]; !known {
		o.ended[id] = result
		o.endedOrder = append(o.endedOrder, id)
		o.bytes += len(result.Payload)
	}
	for len(o.endedOrder) > 1 && (len(o.endedOrder) > maxOutcomes || o.bytes > maxOutcomeBytes) {
		oldest := o.endedOrder[0]
		o.endedOrder = o.endedOrder[1:]
		o.bytes -= len(o.ended[oldest].Payload)
		delete(o.ended, oldest)
	}
	return o.awaited[id]
}

// take returns an outcome and forgets it.
func (o *outcomes) take(id string) (driver.CallResult, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	result, ok := o.ended[id]
	if ok {
		delete(o.ended, id)
		delete(o.awaited, id)
		o.bytes -= len(result.Payload)
		for i, other := range o.endedOrder {
			if other == id {
				o.endedOrder = append(o.endedOrder[:i], o.endedOrder[i+1:]...)
				break
			}
		}
	}
	return result, ok
}
