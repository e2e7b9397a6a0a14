// Package answer holds what the HTTP listeners have in common when they answer: how each kind of
// error is reported to a client, and the headers of every answer.
//
// The table from fault.Kind to status and code is the published contract's. Nothing outside
// internal/http knows a status code.
//
// The functions set shared, constant slices as header values. A header must therefore be set and
// never appended to.
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

// Kind is how an error of one kind is reported.
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

// KindOf is how err is reported: by its fault.Kind, and as an internal error where it has none.
func KindOf(err error) Kind { return kinds[fault.KindOf(err)] }

// Error is the body of an answer that reports an error.
type Error struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// ErrorOf is the body for err. An internal error has the text internal as its description, since
// its own is for the log alone.
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

// refusal is the *fault.Error in err, unless it is internal.
func refusal(err error) (*fault.Error, bool) {
	fe, ok := errors.AsType[*fault.Error](err)
	return fe, ok && fe.Kind != fault.Internal
}

// SetRetryAfter sets the header Retry-After where err says when to try again.
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

// SetHeaders sets the headers of every answer on every listener: it is not stored, and its media
// type is not guessed.
func SetHeaders(h http.Header) {
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
}

// SetLength sets the header Content-Length for a body that net/http would otherwise send in chunks.
// It counts a body of up to 2048 bytes by itself. A header with more than eight entries costs as
// much as all the others together, so none is added there.
func SetLength(h http.Header, length int) {
	if length > 2048 {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
}

// JSON answers with v and a line break. It fails before the first byte is sent where v cannot be
// marshalled.
func JSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	Bytes(w, status, JSONType, append(b, '\n'))
	return nil
}

// Bytes answers with a body of the media type. An error while writing means that the client has
// gone.
func Bytes(w http.ResponseWriter, status int, mediaType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = mediaType
	SetLength(h, len(body))
	w.WriteHeader(status)
	w.Write(body)
}
