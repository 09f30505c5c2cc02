package call

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sebs-suite/sebs/platform/faas"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Library calls functions through the platforms' own APIs. It keeps one opened platform for each credential and region.
type Library struct {
	table faas.Table

	mu     sync.Mutex
	opened map[libraryKey]*faas.Platform
}

type libraryKey struct {
	platform string
	scope    driver.Scope
}

// NewLibrary returns a caller over the platforms of the table.
func NewLibrary(table faas.Table) *Library {
	return &Library{table: table, opened: make(map[libraryKey]*faas.Platform)}
}

// Close closes the platforms that were opened.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	for key, platform := range l.opened {
		problems = append(problems, platform.Close())
		delete(l.opened, key)
	}
	return errors.Join(problems...)
}

// Check refuses a platform that this process has no driver for.
func (l *Library) Check(platform string) error { return l.table.Check(platform) }

func (l *Library) open(ctx context.Context, target Target) (*faas.Platform, error) {
	key := libraryKey{target.Platform, target.Scope}
	l.mu.Lock()
	defer l.mu.Unlock()
	if platform, ok := l.opened[key]; ok {
		return platform, nil
	}
	platform, err := l.table.Open(ctx, target.Platform, target.Scope, faas.Options{})
	if err != nil {
		return nil, err
	}
	l.opened[key] = platform
	return platform, nil
}

// CheckAsync refuses a platform that does not queue calls by itself, or does not tell how they ended.
func (l *Library) CheckAsync(ctx context.Context, target Target) error {
	platform, err := l.open(ctx, target)
	if err != nil {
		return err
	}
	return platform.RequireAsync(ctx)
}

// Call invokes the function through its platform's API. The time of a call that the platform queues runs until its result
// was fetched.
func (l *Library) Call(ctx context.Context, target Target, input Input) Outcome {
	ctx, cancel := context.WithTimeout(ctx, input.Timeout)
	defer cancel()
	outcome := Outcome{Begin: time.Now()}
	platform, err := l.open(ctx, target)
	if err != nil {
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, message)
	}
	asked := driver.Call{Function: target.FunctionID, Payload: input.Payload, Async: input.Async}
	if err := platform.Prepare(ctx, asked); err != nil {
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, message)
	}
	outcome.Begin = time.Now()
	result, err := platform.Invoke(ctx, asked)
	if err == nil && input.Async {
		outcome.RequestID = result.RequestID
		result, err = platform.AsyncResult(ctx, target.FunctionID, result.RequestID)
	}
	outcome.End = time.Now()
	if err != nil {
		class, message := apiFailure(ctx, err, target, input)
		return outcome.fail(class, message)
	}
	outcome.Answer, outcome.RequestID, outcome.Provider = result.Payload, result.RequestID, result.Record
	if result.FunctionError != "" {
		class, message := functionFailure(result.FunctionError, result.Payload, target)
		return outcome.fail(class, message)
	}
	return outcome
}
