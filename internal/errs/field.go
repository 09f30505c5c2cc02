package errs

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
)

// FieldError is a violation of one field, to be joined by [Fields].
type FieldError struct {
	Violation
}

// Error returns "field: description".
func (f *FieldError) Error() string {
	return f.Field + ": " + f.Description
}

// Field says what is wrong with a field. The description says what to do as well.
func Field(field, format string, args ...any) error {
	return &FieldError{Violation{Field: field, Description: fmt.Sprintf(format, args...)}}
}

// Fields joins violations into one INVALID_ARGUMENT error that lists them all. Nil errors are left out; without any error
// left it returns nil. An error that is no field violation is returned in place of the list, since it has its own category.
func Fields(problems ...error) error {
	var violations []Violation
	for _, problem := range problems {
		if problem == nil {
			continue
		}
		found := collect(problem)
		if found == nil {
			return problem
		}
		violations = append(violations, found...)
	}
	if len(violations) == 0 {
		return nil
	}
	texts := make([]string, len(violations))
	for i, v := range violations {
		texts[i] = v.Field + ": " + v.Description
	}
	return &Error{
		code:       codes.InvalidArgument,
		reason:     ReasonInvalidFields,
		message:    strings.Join(texts, "; "),
		violations: violations,
	}
}

// collect returns the violations inside a field error, a joined error, or an error made by Fields.
func collect(problem error) []Violation {
	var field *FieldError
	//nolint:errorlint // Each form of joining is taken apart here; wrapped ones are found below.
	switch joined := problem.(type) {
	case *FieldError:
		return []Violation{joined.Violation}
	case *Error:
		return joined.violations
	case interface{ Unwrap() []error }:
		var all []Violation
		for _, one := range joined.Unwrap() {
			all = append(all, collect(one)...)
		}
		return all
	}
	if errors.As(problem, &field) {
		return []Violation{field.Violation}
	}
	return nil
}
