package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
)

// finding is what doctor found out about one thing that the suite may need.
type finding struct {
	What     string `json:"what" yaml:"what"`
	State    string `json:"state" yaml:"state"`
	Detail   string `json:"detail" yaml:"detail"`
	Mend     string `json:"mend,omitempty" yaml:"mend,omitempty"`
	required bool
}

const (
	stateOK      = "ok"
	stateMissing = "missing"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what is missing on this machine and how to mend it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := a.format()
			if err != nil {
				return err
			}
			findings := a.examine(cmd.Context())
			if format != output.Table {
				if err := output.Value(a.Stdout, format, findings); err != nil {
					return err
				}
			} else if err := findingRows(findings).Write(a.Stdout); err != nil {
				return err
			}
			for _, f := range findings {
				if f.required && f.State != stateOK {
					return exitcode.With(exitcode.Precondition, fmt.Errorf("%s is missing: %s", f.What, f.Mend))
				}
			}
			return nil
		},
	}
}

func findingRows(findings []finding) output.Rows {
	rows := output.Rows{Header: []string{"WHAT", "STATE", "DETAIL", "MEND"}}
	for _, f := range findings {
		rows.Lines = append(rows.Lines, []string{f.What, f.State, f.Detail, firstOf(f.Mend, "-")})
	}
	return rows
}

func (a *app) examine(ctx context.Context) []finding {
	return []finding{
		a.examineStateDir(),
		examinePython(ctx),
		examineTool(ctx, "uv", "installs Python dependencies fast, for any version and architecture; fetched into the state directory when missing", "python3 -m pip install uv", "--version"),
		examineTool(ctx, "node", "runs Node.js functions in process sandboxes", "install Node.js 18, 20, 22 or 24", "--version"),
		examineTool(ctx, "npm", "installs Node.js dependencies, and the table store of benchmark 130", "install npm", "--version"),
		examineTool(ctx, "docker", "runs functions in hardened containers; process sandboxes need none", "install and start a Docker Engine", "version", "--format", "{{.Server.Version}}"),
	}
}

func (a *app) examineStateDir() finding {
	f := finding{What: "state directory", required: true}
	dir, err := filepath.Abs(a.flags.stateDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	var probe *os.File
	if err == nil {
		probe, err = os.CreateTemp(dir, "doctor-*")
	}
	if err != nil {
		f.State, f.Detail, f.Mend = stateMissing, err.Error(), "name a directory that can be written with --state-dir"
		return f
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		f.State, f.Detail, f.Mend = stateMissing, err.Error(), "name another directory with --state-dir"
		return f
	}
	f.State, f.Detail = stateOK, dir
	return f
}

// examinePython looks for an interpreter that can run input.py, which needs 3.10 or newer.
func examinePython(ctx context.Context) finding {
	f := finding{What: "python ≥ 3.10", required: true, Mend: "install Python 3.10 or newer, or put it on PATH"}
	names := []string{"python3"}
	for minor := 14; minor >= 10; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	if runtime.GOOS == "windows" {
		names = append(names, "python")
	}
	for _, name := range names {
		text, err := toolOutput(ctx, name, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
		if err != nil {
			continue
		}
		minor, err := strconv.Atoi(strings.TrimPrefix(text, "3."))
		if err == nil && minor >= 10 {
			return finding{What: f.What, State: stateOK, Detail: name + " " + text, required: true}
		}
		f.Detail = name + " is " + text
	}
	f.State = stateMissing
	return f
}

func examineTool(ctx context.Context, name, purpose, mend string, args ...string) finding {
	text, err := toolOutput(ctx, name, args...)
	if err != nil {
		return finding{What: name, State: stateMissing, Detail: purpose, Mend: mend}
	}
	return finding{What: name, State: stateOK, Detail: strings.TrimSpace(strings.SplitN(text, "\n", 2)[0])}
}

func toolOutput(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	raw, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	return strings.TrimSpace(string(raw)), nil
}
