package awsstand

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// logEvent is one line in CloudWatch Logs.
type logEvent struct {
	time    time.Time
	message string
	stream  string
	// visible is from when on it can be seen.
	visible time.Time
}

// batch is the log of one invocation on its way to CloudWatch Logs.
type batch struct {
	group string
	// makeGroup says that the role lets Lambda make the group.
	makeGroup bool
	events    []logEvent
}

// logs brings the logs of functions to CloudWatch Logs, as Lambda does: a moment after the answer.
type logs struct {
	stand *Stand

	mu      sync.Mutex
	groups  map[string][]logEvent
	waiting []batch
	wake    chan struct{}
	streams map[string]bool // group and stream that moto knows
}

func newLogs(s *Stand) *logs {
	return &logs{stand: s, groups: make(map[string][]logEvent), wake: make(chan struct{}, 1), streams: make(map[string]bool)}
}

// add takes the log of an invocation.
func (l *logs) add(name string, snap *snapshot, in *invocation) {
	start, end := time.Now(), time.Now()
	sandbox := in.requestID
	if r := in.record; r != nil {
		start, sandbox = r.GetStartTime().AsTime(), r.GetSandboxId()
		end = start.Add(time.Duration(r.GetDurationUs()) * time.Microsecond)
	}
	group := "/aws/lambda/" + name
	arn := "arn:aws:logs:" + l.stand.Region + ":" + l.stand.Account + ":log-group:" + group
	may := func(action, resource string) bool {
		return l.stand.grants(l.stand.ctx, snap.config.Role, action, resource)
	}
	// Without the permissions a function runs and leaves no log.
	if !may("logs:PutLogEvents", arn+":log-stream:x") || !may("logs:CreateLogStream", arn+":x") {
		return
	}
	stream := fmt.Sprintf("%s/[%s]%s", start.UTC().Format("2006/01/02"), snap.config.Version, digest([]byte(sandbox))[:32])
	visible := time.Now().Add(l.stand.script.get().LogDelay)
	out := batch{group: group, makeGroup: may("logs:CreateLogGroup", arn+":x")}
	for line := range strings.Lines(in.tail) {
		e := logEvent{time: start, message: line, stream: stream, visible: visible}
		if strings.HasPrefix(line, "END ") || strings.HasPrefix(line, "REPORT ") {
			e.time = end
		}
		out.events = append(out.events, e)
	}
	l.mu.Lock()
	l.groups[out.group] = append(l.groups[out.group], out.events...)
	l.waiting = append(l.waiting, out)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write hands batches to moto when they become visible, until the stand ends.
func (l *logs) write() {
	ctx := l.stand.ctx
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, next := l.due(time.Now())
		for _, b := range due {
			if err := l.put(ctx, b); err != nil && ctx.Err() == nil {
				l.stand.t.Logf("awsstand: logs of %s: %v", b.group, err)
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// due takes out the batches that are visible now, and tells how long the next one takes.
func (l *logs) due(now time.Time) (due []batch, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = time.Hour
	var later []batch
	for _, b := range l.waiting {
		wait := time.Duration(0)
		if len(b.events) > 0 {
			wait = b.events[0].visible.Sub(now)
		}
		if wait <= 0 {
			due = append(due, b)
			continue
		}
		later, next = append(later, b), min(next, wait)
	}
	l.waiting = later
	return due, next
}

// put writes a batch, and makes group and stream where they are not there.
func (l *logs) put(ctx context.Context, b batch) error {
	if len(b.events) == 0 {
		return nil
	}
	type event struct {
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	}
	name := map[string]any{"logGroupName": b.group, "logStreamName": b.events[0].stream}
	var events []event
	for _, e := range b.events {
		events = append(events, event{e.time.UnixMilli(), strings.TrimSuffix(e.message, "\n")})
	}
	key := b.group + "\x00" + b.events[0].stream
	for attempt := 0; ; attempt++ {
		if !l.streams[key] {
			for _, operation := range []string{"CreateLogGroup", "CreateLogStream"} {
				if operation == "CreateLogGroup" && !b.makeGroup {
					continue
				}
				// One that is there already is no harm; any other problem shows when the events are put.
				if _, err := l.call(ctx, operation, name, operation == "CreateLogGroup"); err != nil {
					return err
				}
			}
			l.streams[key] = true
		}
		a, err := l.call(ctx, "PutLogEvents", map[string]any{
			"logGroupName": b.group, "logStreamName": b.events[0].stream, "logEvents": events,
		}, false)
		switch {
		case err != nil:
			return err
		case a.status == http.StatusOK:
			return nil
		case attempt > 0 && !b.makeGroup:
			return nil // nobody made the group
		case attempt > 0:
			return fmt.Errorf("moto answers %d: %s", a.status, a.body)
		}
		delete(l.streams, key) // the group was deleted meanwhile
	}
}

func (l *logs) call(ctx context.Context, operation string, in map[string]any, groupOnly bool) (*answer, error) {
	if groupOnly {
		in = map[string]any{"logGroupName": in["logGroupName"]}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return l.stand.moto.target(ctx, "logs", "Logs_20140328."+operation, body)
}
