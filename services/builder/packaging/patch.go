package packaging

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/sebs-suite/sebs/internal/archive"
	"github.com/sebs-suite/sebs/internal/errs"
)

// hunkHeader is the line that says where a change lies: old start, old length, new start, new length.
var hunkHeader = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@`)

// applyPatch changes sources by a unified diff whose paths have one leading part (`a/`, `b/`) to strip. A hunk must fit
// exactly where it says; nothing is guessed.
func applyPatch(sources map[string]archive.File, diff []byte) error {
	lines := strings.SplitAfter(string(diff), "\n")
	changed := false
	for i := 0; i < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "--- ") || i+1 == len(lines) || !strings.HasPrefix(lines[i+1], "+++ ") {
			continue
		}
		from, to := patchPath(lines[i]), patchPath(lines[i+1])
		used, err := patchFileLines(sources, from, to, lines[i+2:])
		if err != nil {
			return err
		}
		i += 1 + used
		changed = true
	}
	if !changed {
		return errs.InvalidArgument(ReasonFailed, "%s changes no file; it must be a unified diff", patchFile)
	}
	return nil
}

// patchPath reads a path of a `---` or `+++` line; empty stands for a file that does not exist.
func patchPath(line string) string {
	name, _, _ := strings.Cut(strings.TrimRight(line[4:], "\r\n"), "\t")
	if name == "/dev/null" {
		return ""
	}
	_, stripped, ok := strings.Cut(name, "/")
	if !ok {
		return name
	}
	return stripped
}

// patchFileLines applies the hunks of one file and returns how many lines they take.
func patchFileLines(sources map[string]archive.File, from, to string, hunks []string) (used int, err error) {
	var old []string
	if from != "" {
		file, ok := sources[from]
		if !ok {
			return 0, errs.InvalidArgument(ReasonFailed, "%s changes %s, which is not among the sources", patchFile, from)
		}
		content, err := file.Read(maxTextBytes)
		if err != nil {
			return 0, err
		}
		old = splitLines(content)
	}
	var result bytes.Buffer
	position := 0
	for used < len(hunks) {
		header := hunkHeader.FindStringSubmatch(hunks[used])
		if header == nil {
			break
		}
		used++
		h := newHunk(header)
		if h.oldStart < position || h.oldStart > len(old) {
			return 0, misfit(from, header[0])
		}
		for ; position < h.oldStart; position++ {
			result.WriteString(old[position])
		}
		taken, ok := h.apply(hunks[used:], old, &position, &result)
		if !ok {
			return 0, misfit(from, header[0])
		}
		used += taken
	}
	for ; position < len(old); position++ {
		result.WriteString(old[position])
	}
	delete(sources, from)
	if to != "" {
		if err := archive.CheckPath(to); err != nil {
			return 0, fmt.Errorf("%s: %w", patchFile, err)
		}
		sources[to] = archive.Bytes(to, result.Bytes())
	}
	return used, nil
}

func splitLines(content []byte) []string {
	lines := strings.SplitAfter(string(content), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return lines
}

func misfit(file, header string) error {
	return errs.InvalidArgument(ReasonFailed, "%s does not fit %s at %s; make the patch anew from the default sources", patchFile, file, header)
}

// hunk is one change: where it begins (from 0) and how many old and new lines it has.
type hunk struct{ oldStart, oldLines, newLines int }

func newHunk(header []string) hunk {
	number := func(text string, otherwise int) int {
		if value, err := strconv.Atoi(text); err == nil {
			return value
		}
		return otherwise
	}
	h := hunk{oldStart: number(header[1], 0), oldLines: number(header[2], 1), newLines: number(header[4], 1)}
	// A hunk without old lines names the line after which it inserts.
	if h.oldLines > 0 {
		h.oldStart--
	}
	return h
}

// apply writes the new lines of a hunk and moves the position past its old lines.
func (h hunk) apply(lines, old []string, position *int, result *bytes.Buffer) (used int, ok bool) {
	oldLeft, newLeft := h.oldLines, h.newLines
	for oldLeft > 0 || newLeft > 0 {
		if used == len(lines) || lines[used] == "" {
			return 0, false
		}
		kind, text := lines[used][0], lines[used][1:]
		used++
		if used < len(lines) && strings.HasPrefix(lines[used], `\`) {
			text = strings.TrimSuffix(text, "\n")
			used++
		}
		if kind == '\n' {
			// Some editors strip the blank of an empty context line.
			kind, text = ' ', "\n"
		}
		if kind != '+' {
			if *position >= len(old) || old[*position] != text {
				return 0, false
			}
			*position++
			oldLeft--
		}
		if kind != '-' {
			result.WriteString(text)
			newLeft--
		}
		if kind != '+' && kind != '-' && kind != ' ' {
			return 0, false
		}
	}
	return used, oldLeft == 0 && newLeft == 0
}
