package awsstand

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/sebs-suite/sebs/gen/go/sebs/local/v1"
)

// outcomeConfig is what becomes of events.
type outcomeConfig struct {
	retries          *int
	maxAge           int
	success, failure string
	modified         time.Time
}

// provisionedConfig is a provisioned concurrency.
type provisionedConfig struct {
	count, polls int
	modified     time.Time
}

func (s *Stand) putOutcome(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	var in struct {
		MaximumRetryAttempts     *int
		MaximumEventAgeInSeconds int
		DestinationConfig        struct {
			OnSuccess, OnFailure struct{ Destination string }
		}
	}
	if no := parse(q, &in); no != nil {
		return no
	}
	for _, destination := range []string{in.DestinationConfig.OnSuccess.Destination, in.DestinationConfig.OnFailure.Destination} {
		if destination == "" {
			continue
		}
		if !strings.HasPrefix(destination, "arn:aws:sqs:") {
			return refuse(http.StatusBadRequest, "InvalidParameterValueException", "The provided destination config DestinationConfig(%s) is invalid: the stand knows queues only.", destination)
		}
		if !s.grants(q.Context(), fn.latest.config.Role, "sqs:SendMessage", destination) {
			return refuse(http.StatusBadRequest, "InvalidParameterValueException", "The function's execution role does not have permissions to call SendMessage on %s", destination)
		}
	}
	fn.outcomes[at.qualifier] = &outcomeConfig{
		retries: in.MaximumRetryAttempts, maxAge: in.MaximumEventAgeInSeconds, modified: time.Now(),
		success: in.DestinationConfig.OnSuccess.Destination, failure: in.DestinationConfig.OnFailure.Destination,
	}
	return s.getOutcome(w, fn, at)
}

func (s *Stand) getOutcome(w http.ResponseWriter, fn *function, at route) *refusal {
	c := fn.outcomes[at.qualifier]
	if c == nil {
		return refuse(http.StatusNotFound, "ResourceNotFoundException", "The function %s doesn't have an EventInvokeConfig", s.qualified(fn, at.qualifier))
	}
	to := map[string]any{"OnSuccess": map[string]string{}, "OnFailure": map[string]string{}}
	if c.success != "" {
		to["OnSuccess"] = map[string]string{"Destination": c.success}
	}
	if c.failure != "" {
		to["OnFailure"] = map[string]string{"Destination": c.failure}
	}
	doc := map[string]any{
		"FunctionArn": s.qualified(fn, at.qualifier), "LastModified": float64(c.modified.UnixMilli()) / 1000, "DestinationConfig": to,
	}
	if c.retries != nil {
		doc["MaximumRetryAttempts"] = *c.retries
	}
	if c.maxAge > 0 {
		doc["MaximumEventAgeInSeconds"] = c.maxAge
	}
	give(w, http.StatusOK, doc)
	return nil
}

