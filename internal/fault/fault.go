// Package fault gives every error of this program a kind, and separates what a person may be told
// from what only an operator may know.
//
// A rule that refuses something returns an *Error: its Kind decides the status and code of the
// answer, its Message is the sentence that the person reads, and its Cause, if any, is only for the
// log. Any other error is a failure of the program or its environment: it has the kind Internal,
// and its text is never shown. Package http/answer turns kinds into answers; nothing else in the
// program knows status codes.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the kind of an error, in the terms of the published contract.
type Kind int

// The kinds, in the order in which a request meets them.
const (
	// Internal is a failure of the server: the store, the pickup directory, a bug. Its text is never
	// shown.
	Internal Kind = iota
	// Misdirected is a request for a host that is not a tenant.
	Misdirected
	// NotFound is a path, an account or a tenant that does not exist.
	NotFound
	// Method is a method that the path does not support.
	Method
	// Invalid is input that breaks a rule. Field names the field if there is one.
	Invalid
	// Limited is one attempt too many. RetryAfter says when to try again.
	Limited
	// Captcha is a wrong or expired captcha.
	Captcha
	// Conflict is a name that is taken.
	Conflict
	// Unauthorized is a request that did not prove the password. It is the same for every reason.
	Unauthorized
	// NotActivated is the right password of an account that is not active yet.
	NotActivated
	// SecondFactor is the right password of an account that also needs a second factor.
	SecondFactor
	// Leaving is the right password of an account whose owner has left, and which will be erased.
	Leaving
	// Forbidden is a request by somebody who is authenticated but not allowed to make it.
	Forbidden
	// Closed is a signup at a platform that is closed for signups.
	Closed
	// Changed is a conditional change of something that has changed since the client read it.
	Changed
	// Mismatch is a request with an idempotency key that was used for another request.
	Mismatch
	// Overloaded is a request that cannot be handled now.
	Overloaded
)

// Error is a refusal with a kind.
type Error struct {
	Kind Kind
	// Message says what happened and what to do next, for the person.
	Message string
	// Field is the form field or configuration key at fault, or empty.
	Field string
	// Rule is a short name of the broken rule. It lets programs show their own texts. It is
	// empty if only a programmer can break the rule.
	Rule string
	// Limit is a short name of the limit that was reached, for the log. It is set with Limited.
	Limit string
	// RetryAfter is set with Limited and Overloaded, and with a temporary Conflict.
	RetryAfter time.Duration
	// Cause is for the log and never shown.
	Cause error
}

// New returns an Error. Its message is formatted as by fmt.Sprintf.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Field returns an Invalid error about one field.
func Field(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Rule returns an Invalid error about one rule of a field that a person fills in.
func Rule(field, rule, format string, args ...any) *Error {
	e := Field(field, format, args...)
	e.Rule = rule
	return e
}

// Limit returns a Limited error with the time to wait, which is rounded up to a whole second and is
// at least one.
func Limit(d time.Duration, format string, args ...any) *Error {
	seconds := max(1, (d+time.Second-1)/time.Second)
	return &Error{Kind: Limited, Message: fmt.Sprintf(format, args...), RetryAfter: seconds * time.Second}
}

// Error returns the message and its cause, for a log or a terminal.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of err, which is Internal if there is no *Error in it.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of kind k. It is false for nil.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
