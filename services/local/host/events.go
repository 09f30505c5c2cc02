package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sebs-suite/sebs/internal/errs"
)

const (
	// MaxKeptAnswer is the largest answer of an event that is kept.
	MaxKeptAnswer = 256 << 10
	// keptAnswers is how many answers of a function are kept.
	keptAnswers = 1000
	// maxEventAge is how long an event may wait for a free sandbox.
	maxEventAge = 15 * time.Minute
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// InvokeEvent queues an invocation and returns its request id. The function runs as soon as a sandbox is free; record and
// answer can be read with Records and Answer. Events that wait when the host closes are dropped.
func (h *Host) InvokeEvent(c Call) (string, error) {
	if c.RequestID != "" && !requestIDPattern.MatchString(c.RequestID) {
		return "", errs.Fields(errs.Field("request_id", "%q is no request id; use up to 128 letters, digits, '.', '_' and '-'", c.RequestID))
	}
	f, err := h.enter(&c)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	full := h.waiting >= h.options.MaxEvents
	if !full {
		h.waiting++
	}
	h.mu.Unlock()
	if full {
		h.background.Done()
		return "", errs.ResourceExhausted(time.Second, "EVENT_QUEUE_FULL", "%d events are waiting already; try again later", h.options.MaxEvents)
	}
	go func() {
		defer h.background.Done()
		defer func() {
			h.mu.Lock()
			h.waiting--
			h.mu.Unlock()
		}()
		h.runEvent(f, c)
	}()
	return c.RequestID, nil
}

// runEvent invokes when a sandbox is free.
func (h *Host) runEvent(f *function, c Call) {
	ctx, cancel := context.WithTimeout(h.ctx, maxEventAge)
	defer cancel()
	for {
		freed := f.waitFreed()
		_, err := h.invoke(ctx, f, c, true)
		if err == nil {
			return
		}
		if errs.Reason(err) != "THROTTLED" {
			h.dropEvent(f, c, err)
			return
		}
		retry := time.NewTimer(time.Second) // the host's limit may be what is in the way, which the function does not hear of
		select {
		case <-freed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			h.dropEvent(f, c, fmt.Errorf("the event waited too long for a free sandbox: %w", err))
			return
		}
		retry.Stop()
	}
}

// dropEvent leaves a record of an event that was never run.
func (h *Host) dropEvent(f *function, c Call, err error) {
	h.failedStart(f, f.definition(), c, time.Now(), nil, &failure{kind: FailureUnhandled, typ: "Event.Dropped", message: err.Error()}, true)
}

// keepAnswer stores the answer of an event beside the records.
func (h *Host) keepAnswer(f *function, rec Record, body []byte) {
	if len(body) > MaxKeptAnswer {
		body = errorDocument("Event.AnswerTooLarge", fmt.Sprintf("the answer has %d bytes, at most %d are kept; have the function write it to the object store", len(body), MaxKeptAnswer), rec.RequestID)
	}
	dir := filepath.Join(f.dir, "answers")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, rec.RequestID+".json"), body, 0o600)
	}
	if err != nil {
		h.log.Warn("answer of an event cannot be kept", "function", rec.Function, "request_id", rec.RequestID, "error", err)
		return
	}
	f.pruneAnswers(dir)
}

func errorDocument(kind, message, requestID string) []byte {
	raw, err := json.Marshal(errorBody{ErrorType: kind, ErrorMessage: message, RequestID: requestID})
	if err != nil {
		return []byte("{}")
	}
	return raw
}

// pruneAnswers removes the oldest answers, a tenth at a time so that it is rarely done.
func (f *function) pruneAnswers(dir string) {
	f.mu.Lock()
	f.answers++
	due := f.answers >= keptAnswers/10
	if due {
		f.answers = 0
	}
	f.mu.Unlock()
	if !due {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= keptAnswers {
		return
	}
	type aged struct {
		name string
		time time.Time
	}
	var all []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			all = append(all, aged{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.name, b.name)) })
	for _, a := range all[:max(0, len(all)-keptAnswers)] {
		_ = os.Remove(filepath.Join(dir, a.name))
	}
}

