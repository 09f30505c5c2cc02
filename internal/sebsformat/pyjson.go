package sebsformat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonWriter writes JSON the way Python's json.dumps(sort_keys=True) does: keys in code point order, every
// non-ASCII character escaped, floats in shortest form with at least one decimal.
type jsonWriter struct {
	out    *bufio.Writer
	indent string
	depth  int
	// first tells for every open container whether nothing has been written into it yet.
	first   []bool
	scratch []byte
	err     error
}

func newJSONWriter(w io.Writer, indent int) *jsonWriter {
	return &jsonWriter{out: bufio.NewWriterSize(w, 64<<10), indent: strings.Repeat(" ", indent)}
}

func (w *jsonWriter) raw(s string) {
	if w.err == nil {
		_, w.err = w.out.WriteString(s)
	}
}

func (w *jsonWriter) newline() {
	w.raw("\n")
	for range w.depth {
		w.raw(w.indent)
	}
}

func (w *jsonWriter) open(bracket string) {
	w.raw(bracket)
	w.depth++
	w.first = append(w.first, true)
}

// element starts a new member of the innermost container.
func (w *jsonWriter) element() {
	top := len(w.first) - 1
	if !w.first[top] {
		w.raw(",")
	}
	w.first[top] = false
	w.newline()
}

func (w *jsonWriter) close(bracket string) {
	top := len(w.first) - 1
	empty := w.first[top]
	w.first = w.first[:top]
	w.depth--
	if !empty {
		w.newline()
	}
	w.raw(bracket)
}

func (w *jsonWriter) beginObject() { w.open("{") }
func (w *jsonWriter) endObject()   { w.close("}") }

func (w *jsonWriter) key(k string) {
	w.element()
	w.string(k)
	w.raw(": ")
}

func (w *jsonWriter) string(s string) {
	w.scratch = appendPythonString(w.scratch[:0], s)
	if w.err == nil {
		_, w.err = w.out.Write(w.scratch)
	}
}

func (w *jsonWriter) flush() error {
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

// value writes one value. Maps are written with sorted keys. Besides the types that encoding/json decodes into,
// it takes Go integers, json.Number and json.RawMessage.
func (w *jsonWriter) value(v any) {
	switch v := v.(type) {
	case nil:
		w.raw("null")
	case bool:
		w.raw(strconv.FormatBool(v))
	case string:
		w.string(v)
	case int:
		w.raw(strconv.Itoa(v))
	case int64:
		w.raw(strconv.FormatInt(v, 10))
	case float64:
		w.raw(PythonFloat(v))
	case json.Number:
		w.raw(pythonNumber(v.String()))
	case json.RawMessage:
		w.rawMessage(v)
	case []any:
		w.open("[")
		for _, e := range v {
			w.element()
			w.value(e)
		}
		w.close("]")
	case []string:
		w.open("[")
		for _, e := range v {
			w.element()
			w.string(e)
		}
		w.close("]")
	case []int64:
		w.open("[")
		for _, e := range v {
			w.element()
			w.value(e)
		}
		w.close("]")
	case map[string]any:
		w.beginObject()
		for _, k := range sortedKeys(v) {
			w.key(k)
			w.value(v[k])
		}
		w.endObject()
	default:
		if w.err == nil {
			w.err = fmt.Errorf("write JSON: unsupported type %T", v)
		}
	}
}

func (w *jsonWriter) rawMessage(raw json.RawMessage) {
	if len(raw) == 0 {
		w.raw("null")
		return
	}
	tree, err := decodeTree(raw)
	if err != nil {
		if w.err == nil {
			w.err = fmt.Errorf("write JSON: %w", err)
		}
		return
	}
	w.value(tree)
}

// optional writes a pointer's value, or null.
func optional[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

const hexDigits = "0123456789abcdef"

func appendPythonString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c <= '~' {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch r {
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\f':
			b = append(b, `\f`...)
		case '\b':
			b = append(b, `\b`...)
		default:
			if r > 0xFFFF {
				r -= 0x10000
				b = appendEscape(b, 0xD800+(r>>10))
				b = appendEscape(b, 0xDC00+(r&0x3FF))
			} else {
				b = appendEscape(b, r)
			}
		}
	}
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// PythonFloat prints f as Python's repr does: the shortest digits that read back to f, with ".0" on whole numbers, and an
// exponent below 1e-4 and from 1e16 on.
func PythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pythonNumber rewrites a JSON number as Python would after reading it: whole numbers stay as they are, all others become floats.
func pythonNumber(literal string) string {
	if !strings.ContainsAny(literal, ".eE") {
		return literal
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return literal
	}
	return PythonFloat(f)
}

// decodeTree decodes one JSON document and keeps number literals. NaN and Infinity, which Python writes and JSON does
// not know, become null.
func decodeTree(raw []byte) (any, error) {
	tree, err := decodeStrict(raw)
	if err == nil {
		return tree, nil
	}
	cleaned, changed := replaceNonFinite(raw)
	if !changed {
		return nil, err
	}
	return decodeStrict(cleaned)
}

func decodeStrict(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty")
		}
		return nil, describeSyntaxError(raw, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		line, column := position(raw, dec.InputOffset())
		return nil, fmt.Errorf("line %d, column %d: there is more after the end of the JSON document", line, column)
	}
	return tree, nil
}

func describeSyntaxError(raw []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line, column := position(raw, syntax.Offset)
		return fmt.Errorf("line %d, column %d: %s", line, column, syntax.Error())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		line, column := position(raw, int64(len(raw)))
		return fmt.Errorf("line %d, column %d: the document ends too early", line, column)
	}
	return err
}

func position(raw []byte, offset int64) (line, column int) {
	offset = min(max(offset, 0), int64(len(raw)))
	before := raw[:offset]
	return bytes.Count(before, []byte{'\n'}) + 1, int(offset) - bytes.LastIndexByte(before, '\n')
}

// replaceNonFinite puts null in the place of NaN, Infinity and -Infinity outside strings.
func replaceNonFinite(raw []byte) ([]byte, bool) {
	var out bytes.Buffer
	changed, inString := false, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if inString {
			out.WriteByte(c)
			switch c {
			case '\\':
				if i+1 < len(raw) {
					i++
					out.WriteByte(raw[i])
				}
			case '"':
				inString = false
			}
			continue
		}
		if c == '"' {
			inString = true
		}
		replaced := false
		for _, word := range []string{"NaN", "-Infinity", "Infinity"} {
			if bytes.HasPrefix(raw[i:], []byte(word)) {
				out.WriteString("null")
				i += len(word) - 1
				changed, replaced = true, true
				break
			}
		}
		if !replaced {
			out.WriteByte(c)
		}
	}
	return out.Bytes(), changed
}
