// Package display shows the progress of long steps on standard error.
//
// A command reports steps; how they are shown is decided once: on a terminal one line is rewritten, elsewhere each
// change is a line of its own, programs get JSON lines, and quiet shows nothing.
package display

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Mode is a way to show progress.
type Mode string

// The ways to show progress.
const (
	Auto  Mode = "auto"
	TTY   Mode = "tty"
	Plain Mode = "plain"
	JSON  Mode = "json"
	Quiet Mode = "quiet"
)

// Parse reads a mode as the flag --progress gives it.
func Parse(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, TTY, Plain, JSON, Quiet:
		return m, nil
	}
	return "", fmt.Errorf("--progress: %q is no way to show progress; use auto, tty, plain, json or quiet", s)
}

// Step is the state of the step at work.
type Step struct {
	// Phase is a word such as `package`.
	Phase string
	// Message tells people what is going on.
	Message string
	// Current and Total count the work; a total of 0 is unknown.
	Current, Total int64
}

// Display shows steps. Its methods may be called from several goroutines.
type Display struct {
	mode  Mode
	w     io.Writer
	mu    sync.Mutex
	last  Step
	began time.Time
	width int
}

// New returns a display; auto becomes tty on a terminal and plain elsewhere.
func New(mode Mode, w io.Writer, terminal bool) *Display {
	if mode == Auto {
		mode = Plain
		if terminal {
			mode = TTY
		}
	}
	return &Display{mode: mode, w: w}
}

// Note shows a remark, which is no step.
func (d *Display) Note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	switch d.mode {
	case Quiet:
	case JSON:
		d.json(map[string]any{"note": text})
	default:
		d.clear()
		fmt.Fprintln(d.w, text)
	}
}

// Update shows the step at work.
func (d *Display) Update(s Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s == d.last {
		return
	}
	begins := s.Phase != d.last.Phase
	if begins {
		d.finishLocked()
		d.began = time.Now()
	}
	d.last = s
	switch d.mode {
	case Quiet:
	case JSON:
		d.json(map[string]any{"phase": s.Phase, "message": s.Message, "current": s.Current, "total": s.Total})
	case TTY:
		d.line(s)
	case Plain, Auto:
		// Every step of a count would flood a log, so a phase that counts is told once, when it begins.
		if begins || s.Total == 0 {
			fmt.Fprintf(d.w, "  %-11s %s\n", s.Phase, s.Message)
		}
	}
}

// Finish ends the step at work.
func (d *Display) Finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finishLocked()
	d.last = Step{}
}

func (d *Display) finishLocked() {
	if d.last.Phase == "" {
		return
	}
	took := time.Since(d.began)
	switch d.mode {
	case TTY:
		d.clear()
		fmt.Fprintf(d.w, "✓ %-11s %s (%s)\n", d.last.Phase, d.last.Message, round(took))
	case Plain:
		if took >= time.Second {
			fmt.Fprintf(d.w, "  %-11s done in %s\n", d.last.Phase, round(took))
		}
	case Auto, JSON, Quiet:
	}
}

func (d *Display) line(s Step) {
	text := fmt.Sprintf("… %-11s %s", s.Phase, s.Message)
	if s.Total > 0 {
		text += fmt.Sprintf(" %d/%d", s.Current, s.Total)
	}
	d.clear()
	fmt.Fprint(d.w, text)
	d.width = len([]rune(text))
}

func (d *Display) clear() {
	if d.mode == TTY && d.width > 0 {
		fmt.Fprintf(d.w, "\r%*s\r", d.width, "")
		d.width = 0
	}
}

func (d *Display) json(value map[string]any) {
	raw, err := json.Marshal(value)
	if err != nil {
		return
	}
	fmt.Fprintf(d.w, "%s\n", raw)
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}