// Answer returns what an event answered; errs.NotFound while it has not, and when the answer is no longer kept.
func (h *Host) Answer(name, requestID string) ([]byte, error) {
	f, err := h.find(name)
	if err != nil {
		return nil, err
	}
	if !requestIDPattern.MatchString(requestID) {
		return nil, errs.Fields(errs.Field("request_id", "%q is no request id", requestID))
	}
	body, err := os.ReadFile(filepath.Join(f.dir, "answers", requestID+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFound("ANSWER_NOT_FOUND", "there is no answer of request %s to function %q: it is not there yet, was not an event, or is no longer kept", requestID, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", requestID, err)
	}
	return body, nil
}

// notification is the part of an S3 event message that matters here.
type notification struct {
	Records []struct {
		EventName string `json:"eventName"`
		S3        struct {
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key  string `json:"key"`
				Size int64  `json:"size"`
				ETag string `json:"eTag"`
			} `json:"object"`
		} `json:"s3"`
	} `json:"Records"`
}

// ObjectCreated reports an object to the functions whose storage trigger covers it, and returns the request ids of the
// events that it became. The request id is the name of the object without its folder and the ending .json, where that is a
// valid one, so that who stores an object knows the id beforehand.
func (h *Host) ObjectCreated(bucket, key string, size int64) ([]string, error) {
	var ids []string
	var problems []error
	for _, f := range h.functions() {
		d := f.definition()
		t := d.Trigger
		if t == nil || t.Bucket != bucket || !strings.HasPrefix(key, prefixDir(t.Prefix)) || strings.HasPrefix(key, prefixDir(cmp.Or(t.ResultsPrefix, "results"))) {
			continue
		}
		payload, err := json.Marshal(message(bucket, key, size))
		if err != nil {
			return ids, fmt.Errorf("encode storage event: %w", err)
		}
		id := strings.TrimSuffix(key[strings.LastIndexByte(key, '/')+1:], ".json")
		if !requestIDPattern.MatchString(id) {
			id = ""
		}
		id, err = h.InvokeEvent(Call{Function: d.Name, Payload: payload, RequestID: id})
		if err != nil {
			problems = append(problems, fmt.Errorf("storage event %s/%s for function %s: %w", bucket, key, d.Name, err))
			continue
		}
		ids = append(ids, id)
	}
	return ids, errors.Join(problems...)
}

// prefixDir makes "in" mean the folder in/, not also the folder inside/. An empty prefix means every object.
func prefixDir(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// message builds the event in the form that S3 sends.
func message(bucket, key string, size int64) map[string]any {
	return map[string]any{"Records": []any{map[string]any{
		"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "local",
		"eventTime": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "eventName": "ObjectCreated:Put",
		"s3": map[string]any{
			"s3SchemaVersion": "1.0",
			"bucket":          map[string]any{"name": bucket, "arn": "arn:aws:s3:::" + bucket},
			"object":          map[string]any{"key": url.QueryEscape(key), "size": size},
		},
	}}}
}

// ObjectEvents takes a message of the object store's event sink, in the form of S3 event notifications. Others than creations
// are left out.
func (h *Host) ObjectEvents(raw []byte) ([]string, error) {
	var n notification
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, errs.InvalidArgument("EVENT_INVALID", "the message is no S3 event notification: %v", err)
	}
	var ids []string
	var problems []error
	for _, r := range n.Records {
		if !strings.Contains(r.EventName, "ObjectCreated:") {
			continue
		}
		key, err := url.QueryUnescape(r.S3.Object.Key)
		if err != nil {
			key = r.S3.Object.Key
		}
		made, err := h.ObjectCreated(r.S3.Bucket.Name, key, r.S3.Object.Size)
		ids = append(ids, made...)
		problems = append(problems, err)
	}
	return ids, errors.Join(problems...)
}
