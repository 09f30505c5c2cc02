package app

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// decoder fills structures strictly and gathers all problems.
type decoder struct {
	file     string
	loose    bool
	problems []error
}

func (d *decoder) fail(path, format string, args ...any) {
	if path == "" {
		path = "configuration"
	}
	d.problems = append(d.problems, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

func target(into any) (reflect.Value, error) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("decode configuration: %T is no pointer to a structure", into)
	}
	return v.Elem(), nil
}

// node fills v from a node of the file.
func (d *decoder) node(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.node(n, v.Elem(), path)
		return
	}
	switch {
	case n.Kind == yaml.ScalarNode:
		if err := parseText(v, n.Value); err != nil {
			d.fail(path, "%v (line %d)", err, n.Line)
		}
	case v.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		d.structure(n, v, path)
	case v.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.node(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(list)
	case v.Kind() == reflect.Interface && v.NumMethod() == 0:
		var free any
		if err := n.Decode(&free); err != nil {
			d.fail(path, "%v", err)
			return
		}
		v.Set(reflect.ValueOf(free))
	default:
		d.fail(path, "has to be %s (line %d)", describe(v.Type()), n.Line)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i].Value, join(path, n.Content[i].Value)
		if seen[key] {
			d.fail(at, "is set twice (line %d)", n.Content[i].Line)
			continue
		}
		seen[key] = true
		field, ok := fieldOf(v, key)
		if !ok {
			if !d.loose {
				d.fail(at, "unknown key in line %d; remove it or correct its name", n.Content[i].Line)
			}
			continue
		}
		loose := d.loose
		d.loose = false
		d.node(n.Content[i+1], field, at)
		d.loose = loose
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if v.Type().Key().Kind() != reflect.String {
		d.fail(path, "cannot be read into %s", v.Type())
		return
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		item := reflect.New(v.Type().Elem()).Elem()
		d.node(n.Content[i+1], item, join(path, n.Content[i].Value))
		m.SetMapIndex(reflect.ValueOf(n.Content[i].Value).Convert(v.Type().Key()), item)
	}
	v.Set(m)
}

// environment overlays the variables of all keys below v.
func (d *decoder) environment(v reflect.Value, path, variable string, environ map[string]string) {
	if v.Kind() == reflect.Struct && !isText(v) {
		for name, field := range fields(v) {
			d.environment(field, join(path, name), variable+"_"+strings.ToUpper(name), environ)
		}
		return
	}
	text, ok := environ[variable]
	if ok {
		if err := parseText(v, text); err != nil {
			d.fail(path, "%v (environment variable %s)", err, variable)
		}
		return
	}
	if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct {
		for key := range environ {
			if strings.HasPrefix(key, variable+"_") {
				if v.IsNil() {
					v.Set(reflect.New(v.Type().Elem()))
				}
				d.environment(v.Elem(), path, variable, environ)
				return
			}
		}
		return
	}
	if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
		return
	}
	for key, text := range environ {
		name, ok := strings.CutPrefix(key, variable+"_")
		if !ok {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if err := parseText(item, text); err != nil {
			// A map of structures has no variables.
			continue
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(strings.ToLower(name)).Convert(v.Type().Key()), item)
	}
}

// set applies one setting of the command line.
func (d *decoder) set(v reflect.Value, path []string, full, text string) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if len(path) == 0 {
		if err := parseText(v, text); err != nil {
			d.fail(full, "%v", err)
		}
		return
	}
	switch {
	case v.Kind() == reflect.Struct && !isText(v):
		field, ok := fieldOf(v, path[0])
		if !ok {
			d.fail(full, "unknown key")
			return
		}
		d.set(field, path[1:], full, text)
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		key := reflect.ValueOf(path[0]).Convert(v.Type().Key())
		item := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			item.Set(old)
		}
		d.set(item, path[1:], full, text)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(key, item)
	default:
		d.fail(full, "unknown key")
	}
}

func textOf(v reflect.Value) (encoding.TextUnmarshaler, bool) {
	if !v.CanAddr() {
		return nil, false
	}
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return u, ok
}

func isText(v reflect.Value) bool {
	_, ok := textOf(v)
	return ok
}

// parseText fills v from the text of a scalar, a variable or a setting.
func parseText(v reflect.Value, text string) error {
	if u, ok := textOf(v); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("is not readable: %w", err)
		}
		return nil
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		length, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q has to be a duration such as 90s or 10m", text)
		}
		v.SetInt(int64(length))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q has to be true or false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q has to be %s", text, describe(v.Type()))
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 0, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q has to be %s", text, describe(v.Type()))
		}
		v.SetUint(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q has to be a number", text)
		}
		v.SetFloat(f)
	case reflect.Slice:
		return parseList(v, text)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := parseText(p.Elem(), text); err != nil {
			return err
		}
		v.Set(p)
	default:
		return fmt.Errorf("has to be %s", describe(v.Type()))
	}
	return nil
}

// parseList fills a slice from texts between commas.
func parseList(v reflect.Value, text string) error {
	list := reflect.MakeSlice(v.Type(), 0, 1)
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if err := parseText(item, part); err != nil {
			return err
		}
		list = reflect.Append(list, item)
	}
	v.Set(list)
	return nil
}

func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Pointer:
		return describe(t.Elem())
	default:
		return "a text"
	}
}

// fields yields the exported fields of a structure under their names in the file, those of embedded structures included.
func fields(v reflect.Value) func(yield func(string, reflect.Value) bool) {
	return func(yield func(string, reflect.Value) bool) {
		walk(v, yield)
	}
}

func walk(v reflect.Value, yield func(string, reflect.Value) bool) bool {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name, inline := fieldName(f)
		switch {
		case name == "-":
		case inline && v.Field(i).Kind() == reflect.Struct:
			if !walk(v.Field(i), yield) {
				return false
			}
		default:
			if !yield(name, v.Field(i)) {
				return false
			}
		}
	}
	return true
}

func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for n, field := range fields(v) {
		if n == name {
			return field, true
		}
	}
	return reflect.Value{}, false
}

func hasField(v reflect.Value, name string) bool {
	_, ok := fieldOf(v, name)
	return ok
}

// fieldName is the name in the tag yaml or json, else the Go name in snake case: MemoryMB is memory_mb.
func fieldName(f reflect.StructField) (name string, inline bool) {
	for _, tag := range []string{"yaml", "json"} {
		if text, ok := f.Tag.Lookup(tag); ok {
			name, options, _ := strings.Cut(text, ",")
			if strings.Contains(options, "inline") {
				return "", true
			}
			if name != "" {
				return name, false
			}
		}
	}
	if f.Anonymous {
		return "", true
	}
	return snake(f.Name), false
}

func snake(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			after := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if !unicode.IsUpper(runes[i-1]) || after {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
