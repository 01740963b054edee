package core

import (
	"errors"
	"fmt"
)

// A Kind classes an error by what the caller can do about it. It is chosen
// where the fact is known and turned into a wire code once, by each dialect.
type Kind string

// Kinds of error.
const (
	Invalid         Kind = "invalid"         // the request can never work as it is
	NotFound        Kind = "not_found"       // a named thing does not exist, or not for this caller
	Exists          Kind = "exists"          // the uuid or name is taken
	Conflict        Kind = "conflict"        // the state of the thing forbids it now
	Stale           Kind = "stale"           // If-Match, a fence or a revision is out of date
	Unauthenticated Kind = "unauthenticated" // no or a wrong identity
	Denied          Kind = "denied"          // the identity may not do this
	Exhausted       Kind = "exhausted"       // a limit or quota is reached; later it may work
	Unavailable     Kind = "unavailable"     // Redis or NATS cannot be reached
	Internal        Kind = "internal"        // a fault of ours; its text stays inside
)

// An Error is a failure whose kind and text may be shown to the caller.
type Error struct {
	Kind  Kind
	Field string // the offending field by its core name, or ""
	Text  string // a sentence that says what to do
	cause error
}

// Error gives the text and, for logs, the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Text + ": " + e.cause.Error()
	}
	return e.Text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an error of a kind. The text is shown to callers.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Text: fmt.Sprintf(format, args...)}
}

// InvalidField says that a field of the request is wrong.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Text: fmt.Sprintf(format, args...)}
}

// Wrap gives a cause, which is not shown to callers, a kind and a shown text.
func Wrap(k Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: k, Text: fmt.Sprintf(format, args...), cause: cause}
}

// Missing says that no thing of the given noun has this uuid.
func Missing(noun, uuid string) *Error {
	return &Error{Kind: NotFound, Field: noun, Text: fmt.Sprintf("there is no %s with uuid %q", noun, uuid)}
}

// KindOf gives the kind of err: Internal for any error that has none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err has the given kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Text gives what of err may be shown to a caller.
func Text(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Text
	}
	return "an internal error happened; the server's log says more"
}
