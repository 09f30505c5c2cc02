package docs_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sebs-suite/sebs/internal/app"
)

var update = flag.Bool("update", false, "write the reference pages anew")

// compare holds a page against what the sources say.
func compare(t *testing.T, page, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // A page for everybody.
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not up to date; run: go test ./docs -update", page)
	}
}

var (
	messageStart = regexp.MustCompile(`^message (\w+) \{`)
	fieldLine    = regexp.MustCompile(`^  (repeated )?([\w.]+) (\w+) = \d+`)
	typeNames    = regexp.MustCompile("`(sebs\\.v1\\.[a-z_.]+|…[a-z_.]+)`")
)

// TestEventsReference keeps events.md what the comments of the protos say.
func TestEventsReference(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "proto", "sebs", "event", "v1", "event_service.proto"))
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString(`# Events

Facts about what happens in the suite, in an envelope with the fields of a CloudEvent (specversion 1.0): ` + "`sebs.event.v1.Event`" + `.

- Watch them with ` + "`sebs events watch`, `GET /v1/events:watch`, or `sebs.event.v1.EventService.WatchEvents`" + `; a filter such as ` + "`deployer.>`" + ` selects, a start time goes back.
- On NATS JetStream an event of type ` + "`sebs.v1.<service>.<event>` has the subject `sebs.v1.events.<service>.<event>`" + `; the stream ` + "`SEBS_V1_EVENTS`" + ` keeps seven days or 256 MiB, the oldest go first (` + "`nats.events_max_age`, `nats.events_max_bytes`" + `).
- Equal ids are the same event: within two minutes the stream keeps one of them. Readers get an event at least once.
- No event holds a secret, a payload or an output.
`)
	var comment, fields []string
	message, events := "", 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "//"):
			comment = append(comment, strings.TrimSpace(strings.TrimPrefix(trimmed, "//")))
			continue
		case messageStart.MatchString(line):
			message = ""
			if text := strings.Join(comment, " "); typeNames.MatchString(text) {
				message = messageStart.FindStringSubmatch(line)[1]
				events++
				fmt.Fprintf(&page, "\n## %s\n\n%s\n\n| field | type | meaning |\n|---|---|---|\n", message, text)
			}
		case message != "" && fieldLine.MatchString(line):
			m := fieldLine.FindStringSubmatch(line)
			fmt.Fprintf(&page, "| `%s` | %s%s | %s |\n", m[3], m[1], m[2], strings.Join(comment, " "))
			fields = append(fields, m[3])
		}
		comment = nil
	}
	if events == 0 || len(fields) == 0 {
		t.Fatal("no event was found in the protos")
	}
	compare(t, "events.md", page.String())
}

// sectionsOf names the package of every section of the configuration, and its structure there; "" is the file itself.
var sectionsOf = []struct{ key, dir, root string }{
	{"", "../internal/app", "Config"},
	{"storage", "../services/storage", "Config"},
	{"builder", "../services/builder", "Config"},
	{"invoker", "../services/invoker", "Config"},
	{"metrics", "../services/metrics", "Config"},
	{"experiments", "../services/experiments", "Config"},
	{"local", "../services/local", "Config"},
	{"aws", "../platform/awsconfig", "Settings"},
	{"gateway", "../gateway", "Config"},
}

