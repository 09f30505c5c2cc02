// Package secret holds values that must never be printed: passwords, tokens and keys.
//
// A [String] prints as [REDACTED] wherever Go formats values: fmt, encoding/json, YAML, log/slog. The text itself is
// handed out by [String.Reveal] only, so that a search for that name finds every use.
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Redacted is what a secret prints as.
const Redacted = "[REDACTED]"

// String is a text that does not print. The zero value is an empty secret.
type String struct {
	// A pointer, since fmt reads the fields of unexported fields without asking for methods: it then prints an address.
	text *string
}

// New keeps the text as a secret.
func New(text string) String {
	if text == "" {
		return String{}
	}
	return String{text: &text}
}

// Reveal returns the text itself. Hand it only to the API that needs it.
func (s String) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s String) Empty() bool {
	return s.text == nil
}

// Equal compares in constant time.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns [REDACTED], or nothing for an empty secret.
func (s String) String() string {
	if s.Empty() {
		return ""
	}
	return Redacted
}

// Format writes the redacted form for every verb, so that %#v and %x leak nothing either.
func (s String) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		_, _ = fmt.Fprintf(f, "%q", s.String())
		return
	}
	_, _ = fmt.Fprint(f, s.String())
}

// MarshalText returns the redacted form; encoders of JSON and YAML use it.
func (s String) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}

// UnmarshalText reads the secret from a configuration file.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}

// LogValue returns the redacted form for log/slog.
func (s String) LogValue() slog.Value {
	return slog.StringValue(s.String())
}
