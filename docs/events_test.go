package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write generated documents anew")

var (
	messageStart = regexp.MustCompile(`^message (\w+) \{`)
	fieldLine    = regexp.MustCompile(`^  ([\w.<>, ]+) (\w+) = \d+;`)
	typeMark     = regexp.MustCompile("Types? `")
)

// The list of events is made out of the comments of their proto, so that it cannot tell anything else.
func TestEventsDocument(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "proto", "sebs", "event", "v1", "event_service.proto"))
	if err != nil {
		t.Fatal(err)
	}
	got := eventsDocument(string(raw))
	if *update {
		if err := os.WriteFile("events.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("events.md")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("events.md differs from the proto; run go test ./docs -update")
	}
	if !strings.Contains(got, "sebs.v1.deployer.function_created") {
		t.Error("the document lists no events")
	}
}

func eventsDocument(proto string) string {
	var out strings.Builder
	out.WriteString("# Events\n\n" +
		"Facts about what happens in the suite. They are published on JetStream below `sebs.v1.events.` in the envelope\n" +
		"`sebs.event.v1.Event`, whose fields are those of a CloudEvent (specversion 1.0), and streamed by `sebs events watch`, by\n" +
		"`GET /v1/events:watch` and by `sebs.event.v1.EventService.WatchEvents`. Equal ids are the same event.\n\n" +
		"This page is generated from the proto: `go test ./docs -update`.\n")
	comment, inside := "", false
	fieldComment := ""
	for _, line := range strings.Split(proto, "\n") {
		switch {
		case strings.HasPrefix(line, "// "):
			comment = strings.TrimPrefix(line, "// ")
		case messageStart.MatchString(line):
			inside = typeMark.MatchString(comment)
			if inside {
				out.WriteString("\n## " + messageStart.FindStringSubmatch(line)[1] + "\n\n" + comment + "\n\n| field | meaning |\n|---|---|\n")
			}
		case inside && strings.HasPrefix(line, "  // "):
			fieldComment = strings.TrimPrefix(line, "  // ")
		case inside && fieldLine.MatchString(line):
			m := fieldLine.FindStringSubmatch(line)
			out.WriteString("| `" + m[2] + "` (" + m[1] + ") | " + fieldComment + " |\n")
		case line == "}":
			inside = false
		}
	}
	return out.String()
}
