// Package answer contains what the HTTP listeners share in their responses: how each kind of
// error is reported to a client, and the headers of every response.
//
// The published contract defines the mapping from fault.Kind to status and code. Nothing outside
// internal/http knows a status code.
//
// The functions use shared, constant slices as header values. Callers must therefore set these
// headers and never append to them.
package answer

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"dialtone/internal/fault"
)

// Kind is the status and code with which one kind of error is reported.
type Kind struct {
	Status int
	// Code is the member "error" of the answer.
	Code string
}

var kinds = [...]Kind{
	fault.Internal:     {http.StatusInternalServerError, "server_error"},
	fault.Misdirected:  {http.StatusMisdirectedRequest, "misdirected_request"},
	fault.NotFound:     {http.StatusNotFound, "not_found"},
	fault.Method:       {http.StatusMethodNotAllowed, "method_not_allowed"},
	fault.Invalid:      {http.StatusBadRequest, "invalid_request"},
	fault.Limited:      {http.StatusTooManyRequests, "rate_limited"},
	fault.Captcha:      {http.StatusBadRequest, "captcha_failed"},
	fault.Conflict:     {http.StatusConflict, "conflict"},
	fault.Unauthorized: {http.StatusUnauthorized, "unauthorized"},
	fault.NotActivated: {http.StatusForbidden, "not_activated"},
	fault.SecondFactor: {http.StatusForbidden, "second_factor"},
	fault.Leaving:      {http.StatusForbidden, "leaving"},
	fault.Forbidden:    {http.StatusForbidden, "forbidden"},
	fault.Closed:       {http.StatusForbidden, "signups_closed"},
	fault.Changed:      {http.StatusPreconditionFailed, "changed"},
	fault.Mismatch:     {http.StatusUnprocessableEntity, "idempotency_mismatch"},
	fault.Overloaded:   {http.StatusServiceUnavailable, "overloaded"},
}

// Kinds returns how each kind of error is reported.
func Kinds() []Kind { return slices.Clone(kinds[:]) }

// KindOf returns how err is reported: according to its fault.Kind, or as an internal error if it
// has none.
func KindOf(err error) Kind { return kinds[fault.KindOf(err)] }

// Error is the body of an answer that reports an error.
type Error struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// ErrorOf returns the body for err. The description of an internal error is the text internal,
// since the error's own text is only for the log.
func ErrorOf(err error, internal string) Error {
	e := Error{Code: KindOf(err).Code, Description: internal}
	if fe, ok := refusal(err); ok {
		e.Description = fe.Message
		if fe.Field != "" {
			e.Description = fe.Field + ": " + fe.Message
		}
	}
	return e
}

// refusal returns the *fault.Error in err, unless that is internal.
func refusal(err error) (*fault.Error, bool) {
	fe, ok := errors.AsType[*fault.Error](err)
	return fe, ok && fe.Kind != fault.Internal
}

// SetRetryAfter sets the header Retry-After if err says when to try again.
func SetRetryAfter(h http.Header, err error) {
	if fe, ok := refusal(err); ok && fe.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(int(fe.RetryAfter / time.Second))}
	}
}

// Media types, as values of the header Content-Type.
var (
	JSONType = []string{"application/json; charset=utf-8"}
	HTMLType = []string{"text/html; charset=utf-8"}
	TextType = []string{"text/plain; charset=utf-8"}
	XMLType  = []string{"text/xml; charset=utf-8"}
)

var (
	noStore = []string{"no-store"}
	nosniff = []string{"nosniff"}
)

// SetHeaders sets the headers of every response on every listener: it must not be stored, and its
// media type must not be guessed.
func SetHeaders(h http.Header) {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
}

// SetLength sets the header Content-Length for a body that net/http would otherwise send in chunks.
// net/http counts a body of up to 2048 bytes itself. No header is added then, because a ninth entry
// makes the header map grow, which costs as much as all other entries together.
func SetLength(h http.Header, length int) {
	if length > 2048 {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
}

// JSON writes v as JSON, followed by a line break. If v cannot be marshalled, it fails before the
// first byte is sent.
func JSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	Bytes(w, status, JSONType, append(b, '\n'))
	return nil
}

// Bytes writes a body of the given media type. It ignores write errors: the client has closed the
// connection.
func Bytes(w http.ResponseWriter, status int, mediaType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = mediaType
	SetLength(h, len(body))
	w.WriteHeader(status)
	w.Write(body)
}