// TestConfigurationReference keeps configuration.md what the structures of the configuration say.
func TestConfigurationReference(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	page.WriteString(`# Configuration of the processes

Every process, ` + "`sebs up` (`--config`) and each `sebs-<service>`" + `, reads the same kind of file. One file may serve all: a process reads
its own section and the common keys. Later sources win:

1. defaults,
2. a YAML file that starts with ` + "`version: 1`" + ` (` + "`--config FILE` or `SEBS_CONFIG`" + `),
3. the environment: ` + "`SEBS_<PATH>`" + `, the path in capitals with underscores, lists between commas,
4. the command line: ` + "`--set path=value`" + ` and its short forms (` + "`--listen`, `--http-listen`, `--state-dir`, `--etcd`, `--nats`, `--log-level`, `--log-format`" + `).

Unknown keys are errors. All problems are reported at once, each with its key. ` + "`sebs-<service> config check`" + ` looks the file over,
` + "`config dump`" + ` prints what is in force without secrets, ` + "`config default`" + ` prints the defaults.

An address beyond loopback needs a certificate and ` + "`auth.required: true`" + `, or the process refuses to start. Durations are written like
` + "`90s` or `10m`" + `.
`)
	for _, s := range sectionsOf {
		types := structures(t, s.dir)
		if types[s.root] == nil {
			t.Fatalf("%s has no structure %s", s.dir, s.root)
		}
		title := "Common keys"
		if s.key != "" {
			title = "Section `" + s.key + "`"
		}
		fmt.Fprintf(&page, "\n## %s\n\n| key | environment | type | meaning |\n|---|---|---|---|\n", title)
		before := page.Len()
		describe(&page, types, types[s.root], s.key)
		if page.Len() == before {
			t.Errorf("section %q has no keys", s.key)
		}
	}
	defaults, err := yaml.Marshal(app.DefaultConfig("sebs-invoker"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&page, "\n## Defaults of the common keys\n\nOf a process named `sebs-invoker`:\n\n```yaml\nversion: 1\n%s```\n", defaults)
	compare(t, "configuration.md", page.String())
}

// structures returns the structures of a package by name.
func structures(t *testing.T, dir string) map[string]*ast.StructType {
	t.Helper()
	found := make(map[string]*ast.StructType)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					found[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	return found
}

// describe writes one line for each key below path.
func describe(page *strings.Builder, types map[string]*ast.StructType, s *ast.StructType, path string) {
	shared := ""
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) != 1 {
			continue
		}
		key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"), ",")
		if key == "" || key == "-" {
			continue
		}
		if path != "" {
			key = path + "." + key
		}
		if inner := innerType(types, f.Type); inner != nil {
			describe(page, types, inner, key)
			continue
		}
		if key == "log" {
			page.WriteString("| `log.level` | `SEBS_LOG_LEVEL` | text | debug, info, warn or error. |\n" +
				"| `log.format` | `SEBS_LOG_FORMAT` | text | text or json. |\n")
			continue
		}
		// A comment that names several fields stands above the first of them.
		if f.Doc != nil {
			shared = strings.Join(strings.Fields(f.Doc.Text()), " ")
		} else if !word(f.Names[0].Name).MatchString(shared) {
			shared = ""
		}
		meaning := shared
		for _, other := range s.Fields.List {
			if len(other.Names) == 1 && other.Tag != nil {
				leaf, _, _ := strings.Cut(reflect.StructTag(strings.Trim(other.Tag.Value, "`")).Get("yaml"), ",")
				meaning = word(other.Names[0].Name).ReplaceAllString(meaning, "`"+leaf+"`")
			}
		}
		variable := "`SEBS_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_")) + "`"
		if typeName(f.Type) == "mapping" {
			variable = strings.TrimSuffix(variable, "`") + "_<KEY>`"
		}
		if key == "credentials" {
			variable = ""
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", key, variable, typeName(f.Type), meaning)
	}
}

// word finds a Go name of a field in a comment.
func word(name string) *regexp.Regexp {
	return regexp.MustCompile(`\b` + name + `\b`)
}

func innerType(types map[string]*ast.StructType, t ast.Expr) *ast.StructType {
	switch x := t.(type) {
	case *ast.Ident:
		return types[x.Name]
	case *ast.StructType:
		return x
	case *ast.StarExpr:
		return innerType(types, x.X)
	}
	return nil
}

func typeName(t ast.Expr) string {
	switch x := t.(type) {
	case *ast.Ident:
		switch x.Name {
		case "string":
			return "text"
		case "bool":
			return "true or false"
		case "float64":
			return "number"
		}
		if strings.HasPrefix(x.Name, "int") || strings.HasPrefix(x.Name, "uint") {
			return "whole number"
		}
		return "text"
	case *ast.SelectorExpr:
		switch x.Sel.Name {
		case "Duration":
			return "duration"
		case "String":
			return "secret"
		}
		return "mapping"
	case *ast.ArrayType:
		return "list"
	case *ast.StarExpr:
		return typeName(x.X)
	}
	return "mapping"
}
