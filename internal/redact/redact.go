// Package redact keeps secrets out of logs and answers.
//
// A value of type Of prints as Text in every verb of package fmt and in log/slog, and marshals
// to JSON as the same word. Code that needs the secret must call Reveal.
//
// It does not protect the memory of the process. Types that must be arrays, for speed or for
// their methods, implement Format and MarshalText themselves, like Of.
package redact

import "fmt"

// Text is printed instead of a secret.
const Text = "[secret]"

// Of is a secret of type T. Two Ofs are equal if their secrets are equal.
type Of[T any] struct{ value T }

// New returns a secret.
func New[T any](value T) Of[T] { return Of[T]{value} }

// Reveal returns the secret itself.
func (o Of[T]) Reveal() T { return o.value }

// Format implements fmt.Formatter for all verbs.
func (Of[T]) Format(f fmt.State, _ rune) { fmt.Fprint(f, Text) }

// MarshalText implements encoding.TextMarshaler, which encoding/json and log/slog use.
func (Of[T]) MarshalText() ([]byte, error) { return []byte(Text), nil }
