package display_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/cli/display"
)

func show(mode display.Mode, terminal bool) string {
	var out bytes.Buffer
	d := display.New(mode, &out, terminal)
	d.Update(display.Step{Phase: "package", Message: "installing"})
	d.Update(display.Step{Phase: "package", Message: "installing", Current: 1, Total: 2})
	d.Note("a remark")
	d.Update(display.Step{Phase: "invoke", Message: "calling", Current: 1, Total: 5})
	d.Update(display.Step{Phase: "invoke", Message: "calling", Current: 2, Total: 5})
	d.Finish()
	return out.String()
}

func TestPlainWritesALineAStepAndNoCounts(t *testing.T) {
	t.Parallel()
	got := show(display.Auto, false)
	if !strings.Contains(got, "package     installing\n") || !strings.Contains(got, "a remark\n") {
		t.Errorf("plain output %q", got)
	}
	if strings.Count(got, "invoke      calling\n") != 1 {
		t.Errorf("a phase that counts is told once, when it begins: %q", got)
	}
	if strings.ContainsAny(got, "\r") || strings.Contains(got, "1/5") {
		t.Errorf("plain output has counts or terminal codes: %q", got)
	}
}

func TestTerminalRewritesItsLine(t *testing.T) {
	t.Parallel()
	got := show(display.Auto, true)
	if !strings.Contains(got, "\r") || !strings.Contains(got, "1/5") || !strings.Contains(got, "✓ package") {
		t.Errorf("terminal output %q", got)
	}
}

func TestQuietSaysNothing(t *testing.T) {
	t.Parallel()
	if got := show(display.Quiet, true); got != "" {
		t.Errorf("quiet output %q", got)
	}
}

func TestJSONIsOneObjectALine(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(show(display.JSON, true)), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines, want 5: %q", len(lines), lines)
	}
	for _, line := range lines {
		var value map[string]any
		if err := json.Unmarshal([]byte(line), &value); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
	}
}
