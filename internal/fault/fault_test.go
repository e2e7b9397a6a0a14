package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"dialtone/internal/fault"
)

func TestKind(t *testing.T) {
	refusal := fault.New(fault.Conflict, "the name %q is taken", "ann")
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"a refusal":                    {refusal, fault.Conflict},
		"a wrapped refusal":            {fmt.Errorf("signup: %w", refusal), fault.Conflict},
		"a refusal among other errors": {errors.Join(io.EOF, refusal), fault.Conflict},
		"any other error":              {io.EOF, fault.Internal},
		"a field":                      {fault.Field("user", "too long"), fault.Invalid},
		"a limit":                      {fault.Limit(time.Second, "wait"), fault.Limited},
	} {
		if got := fault.KindOf(c.err); got != c.kind {
			t.Errorf("%s is of kind %d, want %d", name, got, c.kind)
		}
		if !fault.Is(c.err, c.kind) || fault.Is(c.err, fault.Method) {
			t.Errorf("%s is not of its kind, or of another", name)
		}
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("nil counts as an internal error")
	}
	if refusal.Message != `the name "ann" is taken` || fault.Field("user", "x").Field != "user" {
		t.Error("the message or field is not the one that was given")
	}
}

func TestCause(t *testing.T) {
	err := &fault.Error{Kind: fault.Invalid, Message: "the form is cut off",
		Cause: io.ErrUnexpectedEOF}
	if !errors.Is(err, io.ErrUnexpectedEOF) ||
		err.Error() != "the form is cut off: unexpected EOF" ||
		err.Message != "the form is cut off" {
		t.Errorf("got %v", err)
	}
}

func TestLimit(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Second, 0: time.Second, 1: time.Second, time.Second: time.Second,
		time.Second + 1: 2 * time.Second, time.Hour: time.Hour, time.Hour - 1: time.Hour,
	} {
		if got := fault.Limit(wait, "wait").RetryAfter; got != want {
			t.Errorf("%v becomes %v, want %v", wait, got, want)
		}
	}
}

func TestRemedyOf(t *testing.T) {
	correct, restart := fault.Needs(fault.Correction, "no key"), fault.Needs(fault.Restart, "no commit")
	first := fault.Needs(fault.CorrectionFirst, "no file")
	for name, c := range map[string]struct {
		err    error
		remedy fault.Remedy
	}{
		"no error":            {nil, fault.Unknown},
		"any error":           {io.EOF, fault.Unknown},
		"a refusal":           {fault.New(fault.Conflict, "taken"), fault.Unknown},
		"one remedy":          {correct, fault.Correction},
		"wrapped":             {fmt.Errorf("start: %w", fmt.Errorf("%w: %w", io.EOF, correct)), fault.Correction},
		"the cause":           {&fault.Error{Kind: fault.Conflict, Cause: restart}, fault.Restart},
		"several":             {errors.Join(correct, restart, io.EOF), fault.Restart},
		"several, the other":  {fmt.Errorf("%w: %w", restart, errors.Join(first, correct)), fault.CorrectionFirst},
		"an error as a value": {errors.New(correct.Error()), fault.Unknown},
	} {
		if got := fault.RemedyOf(c.err); got != c.remedy {
			t.Errorf("%s has the remedy %d, want %d", name, got, c.remedy)
		}
	}
	if got := fault.KindOf(correct); got != fault.Internal {
		t.Errorf("an error with a remedy is of kind %d", got)
	}
	if other := fault.Needs(fault.Correction, "no key"); errors.Is(other, correct) || !errors.Is(correct, correct) {
		t.Error("errors with the same text are the same")
	}
}
