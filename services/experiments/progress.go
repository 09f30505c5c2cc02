package experiments

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
)

// Phases of a run.
const (
	phaseDeployment = "deployment"
	phaseInput      = "input"
	phasePackage    = "package"
	phaseFunction   = "function"
	phaseTrigger    = "trigger"
	phaseInvoke     = "invoke"
	phaseResults    = "results"
)

// progress gathers how far a run is and hands it on. Parts of a run that go side by side share it.
type progress struct {
	tell func(*experimentsv1.RunMetadata)

	mu    sync.Mutex
	state *experimentsv1.RunMetadata
}

func newProgress(run string, started time.Time, steps []*experimentsv1.RunStep, tell func(*experimentsv1.RunMetadata)) *progress {
	p := &progress{tell: tell, state: &experimentsv1.RunMetadata{Run: run, StartTime: timestamppb.New(started), Steps: steps}}
	tell(proto.CloneOf(p.state))
	return p
}

// change edits the state and tells it.
func (p *progress) change(edit func(*experimentsv1.RunMetadata)) {
	p.mu.Lock()
	edit(p.state)
	now := proto.CloneOf(p.state)
	p.mu.Unlock()
	p.tell(now)
}

// step is a part of a run that is at work.
type step struct {
	progress *progress
	phase    string
	begin    time.Time
}

// start begins a step.
func (p *progress) start(phase, message string) *step {
	p.change(func(m *experimentsv1.RunMetadata) {
		m.Phase, m.Message, m.Current, m.Total = phase, message, 0, 0
	})
	return &step{progress: p, phase: phase, begin: time.Now()}
}

// say replaces the message of the step.
func (s *step) say(message string) {
	s.progress.change(func(m *experimentsv1.RunMetadata) { m.Phase, m.Message = s.phase, message })
}

// count tells how much is done.
func (s *step) count(current, total int64) {
	s.progress.change(func(m *experimentsv1.RunMetadata) { m.Phase, m.Current, m.Total = s.phase, current, total })
}

// done ends the step.
func (s *step) done(message string) {
	s.progress.change(func(m *experimentsv1.RunMetadata) {
		m.Message = message
		m.Steps = append(m.Steps, &experimentsv1.RunStep{Phase: s.phase, Message: message, Duration: durationpb.New(time.Since(s.begin))})
	})
}

// steps returns the steps that are over.
func (p *progress) steps() []*experimentsv1.RunStep {
	p.mu.Lock()
	defer p.mu.Unlock()
	return proto.CloneOf(p.state).GetSteps()
}
