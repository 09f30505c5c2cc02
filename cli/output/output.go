// Package output prints the data of commands: tables for people, JSON and YAML for programs.
//
// Data goes to standard output; progress and remarks never do.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Format is a form of output.
type Format string

// The forms of output.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// Parse reads a form as the flag --output gives it.
func Parse(s string) (Format, error) {
	switch f := Format(s); f {
	case Table, JSON, YAML:
		return f, nil
	}
	return "", fmt.Errorf("--output: %q is no form of output; use table, json or yaml", s)
}

// Rows is a table: a header and lines of equally many cells.
type Rows struct {
	// Header holds the column titles.
	Header []string
	// Lines holds the cells.
	Lines [][]string
}

// Write prints the table with aligned columns; an empty one prints its header alone.
func (r Rows) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(tw, strings.Join(r.Header, "\t")); err != nil {
		return err
	}
	for _, line := range r.Lines {
		if _, err := fmt.Fprintln(tw, strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// Message prints a message in the given form; table asks rows for the lines.
func Message(w io.Writer, format Format, m proto.Message, rows func() Rows) error {
	if format == Table {
		return rows().Write(w)
	}
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	// protojson varies its white space on purpose; going through a plain value gives stable output.
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return Value(w, format, value)
}

// Value prints a plain value as JSON or YAML.
func Value(w io.Writer, format Format, value any) error {
	if format == YAML {
		encoder := yaml.NewEncoder(w)
		encoder.SetIndent(2)
		if err := encoder.Encode(value); err != nil {
			return fmt.Errorf("print YAML: %w", err)
		}
		return encoder.Close()
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