func (s *Stand) deleteOutcome(w http.ResponseWriter, fn *function, at route) *refusal {
	if fn.outcomes[at.qualifier] == nil {
		return refuse(http.StatusNotFound, "ResourceNotFoundException", "The function %s doesn't have an EventInvokeConfig", s.qualified(fn, at.qualifier))
	}
	delete(fn.outcomes, at.qualifier)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// defaultRetries is how often Lambda runs an event again whose function failed.
const defaultRetries = 2

// invokeEvent takes an event and runs it without anybody waiting.
func (s *Stand) invokeEvent(w http.ResponseWriter, fn *function, qualifier string, snap *snapshot, event []byte) *refusal {
	id, no := s.queue(fn, qualifier, snap, event)
	if no != nil {
		return no
	}
	w.Header().Set("X-Amzn-Requestid", id)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// queue hands an event to the host, follows it in the background, and returns its request id.
func (s *Stand) queue(fn *function, qualifier string, snap *snapshot, event []byte) (string, *refusal) {
	if err := s.deploy(s.ctx, snap); err != nil {
		return "", hostError(err)
	}
	began := time.Now()
	queued, err := s.host.InvokeFunction(s.ctx, &localv1.InvokeFunctionRequest{
		FunctionId: snap.local, Payload: event, InvocationType: localv1.InvokeFunctionRequest_INVOCATION_TYPE_EVENT,
	})
	if err != nil {
		return "", hostError(err)
	}
	fn.mu.Lock()
	fn.invocations++
	config := outcomeConfig{}
	if c := fn.outcomes[qualifier]; c != nil {
		config = *c
	}
	fn.mu.Unlock()
	s.running.Go(func() { s.follow(fn, snap, config, event, queued.GetRequestId(), began) })
	return queued.GetRequestId(), nil
}

// follow waits for an event, has it repeated when it fails, and tells the destination.
func (s *Stand) follow(fn *function, snap *snapshot, config outcomeConfig, event []byte, id string, began time.Time) {
	out, err := s.awaitEvent(snap, id, began)
	if err != nil {
		if s.ctx.Err() == nil {
			s.t.Logf("awsstand: event %s of %s: %v", id, fn.name, err)
		}
		return
	}
	s.conclude(fn, snap, out)
	attempts, retries := 1, defaultRetries
	if config.retries != nil {
		retries = *config.retries
	}
	for ; out.failed && attempts <= retries; attempts++ {
		again, no := s.run(s.ctx, fn, snap, event)
		if no != nil {
			return
		}
		out = again
	}
	destination, condition := config.success, "Success"
	response := map[string]any{"statusCode": http.StatusOK, "executedVersion": snap.config.Version}
	if out.failed {
		destination, condition = config.failure, "RetriesExhausted"
		response["functionError"] = "Unhandled"
	}
	if destination == "" {
		return
	}
	arn := s.arn(fn.name) + ":" + snap.config.Version
	if err := s.deliver(s.ctx, snap, destination, map[string]any{
		"version": "1.0", "timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "requestPayload": document(event),
		"requestContext":  map[string]any{"requestId": id, "functionArn": arn, "condition": condition, "approximateInvokeCount": attempts},
		"responseContext": response, "responsePayload": document(out.payload),
	}); err != nil && s.ctx.Err() == nil {
		s.t.Logf("awsstand: outcome of %s for %s: %v", id, destination, err)
	}
}

// document is a JSON text as part of another one.
func document(raw []byte) any {
	if len(raw) == 0 {
		return map[string]any{}
	}
	return json.RawMessage(raw)
}

// awaitEvent waits until the host has run an event.
func (s *Stand) awaitEvent(snap *snapshot, id string, began time.Time) (*invocation, error) {
	for {
		page, err := s.host.ListLocalInvocations(s.ctx, &localv1.ListLocalInvocationsRequest{
			FunctionId: snap.local, RequestIds: []string{id}, StartTime: timestamppb.New(began.Add(-time.Second)),
		})
		if err != nil {
			return nil, err
		}
		if list := page.GetInvocations(); len(list) > 0 {
			lines, err := s.host.ListLocalLogs(s.ctx, &localv1.ListLocalLogsRequest{FunctionId: snap.local, RequestId: id})
			if err != nil {
				return nil, err
			}
			var text strings.Builder
			for _, line := range lines.GetLines() {
				text.WriteString(line.GetText() + "\n")
			}
			return &invocation{
				requestID: id, payload: list[0].GetPayload(), failed: list[0].GetFunctionError() != "", tail: text.String(), record: list[0],
			}, nil
		}
		select {
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		case <-time.After(pollStep):
		}
	}
}

// deliver sends a record to a queue, where the role of the function may.
func (s *Stand) deliver(ctx context.Context, snap *snapshot, queue string, record map[string]any) error {
	if !s.grants(ctx, snap.config.Role, "sqs:SendMessage", queue) {
		return fmt.Errorf("the role %s does not grant sqs:SendMessage", snap.config.Role)
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	name := queue[strings.LastIndex(queue, ":")+1:]
	body, err := json.Marshal(map[string]string{"QueueUrl": s.Endpoint + "/" + s.Account + "/" + name, "MessageBody": string(text)})
	if err != nil {
		return err
	}
	a, err := s.moto.ask(ctx, "sqs", http.MethodPost, "/", http.Header{
		"X-Amz-Target": {"AmazonSQS.SendMessage"}, "Content-Type": {"application/x-amz-json-1.0"},
	}, body)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("moto answers %d: %s", a.status, a.body)
	}
	return nil
}

func (s *Stand) putProvisioned(w http.ResponseWriter, q *request, fn *function, at route) *refusal {
	var in struct{ ProvisionedConcurrentExecutions int }
	if no := parse(q, &in); no != nil {
		return no
	}
	switch {
	case at.qualifier == "":
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	case in.ProvisionedConcurrentExecutions < 1:
		return refuse(http.StatusBadRequest, "ValidationException", "Value '%d' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1", in.ProvisionedConcurrentExecutions)
	case fn.reserved != nil && *fn.reserved < in.ProvisionedConcurrentExecutions:
		return refuse(http.StatusBadRequest, "InvalidParameterValueException", "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	}
	c := &provisionedConfig{count: in.ProvisionedConcurrentExecutions, polls: max(1, s.script.get().PendingPolls), modified: time.Now()}
	fn.provisioned[at.qualifier] = c
	if snap := fn.pickLocked(at.qualifier); snap != nil {
		s.running.Go(func() { s.warm(snap, c.count) })
	}
	give(w, http.StatusAccepted, c.describe())
	return nil
}

// warm starts the sandboxes of a provisioned concurrency.
func (s *Stand) warm(snap *snapshot, count int) {
	err := s.deploy(s.ctx, snap)
	if err == nil {
		_, err = s.host.WarmFunction(s.ctx, &localv1.WarmFunctionRequest{FunctionId: snap.local, Count: int32(count)})
	}
	if err != nil && s.ctx.Err() == nil {
		s.t.Logf("awsstand: provisioned concurrency of %s: %v", snap.local, err)
	}
}

func (c *provisionedConfig) describe() map[string]any {
	doc := map[string]any{
		"RequestedProvisionedConcurrentExecutions": c.count, "AllocatedProvisionedConcurrentExecutions": 0,
		"AvailableProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS", "LastModified": stamp(c.modified),
	}
	if c.polls == 0 {
		doc["Status"], doc["AllocatedProvisionedConcurrentExecutions"], doc["AvailableProvisionedConcurrentExecutions"] = "READY", c.count, c.count
	}
	return doc
}

func noProvisioned() *refusal {
	return refuse(http.StatusNotFound, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function")
}

func (s *Stand) getProvisioned(w http.ResponseWriter, fn *function, at route) *refusal {
	c := fn.provisioned[at.qualifier]
	if c == nil {
		return noProvisioned()
	}
	give(w, http.StatusOK, c.describe())
	c.polls = max(0, c.polls-1)
	return nil
}

func (s *Stand) deleteProvisioned(w http.ResponseWriter, fn *function, at route) *refusal {
	if fn.provisioned[at.qualifier] == nil {
		return noProvisioned()
	}
	delete(fn.provisioned, at.qualifier)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
