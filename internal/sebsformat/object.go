package sebsformat

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// problems collects everything that is wrong with a file, so that all of it is reported at once.
type problems struct {
	errors   []error
	warnings []string
}

func (p *problems) add(path, format string, args ...any) {
	p.errors = append(p.errors, malformed(path, format, args...))
}

func (p *problems) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *problems) err() error { return errors.Join(p.errors...) }

// object reads the keys of one JSON object by name and remembers which were read.
type object struct {
	path     string
	fields   map[string]any
	used     map[string]bool
	problems *problems
}

func newObject(path string, fields map[string]any, p *problems) *object {
	return &object{path: path, fields: fields, used: make(map[string]bool), problems: p}
}

func (o *object) has(key string) bool {
	value, ok := o.fields[key]
	return ok && value != nil
}

func (o *object) get(key string) (any, bool) {
	o.used[key] = true
	value, ok := o.fields[key]
	return value, ok && value != nil
}

func (o *object) wrong(key string, value any, want string) {
	o.problems.add(join(o.path, key), "must be %s, not %s", want, describe(value))
}

// describe names a value without printing it when it could be a secret: only scalars that are not strings are shown.
func describe(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	default:
		return fmt.Sprint(value)
	}
}

func (o *object) text(key, fallback string) string {
	value, ok := o.get(key)
	if !ok {
		return fallback
	}
	s, ok := value.(string)
	if !ok {
		o.wrong(key, value, "a string")
		return fallback
	}
	return s
}

// scalarText takes a string or a number: versions and sizes are written both ways.
func (o *object) scalarText(key, fallback string) string {
	if value, ok := o.fields[key].(json.Number); ok {
		o.used[key] = true
		return value.String()
	}
	return o.text(key, fallback)
}

func (o *object) required(key, remedy string) string {
	if !o.has(key) {
		o.used[key] = true
		o.problems.add(join(o.path, key), "is missing; %s", remedy)
		return ""
	}
	s := o.text(key, "")
	if s == "" {
		o.problems.add(join(o.path, key), "is empty; %s", remedy)
	}
	return s
}

func (o *object) choice(key, fallback string, allowed ...string) string {
	s := o.text(key, fallback)
	if s != fallback && !slices.Contains(allowed, s) {
		o.problems.add(join(o.path, key), "is %q; use one of %s", s, strings.Join(allowed, ", "))
		return fallback
	}
	return s
}

func (o *object) boolean(key string, fallback bool) bool {
	value, ok := o.get(key)
	if !ok {
		return fallback
	}
	b, ok := value.(bool)
	if !ok {
		o.wrong(key, value, "true or false")
		return fallback
	}
	return b
}

// looseBoolean also takes the words true and false as strings, as SeBS's samples write them. It is false when absent.
func (o *object) looseBoolean(key string) bool {
	if s, ok := o.fields[key].(string); ok {
		switch strings.ToLower(s) {
		case "true", "1", "yes":
			o.used[key] = true
			return true
		case "false", "0", "no", "":
			o.used[key] = true
			return false
		}
	}
	return o.boolean(key, false)
}

func (o *object) optionalBoolean(key string) *bool {
	if !o.has(key) {
		o.used[key] = true
		return nil
	}
	b := o.boolean(key, false)
	return &b
}

func (o *object) integer(key string, fallback int) int {
	value, ok := o.get(key)
	if !ok {
		return fallback
	}
	i, ok := wholeNumber(value)
	if !ok {
		o.wrong(key, value, "a whole number")
		return fallback
	}
	return i
}

// natural is an integer that must not be below the given minimum.
func (o *object) natural(key string, fallback, minimum int) int {
	i := o.integer(key, fallback)
	if i < minimum {
		o.problems.add(join(o.path, key), "is %d; it must be at least %d", i, minimum)
		return fallback
	}
	return i
}

func wholeNumber(value any) (int, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	if i, err := number.Int64(); err == nil && i >= math.MinInt && i <= math.MaxInt {
		return int(i), true
	}
	f, err := number.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int(f), true
}

func (o *object) list(key string) []any {
	value, ok := o.get(key)
	if !ok {
		return nil
	}
	l, ok := value.([]any)
	if !ok {
		o.wrong(key, value, "a list")
	}
	return l
}

func (o *object) texts(key string) []string {
	var out []string
	for i, e := range o.list(key) {
		s, ok := e.(string)
		if !ok {
			o.wrong(fmt.Sprintf("%s[%d]", key, i), e, "a string")
			continue
		}
		out = append(out, s)
	}
	return out
}

func (o *object) integers(key string) []int {
	var out []int
	for i, e := range o.list(key) {
		n, ok := wholeNumber(e)
		if !ok {
			o.wrong(fmt.Sprintf("%s[%d]", key, i), e, "a whole number")
			continue
		}
		out = append(out, n)
	}
	return out
}

func (o *object) tree(key string) map[string]any {
	value, ok := o.get(key)
	if !ok {
		return nil
	}
	m, ok := value.(map[string]any)
	if !ok {
		o.wrong(key, value, "an object")
	}
	return m
}

// object opens a nested object; nil when it is absent or not an object.
func (o *object) object(key string) *object {
	if m := o.tree(key); m != nil {
		return newObject(join(o.path, key), m, o.problems)
	}
	return nil
}

// objects opens a list of objects.
func (o *object) objects(key string) []*object {
	var out []*object
	for i, e := range o.list(key) {
		m, ok := e.(map[string]any)
		if !ok {
			o.wrong(fmt.Sprintf("%s[%d]", key, i), e, "an object")
			continue
		}
		out = append(out, newObject(fmt.Sprintf("%s[%d]", join(o.path, key), i), m, o.problems))
	}
	return out
}

func (o *object) textMap(key string) map[string]string {
	nested := o.object(key)
	if nested == nil {
		return nil
	}
	out := make(map[string]string, len(nested.fields))
	for _, k := range sortedKeys(nested.fields) {
		out[k] = nested.text(k, "")
	}
	return out
}

func (o *object) flags(key string) map[string]bool {
	nested := o.object(key)
	if nested == nil {
		return nil
	}
	out := make(map[string]bool, len(nested.fields))
	for _, k := range sortedKeys(nested.fields) {
		out[k] = nested.boolean(k, false)
	}
	return out
}

// ignore marks keys as known although nothing reads them.
func (o *object) ignore(keys ...string) {
	for _, key := range keys {
		o.used[key] = true
	}
}

// rest returns the members that nothing has read.
func (o *object) rest() map[string]any {
	out := make(map[string]any)
	for key, value := range o.fields {
		if !o.used[key] {
			out[key] = value
		}
	}
	return out
}

// warnUnknown reports the members that nothing has read.
func (o *object) warnUnknown() {
	for _, key := range sortedKeys(o.rest()) {
		o.problems.warn("%s is not a known key and is ignored", join(o.path, key))
	}
}
