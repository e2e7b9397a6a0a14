// Package fault gives every error of this program a kind, and separates what a person may be told from what an operator
// must know.
//
// A rule that refuses something returns an *Error: its Kind decides the answer's status and code, its Message is the
// sentence that the person reads, and its Cause, if any, goes to the log alone. Any other error is the program's own
// trouble: it has the kind Internal, and nobody outside is told its text. One function at the edge turns kinds into
// answers; nothing else in the program knows a status code.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of thing went wrong, in the terms of the published contract.
type Kind int

// The kinds, in the order in which a request meets them.
const (
	// Internal is trouble of our own: the store, the pickup directory, a bug. Its text is never shown.
	Internal Kind = iota
	// Misdirected is a request for a host that is no tenant.
	Misdirected
	// NotFound is a path, an account or a tenant that does not exist.
	NotFound
	// Method is a method that the path does not take.
	Method
	// Invalid is input that breaks a rule; Field names the field when there is one.
	Invalid
	// Limited is one try too many; RetryAfter says when the next one is worth making.
	Limited
	// Captcha is a captcha token or answer that does not stand.
	Captcha
	// Conflict is a name that is taken.
	Conflict
	// Unauthorized is a sign-in that did not prove the password; it is the same for every reason.
	Unauthorized
	// NotActivated is a right password for an account whose link was not opened yet.
	NotActivated
	// Overloaded is a request that was turned away unread, because too many are waiting.
	Overloaded
)

// Error is a refusal with a kind.
type Error struct {
	Kind Kind
	// Message is what the person is told: what happened, and what to do next.
	Message string
	// Field is the form field or configuration key at fault, or empty.
	Field string
	// Rule names the rule of the field that was broken, in a word for programs, which then need not read the message. Empty
	// where nobody but a programmer meets the rule.
	Rule string
	// RetryAfter is set with Limited and Overloaded.
	RetryAfter time.Duration
	// Cause is for the log; it is never shown.
	Cause error
}

// New is an Error of kind k whose message is made as fmt.Sprintf makes it.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Field is an Invalid error about one field.
func Field(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Rule is an Invalid error about one rule of a field that a person fills in.
func Rule(field, rule, format string, args ...any) *Error {
	e := Field(field, format, args...)
	e.Rule = rule
	return e
}

// Limit is a Limited error that may be tried again after d, which is rounded up to a whole second and is at least one.
func Limit(d time.Duration, format string, args ...any) *Error {
	seconds := max(1, (d+time.Second-1)/time.Second)
	return &Error{Kind: Limited, Message: fmt.Sprintf(format, args...), RetryAfter: seconds * time.Second}
}

// Error is the message, and the cause behind it: text for a log or a terminal, not for a stranger.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf is the kind of err: Internal for every error that is not an *Error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is a refusal of kind k. It is false for nil, whatever k is.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
